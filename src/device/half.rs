//! The 16-bit number formats.

/// A 16-bit number format, numbered as `kernels/casts.cu` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Half {
    /// IEEE half precision.
    F16 = 1,
    /// The upper half of single precision.
    Bf16 = 2,
}
