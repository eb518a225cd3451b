//! From coefficients to samples: libjpeg's accurate integer transform, after Loeffler, Ligtenberg
//! and Moschytz.

use std::num::Wrapping;

use super::header::Component;

/// Fractional bits of the constants.
const BITS: usize = 13;
/// Fractional bits kept between the two passes.
const KEPT: usize = 2;

/// The samples of a component, block by block in place: rows of `8 * columns`.
pub(super) fn samples(component: &Component) -> Vec<u8> {
    let stride = 8 * component.columns;
    let mut samples = vec![0; stride * 8 * component.rows];
    let Some(quantization) = &component.quantization else {
        return samples;
    };
    for (i, block) in component.blocks.iter().enumerate() {
        let (column, row) = (i % component.columns, i / component.columns);
        let at = 8 * (row * stride + column);
        for (y, line) in inverse(block, quantization).chunks_exact(8).enumerate() {
            samples[at + y * stride..][..8].copy_from_slice(line);
        }
    }
    samples
}

fn inverse(block: &[i16; 64], quantization: &[u16; 64]) -> [u8; 64] {
    let clip = |value: i32| (value + 128).clamp(0, 255) as u8;
    let value = |i: usize| Wrapping(i32::from(block[i]) * i32::from(quantization[i]));
    if block[1..].iter().all(|&v| v == 0) {
        // What the two passes come to.
        return [clip((value(0).0 + 4) >> 3); 64];
    }
    let mut work = [Wrapping(0); 64];
    for x in 0..8 {
        let column = pass(std::array::from_fn(|y| value(8 * y + x)), BITS - KEPT);
        for (y, value) in column.into_iter().enumerate() {
            work[8 * y + x] = value;
        }
    }
    let mut samples = [0; 64];
    for (from, to) in work.chunks_exact(8).zip(samples.chunks_exact_mut(8)) {
        let row = pass(std::array::from_fn(|x| from[x]), BITS + KEPT + 3);
        for (value, sample) in row.into_iter().zip(to) {
            *sample = clip(value.0);
        }
    }
    samples
}

/// One dimension, rounded off by `shift` bits. Only what a damaged file multiplies wraps around, as
/// it does in C.
fn pass(v: [Wrapping<i32>; 8], shift: usize) -> [Wrapping<i32>; 8] {
    let by = |v: Wrapping<i32>, constant: i32| v * Wrapping(constant);
    let even = by(v[2] + v[6], 4433);
    let (low, high) = (even - by(v[6], 15137), even + by(v[2], 6270));
    let (sum, difference) = ((v[0] + v[4]) << BITS, (v[0] - v[4]) << BITS);
    let evens = [sum + high, difference + low, difference - low, sum - high];

    let [a, b, c, d] = [v[7], v[5], v[3], v[1]];
    let all = by(a + c + b + d, 9633);
    let (ac, bd) = (all - by(a + c, 16069), all - by(b + d, 3196));
    let (ad, bc) = (by(a + d, -7373), by(b + c, -20995));
    let odds = [
        by(d, 12299) + ad + bd,
        by(c, 25172) + bc + ac,
        by(b, 16819) + bc + bd,
        by(a, 2446) + ad + ac,
    ];
    let half = Wrapping(1 << (shift - 1));
    std::array::from_fn(|i| {
        let value = if i < 4 {
            evens[i] + odds[i]
        } else {
            evens[7 - i] - odds[7 - i]
        };
        (value + half) >> shift
    })
}
