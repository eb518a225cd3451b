//! The CUDA sources, run on the CPU through the shim of `tests/shim`, against their Rust twins:
//! equal bits at awkward sizes and for any grid. Needs `g++`.
#![expect(unsafe_code, reason = "calls into the compiled shim")]
#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps fails with the reason it should"
)]

use std::collections::HashMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use libloading::Library;
use popalign::device::cpu::{self, Half};
use popalign::device::philox::{self, Purpose};
use popalign::device::sources::{SOURCES, nvrtc_present};
use popalign::device::{AdamW, Clip, Diffuse, Errors, Layout, Loss};

const SIZES: [usize; 7] = [0, 1, 31, 32, 33, 1025, 100_003];
const GRIDS: [u32; 2] = [1, 7];

/// A kernel file compiled as C++ and loaded, once per test process.
fn library(file: &str) -> &'static Library {
    static LOADED: LazyLock<Mutex<HashMap<String, &'static Library>>> =
        LazyLock::new(Mutex::default);
    let mut loaded = LOADED.lock().unwrap();
    if let Some(library) = loaded.get(file) {
        return library;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{file}-{}.so", std::process::id()));
    let status = Command::new("g++")
        .args(["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Werror"])
        .args(["-fPIC", "-shared", "-DPOPALIGN_SHIM", "-include"])
        .arg(root.join("tests/shim/shim.h"))
        .args(["-x", "c++"])
        .arg(root.join("kernels").join(file))
        .arg("-o")
        .arg(&out)
        .status()
        .expect("g++ runs (apt install g++)");
    assert!(status.success(), "{file} does not compile with g++");
    // SAFETY: the library was compiled just now from this repository and runs no code on loading.
    let library: &'static Library = Box::leak(Box::new(unsafe { Library::new(&out) }.unwrap()));
    // The mapping stays; the name is not needed any more.
    std::fs::remove_file(&out).unwrap();
    loaded.insert(file.to_owned(), library);
    library
}

/// Runs a kernel over `grid` blocks with pointers to its arguments, as `cuLaunchKernel` takes them.
fn launch(file: &str, kernel: &str, grid: u32, args: &mut [*mut c_void]) {
    type Entry = unsafe extern "C" fn(*const u32, *const u32, *mut *mut c_void);
    let name = format!("shim_{kernel}");
    // SAFETY: SHIM_EXPORT defines this symbol with this signature; every test passes the kernel's
    // parameters in order, with buffers of the documented sizes.
    unsafe {
        let entry = library(file).get::<Entry>(name.as_bytes()).unwrap();
        entry(
            [grid, 1, 1].as_ptr(),
            [256, 1, 1].as_ptr(),
            args.as_mut_ptr(),
        );
    }
}

/// The address of an argument's value.
macro_rules! args {
    ($($value:expr),+ $(,)?) => { &mut [$(std::ptr::from_ref(&$value).cast_mut().cast::<c_void>()),+] };
}

/// Test values of a wide range, by index.
fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut x = vec![0.0; n];
    philox::normal(seed, Purpose::Bootstrap, 1, 2, 3, &mut x);
    for (k, v) in x.iter_mut().enumerate() {
        *v *= [1.0, 1e-3, 40.0, 1e-8][k % 4];
    }
    x
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[track_caller]
fn assert_same(what: &str, kernel: &[f32], twin: &[f32]) {
    let differ = kernel
        .iter()
        .zip(twin)
        .position(|(a, b)| a.to_bits() != b.to_bits());
    assert!(
        differ.is_none() && kernel.len() == twin.len(),
        "{what}: element {differ:?} of {} differs: {:?}",
        twin.len(),
        differ.map(|k| (kernel[k], twin[k]))
    );
}

#[test]
fn diffuse() {
    for (n, grid) in SIZES.iter().flat_map(|&n| GRIDS.map(|g| (n, g))) {
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
    for (n, grid) in SIZES.iter().flat_map(|&n| GRIDS.map(|g| (n, g))) {
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
    for pairs in [1usize, 2, 31, 255, 256, 257, 1025] {
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
            set(pairs),
        ];
        losses.extend(
            [5, 257]
                .into_iter()
                .filter(|s| pairs.is_multiple_of(*s))
                .map(set),
        );
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
            assert_eq!(summary.map(f64::to_bits), expected.map(f64::to_bits));
        }
    }
}

#[test]
fn accumulate_for_any_cut_of_the_batch() {
    for (n, grid) in SIZES.iter().flat_map(|&n| GRIDS.map(|g| (n, g))) {
        let layout = Layout::new([n / 3, 0, n / 2, n - n / 3 - n / 2, 5]);
        let c = [0.25f32, 0.0, -1.5, 3.0e-4];
        let grads: Vec<Vec<f32>> = (0..layout.factors())
            .map(|m| {
                let per = layout.range(m).len();
                let mut g = values(m as u64, 4 * per);
                // A sample without weight may hold anything.
                g[per..2 * per].fill(f32::NAN);
                g
            })
            .collect();
        let mut twin = values(9, layout.total());
        let start = twin.clone();
        cpu::accumulate(&grads, &layout, &c, &mut twin);
        let offsets: Vec<i64> = layout.offsets().iter().map(|&o| o as i64).collect();
        for ends in [&[4][..], &[1, 4], &[1, 2, 3, 4]] {
            let mut sum = start.clone();
            let starts = std::iter::once(&0).chain(ends);
            for (&from, &to) in starts.zip(ends) {
                let cut = from..to;
                let table: Vec<*const f32> = grads
                    .iter()
                    .enumerate()
                    .map(|(m, g)| g[cut.start * layout.range(m).len()..].as_ptr())
                    .collect();
                launch(
                    "accumulate.cu",
                    "pa_accumulate",
                    grid,
                    args![
                        table.as_ptr(),
                        offsets.as_ptr(),
                        layout.factors() as i64,
                        c[cut.clone()].as_ptr(),
                        cut.len() as i64,
                        sum.as_mut_ptr(),
                    ],
                );
            }
            assert_same("sum", &sum, &twin);
        }
    }
}

#[test]
fn global_norm() {
    for (n, grid) in SIZES.iter().flat_map(|&n| GRIDS.map(|g| (n, g))) {
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

#[test]
fn adamw_with_copies() {
    for (n, grid) in SIZES.iter().flat_map(|&n| GRIDS.map(|g| (n, g))) {
        let (mut p, mut m, mut v) = (values(11, n), vec![0.0f32; n], vec![0.0f32; n]);
        let mut twin = (p.clone(), m.clone(), v.clone());
        let adamw = AdamW {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 1e-2,
        };
        for t in 1..=3u32 {
            let grad = values(20 + u64::from(t), n);
            let clip = Clip {
                norm: 4.0,
                factor: 0.25,
            };
            let s = adamw.step(t, 1e-3);
            cpu::adamw(&s, clip, &grad, &mut twin.0, &mut twin.1, &mut twin.2);
            for (kind, half) in [(0u32, None), (1, Some(Half::F16)), (2, Some(Half::Bf16))] {
                // Each kind starts from the same state; the last one's result is kept.
                let mut now = (p.clone(), m.clone(), v.clone());
                let mut copy = vec![0u16; n];
                launch(
                    "adamw.cu",
                    "pa_adamw",
                    grid,
                    args![
                        grad.as_ptr(),
                        [clip.norm, clip.factor].as_ptr(),
                        now.0.as_mut_ptr(),
                        now.1.as_mut_ptr(),
                        now.2.as_mut_ptr(),
                        copy.as_mut_ptr(),
                        n as i64,
                        s.keep,
                        s.rate,
                        s.root,
                        s.one_minus_beta1,
                        s.beta2,
                        s.one_minus_beta2,
                        s.eps,
                        kind,
                    ],
                );
                assert_same("p", &now.0, &twin.0);
                assert_same("m", &now.1, &twin.1);
                assert_same("v", &now.2, &twin.2);
                if let Some(half) = half {
                    assert_eq!(copy, cpu::to_half(&twin.0, half));
                }
                if kind == 2 {
                    (p, m, v) = now;
                }
            }
        }
    }
}

#[test]
fn ema() {
    for (n, grid) in SIZES.iter().flat_map(|&n| GRIDS.map(|g| (n, g))) {
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
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    for (kind, half) in [(1u32, Half::F16), (2, Half::Bf16)] {
        let mut to = vec![0u16; x.len()];
        launch(
            "casts.cu",
            "pa_to_half",
            7,
            args![x.as_ptr(), to.as_mut_ptr(), x.len() as i64, kind],
        );
        assert_eq!(to, cpu::to_half(&x, half));
        let mut from = vec![0.0f32; halves.len()];
        launch(
            "casts.cu",
            "pa_from_half",
            7,
            args![
                halves.as_ptr(),
                from.as_mut_ptr(),
                halves.len() as i64,
                kind
            ],
        );
        let twin = cpu::from_half(&halves, half);
        for (k, (a, b)) in from.iter().zip(&twin).enumerate() {
            // The payload and quiet bit of a NaN are not part of the promise.
            assert!(
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                "{k:#x}: {a} {b}"
            );
        }
    }
}

#[test]
fn every_source_compiles_for_gpus_where_nvrtc_is_present() {
    if let Err(missing) = nvrtc_present() {
        eprintln!("NOT CHECKED: compilation of the kernels to PTX: {missing}");
        return;
    }
    for source in SOURCES {
        for arch in ["sm_80", "sm_90"] {
            let ptx = source
                .compile(arch)
                .unwrap_or_else(|e| panic!("{arch}: {e}"))
                .to_src();
            for kernel in source.kernels {
                assert!(
                    ptx.contains(&format!(".entry {kernel}(")),
                    "{kernel} in {}",
                    source.file
                );
            }
            assert!(
                !ptx.contains("fma."),
                "{} uses fused multiply-add",
                source.file
            );
        }
    }
}

/// Every kernel file is listed, so that none escapes compilation and packaging.
#[test]
fn every_kernel_file_is_embedded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".cu") {
            let source = SOURCES.iter().find(|s| s.file == name);
            let source = source.unwrap_or_else(|| panic!("{name} is not in SOURCES"));
            let text = source.assembled();
            assert!(
                !text.contains("#include \""),
                "{name}: an include was not resolved"
            );
            let count = text.matches("__global__ void").count();
            assert_eq!(count, source.kernels.len(), "entry points of {name}");
        }
    }
}
