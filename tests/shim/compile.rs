//! Compiling kernels for the CPU: one set of flags, on which the bits depend.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a shared library of a C++ source and the shim, with more arguments to `g++`.
///
/// # Panics
/// If it does not compile.
pub(crate) fn compile(source: &Path, out: &Path, more: &[&str]) {
    let status = Command::new("g++")
        .args(["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Werror"])
        // Fortified longjmp refuses to change stacks.
        .args(["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0"])
        .args(["-fPIC", "-shared", "-DPOPALIGN_SHIM"])
        .args(more)
        .args(["-x", "c++"])
        .arg(source)
        .arg("-o")
        .arg(out)
        .status()
        .expect("g++ runs (apt install g++)");
    assert!(
        status.success(),
        "{} does not compile with g++",
        source.display()
    );
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
