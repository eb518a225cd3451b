//! What happens to a batch: noise, errors, factors, the weighted sum of gradients.

use popalign::device::{Diffuse, Layout, Loss, Term, cpu, weights};
use popalign::random::Purpose;

use crate::shim::{SIZES, args, assert_same, bits, launch, values};

#[test]
fn diffuse() {
    for (n, grid) in SIZES {
        for v_prediction in [false, true] {
            let batch = 3;
            let latents = values(1, batch * n);
            let addresses = [(5, 6), (5, 6), (0xffff_ffff, 9)];
            let (signal, sigma) = ([0.9f32, 0.5, 0.068], [0.43f32, 0.86, 0.9976]);
            let (seed, step) = (0x0123_4567_89ab_cdef_u64, 777u32);
            let call = Diffuse {
                seed,
                purpose: Purpose::TrainNoise,
                step,
                elements: n,
                addresses: &addresses,
                signal: &signal,
                sigma: &sigma,
                v_prediction,
            };
            let mut twin = [(); 3].map(|()| vec![0.0f32; batch * n]);
            let [noise, sample, target] = &mut twin;
            cpu::diffuse(&call, &latents, noise, sample, target);
            let mut out = [(); 3].map(|()| vec![0.0f32; batch * n]);
            let (prompts, images) = (addresses.map(|a| a.0), addresses.map(|a| a.1));
            let tag = ((Purpose::TrainNoise as u32) << 24) | step;
            launch(
                "diffuse.cu",
                "pa_diffuse",
                grid,
                args![
                    latents.as_ptr(),
                    prompts.as_ptr(),
                    images.as_ptr(),
                    signal.as_ptr(),
                    sigma.as_ptr(),
                    out[0].as_mut_ptr(),
                    out[1].as_mut_ptr(),
                    out[2].as_mut_ptr(),
                    batch as i64,
                    n as i64,
                    seed,
                    tag,
                    u32::from(v_prediction),
                ],
            );
            for (name, (a, b)) in ["noise", "sample", "target"]
                .iter()
                .zip(out.iter().zip(&twin))
            {
                assert_same(name, a, b);
            }
            // A pair shares its noise.
            assert_eq!(bits(&out[0][..n]), bits(&out[0][n..2 * n]));
        }
    }
}

#[test]
fn place_for_any_cut_of_the_batch() {
    for (n, grid) in SIZES {
        // Places from the end, so that none is its own; one part of two samples or more, and one of one.
        let places: Vec<usize> = (0..n).rev().collect();
        let errors = values(2, 2 * n);
        let mut twin = vec![0.0f32; 2 * n];
        cpu::place(&errors, &places, &mut twin);
        for (k, value) in twin.iter().enumerate() {
            let (row, i) = (k / n, k % n);
            assert_eq!(value.to_bits(), errors[row * n + places[i]].to_bits());
        }
        let mut all = vec![0.0f32; 2 * n];
        for part in [0..n.min(1), n.min(1)..n] {
            let of = |row: usize| &errors[row * n..(row + 1) * n][part.clone()];
            let from = [of(0), of(1)].concat();
            let at: Vec<i64> = places[part.clone()].iter().map(|&p| p as i64).collect();
            launch(
                "place.cu",
                "pa_place",
                grid,
                args![
                    from.as_ptr(),
                    at.as_ptr(),
                    at.len() as i64,
                    all.as_mut_ptr(),
                    n as i64,
                ],
            );
        }
        assert_same("all", &all, &twin);
    }
}

/// Errors of `samples`, near each other: mse, then ref_mse.
fn errors(samples: usize) -> Vec<f32> {
    let of = |seed| values(seed, samples);
    let all = [of(5), of(6)].concat();
    all.iter().map(|v| v.abs() * 1e-3 + 0.1).collect()
}

/// A term on the device and by its twin, beside samples that it must leave alone.
fn compare(term: &Term, errors: &[f32], scale: &[f32]) {
    let untouched = vec![7.0f32; scale.len()];
    let (mut c, mut twin_c) = (untouched.clone(), untouched);
    let twin = weights::weights(term, errors, scale, &mut twin_c);
    let mut summary = [f64::INFINITY; 4];
    launch(
        "weights.cu",
        "pa_weights",
        1,
        args![
            errors.as_ptr(),
            scale.as_ptr(),
            scale.len() as i64,
            c.as_mut_ptr(),
            summary.as_mut_ptr(),
            term.scalars(),
        ],
    );
    assert_same("c", &c, &twin_c);
    for (i, c) in c.iter().enumerate() {
        assert!(term.samples.contains(&i) || *c == 7.0, "c {i}");
    }
    let expected = [twin.loss, twin.mu, twin.accuracy, twin.margin];
    for (k, (a, b)) in summary.into_iter().zip(expected).enumerate() {
        // No samples have no means; which NaN says so is not part of the promise.
        let none = term.samples.is_empty() && a.is_nan() && b.is_nan();
        assert!(a.to_bits() == b.to_bits() || none, "{k}: {a} {b}");
    }
}

#[test]
fn weights_of_every_arithmetic() {
    for pairs in [0usize, 1, 2, 31, 32, 33, 255, 256, 257, 1025, 1_000_007] {
        let set = |set| (Loss::Lead { set }, 900.0);
        let mut losses = vec![
            (Loss::Offset { alpha: 0.3 }, 5000.0),
            (Loss::Lead { set: 1 }, 5000.0),
            (Loss::Error, 10.0),
            (Loss::Reference, 5000.0),
            (Loss::Each, 5000.0),
        ];
        // A set is added up once for each of its pairs: one of a million would take for ever.
        let sizes = [5, 257, pairs]
            .into_iter()
            .filter(|&s| (1..2000).contains(&s));
        losses.extend(sizes.filter(|s| pairs.is_multiple_of(*s)).map(set));
        // A term of all samples, and of those between others.
        for (before, after) in [(0, 0), (3, 2)] {
            let samples = before + 2 * pairs + after;
            let errors = errors(samples);
            let scale: Vec<f32> = values(7, samples).iter().map(|v| v.abs()).collect();
            for &(loss, beta) in &losses {
                let weight = if before == 0 { 1.0 } else { 0.3 };
                let term = Term {
                    loss,
                    beta,
                    weight,
                    samples: before..before + 2 * pairs,
                };
                compare(&term, &errors, &scale);
            }
        }
    }
}

/// An odd number of samples has no pairs.
#[test]
fn samples_without_pairs() {
    for (samples, loss) in [1usize, 3, 255, 257]
        .into_iter()
        .flat_map(|n| [(n, Loss::Reference), (n, Loss::Each)])
    {
        let scale = vec![0.7; samples];
        let term = Term {
            loss,
            beta: 5000.0,
            weight: 0.2,
            samples: 0..samples,
        };
        compare(&term, &errors(samples), &scale);
    }
}

#[test]
fn the_first_error_that_is_not_finite() {
    for n in [0usize, 1, 255, 256, 257, 1025] {
        let mut all = errors(n);
        let found = |all: &[f32]| {
            let mut place = f64::NAN;
            launch(
                "weights.cu",
                "pa_first_bad",
                1,
                args![all.as_ptr(), all.len() as i64, &raw mut place],
            );
            let place = place as usize;
            let twin = weights::first_bad(all);
            assert_eq!(twin, (place < all.len()).then_some(place));
            twin
        };
        assert_eq!(found(&all), None);
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN];
        for (k, value) in (0..2 * n).rev().step_by(101).zip(values.iter().cycle()) {
            all[k] = *value;
            assert_eq!(found(&all), Some(k));
        }
    }
}

#[test]
fn accumulate_for_any_cut_of_the_batch() {
    for (n, grid) in SIZES {
        let layout = Layout::new([n / 3, 0, n / 2, n - n / 3 - n / 2, 5]);
        // The micro-batch's factors, in another order among those of a larger batch.
        let (all, places) = ([9.0, 3.0e-4, 0.25f32, -1.5, 0.0], [2usize, 4, 3, 1]);
        // Samples `from..to` of every factor, factor after factor.
        let grads = |from: usize, to: usize| -> Vec<f32> {
            let of = |m: usize| {
                let per = layout.range(m).len();
                let mut g = values(m as u64, 4 * per);
                // A sample without weight may hold anything.
                g[per..2 * per].fill(f32::NAN);
                g[from * per..to * per].to_vec()
            };
            (0..layout.factors()).flat_map(of).collect()
        };
        let mut twin = values(9, layout.total());
        let start = twin.clone();
        cpu::accumulate(&grads(0, 4), &layout, &all, &places, &mut twin);
        let offsets: Vec<i64> = layout.offsets().iter().map(|&o| o as i64).collect();
        for ends in [&[4][..], &[1, 4], &[1, 2, 3, 4]] {
            let mut sum = start.clone();
            let starts = std::iter::once(&0).chain(ends);
            for (&from, &to) in starts.zip(ends) {
                let at: Vec<i64> = places[from..to].iter().map(|&p| p as i64).collect();
                launch(
                    "accumulate.cu",
                    "pa_accumulate",
                    grid,
                    args![
                        grads(from, to).as_ptr(),
                        offsets.as_ptr(),
                        layout.factors() as i64,
                        all.as_ptr(),
                        at.as_ptr(),
                        (to - from) as i64,
                        sum.as_mut_ptr(),
                    ],
                );
            }
            assert_same("sum", &sum, &twin);
        }
    }
}
