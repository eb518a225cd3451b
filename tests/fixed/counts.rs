//! SDXL's graphs at 1024x1024 in fp16: what a GPU has to launch, and what no runtime has to fold.

use std::collections::BTreeMap;

use popalign::graph::{DType, Graph, Operators};
use popalign::lora::LoraSpec;
use popalign::nets::graphs::{Options, unet, unet_grad};

use crate::synthetic;

/// What computes a size, or depends on one while a graph runs.
const SIZES: [&str; 6] = ["Shape", "ConstantOfShape", "Range", "NonZero", "Loop", "If"];

fn options(operators: Operators) -> Options {
    Options {
        compute: DType::F16,
        made_for: Some(operators),
        ..Options::default()
    }
}

/// Operations by name.
fn operations(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (name, ..) in graph.operations() {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// Holds a graph to a number of nodes, none of which computes a size or on weights alone.
#[track_caller]
fn at_most(graph: &Graph, most: usize, what: &str) {
    let found = operations(graph);
    println!("{what}: {} nodes, {found:?}", graph.len());
    assert!(graph.len() <= most, "{what}: {} nodes", graph.len());
    for name in SIZES {
        assert!(!found.contains_key(name), "{what} has {name}");
    }
    assert_eq!(
        graph.free_sizes(),
        0,
        "{what} has sizes that aren't numbers"
    );
}

#[test]
fn sdxls_training_graph_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let config = synthetic::config("sdxl");
    let weights = synthetic::weights(&config, dir.path());
    for (batch, checkpointing, most) in [
        (1, false, 22_000),
        (2, false, 22_000),
        (4, false, 22_000),
        (1, true, 32_000),
        (4, true, 32_000),
    ] {
        let mut options = options(Operators::Cuda);
        options.checkpointing = checkpointing;
        options.plan.batch = batch;
        let graph = unet_grad(&config, &weights.scope(""), &options)
            .unwrap()
            .graph;
        let what = format!("unet_grad, batch {batch}, checkpointing {checkpointing}");
        at_most(&graph, most, &what);
        assert_eq!(graph.on_weights_alone(), Vec::<String>::new(), "{what}");
        // Checkpointing has one gate a block, and one an attention within.
        let gates = operations(&graph)["Where"];
        assert!(
            !checkpointing || gates <= 17 + 70 + 140,
            "{what}: {gates} gates"
        );
    }
    assert!(weights.unused().is_empty(), "{:?}", weights.unused());
}

/// Without fused operators there are more, but weights are still read as they lie.
#[test]
fn sdxls_training_graph_in_other_operators_turns_no_matrix_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = synthetic::config("sdxl");
    let weights = synthetic::weights(&config, dir.path());
    for (operators, most) in [(Operators::Standard, 30_000), (Operators::Products, 24_000)] {
        let built = unet_grad(&config, &weights.scope(""), &options(operators)).unwrap();
        at_most(&built.graph, most, &format!("unet_grad, {operators:?}"));
        let alone = built.graph.on_weights_alone();
        // The gradients of small convolutions are convolutions of flipped weights, as in exported graphs.
        assert!(alone.iter().all(|name| name.contains("conv")), "{alone:?}");
    }
}

#[test]
fn sdxls_forward_graph_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let config = synthetic::config("sdxl");
    let weights = synthetic::weights(&config, dir.path());
    for (lora, most) in [(None, 2_000), (Some(LoraSpec::default()), 4_000)] {
        let options = Options {
            lora,
            ..options(Operators::Cuda)
        };
        let graph = unet(&config, &weights.scope(""), &options).unwrap().graph;
        let what = format!("unet, LoRA {}", options.lora.is_some());
        at_most(&graph, most, &what);
        // cuDNN's convolutions of pictures with channels last take weights so too.
        let alone = graph.on_weights_alone();
        assert!(alone.iter().all(|name| name.contains("conv")), "{alone:?}");
    }
}
