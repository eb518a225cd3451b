//! Compiling a kernel for the CPU and launching it there.

use std::collections::HashMap;
use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use libloading::Library;
use popalign::random;
use popalign::random::Purpose;

use crate::compile_shim::{compile, root};

/// Elements and blocks of launches: around a warp and above a block with each grid, large ones with
/// one. A million and seven is larger than any chunk and divisible by nothing that is.
pub(crate) const SIZES: [(usize, u32); 14] = [
    (0, 1),
    (0, 7),
    (1, 1),
    (1, 7),
    (31, 1),
    (31, 7),
    (32, 1),
    (32, 7),
    (33, 1),
    (33, 7),
    (1025, 1),
    (1025, 7),
    (100_003, 1),
    (1_000_007, 7),
];

/// A kernel file compiled as C++ and loaded, once per test process.
fn library(file: &str) -> &'static Library {
    static LOADED: LazyLock<Mutex<HashMap<String, &'static Library>>> =
        LazyLock::new(Mutex::default);
    let mut loaded = LOADED.lock().unwrap();
    if let Some(library) = loaded.get(file) {
        return library;
    }
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{file}-{}.so", std::process::id()));
    let shim = root().join("tests/shim/shim.h");
    let include = ["-include", shim.to_str().unwrap()];
    compile(&root().join("kernels").join(file), &out, &include);
    // SAFETY: the library was compiled just now from this repository and runs no code on loading.
    let library: &'static Library = Box::leak(Box::new(unsafe { Library::new(&out) }.unwrap()));
    // The mapping stays; the name is not needed any more.
    std::fs::remove_file(&out).unwrap();
    loaded.insert(file.to_owned(), library);
    library
}

/// Runs a kernel over `grid` blocks with pointers to its arguments, as `cuLaunchKernel` takes them.
pub(crate) fn launch(file: &str, kernel: &str, grid: u32, args: &mut [*mut c_void]) {
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
    ($($value:expr),+ $(,)?) => {
        &mut [$(std::ptr::from_ref(&$value).cast_mut().cast::<std::ffi::c_void>()),+]
    };
}
pub(crate) use args;

/// Test values of a wide range, by index.
pub(crate) fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut x = vec![0.0; n];
    random::normal(seed, Purpose::Bootstrap, 1, 2, 3, &mut x);
    for (k, v) in x.iter_mut().enumerate() {
        *v *= [1.0, 1e-3, 40.0, 1e-8][k % 4];
    }
    x
}

pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[track_caller]
pub(crate) fn assert_same(what: &str, kernel: &[f32], twin: &[f32]) {
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
