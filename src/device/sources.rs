//! The kernel sources, embedded, and their compilation by NVRTC.
//!
//! Their `#include`s are resolved here, so that no file is needed beside the executable. Nor is a
//! compiler: `kernels/ptx` holds each source compiled for the oldest GPUs by the first NVRTC of
//! CUDA 12, which every later driver takes. `scripts/kernels` makes it; [`super::ptx`] chooses.

use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts, sys};

use super::error::Error;
use crate::base::fsio;

/// A kernel source file with the entry points in it.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// File name under `kernels/`.
    pub file: &'static str,
    /// Its text, with `#include` lines.
    pub text: &'static str,
    /// The same compiled beforehand: a line with [`Source::hash`], then PTX for sm_75.
    pub prebuilt: &'static str,
    /// The `__global__` functions in it.
    pub kernels: &'static [&'static str],
}

macro_rules! source {
    ($name:literal, $($kernel:literal),+) => {
        Source {
            file: concat!($name, ".cu"),
            text: include_str!(concat!("../../kernels/", $name, ".cu")),
            prebuilt: include_str!(concat!("../../kernels/ptx/", $name, ".ptx")),
            kernels: &[$($kernel),+],
        }
    };
}

/// Every kernel source.
pub const SOURCES: &[Source] = &[
    source!("diffuse", "pa_diffuse"),
    source!("place", "pa_place"),
    source!("weights", "pa_first_bad", "pa_weights"),
    source!("accumulate", "pa_accumulate"),
    source!("scale", "pa_scale"),
    source!("global_norm", "pa_square_sums", "pa_norm"),
    source!("adamw", "pa_adamw"),
    source!("adamw8", "pa_adamw8"),
    source!(
        "prodigy",
        "pa_prodigy_moments",
        "pa_prodigy_sums",
        "pa_prodigy_update"
    ),
    source!("ema", "pa_ema"),
    source!("casts", "pa_to_half"),
];

const HEADERS: &[(&str, &str)] = &[
    ("common.cuh", include_str!("../../kernels/common.cuh")),
    ("philox.cuh", include_str!("../../kernels/philox.cuh")),
    ("exact.cuh", include_str!("../../kernels/exact.cuh")),
    ("adamw.cuh", include_str!("../../kernels/adamw.cuh")),
    ("blockwise.cuh", include_str!("../../kernels/blockwise.cuh")),
];

impl Source {
    /// The text with headers put in place of their `#include` lines.
    pub fn assembled(&self) -> String {
        fn put(text: &str, out: &mut String) {
            for line in text.lines() {
                let included = line
                    .strip_prefix("#include \"")
                    .and_then(|rest| rest.strip_suffix('"'))
                    .and_then(|name| HEADERS.iter().find(|(header, _)| *header == name));
                if let Some((_, header)) = included {
                    put(header, out);
                } else {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        let mut out = String::new();
        put(self.text, &mut out);
        out
    }

    /// SHA-256 of the assembled text.
    pub fn hash(&self) -> String {
        fsio::sha256_bytes(self.assembled().as_bytes())
    }

    /// Compiles to PTX for an architecture such as `sm_80`, without fused multiply-add, flushing
    /// or approximate division: the twins' bits depend on it.
    pub fn compile(&self, arch: &'static str) -> Result<String, Error> {
        nvrtc_version()?;
        let options = CompileOptions {
            arch: Some(arch),
            fmad: Some(false),
            ftz: Some(false),
            prec_div: Some(true),
            prec_sqrt: Some(true),
            name: Some(self.file.to_owned()),
            ..CompileOptions::default()
        };
        let compiled = compile_ptx_with_opts(self.assembled(), options);
        compiled
            .map(|ptx| ptx.to_src())
            .map_err(|e| Error::Compile {
                source_file: self.file,
                log: e.to_string(),
            })
    }
}

/// NVRTC's version as a driver writes it (12090 for 12.9), or that it can't be loaded. Never panics.
#[expect(unsafe_code, reason = "looking for a shared library is an FFI edge")]
pub fn nvrtc_version() -> Result<i32, Error> {
    let missing = |reason: &str| Error::Unavailable {
        reason: reason.to_owned(),
    };
    // SAFETY: only looks for the shared library; no symbol of it is called.
    if !unsafe { sys::is_culib_present() } {
        return Err(missing(
            "libnvrtc (the run-time compiler) is not on the library path",
        ));
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, and the function writes two integers.
    let result = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    if result == sys::nvrtcResult::NVRTC_SUCCESS {
        Ok(major * 1000 + minor * 10)
    } else {
        Err(missing("libnvrtc does not tell its version"))
    }
}
