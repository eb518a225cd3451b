//! Writing the training graphs that a run would make.

use std::path::{Path, PathBuf};

use super::Result;
use super::made::{Size, make};
use super::prepare::{Loaded, micro_batch};
use super::ranks::Alone;
use super::request::Request;
use crate::bundle::operators;
use crate::data::pool::Pool;
use crate::runtime::{self, Ep, Memory, Runtime};

/// Writes the training graphs that a run would make into `unet_grad/` in `dir`, with links to their weights:
/// `model.onnx` for a whole micro-batch, others by their sizes. Needs no device: without one to look at, blocks
/// are computed again only where that is asked for.
///
/// # Errors
/// What a run refuses before its first step.
pub fn write_graphs(request: &Request, dir: &Path) -> Result<Vec<PathBuf>> {
    request.config.check()?;
    let runtime = Runtime::load()?;
    let Loaded {
        bundle,
        pool,
        request,
        ..
    } = Loaded::read(request, &runtime)?;
    let session = &request.environment.session;
    let making = request.environment.making;
    let ep = match (making.target, session.ep) {
        (None, Ep::Auto) => runtime::resolve(&runtime, session)?,
        (_, ep) => ep,
    };
    let free = match ep {
        Ep::Cpu => Memory::of(ep, 0).free(),
        _ => None,
    };
    let tokens = pool.sets()[0].manifest().layout.prompt_embeds[0];
    let mut written = Vec::new();
    for size in sizes(&request, &pool)? {
        let operators = operators(making.target, ep);
        let (graph, _) = make(&bundle, operators, making, (size, tokens), free)?;
        let (batch, [height, width]) = size;
        let name = match written.is_empty() {
            true => "model.onnx".to_owned(),
            false => format!("model-{batch}x{height}x{width}.onnx"),
        };
        written.push(graph.write(dir, &name)?);
    }
    Ok(written)
}

/// A whole micro-batch of each size of pictures, and what is left over at a step's end.
fn sizes(request: &Request, pool: &Pool) -> Result<Vec<Size>> {
    let micro_batch = micro_batch(request, &Alone)?;
    let mut sizes: Vec<Size> = Vec::new();
    for set in pool.sets() {
        let [_, height, width] = set.latent_shape();
        for batch in request.config.micro_batches(micro_batch) {
            let size = (batch, [height, width]);
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
    }
    Ok(sizes)
}
