//! Every operation of the graph builder, run in ONNX Runtime: its value and its gradient against
//! torch autograd (frozen by scripts/oracle/graph.py) and against finite differences.

#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps fails with the reason it should"
)]

mod memory;

use std::collections::BTreeMap;

use popalign::graph::{
    Binary, Conv, DType, Dim, Graph, Pool, Reduction, Result, Unary, Value, gradients,
};
use popalign::runtime::{Feed, Runtime, Session, SessionOptions};
use safetensors::SafeTensors;

/// Both sides compute in f32; sums of at most a few hundred products differ by their order.
const FORWARD: f64 = 1e-5;
/// A central difference in f32: rounding of the function over a step of `STEP`, plus its
/// curvature, stay below this fraction of the slope's scale.
const FINITE_DIFFERENCE: f64 = 2e-2;
const STEP: f32 = 1e-2;

type Build = fn(&mut Graph, &[Value]) -> Result<Value>;

/// Name as in the oracle, which inputs are frozen, and the computation.
const CASES: &[(&str, &[usize], Build)] = &[
    ("neg", &[], |g, x| g.unary(Unary::Neg, x[0])),
    ("exp", &[], |g, x| g.unary(Unary::Exp, x[0])),
    ("log", &[], |g, x| g.unary(Unary::Log, x[0])),
    ("sqrt", &[], |g, x| g.unary(Unary::Sqrt, x[0])),
    ("reciprocal", &[], |g, x| g.unary(Unary::Reciprocal, x[0])),
    ("sigmoid", &[], |g, x| g.sigmoid(x[0])),
    ("tanh", &[], |g, x| g.unary(Unary::Tanh, x[0])),
    ("relu", &[], |g, x| g.relu(x[0])),
    ("erf", &[], |g, x| g.unary(Unary::Erf, x[0])),
    ("sin", &[], |g, x| g.unary(Unary::Sin, x[0])),
    ("cos", &[], |g, x| g.unary(Unary::Cos, x[0])),
    ("gelu", &[], |g, x| g.gelu(x[0])),
    ("silu", &[], |g, x| g.silu(x[0])),
    ("quick_gelu", &[], |g, x| g.quick_gelu(x[0])),
    ("add_broadcast", &[], |g, x| g.add(x[0], x[1])),
    ("sub_broadcast", &[], |g, x| g.sub(x[0], x[1])),
    ("mul_broadcast", &[], |g, x| g.mul(x[0], x[1])),
    ("div_broadcast", &[], |g, x| g.div(x[0], x[1])),
    ("pow", &[], |g, x| {
        let three = g.scalar(3.0);
        g.binary(Binary::Pow, x[0], three)
    }),
    ("where", &[0], |g, x| {
        let zero = g.scalar(0.0);
        let positive = g.binary(Binary::Greater, x[0], zero)?;
        g.select(positive, x[1], x[2])
    }),
    ("matmul_batched", &[], |g, x| g.matmul(x[0], x[1])),
    ("matmul_broadcast", &[], |g, x| g.matmul(x[0], x[1])),
    ("attention", &[], |g, x| {
        let keys = g.transpose(x[1], &[0, 2, 1])?;
        let scores = g.matmul(x[0], keys)?;
        let scores = g.scale(scores, 0.5)?;
        let weights = g.softmax(scores, 2)?;
        g.matmul(weights, x[2])
    }),
    ("linear_2d", &[1, 2], |g, x| {
        g.linear(x[0], x[1], Some(x[2]))
    }),
    ("linear_3d", &[1, 2], |g, x| {
        g.linear(x[0], x[1], Some(x[2]))
    }),
    ("conv_3x3", &[1, 2], |g, x| {
        g.conv2d(x[0], x[1], Some(x[2]), Conv::new(1, 1))
    }),
    ("conv_1x1", &[1, 2], |g, x| {
        g.conv2d(x[0], x[1], Some(x[2]), Conv::new(1, 0))
    }),
    ("conv_stride_2", &[1, 2], |g, x| {
        g.conv2d(x[0], x[1], Some(x[2]), Conv::new(2, 1))
    }),
    ("conv_asymmetric", &[1, 2], |g, x| {
        let conv = Conv {
            pads: [0, 0, 1, 1],
            ..Conv::new(2, 0)
        };
        g.conv2d(x[0], x[1], Some(x[2]), conv)
    }),
    ("conv_asymmetric_pad_stride_1", &[1, 2], |g, x| {
        let conv = Conv {
            pads: [1, 0, 1, 2],
            ..Conv::new(1, 0)
        };
        g.conv2d(x[0], x[1], Some(x[2]), conv)
    }),
    ("conv_grouped", &[1, 2], |g, x| {
        g.conv2d(
            x[0],
            x[1],
            Some(x[2]),
            Conv {
                group: 2,
                ..Conv::new(1, 1)
            },
        )
    }),
    ("softmax_middle", &[], |g, x| g.softmax(x[0], 1)),
    ("layer_norm", &[1, 2], |g, x| {
        g.layer_norm(x[0], x[1], x[2], 1e-5)
    }),
    ("group_norm", &[1, 2], |g, x| {
        g.group_norm(x[0], 3, x[1], x[2], 1e-5)
    }),
    ("reshape", &[], |g, x| {
        g.reshape(x[0], &[2, 3, 2, 4].map(Dim::from))
    }),
    ("transpose", &[], |g, x| g.transpose(x[0], &[0, 3, 1, 2])),
    ("concat", &[], |g, x| g.concat(&[x[0], x[1]], 1)),
    ("slice", &[], |g, x| g.slice(x[0], 1, 2, 5)),
    ("chunk_product", &[], |g, x| {
        let halves = g.chunk(x[0], 1, 2)?;
        let gate = g.gelu(halves[1])?;
        g.mul(halves[0], gate)
    }),
    ("expand", &[], |g, x| {
        g.expand(x[0], &[2, 4, 3].map(Dim::from))
    }),
    ("upsample_2x", &[], |g, x| g.upsample_nearest_2x(x[0])),
    ("pad", &[], |g, x| g.pad(x[0], &[0, 0, 1], &[0, 1, 2])),
    ("reduce_sum", &[], |g, x| g.reduce_sum(x[0], &[1], false)),
    ("reduce_mean_all", &[], |g, x| {
        g.reduce_mean(x[0], &[1, 2], false)
    }),
    ("reduce_mean_keep", &[], |g, x| {
        g.reduce_mean(x[0], &[2], true)
    }),
    ("average_pool", &[], |g, x| {
        g.average_pool2d(x[0], Pool::new(2, 2, 0))
    }),
    ("fan_out", &[], |g, x| {
        let a = g.silu(x[0])?;
        let b = g.mul(x[0], x[0])?;
        g.add(a, b)
    }),
    ("batch_norm", &[0, 1, 2, 3, 4], |g, x| {
        g.batch_norm(x[0], x[1], x[2], x[3], x[4], 1e-5)
    }),
    ("max_pool", &[0], |g, x| {
        g.max_pool2d(x[0], Pool::new(3, 2, 1))
    }),
    ("global_average_pool", &[0], |g, x| {
        g.global_average_pool(x[0])
    }),
];

#[derive(Debug, Clone)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f32>,
}

fn fixture() -> BTreeMap<String, Array> {
    let bytes = std::fs::read("tests/fixtures/graph/ops.safetensors").unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| {
            let data = bytemuck::pod_collect_to_vec(view.data());
            (
                name.to_owned(),
                Array {
                    shape: view.shape().to_vec(),
                    data,
                },
            )
        })
        .collect()
}

/// A case's inputs, the seed of its gradient, and the inputs that get one.
fn operands<'a>(
    fixture: &'a BTreeMap<String, Array>,
    name: &str,
    frozen: &[usize],
) -> (Vec<&'a Array>, &'a Array, Vec<usize>) {
    let input = |i| fixture.get(&format!("{name}.x{i}"));
    let inputs: Vec<&Array> = (0..).map_while(input).collect();
    let wanted = (0..inputs.len()).filter(|i| !frozen.contains(i)).collect();
    (inputs, &fixture[&format!("{name}.dy")], wanted)
}

/// Builds a case with symbolic sizes where `symbolic`, runs it, returns its outputs by name.
struct Case {
    session: Session,
    outputs: Vec<String>,
}

impl Case {
    fn new(build: Build, inputs: &[&Array], dy: &Array, wanted: &[usize], symbolic: bool) -> Self {
        let mut g = Graph::new();
        let batch = g.symbol("batch", 1);
        let dims = |shape: &[usize]| -> Vec<Dim> {
            let mut dims: Vec<Dim> = shape.iter().map(|&n| n.into()).collect();
            if symbolic && dims.first().is_some_and(|d| d.is(2)) {
                dims[0] = batch.into();
            }
            dims
        };
        let values: Vec<Value> = inputs
            .iter()
            .enumerate()
            .map(|(i, x)| {
                g.input(&format!("x{i}"), DType::F32, &dims(&x.shape))
                    .unwrap()
            })
            .collect();
        let y = build(&mut g, &values).unwrap();
        g.output("y", y).unwrap();
        if !wanted.is_empty() {
            let seed = g.input("dy", DType::F32, &dims(&dy.shape)).unwrap();
            let wrt: Vec<Value> = wanted.iter().map(|&i| values[i]).collect();
            let adjoints = gradients(&mut g, &[(y, seed)], &wrt).unwrap();
            for (&i, dx) in wanted.iter().zip(adjoints) {
                g.output(&format!("dx{i}"), dx.unwrap()).unwrap();
            }
        }
        let outputs = g.outputs().iter().map(|(name, _)| name.clone()).collect();
        g.optimize();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, g.to_onnx(|_| unreachable!(), "zeros.bin").model).unwrap();
        let runtime = Runtime::load().unwrap();
        let session = Session::open(&runtime, &path, &SessionOptions::default()).unwrap();
        Self { session, outputs }
    }

    fn run(&mut self, inputs: &[&Array], dy: &Array) -> BTreeMap<String, Vec<f32>> {
        let mut feed = Feed::new();
        let names: Vec<String> = (0..inputs.len()).map(|i| format!("x{i}")).collect();
        for (name, x) in names.iter().zip(inputs) {
            feed = feed.f32_slice(name, &x.data, &x.shape);
        }
        if self.outputs.len() > 1 {
            feed = feed.f32_slice("dy", &dy.data, &dy.shape);
        }
        let outputs = self.session.run(&feed).unwrap();
        self.outputs
            .iter()
            .map(|name| {
                (
                    name.clone(),
                    outputs.f32(name).unwrap().iter().copied().collect(),
                )
            })
            .collect()
    }
}

/// Largest difference relative to the largest expected element.
fn relative(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want
        .iter()
        .fold(1e-6_f64, |m, &w| m.max(f64::from(w.abs())));
    let worst = got
        .iter()
        .zip(want)
        .fold(0.0_f64, |m, (&g, &w)| m.max(f64::from((g - w).abs())));
    worst / scale
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

#[test]
fn values_and_gradients_equal_torch() {
    let fixture = fixture();
    for &(name, frozen, build) in CASES {
        let (inputs, dy, wanted) = operands(&fixture, name, frozen);
        let mut case = Case::new(build, &inputs, dy, &wanted, false);
        for (output, got) in case.run(&inputs, dy) {
            let want = &fixture[&format!("{name}.{output}")].data;
            let error = relative(&got, want);
            assert!(error < FORWARD, "{name}.{output}: {error:.1e}");
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let fixture = fixture();
    for &(name, frozen, build) in CASES {
        let (inputs, dy, wanted) = operands(&fixture, name, frozen);
        if wanted.is_empty() {
            continue;
        }
        let mut case = Case::new(build, &inputs, dy, &wanted, false);
        let analytic = case.run(&inputs, dy);
        for &i in &wanted {
            // Along the gradient itself the slope is its norm: nothing cancels.
            let gradient = &analytic[&format!("dx{i}")];
            let length = norm(gradient).max(1e-12);
            let moved = |sign: f32| {
                let step = |(x, d): (&f32, &f32)| x + sign * STEP * (f64::from(*d) / length) as f32;
                let data = inputs[i].data.iter().zip(gradient).map(step).collect();
                Array {
                    shape: inputs[i].shape.clone(),
                    data,
                }
            };
            let mut at = |sign: f32| {
                let x = moved(sign);
                let mut inputs = inputs.clone();
                inputs[i] = &x;
                dot(&case.run(&inputs, dy)["y"], &dy.data)
            };
            let slope = (at(1.0) - at(-1.0)) / (2.0 * f64::from(STEP));
            let error = (slope - length).abs() / length;
            assert!(
                error < FINITE_DIFFERENCE,
                "{name}.dx{i}: {slope} is not {length}"
            );
        }
    }
}

#[test]
fn a_symbolic_batch_computes_the_same() {
    let fixture = fixture();
    for name in [
        "attention",
        "group_norm",
        "linear_3d",
        "conv_3x3",
        "concat",
        "reduce_mean_keep",
    ] {
        let &(_, frozen, build) = CASES.iter().find(|c| c.0 == name).unwrap();
        let (inputs, dy, wanted) = operands(&fixture, name, frozen);
        let mut fixed = Case::new(build, &inputs, dy, &wanted, false);
        let mut symbolic = Case::new(build, &inputs, dy, &wanted, true);
        assert_eq!(fixed.run(&inputs, dy), symbolic.run(&inputs, dy), "{name}");
    }
}

#[test]
fn per_sample_gradients_keep_the_batch_axis_and_sum_to_the_whole() {
    let mut g = Graph::new();
    let batch = Dim::from(g.symbol("batch", 1));
    let x = g
        .input("x", DType::F32, &[batch.clone(), 3.into(), 4.into()])
        .unwrap();
    let a = g.input("a", DType::F32, &[2.into(), 4.into()]).unwrap();
    let a_each = g.per_sample(a, &batch).unwrap();
    let a_t = g.transpose(a_each, &[0, 2, 1]).unwrap();
    let y = g.matmul(x, a_t).unwrap();
    let square = g.mul(y, y).unwrap();
    let loss = g.reduce_sum(square, &[1, 2], false).unwrap();
    let half = g.scale(loss, 0.5).unwrap();
    let one = g.scalar(1.0);
    let seed = g.expand(one, &[batch]).unwrap();
    let grads = gradients(&mut g, &[(half, seed)], &[a_each, a]).unwrap();
    g.output("each", grads[0].unwrap()).unwrap();
    g.output("sum", grads[1].unwrap()).unwrap();
    g.optimize();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let onnx = g.to_onnx(|_| unreachable!(), "zeros.bin");
    std::fs::write(&path, onnx.model).unwrap();
    let runtime = Runtime::load().unwrap();
    let mut session = Session::open(&runtime, &path, &SessionOptions::default()).unwrap();
    let x: Vec<f32> = (0..24).map(|i| (i as f32 * 0.7).sin()).collect();
    let a: Vec<f32> = (0..8).map(|i| (i as f32 * 1.3).cos()).collect();
    let feed = Feed::new()
        .f32_slice("x", &x, &[2, 3, 4])
        .f32_slice("a", &a, &[2, 4]);
    let outputs = session.run(&feed).unwrap();
    let each: Vec<f32> = outputs.f32("each").unwrap().iter().copied().collect();
    let sum: Vec<f32> = outputs.f32("sum").unwrap().iter().copied().collect();
    // d(½|XAᵀ|²)/dA = (XAᵀ)ᵀX, sample by sample.
    let mut expected = vec![0.0_f32; 16];
    for s in 0..2 {
        for row in 0..3 {
            let x_row = &x[(s * 3 + row) * 4..][..4];
            for r in 0..2 {
                let y: f32 = (0..4).map(|k| x_row[k] * a[r * 4 + k]).sum();
                (0..4).for_each(|k| expected[s * 8 + r * 4 + k] += y * x_row[k]);
            }
        }
    }
    let total: Vec<f32> = (0..8).map(|i| expected[i] + expected[8 + i]).collect();
    assert!(relative(&each, &expected) < FORWARD);
    assert!(relative(&sum, &total) < FORWARD);
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let mut g = Graph::new();
    let h = g.symbol("height", 1);
    let x = g
        .input("x", DType::F32, &[1.into(), 3.into(), h.into(), h.into()])
        .unwrap();
    let w = g.initializer("w", DType::F32, &[5, 4, 3, 3], popalign::graph::Data::Zeros);
    g.push_scope("down_blocks.0");
    let error = g
        .conv2d(x, w, None, Conv::new(1, 1))
        .unwrap_err()
        .to_string();
    assert!(error.contains("Conv at `down_blocks.0`"), "{error}");
    assert!(error.contains("[1, 3, height, height]"), "{error}");
    // An odd height can't be halved.
    let w = g.initializer("w", DType::F32, &[5, 3, 3, 3], popalign::graph::Data::Zeros);
    assert!(g.conv2d(x, w, None, Conv::new(2, 1)).is_err());
    assert!(g.reduce(Reduction::ReduceSum, x, &[4], false).is_err());
    assert!(g.input("x", DType::F32, &[]).is_err());
}

#[test]
fn a_missing_rule_is_an_error_not_a_zero() {
    let mut g = Graph::new();
    let x = g
        .input("x", DType::F32, &[1, 1, 4, 4].map(Dim::from))
        .unwrap();
    let y = g.max_pool2d(x, Pool::new(3, 1, 1)).unwrap();
    let error = gradients(&mut g, &[(y, y)], &[x]).unwrap_err().to_string();
    assert!(error.contains("MaxPool"), "{error}");
}

#[test]
fn equal_operations_are_merged_and_dead_ones_dropped() {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[4.into()]).unwrap();
    let a = g.scale(x, 2.0).unwrap();
    let b = g.scale(x, 2.0).unwrap();
    let _dead = g.silu(x).unwrap();
    let sum = g.add(a, b).unwrap();
    g.output("y", sum).unwrap();
    g.optimize();
    assert_eq!(g.len(), 2);
}

#[test]
fn operations_that_differ_in_a_number_stay_apart() {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[4.into()]).unwrap();
    let one = g.constant(&[1.0; 4], &[4]);
    let mut sum = x;
    for epsilon in [1e-5, 1e-6, 1e-5] {
        let normal = g.layer_norm(x, one, one, epsilon).unwrap();
        sum = g.add(sum, normal).unwrap();
    }
    g.output("y", sum).unwrap();
    g.optimize();
    let names: Vec<&str> = g.operations().map(|(name, ..)| name).collect();
    let count = |op: &str| names.iter().filter(|&&name| name == op).count();
    assert_eq!([count("LayerNormalization"), count("Add")], [2, 3]);
}
