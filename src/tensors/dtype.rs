//! Types of elements.

use std::fmt;

/// How a tensor's elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum DType {
    Bool,
    U8,
    I8,
    F8E5M2,
    F8E4M3,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
}

impl DType {
    const ALL: [(DType, &'static str, u64); 15] = [
        (DType::Bool, "BOOL", 1),
        (DType::U8, "U8", 1),
        (DType::I8, "I8", 1),
        (DType::F8E5M2, "F8_E5M2", 1),
        (DType::F8E4M3, "F8_E4M3", 1),
        (DType::I16, "I16", 2),
        (DType::U16, "U16", 2),
        (DType::F16, "F16", 2),
        (DType::BF16, "BF16", 2),
        (DType::I32, "I32", 4),
        (DType::U32, "U32", 4),
        (DType::F32, "F32", 4),
        (DType::F64, "F64", 8),
        (DType::I64, "I64", 8),
        (DType::U64, "U64", 8),
    ];

    /// Bytes of one element.
    pub fn size(self) -> u64 {
        Self::ALL[self as usize].2
    }

    /// The name in safetensors headers.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether it holds floating-point numbers that can be read as fp32.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// The type of that name in safetensors headers.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|d| d.1 == name).map(|d| d.0)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
