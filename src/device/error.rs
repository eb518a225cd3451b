/// Why a device could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable CUDA installation.
    #[error("CUDA cannot run here: {reason}")]
    Unavailable {
        /// What is missing.
        reason: String,
    },
    /// A kernel did not compile.
    #[error("kernel source {source_file} does not compile: {log}")]
    Compile {
        /// File under `kernels/`.
        source_file: &'static str,
        /// The compiler's words.
        log: String,
    },
    /// The driver refused a call.
    #[error("CUDA call `{call}` failed: {reason}")]
    Driver {
        /// The kernel or operation.
        call: &'static str,
        /// The driver's words.
        reason: String,
    },
}
