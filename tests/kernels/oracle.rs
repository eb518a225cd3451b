//! The twins against what bitsandbytes, torch and diffusers compute (`scripts/oracle/optimizers.py`).

use std::path::Path;

use popalign::device::blockwise::{self, SIGNED, UNSIGNED};
use popalign::device::{AdamW, Clip, Codes, Cpu, Layout, Moments, Prodigy, State, cpu, update};
use popalign::tensors::Weights;

use crate::shim::bits;

/// Half a unit in the last place of a number from 1 to 2.
const ROUNDING: f32 = f32::EPSILON / 2.0;
/// Single-precision results of the same formula, whose operations torch orders or fuses otherwise:
/// four roundings, relative to the terms that are added.
const ORDER: f32 = 4.0 * ROUNDING;

const ADAMW: AdamW = AdamW {
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 1e-2,
};
const LR: f64 = 1e-3;

struct Reference(Weights);

impl Reference {
    fn open() -> Self {
        Self::named("reference")
    }

    fn named(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernels");
        let path = root.join(format!("{name}.safetensors"));
        Self(Weights::open_files([path]).unwrap())
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        self.0.tensor(name).unwrap().read_f32().unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.tensor(name).unwrap().read_bytes().unwrap()
    }

    /// A tensor's rows: one for each step.
    fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let per = self.0.tensor(name).unwrap().shape[1] as usize;
        self.numbers(name)
            .chunks(per)
            .map(<[f32]>::to_vec)
            .collect()
    }

    fn byte_rows(&self, name: &str) -> Vec<Vec<u8>> {
        let per = self.0.tensor(name).unwrap().shape[1] as usize;
        self.bytes(name).chunks(per).map(<[u8]>::to_vec).collect()
    }
}

/// Every element within `relative` of the magnitude given for it.
#[track_caller]
fn assert_close(
    what: &str,
    ours: &[f32],
    theirs: &[f32],
    relative: f32,
    size: impl Fn(usize) -> f32,
) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (k, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let limit = relative * size(k);
        assert!(
            (a - b).abs() <= limit,
            "{what} {k}: {a} {b}, more than {limit:e} apart"
        );
    }
}

#[test]
fn maps_are_bitsandbytes_bit_for_bit() {
    let reference = Reference::open();
    assert_eq!(bits(&*SIGNED), bits(&reference.numbers("map.signed")));
    assert_eq!(bits(&*UNSIGNED), bits(&reference.numbers("map.unsigned")));
}

/// A negative number whose nearest value is zero: we keep the sign, as their CUDA kernel does and
/// their reference doesn't.
fn keeps_sign(x: f32, ours: u8, theirs: u8) -> bool {
    x < 0.0 && (ours, theirs) == (126, 127)
}

#[test]
fn codes_are_the_nearest_as_bitsandbytes_has_them() {
    /// Blocks of the fixture: the one of middles between neighbours.
    const MIDDLES: std::ops::Range<usize> = 512..768;
    /// Their table's numbers are 2 / 65535 apart: looking up moves a number by half of that, and
    /// that twice, towards one value and away from another, is what the nearest can lose.
    const TABLE: f32 = 2.0 / 65_535.0 + 4.0 * ROUNDING;
    let reference = Reference::open();
    for (signed, map) in [(true, &*SIGNED), (false, &*UNSIGNED)] {
        let of = |part| {
            format!(
                "quantise.{}.{part}",
                if signed { "signed" } else { "unsigned" }
            )
        };
        let x = reference.numbers(&of("x"));
        let ours = blockwise::quantise(&x, signed);
        let (codes, library) = (
            reference.bytes(&of("codes")),
            reference.bytes(&of("library")),
        );
        for (b, (&a, &top)) in ours
            .absmax
            .iter()
            .zip(&reference.numbers(&of("absmax")))
            .enumerate()
        {
            // Of a block of zeros their reference says 1.
            assert!(
                a == top || (a == 0.0 && top == 1.0),
                "absmax {b}: {a} {top}"
            );
        }
        let (mut signs, mut ties) = (0, 0);
        for (k, &x) in x.iter().enumerate() {
            let top = ours.absmax[k / blockwise::BLOCK];
            let scaled = if top > 0.0 { x / top } else { 0.0 };
            let (own, theirs) = (ours.codes[k], codes[k]);
            if keeps_sign(x, own, theirs) {
                signs += 1;
            } else if own != theirs {
                // In the middle of two values ours is the even; theirs is the lower, or that to
                // which the middle was rounded.
                assert!(
                    MIDDLES.contains(&k) && own.abs_diff(theirs) == 1 && own % 2 == 0,
                    "{k}"
                );
                ties += 1;
            }
            // Zeros have any code in theirs, for the scale is zero.
            let off = |code: u8| (map[usize::from(code)] - scaled).abs();
            assert!(
                top == 0.0 || off(library[k]) <= off(own) + TABLE,
                "library {k}"
            );
        }
        // About half of the 255 middles.
        assert!((100..=155).contains(&ties), "{ties} ties");
        assert!(signed == (signs > 0), "{signs} kept signs");
    }
}

#[test]
fn adamw8_steps_as_bitsandbytes() {
    let reference = Reference::open();
    let of = |part: &str| format!("adamw8.{part}");
    let rows = |part: &str| reference.rows(&of(part));
    let (grad, p) = (rows("grad"), rows("p"));
    let moments = |part: &str| -> Vec<Codes<Vec<f32>, Vec<u8>>> {
        let codes = reference.byte_rows(&of(part)).into_iter();
        let both = codes.zip(rows(&format!("{part}_absmax")));
        both.map(|(codes, absmax)| Codes { codes, absmax })
            .collect()
    };
    let (m, v) = (moments("m"), moments("v"));
    let blocks = Layout::new([p[0].len()]).blocks();
    let clip = Clip {
        norm: 4.0,
        factor: 0.25,
    };
    for t in 0..grad.len() {
        let step = ADAMW.step(t as u32 + 1, LR);
        // Each step from their state before it.
        let (mut own, mut own_m, mut own_v) = (p[t].clone(), m[t].clone(), v[t].clone());
        blockwise::adamw(
            &step, clip, &grad[t], &mut own, &blocks, &mut own_m, &mut own_v,
        );
        assert_close("p", &own, &p[t + 1], ORDER, |k| {
            p[t][k].abs() + (p[t + 1][k] - p[t][k]).abs()
        });
        for (name, ours, theirs) in [("m", &own_m, &m[t + 1]), ("v", &own_v, &v[t + 1])] {
            let tops = &theirs.absmax;
            assert_close(name, &ours.absmax, tops, ORDER, |b| tops[b]);
            let mut others = 0;
            for (k, (&a, &b)) in ours.codes.iter().zip(&theirs.codes).enumerate() {
                others += u32::from(a != b && !keeps_sign(-1.0, a, b));
                assert!(a.abs_diff(b) <= 1, "{name} {k}: codes {a} {b}");
            }
            // Numbers within a rounding of the middle between two values.
            assert!(others <= 2, "{name}: {others} other codes");
        }
    }
}

#[test]
fn adamw_steps_as_torch() {
    let reference = Reference::open();
    let [grad, p, m, v] =
        ["grad", "p", "m", "v"].map(|part| reference.rows(&format!("adamw.{part}")));
    let clip = Clip {
        norm: 1.0,
        factor: 1.0,
    };
    let (mut own, mut own_m, mut own_v) = (p[0].clone(), m[0].clone(), v[0].clone());
    for t in 0..grad.len() {
        let step = ADAMW.step(t as u32 + 1, LR);
        cpu::adamw(&step, clip, &grad[t], &mut own, &mut own_m, &mut own_v);
        // Roundings of all steps so far add up.
        let order = ORDER * (t + 1) as f32;
        let largest = |rows: &[Vec<f32>], k: usize| {
            rows[..=t + 1].iter().fold(0.0f32, |a, r| a.max(r[k].abs()))
        };
        assert_close("m", &own_m, &m[t + 1], order, |k| {
            largest(&m, k).max(grad[t][k].abs())
        });
        assert_close("v", &own_v, &v[t + 1], order, |k| largest(&v, k));
        assert_close("p", &own, &p[t + 1], order, |k| largest(&p, k) + LR as f32);
    }
}

/// A whole run of 90 steps, in which the estimate grows ten thousandfold and comes to rest. Torch adds the two
/// sums up in single precision.
#[test]
fn prodigy_steps_as_prodigyopt() {
    const SUMS: f64 = 2e-5;
    let reference = Reference::named("prodigy");
    let (grad, p) = (reference.rows("grad"), reference.rows("p"));
    let (lr, d) = (reference.numbers("lr"), reference.numbers("d"));
    let clip = Clip {
        norm: 1.0,
        factor: 1.0,
    };
    let mut state = State::<Vec<f32>, Vec<u8>> {
        p: p[0].clone(),
        moments: Moments::Prodigy(Prodigy::new(&p[0])),
    };
    let largest = p.iter().flatten().fold(0.0f32, |a, x| a.max(x.abs()));
    for t in 0..grad.len() {
        let at = (t as u32 + 1, f64::from(lr[t]));
        update(&Cpu, &ADAMW, at, clip, &grad[t], &mut state).unwrap();
        let Moments::Prodigy(own) = &state.moments else {
            panic!("the state changed its kind");
        };
        let (found, expected) = (own.estimate.d, f64::from(d[t + 1]));
        assert!(
            (found / expected - 1.0).abs() < SUMS,
            "{t}: {found} {expected}"
        );
        assert_close("p", &state.p, &p[t + 1], SUMS as f32, |_| largest);
    }
    assert!(d[0] < 1.1e-6 && d[grad.len()] > 1e-2);
}

#[test]
fn norms_clip_as_torch_s() {
    let reference = Reference::open();
    let grad = reference.numbers("clip.grad");
    let clip = cpu::global_norm(&grad, 1.0);
    // torch sums squares in single precision, in vectors of eight.
    let sum = 64.0 * ROUNDING;
    assert_close(
        "norm",
        &[clip.norm],
        &reference.numbers("clip.norm"),
        sum,
        |_| clip.norm,
    );
    let clipped: Vec<f32> = grad.iter().map(|g| clip.factor * g).collect();
    assert_close(
        "clipped",
        &clipped,
        &reference.numbers("clip.clipped"),
        sum,
        |k| clipped[k].abs(),
    );
}

#[test]
fn averages_move_as_diffusers() {
    let reference = Reference::open();
    let (p, average) = (reference.rows("ema.p"), reference.rows("ema.average"));
    let mut own = average[0].clone();
    for t in 1..p.len() {
        cpu::ema(&p[t], &mut own, (1.0 - 0.995f64) as f32);
        assert_eq!(bits(&own), bits(&average[t]), "step {t}");
    }
}
