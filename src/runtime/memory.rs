//! Where arrays lie.

use cudarc::driver::CudaContext;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};

use super::Ep;
use super::driver::cuda_devices;

/// Where arrays lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The process's own memory.
    Host,
    /// The memory of the CUDA device of this number.
    Cuda(i32),
}

impl Memory {
    /// The memory that a provider on a device computes in.
    pub(crate) fn of(ep: Ep, device: i32) -> Self {
        match ep {
            Ep::Cuda | Ep::TensorRt => Self::Cuda(device),
            Ep::Cpu | Ep::Auto => Self::Host,
        }
    }

    /// Bytes that are free there; nothing where nobody says.
    pub(crate) fn free(self) -> Option<u64> {
        match self {
            Self::Host => {
                let text = std::fs::read_to_string("/proc/meminfo").ok()?;
                let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
                let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
                Some(1024 * kib)
            }
            Self::Cuda(number) => {
                let number = usize::try_from(number).ok()?;
                cuda_devices().ok().filter(|&count| number < count)?;
                let context = CudaContext::new(number).ok()?;
                Some(context.mem_get_info().ok()?.0 as u64)
            }
        }
    }

    pub(super) fn info(self) -> ort::Result<MemoryInfo<'static>> {
        let (device, number) = match self {
            Self::Host => (AllocationDevice::CPU, 0),
            Self::Cuda(number) => (AllocationDevice::CUDA, number),
        };
        MemoryInfo::new(device, number, AllocatorType::Device, MemoryType::Default)
    }
}
