//! Element types of tensors, wherever they stand: in a file of weights, in a graph, in `bundle.json`.
//!
//! All that safetensors knows are here. A room that works with some of them only says so itself.

use std::fmt;

/// Element type of a tensor.
///
/// Ordered by width, as safetensors' reference implementation lays tensors out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// Truth value, one byte.
    Bool,
    /// 8-bit unsigned integer.
    U8,
    /// 8-bit signed integer.
    I8,
    /// Eight bits, five of them exponent.
    F8E5M2,
    /// Eight bits, four of them exponent; finite numbers and NaN.
    F8E4M3,
    /// 16-bit signed integer.
    I16,
    /// 16-bit unsigned integer.
    U16,
    /// IEEE half precision.
    F16,
    /// Truncated single precision.
    BF16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// 64-bit signed integer.
    I64,
    /// 64-bit unsigned integer.
    U64,
}

/// What there is to know about a type: its name in safetensors headers, its short name, bytes of
/// an element, and `TensorProto.DataType` of ONNX.
type Row = (DType, &'static str, &'static str, u64, i32);

/// In the order of the types.
const TABLE: [Row; 15] = [
    (DType::Bool, "BOOL", "bool", 1, 9),
    (DType::U8, "U8", "u8", 1, 2),
    (DType::I8, "I8", "i8", 1, 3),
    (DType::F8E5M2, "F8_E5M2", "f8e5m2", 1, 19),
    (DType::F8E4M3, "F8_E4M3", "f8e4m3", 1, 17),
    (DType::I16, "I16", "i16", 2, 5),
    (DType::U16, "U16", "u16", 2, 4),
    (DType::F16, "F16", "fp16", 2, 10),
    (DType::BF16, "BF16", "bf16", 2, 16),
    (DType::I32, "I32", "i32", 4, 6),
    (DType::U32, "U32", "u32", 4, 12),
    (DType::F32, "F32", "fp32", 4, 1),
    (DType::F64, "F64", "fp64", 8, 11),
    (DType::I64, "I64", "i64", 8, 7),
    (DType::U64, "U64", "u64", 8, 13),
];

impl DType {
    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Its name in safetensors headers: `F32`, `F16`, `BF16`, `I64` …
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The type of that name in safetensors headers.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Its name on the command line and in file names: `fp32`, `fp16`, `bf16`, `i64` …
    pub fn short_name(self) -> &'static str {
        self.row().2
    }

    /// Bytes of one element.
    pub fn size(self) -> u64 {
        self.row().3
    }

    /// Bytes of a tensor of that shape; nothing if they overflow.
    pub fn bytes(self, shape: &[u64]) -> Option<u64> {
        shape
            .iter()
            .try_fold(self.size(), |bytes, &dim| bytes.checked_mul(dim))
    }

    /// Its number in ONNX files, `TensorProto.DataType`.
    pub fn onnx(self) -> i32 {
        self.row().4
    }

    /// The type of that number in ONNX files.
    pub fn from_onnx(number: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.4 == number).map(|row| row.0)
    }

    /// Whether it holds floating-point numbers to compute with. The 8-bit types only store: nothing
    /// here reads them as numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_types_and_of_their_widths() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index, "{row:?}");
            assert_eq!(DType::from_name(row.1), Some(row.0));
        }
        assert!(TABLE.is_sorted_by_key(|row| row.3));
        assert_eq!(DType::from_name("F4"), None);
    }

    #[test]
    fn bytes_of_a_shape_are_counted_or_overflow() {
        assert_eq!(DType::F16.bytes(&[3, 5]), Some(30));
        assert_eq!(DType::F32.bytes(&[]), Some(4));
        assert_eq!(DType::U8.bytes(&[u64::MAX, 2]), None);
    }

    /// Bundles of before have these names.
    #[test]
    fn json_has_the_types_in_lower_case() {
        let json = serde_json::to_string(&[DType::F32, DType::BF16, DType::I64]).unwrap();
        assert_eq!(json, r#"["f32","bf16","i64"]"#);
    }
}
