//! What happens to the factors: the gradient's norm, the optimizers, the average, the casts.

use popalign::device::prodigy::{self, Prodigy, ProdigyMoments, ProdigyUpdate};
use popalign::device::{AdamW, AdamWStep, Clip, Codes, Half, Layout, blockwise, cpu};

use crate::shim::{SIZES, args, assert_same, launch, values};

#[test]
fn global_norm() {
    for (n, grid) in SIZES {
        for (scale, max_norm) in [(1.0f32, 1.0f64), (1e-25, 1.0), (1.0, 0.0), (1e-3, 1e9)] {
            let grad: Vec<f32> = values(10, n).iter().map(|v| v * scale).collect();
            let twin = cpu::global_norm(&grad, max_norm);
            let chunks = n.div_ceil(65_536);
            let (mut partial, mut clip) = (vec![0.0f64; chunks], vec![0.0f32; 2]);
            let (n64, chunks64) = (n as i64, chunks as i64);
            launch(
                "global_norm.cu",
                "pa_square_sums",
                grid,
                args![grad.as_ptr(), n64, partial.as_mut_ptr()],
            );
            launch(
                "global_norm.cu",
                "pa_norm",
                1,
                args![partial.as_ptr(), chunks64, max_norm, clip.as_mut_ptr()],
            );
            assert_same("clip", &clip, &[twin.norm, twin.factor]);
            if scale < 1e-20 && n > 31 {
                assert!(twin.norm > 0.0, "tiny gradients must not vanish");
            }
        }
    }
}

const ADAMW: AdamW = AdamW {
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 1e-2,
};
const CLIP: Clip = Clip {
    norm: 4.0,
    factor: 0.25,
};
#[test]
fn adamw() {
    for (n, grid) in SIZES {
        let mut now = (values(11, n), vec![0.0f32; n], vec![0.0f32; n]);
        for t in 1..=3u32 {
            let grad = values(20 + u64::from(t), n);
            let step = ADAMW.step(t, 1e-3);
            let mut twin = now.clone();
            cpu::adamw(&step, CLIP, &grad, &mut twin.0, &mut twin.1, &mut twin.2);
            launch(
                "adamw.cu",
                "pa_adamw",
                grid,
                args![
                    grad.as_ptr(),
                    [CLIP.norm, CLIP.factor].as_ptr(),
                    now.0.as_mut_ptr(),
                    now.1.as_mut_ptr(),
                    now.2.as_mut_ptr(),
                    n as i64,
                    step,
                ],
            );
            assert_same("p", &now.0, &twin.0);
            assert_same("m", &now.1, &twin.1);
            assert_same("v", &now.2, &twin.2);
        }
    }
}

/// Parameters and moments of pa_adamw8.
type Quantised = (Vec<f32>, Codes<Vec<f32>, Vec<u8>>, Codes<Vec<f32>, Vec<u8>>);

fn launch_adamw8(grid: u32, grad: &[f32], blocks: &Layout, step: AdamWStep, now: &mut Quantised) {
    let starts: Vec<i64> = blocks.offsets().iter().map(|&o| o as i64).collect();
    let (p, m, v) = now;
    launch(
        "adamw8.cu",
        "pa_adamw8",
        grid,
        args![
            grad.as_ptr(),
            [CLIP.norm, CLIP.factor].as_ptr(),
            p.as_mut_ptr(),
            m.codes.as_mut_ptr(),
            m.absmax.as_mut_ptr(),
            v.codes.as_mut_ptr(),
            v.absmax.as_mut_ptr(),
            starts.as_ptr(),
            blocks.factors() as i64,
            blockwise::SIGNED.as_ptr(),
            blockwise::UNSIGNED.as_ptr(),
            step,
        ],
    );
}

#[test]
fn adamw8() {
    for (n, grid) in SIZES {
        // Factors that end within a block, an empty one, and a gradient of zero in places.
        let layout = Layout::new([n / 3, 0, n / 2, n - n / 3 - n / 2]);
        let blocks = layout.blocks();
        let mut start: Quantised = (
            values(11, n),
            Codes::signed_zeros(&blocks),
            Codes::unsigned_zeros(&blocks),
        );
        // A barrier costs the emulation dearly: of a million elements one update.
        let updates = if n > 200_000 { 1u32 } else { 3 };
        for t in 1..=updates {
            let mut grad = values(20 + u64::from(t), n);
            grad.iter_mut().step_by(5).for_each(|g| *g = 0.0);
            let step = ADAMW.step(t, 1e-3);
            let mut now = start.clone();
            let (p, m, v) = &mut start;
            blockwise::adamw(&step, CLIP, &grad, p, &blocks, m, v);
            launch_adamw8(grid, &grad, &blocks, step, &mut now);
            assert_same("p", &now.0, &start.0);
            for (a, b) in [(&now.1, &start.1), (&now.2, &start.2)] {
                assert_same("absmax", &a.absmax, &b.absmax);
                assert!(a.codes == b.codes, "codes of {n} elements differ");
            }
        }
    }
}

/// Without memory of earlier steps the first moment is the gradient: here every middle between two
/// values of the map, then zeros of both signs and numbers too small for any code but zero's.
#[test]
fn adamw8_rounds_ties_and_signs_alike() {
    let map = &*blockwise::SIGNED;
    let mut grad: Vec<f32> = map.windows(2).map(|w| (w[0] + w[1]) * 0.5).collect();
    grad.push(1.0);
    grad.extend([0.0, -0.0, 1e-9, -1e-9, 1.0]);
    let forgetful = AdamW {
        beta1: 0.0,
        beta2: 0.0,
        ..ADAMW
    };
    let step = forgetful.step(1, 1e-3);
    let blocks = Layout::new([grad.len()]).blocks();
    let mut twin: Quantised = (
        values(11, grad.len()),
        Codes::signed_zeros(&blocks),
        Codes::unsigned_zeros(&blocks),
    );
    let mut now = twin.clone();
    let (p, m, v) = &mut twin;
    blockwise::adamw(&step, CLIP, &grad, p, &blocks, m, v);
    launch_adamw8(1, &grad, &blocks, step, &mut now);
    assert_same("p", &now.0, &twin.0);
    assert_eq!((&now.1, &now.2), (&twin.1, &twin.2));
    let even = now.1.codes[..255].iter().filter(|&&c| c % 2 == 0).count();
    // The middle of the smallest negative number and zero keeps its sign: code 126, which is even.
    assert_eq!(even, 255);
    assert_eq!(now.1.codes[256..], [127, 127, 127, 126, 255]);
}

fn launch_prodigy_moments(
    grid: u32,
    grad: &[f32],
    p: &[f32],
    own: &mut Prodigy<Vec<f32>>,
    step: ProdigyMoments,
) -> [f64; 2] {
    let chunks = grad.len().div_ceil(65_536);
    let (mut partial, mut sums) = (vec![0.0f64; 2 * chunks], [f64::NAN; 2]);
    launch(
        "prodigy.cu",
        "pa_prodigy_moments",
        grid,
        args![
            grad.as_ptr(),
            [CLIP.norm, CLIP.factor].as_ptr(),
            p.as_ptr(),
            own.start.as_ptr(),
            own.m.as_mut_ptr(),
            own.v.as_mut_ptr(),
            own.s.as_mut_ptr(),
            grad.len() as i64,
            partial.as_mut_ptr(),
            step,
        ],
    );
    launch(
        "prodigy.cu",
        "pa_prodigy_sums",
        1,
        args![partial.as_ptr(), chunks as i64, sums.as_mut_ptr()],
    );
    sums
}

#[test]
fn prodigy() {
    let moments = ProdigyMoments {
        beta1: 0.9,
        m_rate: 3e-3,
        beta2: 0.999,
        v_rate: 7e-6,
        beta3: 0.9995,
        s_rate: 0.4,
    };
    let update = ProdigyUpdate {
        keep: 0.999,
        rate: 1e-2,
        eps: 3e-10,
    };
    for (n, grid) in SIZES {
        let mut p = values(16, n);
        let mut now = Prodigy::new(&values(17, n));
        for t in 1..=2u64 {
            let grad = values(30 + t, n);
            let (mut twin, mut twin_p) = (now.clone(), p.clone());
            let expected = prodigy::moments(&moments, CLIP, &grad, &p, &mut twin);
            let sums = launch_prodigy_moments(grid, &grad, &p, &mut now, moments);
            assert_eq!(sums.map(f64::to_bits), expected.map(f64::to_bits), "{n}");
            assert_same("m", &now.m, &twin.m);
            assert_same("v", &now.v, &twin.v);
            assert_same("s", &now.s, &twin.s);
            prodigy::update(&update, &mut twin_p, &twin.m, &twin.v);
            launch(
                "prodigy.cu",
                "pa_prodigy_update",
                grid,
                args![
                    now.m.as_ptr(),
                    now.v.as_ptr(),
                    p.as_mut_ptr(),
                    n as i64,
                    update,
                ],
            );
            assert_same("p", &p, &twin_p);
        }
    }
}

#[test]
fn scale() {
    for (n, grid) in SIZES {
        let layout = Layout::new([n / 3, n / 2, 0, n - n / 3 - n / 2]);
        let from = values(15, n);
        let twin = cpu::scale(&from, &layout, 1.75);
        for (k, (a, b)) in twin.iter().zip(&from).enumerate() {
            let factor = if k < n / 3 { 1.0 } else { 1.75 };
            assert_eq!(a.to_bits(), (factor * b).to_bits());
        }
        let offsets: Vec<i64> = layout.offsets().iter().map(|&o| o as i64).collect();
        let mut to = vec![0.0f32; n];
        launch(
            "scale.cu",
            "pa_scale",
            grid,
            args![
                from.as_ptr(),
                to.as_mut_ptr(),
                offsets.as_ptr(),
                layout.factors() as i64,
                1.75f32,
            ],
        );
        assert_same("to", &to, &twin);
    }
}

#[test]
fn ema() {
    for (n, grid) in SIZES {
        let (p, mut average) = (values(12, n), values(13, n));
        let mut twin = average.clone();
        let rest = (1.0 - 0.995f64) as f32;
        cpu::ema(&p, &mut twin, rest);
        launch(
            "ema.cu",
            "pa_ema",
            grid,
            args![p.as_ptr(), average.as_mut_ptr(), n as i64, rest],
        );
        assert_same("ema", &average, &twin);
    }
}

#[test]
fn casts_at_every_size() {
    for (n, grid) in SIZES {
        let x = values(14, n);
        for (kind, half) in [(1u32, Half::F16), (2, Half::Bf16)] {
            let mut to = vec![0u16; n];
            launch(
                "casts.cu",
                "pa_to_half",
                grid,
                args![x.as_ptr(), to.as_mut_ptr(), n as i64, kind],
            );
            assert_eq!(to, cpu::to_half(&x, half));
        }
    }
}

#[test]
fn casts_of_every_bit_pattern_class() {
    // Every exponent and sign with mantissas at and around each rounding boundary.
    let mut x = Vec::new();
    for high in 0..=0x1ffu32 {
        for low in [
            0u32, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x3000, 0x7fff, 0x8000, 0x8001,
        ] {
            for top in [0u32, 0x40_0000, 0x7f_0000, 0x7f_e000, 0x01_8000] {
                x.push(f32::from_bits((high << 23) | (top + low).min(0x7f_ffff)));
            }
        }
    }
    for (kind, half) in [(1u32, Half::F16), (2, Half::Bf16)] {
        let mut to = vec![0u16; x.len()];
        launch(
            "casts.cu",
            "pa_to_half",
            7,
            args![x.as_ptr(), to.as_mut_ptr(), x.len() as i64, kind],
        );
        assert_eq!(to, cpu::to_half(&x, half));
    }
}
