//! The kernel sources, embedded, and their compilation by NVRTC.
//!
//! Their `#include`s are resolved here, so that no file is needed beside the executable.

use cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts};

use super::Error;

/// A kernel source file with the entry points in it.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// File name under `kernels/`.
    pub file: &'static str,
    /// Its text, with `#include` lines.
    pub text: &'static str,
    /// The `__global__` functions in it.
    pub kernels: &'static [&'static str],
}

macro_rules! source {
    ($file:literal, $($kernel:literal),+) => {
        Source {
            file: $file,
            text: include_str!(concat!("../../kernels/", $file)),
            kernels: &[$($kernel),+],
        }
    };
}

/// Every kernel source.
pub const SOURCES: &[Source] = &[
    source!("diffuse.cu", "pa_diffuse"),
    source!("paired_mse.cu", "pa_paired_mse"),
    source!("weights.cu", "pa_weights"),
    source!("accumulate.cu", "pa_accumulate"),
    source!("global_norm.cu", "pa_square_sums", "pa_norm"),
    source!("adamw.cu", "pa_adamw"),
    source!("adamw8.cu", "pa_adamw8"),
    source!("ema.cu", "pa_ema"),
    source!("casts.cu", "pa_to_half", "pa_from_half"),
];

const HEADERS: &[(&str, &str)] = &[
    ("common.cuh", include_str!("../../kernels/common.cuh")),
    ("philox.cuh", include_str!("../../kernels/philox.cuh")),
    ("exact.cuh", include_str!("../../kernels/exact.cuh")),
    ("adamw.cuh", include_str!("../../kernels/adamw.cuh")),
    ("blockwise.cuh", include_str!("../../kernels/blockwise.cuh")),
    ("cast.cuh", include_str!("../../kernels/cast.cuh")),
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

    /// Compiles to PTX for an architecture such as `sm_80`, without fused multiply-add, flushing
    /// or approximate division: the twins' bits depend on it.
    pub fn compile(&self, arch: &'static str) -> Result<Ptx, Error> {
        nvrtc_present()?;
        let options = CompileOptions {
            arch: Some(arch),
            fmad: Some(false),
            ftz: Some(false),
            prec_div: Some(true),
            prec_sqrt: Some(true),
            name: Some(self.file.to_owned()),
            ..CompileOptions::default()
        };
        compile_ptx_with_opts(self.assembled(), options).map_err(|e| Error::Compile {
            source_file: self.file,
            log: e.to_string(),
        })
    }
}

/// Whether NVRTC can be loaded. Never panics.
#[expect(unsafe_code, reason = "looking for a shared library is an FFI edge")]
pub fn nvrtc_present() -> Result<(), Error> {
    // SAFETY: only looks for the shared library; no symbol of it is called.
    if unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        Ok(())
    } else {
        Err(Error::Unavailable {
            reason: "libnvrtc (the run-time compiler) is not on the library path".to_owned(),
        })
    }
}
