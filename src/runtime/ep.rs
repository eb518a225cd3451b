//! Execution providers by name.

/// Which execution provider runs the graphs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Ep {
    /// CUDA if it can run here, otherwise the CPU; what was picked is logged. TensorRT builds
    /// engines for minutes, so it is used only when asked for.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA through ONNX Runtime's CUDA provider.
    Cuda,
    /// TensorRT through ONNX Runtime's TensorRT provider.
    #[value(name = "tensorrt")]
    TensorRt,
}

impl std::fmt::Display for Ep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Ep::Auto => "auto",
            Ep::Cpu => "cpu",
            Ep::Cuda => "cuda",
            Ep::TensorRt => "tensorrt",
        })
    }
}
