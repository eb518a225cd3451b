//! What goes into a run and what comes out of it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef};

use super::{Error, Result};

/// The inputs of one run, by name.
///
/// Arrays are borrowed: a feed of a thousand LoRA tensors costs a thousand small views. Values are
/// cast to what the session declares (fp32 to fp16, a 64-bit timestep to fp32 …) when it runs.
#[derive(Debug, Clone, Default)]
pub struct Feed<'a> {
    entries: Vec<Entry<'a>>,
}

/// One named array.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    name: Cow<'a, str>,
    shape: Vec<usize>,
    data: Data<'a>,
}

#[derive(Debug, Clone)]
enum Data<'a> {
    F32(Cow<'a, [f32]>),
    I64(Cow<'a, [i64]>),
}

impl<'a> Feed<'a> {
    /// An empty feed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds fp32 values in row-major order.
    ///
    /// # Panics
    /// If `values` does not fill `shape`.
    #[must_use]
    pub fn f32_slice(
        mut self,
        name: impl Into<Cow<'a, str>>,
        values: &'a [f32],
        shape: &[usize],
    ) -> Self {
        self.push_f32(name, values, shape);
        self
    }

    /// Adds 64-bit integers in row-major order.
    ///
    /// # Panics
    /// If `values` does not fill `shape`.
    #[must_use]
    pub fn i64_slice(
        mut self,
        name: impl Into<Cow<'a, str>>,
        values: &'a [i64],
        shape: &[usize],
    ) -> Self {
        self.push_i64(name, values, shape);
        self
    }

    /// As [`Feed::f32_slice`], in place, with borrowed or owned values.
    ///
    /// # Panics
    /// If `values` does not fill `shape`.
    pub fn push_f32(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        values: impl Into<Cow<'a, [f32]>>,
        shape: &[usize],
    ) {
        self.push(name.into(), Data::F32(values.into()), shape);
    }

    /// As [`Feed::i64_slice`], in place, with borrowed or owned values.
    ///
    /// # Panics
    /// If `values` does not fill `shape`.
    pub fn push_i64(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        values: impl Into<Cow<'a, [i64]>>,
        shape: &[usize],
    ) {
        self.push(name.into(), Data::I64(values.into()), shape);
    }

    /// Number of arrays.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    fn push(&mut self, name: Cow<'a, str>, data: Data<'a>, shape: &[usize]) {
        let (needed, found) = (shape.iter().product::<usize>(), data.len());
        assert_eq!(
            needed, found,
            "`{name}` {shape:?} needs {needed} values, got {found}"
        );
        self.entries.push(Entry {
            name,
            shape: shape.to_vec(),
            data,
        });
    }
}

impl Data<'_> {
    fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::I64(v) => v.len(),
        }
    }
}

impl Entry<'_> {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// ONNX Runtime's value of type `dtype`: a view where that is the type at hand.
    pub(super) fn value(
        &self,
        dtype: TensorElementType,
    ) -> std::result::Result<SessionInputValue<'_>, String> {
        use TensorElementType as T;
        match (&self.data, dtype) {
            (Data::F32(v), T::Float32) => self.view(v),
            (Data::I64(v), T::Int64) => self.view(v),
            (Data::F32(v), T::Float16) => self.owned(v.iter().map(|&x| f16::from_f32(x))),
            (Data::F32(v), T::Bfloat16) => self.owned(v.iter().map(|&x| bf16::from_f32(x))),
            (Data::F32(v), T::Float64) => self.owned(v.iter().map(|&x| f64::from(x))),
            (Data::F32(v), T::Int64) => self.owned(whole(v)?.into_iter()),
            (Data::I64(v), T::Float32) => self.owned(v.iter().map(|&x| x as f32)),
            (Data::I64(v), T::Float16) => self.owned(v.iter().map(|&x| f16::from_f64(x as f64))),
            (Data::I64(v), T::Bfloat16) => self.owned(v.iter().map(|&x| bf16::from_f64(x as f64))),
            (Data::I64(v), T::Float64) => self.owned(v.iter().map(|&x| x as f64)),
            (Data::I64(v), T::Bool) => self.owned(v.iter().map(|&x| x != 0)),
            (Data::I64(v), T::Int32) => {
                let narrow = |&x: &i64| i32::try_from(x).map_err(|_| format!("{x} exceeds int32"));
                let narrowed: std::result::Result<Vec<i32>, String> =
                    v.iter().map(narrow).collect();
                self.owned(narrowed?.into_iter())
            }
            (Data::F32(_), other) => Err(format!("fp32 values, but the graph takes {other}")),
            (Data::I64(_), other) => Err(format!("int64 values, but the graph takes {other}")),
        }
    }

    fn view<'b, T>(&'b self, values: &'b [T]) -> std::result::Result<SessionInputValue<'b>, String>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
    {
        let view = TensorRef::from_array_view((self.shape.as_slice(), values));
        view.map(Into::into).map_err(|e| e.to_string())
    }

    fn owned<T>(
        &self,
        values: impl Iterator<Item = T>,
    ) -> std::result::Result<SessionInputValue<'static>, String>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
    {
        let values: Vec<T> = values.collect();
        let tensor = Tensor::from_array((self.shape.as_slice(), values));
        tensor.map(Into::into).map_err(|e| e.to_string())
    }
}

/// The values as integers, if they are whole.
fn whole(values: &[f32]) -> std::result::Result<Vec<i64>, String> {
    let one = |&x: &f32| {
        let exact = x.fract() == 0.0 && x.abs() < 9e15;
        exact
            .then_some(x as i64)
            .ok_or_else(|| format!("{x} is no whole number, int64 is taken"))
    };
    values.iter().map(one).collect()
}

/// The outputs of one run. They live on without the session.
#[derive(Debug)]
pub struct Outputs {
    path: Arc<Path>,
    names: Arc<OutputNames>,
    values: Vec<DynValue>,
}

/// A session's output names: in order, and by name (a gradient graph has a thousand).
#[derive(Debug)]
pub(super) struct OutputNames {
    order: Vec<String>,
    index: HashMap<String, usize>,
}

impl OutputNames {
    pub(super) fn new(order: Vec<String>) -> Self {
        let index = order.iter().cloned().zip(0..).collect();
        Self { order, index }
    }

    /// The place of a name among the outputs.
    pub(super) fn position(&self, path: &Path, name: &str) -> Result<usize> {
        let index = self.index.get(name).copied();
        index.ok_or_else(|| Error::NoOutput {
            path: path.to_path_buf(),
            name: name.to_owned(),
            has: self.order.clone(),
        })
    }
}

impl Outputs {
    pub(super) fn new(path: Arc<Path>, names: Arc<OutputNames>, values: Vec<DynValue>) -> Self {
        Self {
            path,
            names,
            values,
        }
    }

    /// The outputs' names, in order.
    pub fn names(&self) -> &[String] {
        &self.names.order
    }

    /// An output as fp32: a view if it is fp32, widened (or rounded) otherwise.
    ///
    /// # Errors
    /// [`Error::NoOutput`], [`Error::OutputType`] if it holds no floating-point numbers.
    pub fn f32(&self, name: &str) -> Result<CowArray<'_, f32, IxDyn>> {
        use TensorElementType as T;
        let value = self.value(name)?;
        let read = match value.dtype().tensor_type() {
            Some(T::Float32) => value.try_extract_array::<f32>().map(CowArray::from),
            Some(T::Float16) => widened(value, f16::to_f32),
            Some(T::Bfloat16) => widened(value, bf16::to_f32),
            Some(T::Float64) => widened(value, |x: f64| x as f32),
            _ => return Err(self.mistyped(name, value, "floating-point numbers")),
        };
        read.map_err(|_| self.mistyped(name, value, "floating-point numbers in CPU memory"))
    }

    /// An output's values as fp32 in row-major order, owned.
    ///
    /// # Errors
    /// As [`Outputs::f32`].
    pub fn f32_vec(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.f32(name)?.iter().copied().collect())
    }

    /// An fp32 output's values in row-major order, without a copy.
    ///
    /// # Errors
    /// [`Error::NoOutput`], [`Error::OutputType`] if it is not fp32.
    pub fn f32_slice(&self, name: &str) -> Result<&[f32]> {
        let value = self.value(name)?;
        match value.try_extract_tensor::<f32>() {
            Ok((_, values)) => Ok(values),
            Err(_) => Err(self.mistyped(name, value, "fp32")),
        }
    }

    /// An int64 output.
    ///
    /// # Errors
    /// [`Error::NoOutput`], [`Error::OutputType`] if it is not int64.
    pub fn i64(&self, name: &str) -> Result<ArrayViewD<'_, i64>> {
        let value = self.value(name)?;
        let array = value.try_extract_array::<i64>();
        array.map_err(|_| self.mistyped(name, value, "int64"))
    }

    fn value(&self, name: &str) -> Result<&DynValue> {
        Ok(&self.values[self.names.position(&self.path, name)?])
    }

    fn mistyped(&self, name: &str, value: &DynValue, expected: &'static str) -> Error {
        Error::OutputType {
            path: self.path.to_path_buf(),
            name: name.to_owned(),
            found: value.dtype().to_string(),
            expected,
        }
    }
}

fn widened<'a, T: PrimitiveTensorElementType + Copy>(
    value: &DynValue,
    convert: impl Fn(T) -> f32,
) -> ort::Result<CowArray<'a, f32, IxDyn>> {
    let array: ArrayD<f32> = value.try_extract_array::<T>()?.mapv(convert);
    Ok(CowArray::from(array))
}
