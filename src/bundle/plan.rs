//! The sizes that graphs are laid out for, and what they would take in memory.

use std::path::Path;

use super::build::part_graph;
use super::export::{Options, Report};
use super::source::Source;
use super::{Error, Part, Result};
use crate::graph::Memory;
use crate::nets::Config;
use crate::nets::graphs;
use crate::nets::unet::{UnetConfig, sample_size};
use crate::nets::vae::VaeConfig;

/// Pictures at once for which [`plan`] makes estimates.
const BATCHES: [u64; 4] = [1, 2, 4, 8];
/// Tokens of a caption, in every model that is supported.
const TOKENS: u64 = 77;

/// The sizes to lay graphs out for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planned {
    /// Pictures at once.
    pub batch: Option<u64>,
    /// Width and height in pixels.
    pub size: Option<[u64; 2]>,
}

/// What a graph takes at one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The graph.
    pub part: Part,
    /// Width and height of the picture in pixels.
    pub size: [u64; 2],
    /// Pictures at once.
    pub batch: u64,
    /// Bytes.
    pub memory: Memory,
}

/// Builds the graphs of the checkpoint `src`, writes nothing, and estimates the memory of each for
/// some numbers of pictures at once, at the planned size and at half and one and a half times it.
///
/// # Errors
/// As [`export`](super::export()).
pub fn plan(src: &Path, options: &Options, report: Report<'_>) -> Result<Vec<Estimate>> {
    options.check()?;
    let source = Source::open(src, options, report)?;
    let graphs = graph_options(&source, options)?;
    let factor = factor(&source)?;
    let batches = options.plan.batch.map_or(BATCHES.to_vec(), |b| vec![b]);
    let [height, width] = graphs.plan.latent.map(|n| n * factor);
    let multiple = factor * multiple(&source)?;
    let sizes: Vec<[u64; 2]> = match options.plan.size {
        Some(size) => vec![size],
        None => [(1, 2), (1, 1), (3, 2)]
            .map(|(up, down)| [width, height].map(|n| (n * up / down).next_multiple_of(multiple)))
            .to_vec(),
    };
    let mut estimates = Vec::new();
    for part in source.parts(options)? {
        let weights = source.weights(part.source_folder())?;
        let graph = part_graph(part, &source, options, &graphs, &weights)?.graph;
        let symbol = |name: &str| graph.symbol_named(name);
        for &size in &sizes {
            for &batch in &batches {
                // An encoder takes the picture, the other graphs its latent.
                let scale = if part == Part::VaeEncoder { 1 } else { factor };
                let memory = graph.memory(|s| match Some(s) {
                    s if s == symbol("batch_size") => Some(batch),
                    s if s == symbol("width") => Some(size[0] / scale),
                    s if s == symbol("height") => Some(size[1] / scale),
                    s if s == symbol("sequence_length") => Some(TOKENS),
                    _ => None,
                });
                estimates.extend(memory.map(|memory| Estimate {
                    part,
                    size,
                    batch,
                    memory,
                }));
            }
        }
    }
    Ok(estimates)
}

/// How the graphs of a checkpoint are to be built.
///
/// # Errors
/// A size that the model can't draw.
pub(super) fn graph_options(source: &Source, options: &Options) -> Result<graphs::Options> {
    let own = match source.config("unet") {
        Ok(unet) => sample_size(&unet),
        Err(_) => None,
    };
    let mut plan = graphs::Plan::default();
    plan.latent = own.unwrap_or(plan.latent);
    if let Some([width, height]) = options.plan.size {
        let (factor, multiple) = (factor(source)?, multiple(source)?);
        for side in [width, height] {
            if side == 0 || !side.is_multiple_of(factor * multiple) {
                return Err(Error::Size {
                    size: [width, height],
                    multiple: factor * multiple,
                });
            }
        }
        plan.latent = [height / factor, width / factor];
    }
    plan.batch = options.plan.batch.unwrap_or(plan.batch);
    Ok(graphs::Options {
        lora: Some(options.lora.clone()),
        time_ids: source.time_ids(),
        checkpointing: options.checkpointing,
        score_limit: options.score_limit,
        plan,
        ..graphs::Options::default()
    })
}

/// Pixels per latent; 8, as in every SD family, for a checkpoint without VAE.
fn factor(source: &Source) -> Result<u64> {
    if !source.has("vae") {
        return Ok(8);
    }
    let vae = VaeConfig::from_json(&source.config("vae")?);
    let vae = vae.map_err(|e| Error::network(Part::VaeDecoder, source.origin("vae"), e))?;
    Ok(vae.factor())
}

/// What the latents' sides must be multiples of.
fn multiple(source: &Source) -> Result<u64> {
    if !source.has("unet") {
        return Ok(1);
    }
    let unet = UnetConfig::from_json(&source.config("unet")?);
    let unet = unet.map_err(|e| Error::network(Part::Unet, source.origin("unet"), e))?;
    Ok(unet.size_multiple())
}
