//! The graphs that drawing takes, made for its very sizes.

use std::path::{Path, PathBuf};

use super::setup::{Setup, prepare};
use super::{Request, Result};
use crate::bundle::{Job, Part, Target, operators};
use crate::runtime::{Ep, SessionOptions};

/// Writes graphs for the sizes of a run into `dir`, each in its part's folder with links to its weights: text
/// encoders, UNet and, where pictures are kept, the VAE's decoder. Needs no device.
///
/// # Errors
/// What a run refuses before its first picture.
pub fn write_graphs(request: &Request, target: Option<Target>, dir: &Path) -> Result<Vec<PathBuf>> {
    let ep = match (target, request.session.ep) {
        (_, Ep::Auto) => Ep::Cpu,
        (_, ep) => ep,
    };
    let setup = prepare(&Request {
        filter: None,
        session: SessionOptions {
            ep: Ep::Cpu,
            ..request.session.clone()
        },
        ..request.clone()
    })?;
    let mut written = Vec::new();
    for (part, batch) in parts(&setup, request) {
        let [_, height, width] = setup.settings.latent;
        let job = Job {
            operators: operators(target, ep),
            batch,
            latent: [height as u64, width as u64],
            tokens: setup.settings.text.tokens as u64,
            lora: setup.settings.lora.is_some(),
            checkpointing: false,
            score_limit: None,
        };
        let graph = setup.bundle.job(part, &job)?;
        tracing::info!("{part}: {} operations", graph.graph().len());
        written.push(graph.write(dir, part.file_name())?);
    }
    Ok(written)
}

/// The parts that a run uses, and how many samples each sees at once.
fn parts(setup: &Setup, request: &Request) -> Vec<(Part, u64)> {
    let doubled = setup.settings.guidance.doubles();
    let rows = setup.batch as u64 * if doubled { 2 } else { 1 };
    let encoders = [Part::TextEncoder, Part::TextEncoder2];
    let mut parts: Vec<(Part, u64)> = encoders
        .into_iter()
        .filter(|part| setup.bundle.has(*part))
        .map(|part| (part, 1))
        .collect();
    parts.push((Part::Unet, rows));
    let kept = request.format != super::Format::None || request.filter.is_some();
    if kept {
        parts.push((Part::VaeDecoder, 1));
    }
    parts
}
