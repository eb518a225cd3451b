//! What graphs would take in memory.

use std::path::Path;

use super::build::part_graph;
use super::event::Report;
use super::sizes::{factor, graph_options, multiple};
use super::source::Source;
use super::{Event, Options, Part, Result};
use crate::base::Stop;
use crate::family::ports::axes;
use crate::graph::Memory;

/// Pictures at once for which [`plan`] makes estimates.
const BATCHES: [u64; 4] = [1, 2, 4, 8];

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
pub fn plan(
    src: &Path,
    options: &Options,
    stop: &Stop,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Estimate>> {
    options.check()?;
    let source = Source::open(src, options, &mut Report { stop, observe })?;
    source.check_schedule()?;
    let graphs = graph_options(&source, options)?;
    let factor = factor(&source)?;
    let tokens = source.family()?.descriptor().tokens;
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
                    s if s == symbol(axes::BATCH) => Some(batch),
                    s if s == symbol(axes::WIDTH) => Some(size[0] / scale),
                    s if s == symbol(axes::HEIGHT) => Some(size[1] / scale),
                    s if s == symbol(axes::SEQUENCE) => Some(tokens),
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
