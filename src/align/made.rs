//! The training graphs of a run: each is made when the first micro-batch of its shape comes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use super::{Error, Result};
use crate::bundle::{Bundle, Job, JobGraph, Part, Target, operators};
use crate::graph::Operators;
use crate::runtime::{Ep, Memory, Runtime, Session, SessionOptions};

/// Parameters of a network from which on the CPU reads its weights in place: what copies of them, laid out for
/// its kernels, cost in memory (half a GiB from here on) outweighs the few percent of time that they save.
pub(super) const LARGE_MODEL: u64 = 1 << 27;
/// The share of the free memory that a training graph may be estimated to take.
const SHARE: f64 = 0.9;

/// How a run's training graphs are made. Nothing of this is meant to change what they compute. What isn't said is
/// as the bundle was exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Making {
    /// Operators [default: what the provider has].
    pub target: Option<Target>,
    /// Whether blocks are computed again for their gradient [default: also where the memory that is free asks for
    /// it].
    pub checkpointing: Option<bool>,
    /// Most bytes of a matrix of attention scores.
    pub score_limit: Option<u64>,
}

/// A micro-batch: pictures, and their latents' height and width.
pub(super) type Size = (usize, [usize; 2]);

/// Graphs made for a run, by the size of the micro-batch.
#[derive(Debug)]
pub(super) struct Made {
    bundle: Bundle,
    runtime: Runtime,
    options: SessionOptions,
    making: Making,
    tokens: usize,
    sessions: BTreeMap<Size, Session>,
}

impl Made {
    /// Makes none yet.
    ///
    /// # Errors
    /// Operators that the provider lacks.
    pub(super) fn new(
        runtime: &Runtime,
        bundle: &Bundle,
        options: &SessionOptions,
        tokens: usize,
        making: Making,
    ) -> Result<Self> {
        if making.target == Some(Target::Cuda) && options.ep == Ep::Cpu {
            return Err(Error::Option {
                option: "target",
                value: "cuda".into(),
                problem:
                    "this run is on the CPU; --ep cuda, or --write-graph to only write the graphs"
                        .into(),
            });
        }
        let large = bundle.part(Part::UnetGrad)?.parameters >= LARGE_MODEL;
        Ok(Self {
            bundle: bundle.clone(),
            runtime: runtime.clone(),
            options: SessionOptions {
                weights_in_place: large,
                ..options.clone()
            },
            making,
            tokens,
            sessions: BTreeMap::new(),
        })
    }

    /// The graph for a micro-batch, loaded.
    ///
    /// # Errors
    /// What ONNX Runtime refuses.
    pub(super) fn session(&mut self, size: Size) -> Result<&mut Session> {
        let place = match self.sessions.entry(size) {
            Entry::Occupied(loaded) => return Ok(loaded.into_mut()),
            Entry::Vacant(place) => place,
        };
        let operators = operators(self.making.target, self.options.ep);
        let free = Memory::of(self.options.ep, self.options.device).free();
        let size = (size, self.tokens);
        let (graph, checkpointing) = make(&self.bundle, operators, self.making, size, free)?;
        // A run is of one kind: a smaller last micro-batch is no reason for another.
        self.making.checkpointing = Some(checkpointing);
        Ok(place.insert(graph.session(&self.runtime, &self.options)?))
    }

    /// Time spent in all of them.
    pub(super) fn busy(&self) -> Duration {
        self.sessions.values().map(Session::busy).sum()
    }
}

/// Makes a training graph, and says what it will take; whether it computes blocks again is chosen by the memory
/// that is free, where nobody says.
pub(super) fn make(
    bundle: &Bundle,
    operators: Operators,
    making: Making,
    ((batch, latent), tokens): (Size, usize),
    free: Option<u64>,
) -> Result<(JobGraph, bool)> {
    let exported = bundle.config();
    let asked = making
        .checkpointing
        .or(exported.checkpointing.then_some(true));
    let graph = |checkpointing| {
        let job = Job {
            operators,
            batch: batch as u64,
            latent: latent.map(|n| n as u64),
            tokens: tokens as u64,
            lora: true,
            checkpointing,
            score_limit: making.score_limit.or(exported.score_limit),
        };
        bundle.job(Part::UnetGrad, &job)
    };
    let takes = |graph: &JobGraph| graph.memory().map(|m| m.weights + m.activations);
    let mut checkpointing = asked.unwrap_or(false);
    let mut made = graph(checkpointing)?;
    if let (None, Some(free), Some(needed)) = (asked, free, takes(&made))
        && needed as f64 > SHARE * free as f64
    {
        checkpointing = true;
        made = graph(true)?;
    }
    let gib = |bytes: u64| bytes as f64 / (1_u64 << 30) as f64;
    let [height, width] = latent;
    let needed = takes(&made).map_or(String::new(), |n| format!(", about {:.1} GiB", gib(n)));
    let free = free.map_or(String::new(), |n| format!(" of {:.1} free", gib(n)));
    tracing::info!(
        "training graph for {batch} pictures of {height}x{width}: {} operations{}{needed}{free}",
        made.graph().len(),
        if checkpointing {
            ", blocks computed again"
        } else {
            ""
        },
    );
    Ok((made, checkpointing))
}
