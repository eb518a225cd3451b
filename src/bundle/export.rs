//! Writing a bundle.
//!
//! Everything is written into a temporary folder beside the bundle's place, which becomes the
//! bundle by one rename at the end: an export that fails, or is killed, leaves what was there.

use std::path::Path;
use std::time::Instant;

use super::event::Report;
use super::link::link_weights;
use super::manifest::{BundleManifest, FORMAT};
use super::merge::Adapters;
use super::place::output;
use super::source::Source;
use super::write::Writer;
use super::{Event, Options, Result};
use crate::base::Stop;
use crate::base::fsio::AtomicDir;

/// Exports the checkpoint `src`, a path or else a hub id, to the bundle `out`, replacing a bundle that is there.
///
/// `observe` is told of each step, after which `stop` can abandon the export.
///
/// # Errors
/// What [`Error`](super::Error) lists for checkpoints and outputs. In every case `out` is as it was.
pub fn export(
    src: &Path,
    out: &Path,
    options: &Options,
    stop: &Stop,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<BundleManifest> {
    options.check()?;
    let report = &mut Report { stop, observe };
    let source = Source::open(src, options, report)?;
    let parts = source.parts(options)?;
    source.check_schedule()?;
    let out = output(out, &source.places())?;
    let adapters = Adapters::read(&options.merge, &parts)?;
    let staged = AtomicDir::create(&out)?;
    let mut writer = Writer::new(&source, options, &adapters, staged.path())?;
    for &part in &parts {
        let start = Instant::now();
        let info = writer.write_part(part, report)?;
        let time = start.elapsed();
        report.step(Event::Part { part, info, time })?;
    }
    writer.report_unused(&parts, report)?;
    let manifest = BundleManifest {
        format: FORMAT,
        popalign: env!("CARGO_PKG_VERSION").into(),
        pipeline: source.pipeline(),
        source: source.path.clone(),
        base: source.base.clone(),
        detached: options.detached || options.copy,
        dtype: options.dtype.short_name().into(),
        target: options.target,
        weights: link_weights(staged.path(), &writer.users(), options.copy, report)?,
        files: source.copy_files(staged.path(), &parts)?,
        parts: writer.parts,
        lora: writer.lora,
        merged: adapters.manifest(),
        converted: writer.converted,
        checkpointing: options.checkpointing,
        score_limit: options.score_limit,
    };
    manifest.write(staged.path())?;
    staged.commit()?;
    Ok(manifest)
}
