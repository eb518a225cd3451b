//! Lowered graphs against the plain ones they were made of, on the CPU.
//!
//! Operators that ONNX Runtime has CPU kernels for run there as they are. Those that only CUDA has are
//! written out in standard operators, from their documentation. (`scripts/oracle/fused.py` does the
//! same in Python, and holds every node to ONNX Runtime's schemas.)

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::base::fsio;
use crate::graph::builder::{Node, Origin};
use crate::graph::{Contrib, Conv, DType, Dim, Graph, Op, Operators, Result, Unary, Value, check};
use crate::lora::LoraSpec;
use crate::nets::graphs::{self, Options, PlannedSizes};
use crate::nets::{Params, read_config};
use crate::runtime::{Feed, Runtime, Session, SessionOptions};
use crate::tensors::{NewTensor, Weights, write_safetensors};

/// fp32 sums in another order, over a network with weights at random (as in `tests/nets.rs`).
const FP32: f32 = 1e-4;
/// Both graphs round in fp16, in other places: each is some units of its last place (2⁻¹¹) of the
/// largest value away from fp32 (8 in `tests/nets_half.rs`).
const FP16: f32 = 16.0 / 2048.0;

/// Writes out what only CUDA has kernels for.
fn written_out(lowered: &Graph) -> Graph {
    let mut g = lowered.clone();
    let mut at: HashMap<Value, Value> = HashMap::new();
    for node in std::mem::take(&mut g.nodes) {
        let moved = |v: &Value| at.get(v).copied().unwrap_or(*v);
        let inputs: Vec<Value> = node.inputs.iter().map(moved).collect();
        let outputs = standard(&mut g, lowered, &node, &inputs).unwrap();
        at.extend(node.outputs.iter().copied().zip(outputs));
    }
    for (_, value) in &mut g.outputs {
        *value = at.get(value).copied().unwrap_or(*value);
    }
    g
}

fn standard(g: &mut Graph, lowered: &Graph, node: &Node, inputs: &[Value]) -> Result<Vec<Value>> {
    let x = inputs.first().copied();
    match (&node.op, x) {
        (Op::Contrib(Contrib::NhwcConv(conv)), Some(x)) => Ok(vec![nhwc(g, x, inputs, *conv)?]),
        (
            Op::Contrib(Contrib::GroupNorm {
                groups,
                epsilon,
                silu,
            }),
            Some(x),
        ) => Ok(vec![norm(g, x, inputs, (*groups, epsilon.get(), *silu))?]),
        (
            Op::Contrib(Contrib::SkipGroupNorm {
                groups,
                epsilon,
                silu,
            }),
            Some(x),
        ) => {
            let sum = g.add(x, inputs[3])?;
            Ok(vec![
                norm(g, sum, inputs, (*groups, epsilon.get(), *silu))?,
                sum,
            ])
        }
        (Op::Contrib(Contrib::BiasAdd), Some(x)) => {
            let biased = g.add(x, inputs[1])?;
            Ok(vec![g.add(biased, inputs[2])?])
        }
        (Op::Contrib(Contrib::BiasSplitGelu), Some(x)) => {
            let both = g.add(x, inputs[1])?;
            let halves = g.chunk(both, 2, 2)?;
            let gate = g.gelu(halves[1])?;
            Ok(vec![g.mul(halves[0], gate)?])
        }
        _ => {
            let shapes = node.outputs.iter().map(|&v| {
                let shape = lowered.shape(v).to_vec();
                (lowered.dtype(v), shape)
            });
            Ok(g.push_multi(node.op.clone(), inputs, shapes.collect()))
        }
    }
}

fn nhwc(g: &mut Graph, x: Value, inputs: &[Value], conv: Conv) -> Result<Value> {
    let x = g.transpose(x, &[0, 3, 1, 2])?;
    let weight = g.transpose(inputs[1], &[0, 3, 1, 2])?;
    let y = g.conv2d(x, weight, inputs.get(2).copied(), conv)?;
    g.transpose(y, &[0, 2, 3, 1])
}

/// Statistics over a group's channels and all positions; then scale, bias and SiLU, all in f32.
fn norm(
    g: &mut Graph,
    x: Value,
    inputs: &[Value],
    (groups, epsilon, silu): (u64, f32, bool),
) -> Result<Value> {
    let dtype = g.dtype(x);
    let shape = g.shape(x).to_vec();
    let size = Dim::from(shape[3].fixed().unwrap() / groups);
    let split = [
        shape[0].clone(),
        shape[1].times(&shape[2]),
        groups.into(),
        size,
    ];
    let x = g.cast(x, DType::F32)?;
    let x = g.reshape(x, &split)?;
    let mean = g.reduce_mean(x, &[1, 3], true)?;
    let centred = g.sub(x, mean)?;
    let square = g.mul(centred, centred)?;
    let variance = g.reduce_mean(square, &[1, 3], true)?;
    let epsilon = g.scalar(epsilon);
    let variance = g.add(variance, epsilon)?;
    let deviation = g.unary(Unary::Sqrt, variance)?;
    let normal = g.div(centred, deviation)?;
    let normal = g.reshape(normal, &shape)?;
    let scaled = g.mul(normal, inputs[1])?;
    let mut y = g.add(scaled, inputs[2])?;
    if silu {
        y = g.silu(y)?;
    }
    g.cast(y, dtype)
}

/// Runs a graph on made-up inputs.
fn run(graph: &Graph, files: &[std::sync::Arc<Path>]) -> Vec<(String, Vec<f32>)> {
    let folder = tempfile::tempdir().unwrap();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    for file in files {
        fsio::link_or_copy(file, &folder.path().join(name(file))).unwrap();
    }
    let onnx = graph.to_onnx(name, "zeros.bin");
    fsio::write(
        folder.path().join("zeros.bin"),
        vec![0; onnx.zeros as usize],
    )
    .unwrap();
    let model = folder.path().join("model.onnx");
    fsio::write(&model, &onnx.model).unwrap();
    check(&model).unwrap();
    let runtime = Runtime::load().unwrap();
    let mut session = Session::open(&runtime, &model, &SessionOptions::default()).unwrap();
    let specs: Vec<_> = session
        .inputs()
        .iter()
        .chain(session.optional_inputs())
        .collect();
    let mut feed = Feed::new();
    for spec in specs {
        let dim = |(axis, d): (usize, &Option<i64>)| match d {
            Some(n) => *n as usize,
            None if axis == 0 => 2,
            None if spec.dims.len() == 3 => 5,
            None => 16,
        };
        if spec.name == "lora_scale" {
            continue;
        }
        let shape: Vec<usize> = spec.dims.iter().enumerate().map(dim).collect();
        let count: usize = shape.iter().product();
        if spec.name == "input_ids" {
            let ids: Vec<i64> = (0..count as i64).map(|i| i * 7 % 50).collect();
            feed.push_i64(spec.name.clone(), ids, &shape);
        } else {
            let size = if spec.name.contains("lora_") {
                0.1
            } else {
                1.0
            };
            let value = |i: usize| size * ((i * 37 % 101) as f32 - 50.0) / 50.0;
            let values: Vec<f32> = (0..count).map(value).collect();
            feed.push_f32(spec.name.clone(), values, &shape);
        }
    }
    let outputs = session.run(&feed).unwrap();
    let names = outputs.names().to_vec();
    names
        .into_iter()
        .map(|name| {
            let values = outputs.f32_vec(&name).unwrap();
            (name, values)
        })
        .collect()
}

/// Lowers a graph, compares, and gives how often each fused operator is in it.
#[track_caller]
fn lowered(plain: &Graph, weights: &Weights, limit: f32) -> BTreeMap<&'static str, usize> {
    let mut fused = plain.clone();
    fused.lower_for_cuda().unwrap();
    let names = |g: &Graph| -> Vec<String> {
        let inputs = g.inputs().map(|(name, ..)| name.to_owned());
        inputs
            .chain(g.outputs.iter().map(|o| o.0.clone()))
            .collect()
    };
    assert_eq!(names(plain), names(&fused));
    same(plain, &fused, weights, limit)
}

/// Compares a lowered graph, and gives how often each fused operator is in it.
#[track_caller]
fn same(
    plain: &Graph,
    fused: &Graph,
    weights: &Weights,
    limit: f32,
) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for node in fused
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Contrib(_)))
    {
        *counts.entry(node.op.name()).or_default() += 1;
    }
    let expected = run(plain, weights.files());
    let found = run(&written_out(fused), weights.files());
    for ((name, a), (_, b)) in expected.iter().zip(&found) {
        let size = a.iter().fold(0_f32, |m, v| m.max(v.abs()));
        let far = a
            .iter()
            .zip(b)
            .fold(0_f32, |m, (x, y)| m.max((x - y).abs()));
        assert_eq!(a.len(), b.len(), "{name}");
        assert!(far <= limit * size, "{name}: {far} of {size}, {counts:?}");
    }
    counts
}

fn fixture(model: &str, part: &str) -> (std::path::PathBuf, Weights) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/nets")
        .join(model)
        .join(part);
    let weights = Weights::open_dir(&folder).unwrap();
    (folder.join("config.json"), weights)
}

#[test]
fn lowered_unets_compute_what_plain_ones_do() {
    let mut seen = BTreeSet::new();
    for model in ["sdxl_1", "sdxl_3", "sdxl_6", "sd15_0", "sd15_11", "sd15_25"] {
        let (config, weights) = fixture(model, "unet");
        let config = read_config(&config).unwrap();
        for (compute, limit) in [(DType::F32, FP32), (DType::F16, FP16)] {
            let options = Options {
                compute,
                ..Options::default()
            };
            let built = graphs::unet(&config, &weights.scope(""), &options).unwrap();
            seen.extend(lowered(&built.graph, &weights, limit).into_keys());
        }
    }
    for op in [
        "GroupNorm",
        "SkipGroupNorm",
        "NhwcConv",
        "MultiHeadAttention",
        "SkipLayerNormalization",
        "BiasGelu",
        "QuickGelu",
    ] {
        assert!(seen.contains(op), "no {op} in {seen:?}");
    }
}

/// With a LoRA and without, at the sizes that [`run`] gives graphs that take any.
#[test]
fn unets_made_for_cuda_compute_what_plain_ones_do() {
    for model in ["sdxl_1", "sdxl_6", "sd15_11"] {
        let (config, weights) = fixture(model, "unet");
        let config = read_config(&config).unwrap();
        let build = |compute, lora: Option<LoraSpec>, made_for| {
            let options = Options {
                compute,
                lora,
                made_for,
                plan: PlannedSizes {
                    batch: 2,
                    latent: [16, 16],
                    tokens: 5,
                },
                ..Options::default()
            };
            let built = graphs::unet(&config, &weights.scope(""), &options);
            built.unwrap().graph
        };
        for (compute, limit) in [(DType::F32, FP32), (DType::F16, FP16)] {
            for lora in [None, Some(LoraSpec::default())] {
                let plain = build(compute, lora.clone(), None);
                let fused = build(compute, lora, Some(Operators::Cuda));
                let counts = same(&plain, &fused, &weights, limit);
                assert!(counts.contains_key("FusedMatMul"), "{counts:?}");
            }
        }
    }
}

#[test]
fn lowered_vaes_compute_what_plain_ones_do() {
    for model in ["sdxl_4", "sdxl_6", "sd15_27"] {
        let (config, weights) = fixture(model, "vae");
        let config = read_config(&config).unwrap();
        let w = weights.scope("");
        let decoder = graphs::vae_decoder(&config, &w, &Options::default()).unwrap();
        let counts = lowered(&decoder, &weights, FP32);
        assert!(counts.contains_key("NhwcConv"), "{counts:?}");
        let encoder = graphs::vae_encoder(&config, &w, &Options::default()).unwrap();
        lowered(&encoder, &weights, FP32);
    }
}

#[test]
fn lowered_text_encoders_compute_what_plain_ones_do() {
    for (model, activation) in [("sd15_2", "QuickGelu"), ("sd15_11", "BiasGelu")] {
        let (config, weights) = fixture(model, "text_encoder");
        let config = read_config(&config).unwrap();
        let w = weights.scope("");
        let plain = graphs::text_encoder(&config, &w, &Options::default()).unwrap();
        let counts = lowered(&plain, &weights, FP32);
        for op in ["MultiHeadAttention", "SkipLayerNormalization", activation] {
            assert!(counts.contains_key(op), "{model}: no {op} in {counts:?}");
        }
    }
}

/// BiasSplitGelu and BiasAdd have kernels for Stable Diffusion's widths only.
#[test]
fn a_gated_layer_of_stable_diffusions_width_is_one_product() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let numbers =
        |n: usize| -> Vec<f32> { (0..n).map(|i| (i * 31 % 97) as f32 / 97.0 - 0.5).collect() };
    let (wide, narrow) = (numbers(2560 * 8), numbers(320 * 1280));
    let (bias, out) = (numbers(2560), numbers(320));
    let tensors = [
        NewTensor::f32("in.weight", &[2560, 8], &wide),
        NewTensor::f32("in.bias", &[2560], &bias),
        NewTensor::f32("out.weight", &[320, 1280], &narrow),
        NewTensor::f32("out.bias", &[320], &out),
    ];
    write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    let weights = Weights::open_files([path]).unwrap();
    for (compute, limit) in [(DType::F32, FP32), (DType::F16, FP16)] {
        let mut g = Graph::new();
        let w = Params::new(weights.scope(""), compute);
        let batch = Dim::from(g.symbol("batch_size", 1));
        let length = Dim::from(g.symbol("length", 1));
        let x = g.input("x", compute, &[batch.clone(), length.clone(), 8.into()]);
        let skip = g.input("skip", compute, &[batch, length, 320.into()]);
        let (x, skip) = (x.unwrap(), skip.unwrap());
        let [value, gate] = w.pp("in").linear_halves(&mut g, x, 8, 1280).unwrap();
        let gate = g.gelu(gate).unwrap();
        let gated = g.mul(value, gate).unwrap();
        let y = w.pp("out").linear(&mut g, gated, 1280, 320, true).unwrap();
        let y = g.add(y, skip).unwrap();
        g.output("y", y).unwrap();
        g.optimize();
        let counts = lowered(&g, &weights, limit);
        let expected = BTreeMap::from([("BiasSplitGelu", 1), ("BiasAdd", 1)]);
        assert_eq!(counts, expected);
    }
}

/// Between its ends a picture keeps its channels last.
#[test]
fn transposes_stand_at_the_ends_only() {
    let (config, weights) = fixture("sd15_27", "vae");
    let config = read_config(&config).unwrap();
    let mut g = graphs::vae_decoder(&config, &weights.scope(""), &Options::default()).unwrap();
    g.lower_for_cuda().unwrap();
    let weight = |v: Value| {
        let source = g.producer(v).map_or(v, |node| node.inputs[0]);
        matches!(g.tensors[source.index()].origin, Origin::Initializer { .. })
    };
    let moves = |node: &&Node| matches!(node.op, Op::Transpose { .. }) && !weight(node.inputs[0]);
    let pictures = g
        .nodes
        .iter()
        .filter(moves)
        .filter(|n| g.rank(n.inputs[0]) == 4);
    assert_eq!(pictures.count(), 2);
}

#[test]
fn bf16_is_refused() {
    let mut g = Graph::new();
    let x = g.input("x", DType::BF16, &[2.into()]).unwrap();
    let y = g.silu(x).unwrap();
    g.output("y", y).unwrap();
    let error = g.lower_for_cuda().unwrap_err().to_string();
    assert!(error.contains("f32 or f16"), "{error}");
}
