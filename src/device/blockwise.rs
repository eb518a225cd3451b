//! Eight-bit numbers scaled by blocks, and AdamW with its moments in them.
//!
//! Dettmers et al. 2022, "8-bit optimizers via block-wise quantization". The numbers of a block are
//! divided by their largest magnitude and replaced by the index of the nearest of 256 values, which
//! lie densely near zero. The two maps, the block of 256 and the nearest code are those of
//! bitsandbytes' `AdamW8bit`. On purpose different: a block ends with its LoRA factor; small
//! factors are quantised too; a moment of -0 counts as zero, so that factors above the run's rank
//! stay exactly zero. Twin of `kernels/blockwise.cuh` and `kernels/adamw8.cu`.

use std::sync::LazyLock;

use rayon::prelude::*;

use super::adamw::{AdamWStep, Clip};
use super::cpu::adamw_element;
use super::layout::Layout;
use super::state::{Codes, Moments};

pub use super::layout::BLOCK;

/// The code of zero in the signed map.
const SIGNED_ZERO: u8 = 127;

/// The value of each code, ascending.
pub type Map = [f32; 256];

/// The map of numbers of both signs: the first moment's.
pub static SIGNED: LazyLock<Map> = LazyLock::new(|| dynamic_map(true));
/// The map of numbers from zero: the second moment's.
pub static UNSIGNED: LazyLock<Map> = LazyLock::new(|| dynamic_map(false));

/// bitsandbytes' `create_dynamic_map`: for each decade below 1 the middles of equal parts of
/// [0.1, 1], one more power of two of them in each higher decade; then 0 and 1.
fn dynamic_map(signed: bool) -> Map {
    const DECADES: [f32; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
    let mut values = vec![0.0, 1.0];
    for (i, decade) in DECADES.into_iter().enumerate() {
        let parts: usize = if signed { 1 << i } else { 2 << i };
        let step = (1.0 - 0.1f32) / parts as f32;
        // torch.linspace: the second half counts from the end, and multiply-add rounds once. In
        // double precision the sum is exact.
        let boundary = |k: usize| {
            let (from, by) = if k < parts.div_ceil(2) {
                (0.1f32, k as f64)
            } else {
                (1.0, -((parts - k) as f64))
            };
            (f64::from(from) + f64::from(step) * by) as f32
        };
        for k in 0..parts {
            let value = decade * ((boundary(k) + boundary(k + 1)) / 2.0);
            values.push(value);
            if signed {
                values.push(-value);
            }
        }
    }
    values.sort_by(f32::total_cmp);
    let mut map = [0.0; 256];
    map.copy_from_slice(&values);
    map
}

/// The code of the value nearest to `x`; in the middle of two, the even one.
pub fn nearest(map: &Map, x: f32) -> u8 {
    let mut low = 0;
    let mut step = map.len() / 2;
    while step > 0 {
        if x > map[low + step] {
            low += step;
        }
        step /= 2;
    }
    let high = (low + 1).min(map.len() - 1);
    let middle = (map[low] + map[high]) * 0.5;
    let up = x > middle || (x == middle && low % 2 == 1);
    (if up { high } else { low }) as u8
}

/// `value` in units of the block's largest magnitude, which is 0 when all are.
fn scaled(value: f32, top: f32) -> f32 {
    if top > 0.0 { value / top } else { 0.0 }
}

/// The code of a signed number; one below zero keeps its sign.
fn signed_code(value: f32, top: f32) -> u8 {
    let code = nearest(&SIGNED, scaled(value, top));
    if value < 0.0 && code == SIGNED_ZERO {
        code - 1
    } else {
        code
    }
}

fn unsigned_code(value: f32, top: f32) -> u8 {
    nearest(&UNSIGNED, scaled(value, top))
}

impl Codes<Vec<f32>, Vec<u8>> {
    /// Zeros: the codes of zero and nothing to scale.
    fn zeros(blocks: &Layout, zero: u8) -> Self {
        Self {
            codes: vec![zero; blocks.total()],
            absmax: vec![0.0; blocks.factors()],
        }
    }

    /// First moments of zero.
    pub fn signed_zeros(blocks: &Layout) -> Self {
        Self::zeros(blocks, SIGNED_ZERO)
    }

    /// Second moments of zero.
    pub fn unsigned_zeros(blocks: &Layout) -> Self {
        Self::zeros(blocks, 0)
    }
}

impl Moments<Vec<f32>, Vec<u8>> {
    /// Moments of zero in eight bits.
    pub fn blockwise_zeros(layout: &Layout) -> Self {
        let blocks = layout.blocks();
        Self::Blockwise {
            m: Codes::signed_zeros(&blocks),
            v: Codes::unsigned_zeros(&blocks),
            blocks,
        }
    }
}

/// One block of everything the update touches.
struct Block<'a> {
    p: &'a mut [f32],
    grad: &'a [f32],
    m: (&'a mut [u8], &'a mut f32),
    v: (&'a mut [u8], &'a mut f32),
}

/// Cuts `len` elements off the front.
fn take<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (head, tail) = std::mem::take(rest).split_at_mut(len);
    *rest = tail;
    head
}

/// Twin of `pa_adamw8`.
///
/// # Panics
/// When a buffer does not fit the blocks.
pub fn adamw(
    step: &AdamWStep,
    clip: Clip,
    grad: &[f32],
    mut p: &mut [f32],
    blocks: &Layout,
    m: &mut Codes<Vec<f32>, Vec<u8>>,
    v: &mut Codes<Vec<f32>, Vec<u8>>,
) {
    assert!(
        [grad.len(), p.len(), m.codes.len(), v.codes.len()] == [blocks.total(); 4],
        "buffers of {} elements",
        blocks.total()
    );
    let (mut m_codes, mut v_codes) = (m.codes.as_mut_slice(), v.codes.as_mut_slice());
    let tops = m.absmax.iter_mut().zip(&mut v.absmax);
    let list: Vec<Block<'_>> = tops
        .enumerate()
        .map(|(b, (m_top, v_top))| {
            let range = blocks.range(b);
            Block {
                p: take(&mut p, range.len()),
                m: (take(&mut m_codes, range.len()), m_top),
                v: (take(&mut v_codes, range.len()), v_top),
                grad: &grad[range],
            }
        })
        .collect();
    list.into_par_iter()
        .with_min_len(32)
        .for_each(|block| update(step, clip, block));
}

fn update(step: &AdamWStep, clip: Clip, block: Block<'_>) {
    let (m_codes, m_top) = block.m;
    let (v_codes, v_top) = block.v;
    let (mut m, mut v) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
    let (mut m_new, mut v_new) = (0.0f32, 0.0f32);
    for (k, p) in block.p.iter_mut().enumerate() {
        m[k] = SIGNED[usize::from(m_codes[k])] * *m_top;
        v[k] = UNSIGNED[usize::from(v_codes[k])] * *v_top;
        adamw_element(step, clip.factor * block.grad[k], p, &mut m[k], &mut v[k]);
        // The largest of finite numbers is the same in any order.
        m_new = m_new.max(m[k].abs());
        v_new = v_new.max(v[k]);
    }
    for k in 0..block.p.len() {
        m_codes[k] = signed_code(m[k], m_new);
        v_codes[k] = unsigned_code(v[k], v_new);
    }
    (*m_top, *v_top) = (m_new, v_new);
}

/// Quantises numbers of both signs or none below zero, as the update does.
pub fn quantise(values: &[f32], signed: bool) -> Codes<Vec<f32>, Vec<u8>> {
    let code = if signed { signed_code } else { unsigned_code };
    let mut out = Codes {
        codes: Vec::with_capacity(values.len()),
        absmax: Vec::new(),
    };
    for block in values.chunks(BLOCK) {
        let top = block.iter().fold(0.0f32, |top, x| top.max(x.abs()));
        out.codes.extend(block.iter().map(|&x| code(x, top)));
        out.absmax.push(top);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{AdamW, State};

    #[test]
    fn blocks_end_with_their_factor() {
        let blocks = Layout::new([0, 3, 256, 257, 600]).blocks();
        assert_eq!(blocks.offsets(), [0, 3, 259, 515, 516, 772, 1028, 1116]);
        assert_eq!(Layout::new([]).blocks().factors(), 0);
    }

    #[test]
    fn every_value_of_a_map_is_its_own_code_and_ties_go_to_the_even_one() {
        for map in [&*SIGNED, &*UNSIGNED] {
            assert!(map.is_sorted_by(|a, b| a < b));
            for (code, &x) in map.iter().enumerate() {
                assert_eq!(usize::from(nearest(map, x)), code);
            }
            for low in 0..255usize {
                let middle = (map[low] + map[low + 1]) * 0.5;
                assert_eq!(usize::from(nearest(map, middle)), low + low % 2);
            }
            assert_eq!(nearest(map, f32::INFINITY), 255);
            assert_eq!(nearest(map, f32::NEG_INFINITY), 0);
        }
        assert_eq!(SIGNED[usize::from(SIGNED_ZERO)], 0.0);
        assert_eq!(UNSIGNED[0], 0.0);
    }

    #[test]
    fn a_small_negative_number_keeps_its_sign_and_zero_stays_zero() {
        let codes = quantise(&[1.0, -1e-12, 1e-12, -0.0, 0.0], true).codes;
        assert_eq!(codes, [255, 126, 127, 127, 127]);
        assert_eq!(quantise(&[-0.0, 0.0], true).codes, [127, 127]);
        assert_eq!(quantise(&[0.0, 1e-12, 1.0], false).codes, [0, 0, 255]);
    }

    /// Rows and columns above a run's rank share blocks with trained ones.
    #[test]
    fn elements_without_gradient_that_start_at_zero_stay_there() {
        let layout = Layout::new([300]);
        let grad: Vec<f32> = (0..300)
            .map(|k| [1e-3, -0.0, -2e-3, 0.0][k % 4] * (1 + k) as f32)
            .collect();
        let mut state = State {
            p: vec![0.0; 300],
            moments: Moments::blockwise_zeros(&layout),
        };
        let adamw = AdamW {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 1e-2,
        };
        let clip = Clip {
            norm: 1.0,
            factor: 1.0,
        };
        let Moments::Blockwise { blocks, m, v } = &mut state.moments else {
            panic!("8-bit moments");
        };
        for t in 1..=5 {
            super::adamw(
                &adamw.step(t, 1e-2),
                clip,
                &grad,
                &mut state.p,
                blocks,
                m,
                v,
            );
        }
        for (k, &p) in state.p.iter().enumerate() {
            assert_eq!(p == 0.0, k % 2 == 1, "{k}: {p}");
        }
    }
}
