//! Where arrays lie.

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};

use super::Ep;

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
    pub(super) fn of(ep: Ep, device: i32) -> Self {
        match ep {
            Ep::Cuda | Ep::TensorRt => Self::Cuda(device),
            Ep::Cpu | Ep::Auto => Self::Host,
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
