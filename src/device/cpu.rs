//! CPU twins of the kernels: the same operations in the same order, in parallel where the order
//! allows it, so that results are the same bits for any number of threads and as on a GPU.

use half::{bf16, f16};
use rayon::prelude::*;

use super::{AdamWStep, Clip, Diffuse, Errors, Layout, Loss, Weights};
use crate::base::exact::{neg_log_sigmoid, sigmoid_neg};
use crate::random;

/// Lanes of a sum: the threads of a CUDA block.
const LANES: usize = 256;
/// Elements of the global norm that one block sums.
const CHUNK: usize = 65_536;
/// Elements that one task of an element-wise operation takes.
const TASK: usize = 16_384;

/// The fixed tree of `block_sum` in `kernels/common.cuh`.
fn tree_sum<T: Copy + std::ops::Add<Output = T>>(lanes: &mut [T; LANES]) -> T {
    let mut s = LANES / 2;
    while s > 0 {
        for t in 0..s {
            lanes[t] = lanes[t] + lanes[t + s];
        }
        s /= 2;
    }
    lanes[0]
}

/// Twin of `pa_diffuse`. `latents`, `noise`, `sample`, `target` are [batch, n].
///
/// # Panics
/// When the lengths do not fit each other.
pub fn diffuse(
    call: &Diffuse<'_>,
    latents: &[f32],
    noise: &mut [f32],
    sample: &mut [f32],
    target: &mut [f32],
) {
    let (batch, n) = (call.addresses.len(), call.elements);
    assert!(
        [latents.len(), noise.len(), sample.len(), target.len()] == [batch * n; 4]
            && call.signal.len() == batch
            && call.sigma.len() == batch,
        "buffers of a batch of {batch} x {n}"
    );
    if n == 0 {
        return;
    }
    noise
        .par_chunks_mut(n)
        .zip(sample.par_chunks_mut(n))
        .zip(target.par_chunks_mut(n))
        .zip(latents.par_chunks(n))
        .enumerate()
        .for_each(|(b, (((noise, sample), target), x0))| {
            let (prompt_id, image_id) = call.addresses[b];
            random::normal(
                call.seed,
                call.purpose,
                prompt_id,
                image_id,
                call.step,
                noise,
            );
            let (a, s) = (call.signal[b], call.sigma[b]);
            for k in 0..n {
                sample[k] = a * x0[k] + s * noise[k];
                target[k] = if call.v_prediction {
                    a * noise[k] - s * x0[k]
                } else {
                    noise[k]
                };
            }
        });
}

/// Twin of `pa_paired_mse`: `policy`, `reference` and `target` are [batch, n]; returns `mse` and
/// `ref_mse` `[batch]`.
pub fn paired_mse(
    policy: &[f32],
    reference: &[f32],
    target: &[f32],
    n: usize,
) -> (Vec<f32>, Vec<f32>) {
    let mean = |x: &[f32], t: &[f32]| {
        let mut lanes = [0.0f32; LANES];
        for (k, (&x, &t)) in x.iter().zip(t).enumerate() {
            let d = x - t;
            lanes[k % LANES] += d * d;
        }
        tree_sum(&mut lanes) / n as f32
    };
    let rows = |x: &[f32]| {
        x.chunks_exact(n.max(1))
            .zip(target.chunks_exact(n.max(1)))
            .map(|(x, t)| mean(x, t))
            .collect()
    };
    (rows(policy), rows(reference))
}

/// Twin of `pa_weights`; the equations stand in `kernels/weights.cu`.
///
/// # Panics
/// When the slices don't fit each other or hold half a pair or half a set.
pub fn weights(loss: &Loss, errors: &Errors<'_>) -> Weights {
    let Errors {
        mse,
        ref_mse,
        scale,
    } = *errors;
    let (_, beta, alpha, set) = loss.parameters();
    let pairs = scale.len();
    assert!(
        mse.len() == 2 * pairs && ref_mse.len() == 2 * pairs && pairs.is_multiple_of(set),
        "errors of whole pairs and sets"
    );
    let g = |i: usize| f64::from(ref_mse[i]) - f64::from(mse[i]);
    // By how much the winners of a pair's set lead.
    let lead = |p: usize| {
        let first = p - p % set;
        let mut sum = 0.0;
        for q in first..first + set {
            sum += g(2 * q) - g(2 * q + 1);
        }
        sum
    };
    let over_pairs = |term: &dyn Fn(usize) -> f64| {
        let mut lanes = [0.0f64; LANES];
        for p in 0..pairs {
            lanes[p % LANES] += term(p);
        }
        tree_sum(&mut lanes)
    };
    let count = pairs as f64;
    let n = 2.0 * count;
    let mean_w = over_pairs(&|p| g(2 * p)) / count;
    let mean_l = over_pairs(&|p| g(2 * p + 1)) / count;
    let accuracy = over_pairs(&|p| match lead(p).partial_cmp(&0.0) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    }) / count;
    let mu = match loss {
        Loss::PopAlign { .. } => alpha * mean_w + (1.0 - alpha) * mean_l,
        _ => 0.0,
    };
    let z = |p: usize, side: usize| match loss {
        Loss::Dpo { .. } | Loss::Set { .. } => 0.5 * beta * lead(p),
        _ => sign(side) * beta * (g(2 * p + side) - mu),
    };
    let sft = matches!(loss, Loss::Sft { .. });
    let scale = |p: usize| f64::from(scale[p]);
    let mut lanes = [0.0f64; LANES];
    for p in 0..pairs {
        if sft {
            lanes[p % LANES] += scale(p) * f64::from(mse[2 * p]);
            continue;
        }
        for side in 0..2 {
            lanes[p % LANES] += scale(p) * neg_log_sigmoid(z(p, side));
        }
    }
    let total = tree_sum(&mut lanes) / if sft { count } else { n };
    let c = (0..2 * pairs)
        .map(|i| {
            let (p, side) = (i / 2, i % 2);
            if sft {
                return if side == 0 {
                    (scale(p) * (2.0 / n)) as f32
                } else {
                    0.0
                };
            }
            let own = sign(side) * beta * sigmoid_neg(z(p, side)) / n;
            (scale(p) * (set as f64 * own)) as f32
        })
        .collect();
    Weights {
        c,
        loss: total,
        mu,
        accuracy,
        margin: beta * (mean_w - mean_l),
    }
}

fn sign(side: usize) -> f64 {
    if side == 0 { 1.0 } else { -1.0 }
}

/// Twin of `pa_accumulate`: adds `c_i grad_m[i, k]` to `sum` at the factor's place; `grads` holds
/// [batch, elements] of each factor, factor after factor.
///
/// # Panics
/// When a buffer does not fit the layout and the batch.
pub fn accumulate(grads: &[f32], layout: &Layout, c: &[f32], sum: &mut [f32]) {
    assert!(
        grads.len() == c.len() * layout.total() && sum.len() == layout.total(),
        "gradients of a batch of {} and {} factors",
        c.len(),
        layout.factors()
    );
    let mut places = Vec::with_capacity(layout.factors());
    let mut rest = sum;
    for m in 0..layout.factors() {
        let (place, tail) = rest.split_at_mut(layout.range(m).len());
        rest = tail;
        places.push((&grads[layout.batch_range(m, c.len())], place));
    }
    places.into_par_iter().for_each(|(grad, place)| {
        let n = place.len();
        for (i, &ci) in c.iter().enumerate() {
            if ci != 0.0 {
                for (value, &g) in place.iter_mut().zip(&grad[i * n..(i + 1) * n]) {
                    *value += ci * g;
                }
            }
        }
    });
}

/// Twin of `pa_square_sums` and `pa_norm`. `max_norm` 0 switches clipping off.
pub fn global_norm(grad: &[f32], max_norm: f64) -> Clip {
    let partial: Vec<f64> = grad
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut lanes = [0.0f64; LANES];
            for (k, &g) in chunk.iter().enumerate() {
                lanes[k % LANES] += f64::from(g) * f64::from(g);
            }
            tree_sum(&mut lanes)
        })
        .collect();
    let mut lanes = [0.0f64; LANES];
    for (k, &p) in partial.iter().enumerate() {
        lanes[k % LANES] += p;
    }
    let norm = tree_sum(&mut lanes).sqrt();
    let factor = max_norm / (norm + 1e-6);
    Clip {
        norm: norm as f32,
        factor: if max_norm > 0.0 && factor < 1.0 {
            factor as f32
        } else {
            1.0
        },
    }
}

/// Twin of `adamw_element` in `kernels/adamw.cuh`: one element's update by its clipped gradient.
#[inline]
pub(super) fn adamw_element(s: &AdamWStep, g: f32, p: &mut f32, m: &mut f32, v: &mut f32) {
    *m += s.one_minus_beta1 * (g - *m);
    *v = s.beta2 * *v + s.one_minus_beta2 * g * g;
    let denominator = v.sqrt() / s.root + s.eps;
    *p = *p * s.keep - s.rate * *m / denominator;
}

/// Twin of `pa_adamw`, without the 16-bit copy (see [`to_half`]).
pub fn adamw(
    step: &AdamWStep,
    clip: Clip,
    grad: &[f32],
    p: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    p.par_chunks_mut(TASK)
        .zip(m.par_chunks_mut(TASK))
        .zip(v.par_chunks_mut(TASK))
        .zip(grad.par_chunks(TASK))
        .for_each(|(((p, m), v), grad)| {
            for k in 0..p.len() {
                let g = clip.factor * grad[k];
                adamw_element(step, g, &mut p[k], &mut m[k], &mut v[k]);
            }
        });
}

/// Twin of `pa_ema`.
pub fn ema(p: &[f32], average: &mut [f32], one_minus_decay: f32) {
    for (e, &p) in average.iter_mut().zip(p) {
        *e -= one_minus_decay * (*e - p);
    }
}

/// A 16-bit number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Half {
    /// IEEE half precision.
    F16 = 1,
    /// The upper half of single precision.
    Bf16 = 2,
}

/// Twin of `pa_to_half`: bit patterns, rounded to nearest even.
pub fn to_half(from: &[f32], kind: Half) -> Vec<u16> {
    from.iter()
        .map(|&x| match kind {
            Half::F16 => f16::from_f32(x).to_bits(),
            Half::Bf16 => bf16::from_f32(x).to_bits(),
        })
        .collect()
}

/// Twin of `pa_from_half`.
pub fn from_half(from: &[u16], kind: Half) -> Vec<f32> {
    from.iter()
        .map(|&x| match kind {
            Half::F16 => f16::from_bits(x).to_f32(),
            Half::Bf16 => bf16::from_bits(x).to_f32(),
        })
        .collect()
}
