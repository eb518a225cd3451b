//! How a graph is to be run.

use std::path::PathBuf;
use std::sync::Arc;

use cudarc::driver::CudaStream;

use super::Ep;

/// How a graph is to be run.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The execution provider.
    pub ep: Ep,
    /// Device index for CUDA and TensorRT.
    pub device: i32,
    /// Threads for one operator on the CPU, at least 1.
    pub threads: usize,
    /// Whether threads that wait for work spin for a moment before they sleep. Faster when this is
    /// the only busy process, slower for everybody when it is not.
    pub spin: bool,
    /// Whether ONNX Runtime optimizes the graph. Without, it loads fast and reads no weights, but
    /// runs slowly.
    pub optimize: bool,
    /// Whether the CPU provider reads weights where the file is mapped. By default it makes copies,
    /// laid out for its kernels and with everything that depends on weights alone computed: a few
    /// percent faster, but a training graph, which has most weights twice, then takes more than
    /// twice their memory.
    pub weights_in_place: bool,
    /// Whether the graph is as it should run, so that ONNX Runtime's passes would find nothing.
    pub finished: bool,
    /// Whether CUDA must run every node: one on the CPU is then an error instead of a slow surprise.
    pub one_device: bool,
    /// What identifies the weights behind the graph, if the caller knows (a bundle does). Without
    /// it TensorRT's engine cache hashes the weight files.
    pub weights_hash: Option<String>,
    /// The CUDA stream that CUDA and TensorRT queue their work on; their own by default.
    pub stream: Option<ComputeStream>,
    /// TensorRT only.
    pub tensorrt: TensorRt,
}

/// A CUDA stream that sessions share with somebody else's work, kept alive by them.
#[derive(Debug, Clone)]
pub struct ComputeStream(pub Arc<CudaStream>);

/// Options that only TensorRT has.
#[derive(Debug, Clone, Default)]
pub struct TensorRt {
    /// Root of the engine caches [default: `popalign/engines` in the user's cache folder].
    pub engine_cache: Option<PathBuf>,
    /// Let TensorRT choose fp16 kernels in an fp32 graph.
    pub fp16: bool,
    /// Smallest, usual and largest input shapes, as `"sample:2x4x64x64,timestep:2"`. One engine
    /// serves them all; without it, every new shape builds another.
    pub profile: Option<[String; 3]>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self::new(
            Ep::Cpu,
            0,
            std::thread::available_parallelism().map_or(1, usize::from),
        )
    }
}

impl SessionOptions {
    /// Options for this provider, device index and number of CPU threads.
    pub fn new(ep: Ep, device: i32, threads: usize) -> Self {
        Self {
            ep,
            device,
            threads: threads.max(1),
            spin: true,
            optimize: true,
            weights_in_place: false,
            finished: false,
            one_device: false,
            weights_hash: None,
            stream: None,
            tensorrt: TensorRt::default(),
        }
    }
}
