//! Compiles the stand-ins for libcuda and libnccl and puts them in the loader's way.

use std::fmt::Write;
use std::path::Path;
use std::sync::LazyLock;

use libloading::Library;
use popalign::device::sources::SOURCES;

use crate::compile_shim::{compile, root};

/// What the stand-in driver has counted.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Bytes of device memory that are allocated.
    pub(crate) live_bytes: u64,
    /// Their allocations.
    pub(crate) live_blocks: u64,
    /// Bytes copied from the host.
    pub(crate) to_device: u64,
    /// Bytes copied to the host.
    pub(crate) to_host: u64,
    /// Kernels launched.
    pub(crate) launches: u64,
}

static DRIVER: LazyLock<Library> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let mut includes = String::new();
    for source in SOURCES {
        let file = root().join("kernels").join(source.file);
        writeln!(includes, "#include \"{}\"", file.display()).unwrap();
    }
    std::fs::write(folder.path().join("kernels.inc"), includes).unwrap();
    // The loader takes a library that is there already for one of the same soname.
    std::mem::forget(library(folder.path(), "nccl", "libnccl.so"));
    library(folder.path(), "driver", "libcuda.so")
});

/// Compiles and loads a stand-in for the library of this soname.
fn library(folder: &Path, name: &str, soname: &str) -> Library {
    let out = folder.join(soname);
    let (include, linked) = (folder.to_str().unwrap(), format!("-Wl,-soname,{soname}"));
    let source = root().join(format!("tests/driver/{name}.cpp"));
    compile(&source, &out, &["-I", include, &linked]);
    // SAFETY: compiled just now from this repository; loading it fills a table of kernels.
    unsafe { Library::new(&out) }.unwrap()
}

/// Makes this process believe in a GPU.
pub(crate) fn install() {
    LazyLock::force(&DRIVER);
}

pub(crate) fn counters() -> Counters {
    let mut counters = Counters::default();
    // SAFETY: the function has this signature in driver.cpp.
    unsafe {
        let read = DRIVER.get::<unsafe extern "C" fn(*mut Counters)>(b"stand_in_counters");
        read.unwrap()(&raw mut counters);
    }
    counters
}

/// Lets the device have this much memory.
pub(crate) fn limit(bytes: u64) {
    // SAFETY: the function has this signature in driver.cpp.
    unsafe {
        let set = DRIVER.get::<unsafe extern "C" fn(u64)>(b"stand_in_limit");
        set.unwrap()(bytes);
    }
}
