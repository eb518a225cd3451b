//! What happens to a batch: noise, errors, factors, the weighted sum of gradients.

use popalign::device::{Diffuse, Errors, Layout, Loss, cpu};
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
fn paired_mse() {
    for (n, grid) in SIZES {
        let batch = if n == 0 { 0 } else { 3usize };
        let (p, r, t) = (
            values(2, batch * n),
            values(3, batch * n),
            values(4, batch * n),
        );
        let (twin_p, twin_r) = cpu::paired_mse(&p, &r, &t, n);
        let (mut mse, mut ref_mse) = (vec![0.0f32; batch], vec![0.0f32; batch]);
        launch(
            "paired_mse.cu",
            "pa_paired_mse",
            grid,
            args![
                p.as_ptr(),
                r.as_ptr(),
                t.as_ptr(),
                mse.as_mut_ptr(),
                ref_mse.as_mut_ptr(),
                batch as i64,
                n as i64,
            ],
        );
        assert_same("mse", &mse, &twin_p);
        assert_same("ref_mse", &ref_mse, &twin_r);
    }
}

#[test]
fn weights() {
    for pairs in [0usize, 1, 2, 31, 32, 33, 255, 256, 257, 1025, 1_000_007] {
        let set = |size| Loss::Set { beta: 900.0, size };
        let popalign = Loss::PopAlign {
            beta: 5000.0,
            alpha: 0.3,
        };
        let mut losses = vec![
            popalign,
            Loss::Dpo { beta: 5000.0 },
            Loss::Sft { beta: 10.0 },
            set(1),
        ];
        // A set is added up once for each of its pairs: one of a million would take for ever.
        let sizes = [5, 257, pairs]
            .into_iter()
            .filter(|&s| (1..2000).contains(&s));
        losses.extend(sizes.filter(|s| pairs.is_multiple_of(*s)).map(set));
        for loss in losses {
            let mse: Vec<f32> = values(5, 2 * pairs)
                .iter()
                .map(|v| v.abs() * 1e-3 + 0.1)
                .collect();
            let ref_mse: Vec<f32> = values(6, 2 * pairs)
                .iter()
                .map(|v| v.abs() * 1e-3 + 0.1)
                .collect();
            let scale: Vec<f32> = values(7, pairs).iter().map(|v| v.abs()).collect();
            let errors = Errors {
                mse: &mse,
                ref_mse: &ref_mse,
                scale: &scale,
            };
            let twin = cpu::weights(&loss, &errors);
            let (mut c, mut summary) = (vec![0.0f32; 2 * pairs], [0.0f64; 4]);
            let (kind, beta, alpha, set) = loss.parameters();
            launch(
                "weights.cu",
                "pa_weights",
                1,
                args![
                    mse.as_ptr(),
                    ref_mse.as_ptr(),
                    scale.as_ptr(),
                    c.as_mut_ptr(),
                    summary.as_mut_ptr(),
                    pairs as i64,
                    set as i64,
                    kind,
                    beta,
                    alpha,
                ],
            );
            assert_same("c", &c, &twin.c);
            let expected = [twin.loss, twin.mu, twin.accuracy, twin.margin];
            for (k, (a, b)) in summary.into_iter().zip(expected).enumerate() {
                // No pairs have no means; which NaN says so is not part of the promise.
                let none = pairs == 0 && a.is_nan() && b.is_nan();
                assert!(a.to_bits() == b.to_bits() || none, "{k}: {a} {b}");
            }
        }
    }
}

#[test]
fn accumulate_for_any_cut_of_the_batch() {
    for (n, grid) in SIZES {
        let layout = Layout::new([n / 3, 0, n / 2, n - n / 3 - n / 2, 5]);
        let c = [0.25f32, 0.0, -1.5, 3.0e-4];
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
        cpu::accumulate(&grads(0, 4), &layout, &c, &mut twin);
        let offsets: Vec<i64> = layout.offsets().iter().map(|&o| o as i64).collect();
        for ends in [&[4][..], &[1, 4], &[1, 2, 3, 4]] {
            let mut sum = start.clone();
            let starts = std::iter::once(&0).chain(ends);
            for (&from, &to) in starts.zip(ends) {
                launch(
                    "accumulate.cu",
                    "pa_accumulate",
                    grid,
                    args![
                        grads(from, to).as_ptr(),
                        offsets.as_ptr(),
                        layout.factors() as i64,
                        c[from..to].as_ptr(),
                        (to - from) as i64,
                        sum.as_mut_ptr(),
                    ],
                );
            }
            assert_same("sum", &sum, &twin);
        }
    }
}
