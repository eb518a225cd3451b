//! ONNX Runtime: environment, execution providers, sessions.

/// Which execution provider runs the graphs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Ep {
    /// The best one that can run here; what was picked is logged.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA through ONNX Runtime's CUDA provider.
    Cuda,
    /// TensorRT through ONNX Runtime's TensorRT provider.
    #[value(name = "tensorrt")]
    TensorRt,
}
