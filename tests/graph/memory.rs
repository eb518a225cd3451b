//! What graphs keep while they run: the estimate, and what gradients compute again instead.

use popalign::graph::{Conv, DType, Data, Dim, Graph, Recompute, Segment, Unary, Value, gradients};

use crate::{Array, Case, FORWARD, dot, norm};

#[test]
fn memory_counts_what_is_alive_and_no_more() {
    let mut g = Graph::new();
    let batch = g.symbol("batch", 1);
    let shape = [Dim::from(batch), 256.into()];
    let x = g.input("x", DType::F32, &shape).unwrap();
    let weight = g.constant(&[0.5; 256], &[256]);
    // Two branches must live side by side until they meet; a chain needs one buffer.
    let kept = g.mul(x, weight).unwrap();
    let first = g.unary(Unary::Exp, kept).unwrap();
    let second = g.unary(Unary::Exp, first).unwrap();
    let sum = g.add(kept, second).unwrap();
    g.output("y", sum).unwrap();
    let memory = g.memory(|s| (s == batch).then_some(10)).unwrap();
    let tensor = 10 * 256 * 4;
    assert_eq!(memory.weights, 256 * 4);
    assert_eq!(memory.activations, 2 * tensor);
    assert_eq!(memory.largest, tensor);
    assert!(g.memory(|_| None).is_none());
}

/// A deep chain of blocks whose insides are eight times as wide as what goes between them.
fn deep(positions: u64, what: Recompute, recomputes: bool) -> Graph {
    let mut g = Graph::new();
    let x = g
        .input("x", DType::F32, &[1, positions, 32].map(Dim::from))
        .unwrap();
    let scale = g.input("scale", DType::F32, &[32.into()]).unwrap();
    g.recompute(what);
    let wide = g.initializer("wide", DType::F32, &[256, 32], Data::Zeros);
    let narrow = g.initializer("narrow", DType::F32, &[32, 256], Data::Zeros);
    let mut h = g.mul(x, scale).unwrap();
    for _ in 0..12 {
        h = g
            .checkpointed(Segment::Block, |g| {
                let inner = g.linear(h, wide, None)?;
                let inner = g.checkpointed(Segment::Activation, |g| {
                    let active = g.gelu(inner)?;
                    g.mul(active, inner)
                })?;
                let out = g.linear(inner, narrow, None)?;
                g.add(out, h)
            })
            .unwrap();
    }
    let loss = g.reduce_sum(h, &[0, 1, 2], false).unwrap();
    assert_eq!(g.recomputes(), recomputes);
    if recomputes {
        let truth = Data::Inline([1].into());
        let gate = g.input_with_default("gate", DType::Bool, &[], truth);
        g.gate_recomputation(gate.unwrap());
    }
    let one = g.scalar(1.0);
    let grads = gradients(&mut g, &[(loss, one)], &[scale]).unwrap();
    g.output("grad", grads[0].unwrap()).unwrap();
    g.optimize();
    g
}

fn activations(positions: u64, what: Recompute, recomputes: bool) -> u64 {
    let graph = deep(positions, what, recomputes);
    graph.memory(|_| None).unwrap().activations
}

#[test]
fn a_recomputed_block_keeps_only_what_goes_in() {
    let plain = activations(64, Recompute::Nothing, false);
    let blocks = activations(64, Recompute::Blocks, true);
    let [narrow, wide] = [64 * 32 * 4, 64 * 256 * 4];
    // Without: what two slopes need of every block. With: one block's worth of it.
    assert!(plain >= 24 * wide, "{plain}");
    assert!(blocks <= 14 * narrow + 7 * wide, "{blocks}");
}

#[test]
fn large_activations_are_recomputed_without_checkpointing_and_small_ones_kept() {
    let positions = 1 << 13;
    let plain = activations(positions, Recompute::Nothing, false);
    let cheap = activations(positions, Recompute::Cheap, true);
    let wide = positions * 256 * 4;
    // What goes into each block's activation stays, what it makes of it doesn't.
    assert!(plain >= 24 * wide, "{plain}");
    assert!((12 * wide..20 * wide).contains(&cheap), "{cheap}");
    let small = activations(64, Recompute::Cheap, false);
    assert_eq!(small, activations(64, Recompute::Nothing, false));
}

/// A convolution's input gradient needs its weight flipped, of which the runtime makes a copy;
/// not of a large one. What takes the copy's place is the convolution's adjoint all the same:
/// ⟨dy, conv(x)⟩ = ⟨dx, x⟩.
#[test]
fn a_large_convolution_weight_is_held_once_and_its_gradient_is_the_adjoint() {
    let conv = |g: &mut Graph, x: &[Value]| g.conv2d(x[0], x[1], None, Conv::new(1, 1));
    let array = |shape: &[usize], seed: f32| {
        let count: usize = shape.iter().product();
        let data = (0..count).map(|i| (i as f32 * seed).sin()).collect();
        let shape = shape.to_vec();
        Array { shape, data }
    };
    let x = array(&[1, 456, 4, 4], 0.7);
    let weight = array(&[1024, 456, 3, 3], 1.3);
    let dy = array(&[1, 1024, 4, 4], 2.1);
    let inputs = [&x, &weight];
    let mut case = Case::new(conv, &inputs, &dy, &[0], false);
    let found = case.run(&inputs, &dy);
    let [outer, inner] = [dot(&dy.data, &found["y"]), dot(&x.data, &found["dx0"])];
    let error = (outer - inner).abs() / (norm(&x.data) * norm(&found["dx0"]));
    assert!(error < FORWARD, "{outer} is not {inner}");

    let held = |channels: u64| {
        let mut g = Graph::new();
        let shape = [1, channels, 4, 4].map(Dim::from);
        let x = g.input("x", DType::F32, &shape).unwrap();
        let weight = [channels, channels, 3, 3];
        let weight = g.initializer("w", DType::F32, &weight, Data::Zeros);
        let y = conv(&mut g, &[x, weight]).unwrap();
        let adjoint = gradients(&mut g, &[(y, y)], &[x]).unwrap()[0];
        g.output("dx", adjoint.unwrap()).unwrap();
        g.optimize();
        g.memory(|_| None).unwrap().weights / (channels * channels * 9 * 4)
    };
    assert_eq!([held(512), held(1024)], [2, 1]);
}
