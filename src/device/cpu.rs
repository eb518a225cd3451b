//! CPU twins of the kernels: the same operations in the same order, in parallel where the order
//! allows it, so that results are the same bits for any number of threads and as on a GPU.

use half::{bf16, f16};
use rayon::prelude::*;

use super::adamw::{AdamWStep, Clip};
use super::half::Half;
use super::layout::Layout;
use super::noise::Diffuse;
use crate::random;

/// Lanes of a sum: the threads of a CUDA block.
pub(super) const LANES: usize = 256;
/// Elements of the global norm that one block sums.
pub(super) const CHUNK: usize = 65_536;
/// Elements that one task of an element-wise operation takes.
pub(super) const TASK: usize = 16_384;

/// The fixed tree of `block_sum` in `kernels/common.cuh`.
pub(super) fn tree_sum<T: Copy + std::ops::Add<Output = T>>(lanes: &mut [T; LANES]) -> T {
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

/// Twin of `pa_place`: puts a micro-batch's errors [2, n] where its samples stand among all, [2, total].
///
/// # Panics
/// When the lengths do not fit each other.
pub fn place(from: &[f32], places: &[usize], to: &mut [f32]) {
    assert!(
        from.len() == 2 * places.len() && to.len().is_multiple_of(2),
        "errors of {} samples",
        places.len()
    );
    let total = to.len() / 2;
    for (k, &value) in from.iter().enumerate() {
        let (row, i) = (k / places.len(), k % places.len());
        to[row * total + places[i]] = value;
    }
}

/// Twin of `pa_accumulate`: adds `c[places_i] grad_m[i, k]` to `sum` at the factor's place; `grads`
/// holds [batch, elements] of each factor, factor after factor, and `c` the factors of all samples.
///
/// # Panics
/// When a buffer does not fit the layout and the batch.
pub fn accumulate(grads: &[f32], layout: &Layout, c: &[f32], places: &[usize], sum: &mut [f32]) {
    let batch = places.len();
    assert!(
        grads.len() == batch * layout.total() && sum.len() == layout.total(),
        "gradients of a batch of {batch} and {} factors",
        layout.factors()
    );
    let mut factors = Vec::with_capacity(layout.factors());
    let mut rest = sum;
    for m in 0..layout.factors() {
        let (place, tail) = rest.split_at_mut(layout.range(m).len());
        rest = tail;
        factors.push((&grads[layout.batch_range(m, batch)], place));
    }
    factors.into_par_iter().for_each(|(grad, place)| {
        let n = place.len();
        for (i, &at) in places.iter().enumerate() {
            let ci = c[at];
            if ci != 0.0 {
                for (value, &g) in place.iter_mut().zip(&grad[i * n..(i + 1) * n]) {
                    *value += ci * g;
                }
            }
        }
    });
}

/// Twin of `pa_scale`: a copy in which every second factor is multiplied.
///
/// # Panics
/// When the buffer is not that of the layout.
pub fn scale(from: &[f32], layout: &Layout, scale: f32) -> Vec<f32> {
    assert!(from.len() == layout.total(), "a buffer of all factors");
    let mut to = from.to_vec();
    for m in (1..layout.factors()).step_by(2) {
        to[layout.range(m)].iter_mut().for_each(|x| *x *= scale);
    }
    to
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

/// Twin of `pa_adamw`.
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

/// Twin of `pa_to_half`: bit patterns, rounded to nearest even.
pub fn to_half(from: &[f32], kind: Half) -> Vec<u16> {
    from.iter()
        .map(|&x| match kind {
            Half::F16 => f16::from_f32(x).to_bits(),
            Half::Bf16 => bf16::from_f32(x).to_bits(),
        })
        .collect()
}
