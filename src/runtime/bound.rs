//! Runs whose arrays stay where they are: inputs and outputs bound to addresses.
//!
//! A training step on a GPU keeps latents, LoRA factors and gradients in the device's memory; ONNX
//! Runtime reads and writes them there. On the CPU the same binding saves the copy of every
//! gradient. The C interface is called directly: the `ort` crate's own binding copies borrowed
//! inputs (and in rc.15 hangs over them), and finds a name by going through all of them, of which
//! SDXL's training graph has two thousand.

#![expect(
    unsafe_code,
    reason = "ONNX Runtime reads and writes at addresses that the caller vouches for"
)]

use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::time::Instant;

use ort::AsPointer;
use ort::memory::MemoryInfo;
use ort::session::SessionInputValue;
use ort::sys;
use ort::value::TensorElementType;

use super::{Error, Feed, Result, Session};

/// An array at an address of the session's [`Memory`](super::Memory), in row-major order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The input's or output's name.
    pub name: &'a str,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// The type of its elements, which must be the declared one.
    pub dtype: TensorElementType,
    /// Where it starts.
    pub address: u64,
}

impl<'a> Bound<'a> {
    /// An fp32 array.
    pub fn f32(name: &'a str, shape: &[usize], address: u64) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
            dtype: TensorElementType::Float32,
            address,
        }
    }

    fn bytes(&self) -> usize {
        let elements = self.shape.iter().product();
        // Strings have no size; no graph here takes any.
        self.dtype.byte_size(elements).unwrap_or_default()
    }
}

impl Session {
    /// Runs the graph with inputs from the host's `feed` and from addresses, and lets it write to
    /// addresses. Outputs that are not bound are not given out.
    ///
    /// # Safety
    /// Every address must be that of an array in the session's [`Session::memory`] with room for
    /// its shape, aligned to its type. Inputs must hold their values, and outputs not be read,
    /// once what was queued on the session's stream before and during this call is done; nothing
    /// else may write to either until then.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::NoOutput`] and [`Error::OutputType`] for outputs.
    pub unsafe fn run_bound(
        &mut self,
        feed: &Feed<'_>,
        inputs: &[Bound<'_>],
        outputs: &[Bound<'_>],
    ) -> Result<()> {
        let mut given = self.nothing_given();
        let fed = self.bind(feed, &mut given)?;
        for input in inputs {
            let spec = self.take_input(input.name, &input.shape, &mut given)?;
            if spec.dtype != input.dtype {
                return Err(Error::InputType {
                    path: self.path().to_path_buf(),
                    name: input.name.to_owned(),
                    problem: format!("{} is bound, {} is taken", input.dtype, spec.dtype),
                });
            }
        }
        self.all_given(&given)?;
        for output in outputs {
            self.check_output(output)?;
        }
        // SAFETY: names, types and dimensions are the graph's; the addresses are the caller's word.
        unsafe { self.run_addresses(&fed, inputs, outputs) }.map_err(|e| Error::Run {
            path: self.path().to_path_buf(),
            reason: e.to_string(),
        })
    }

    fn check_output(&self, output: &Bound<'_>) -> Result<()> {
        let place = self.output_names.position(self.path(), output.name)?;
        let spec = &self.outputs()[place];
        if spec.dtype == output.dtype && spec.accepts(&output.shape) {
            return Ok(());
        }
        Err(Error::OutputType {
            path: self.path().to_path_buf(),
            name: output.name.to_owned(),
            found: format!("{} {}", spec.dtype, spec.shape_text()),
            expected: "the bound array's type and shape",
        })
    }

    unsafe fn run_addresses(
        &mut self,
        fed: &[(std::borrow::Cow<'_, str>, SessionInputValue<'_>)],
        inputs: &[Bound<'_>],
        outputs: &[Bound<'_>],
    ) -> ort::Result<()> {
        let info = self.memory().info()?;
        let session = self.inner.ptr().cast_mut();
        let binding = Binding::new(session)?;
        let api = ort::api::ort();
        for (name, value) in fed {
            binding.bind(api.BindInput, name, value.ptr())?;
        }
        // The views are only looked at while they are bound: the binding keeps what they point to.
        for (list, bind) in [(inputs, api.BindInput), (outputs, api.BindOutput)] {
            for array in list {
                let view = View::new(&info, array)?;
                binding.bind(bind, array.name, view.0.as_ptr())?;
            }
        }
        let start = Instant::now();
        // SAFETY: the session and the binding are alive and nobody else has them; no run options.
        let status = unsafe { (api.RunWithBinding)(session, ptr::null(), binding.0.as_ptr()) };
        self.busy += start.elapsed();
        checked(status)
    }
}

type Bind = unsafe extern "system" fn(
    *mut sys::OrtIoBinding,
    *const std::ffi::c_char,
    *const sys::OrtValue,
) -> sys::OrtStatusPtr;

/// What a run reads and writes.
struct Binding(NonNull<sys::OrtIoBinding>);

impl Binding {
    fn new(session: *mut sys::OrtSession) -> ort::Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: the session is alive; on success `raw` is a binding that is ours to release.
        checked(unsafe { (ort::api::ort().CreateIoBinding)(session, &raw mut raw) })?;
        NonNull::new(raw)
            .map(Self)
            .ok_or_else(|| ort::Error::new("no binding was made"))
    }

    fn bind(&self, bind: Bind, name: &str, value: *const sys::OrtValue) -> ort::Result<()> {
        let name = CString::new(name).map_err(|e| ort::Error::new(e.to_string()))?;
        // SAFETY: binding, name and value are alive; ONNX Runtime copies the name and shares the
        // value.
        checked(unsafe { bind(self.0.as_ptr(), name.as_ptr(), value) })
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        // SAFETY: made by CreateIoBinding, released once.
        unsafe { (ort::api::ort().ReleaseIoBinding)(self.0.as_ptr()) }
    }
}

/// ONNX Runtime's value over memory that it does not own.
struct View(NonNull<sys::OrtValue>);

impl View {
    fn new(info: &MemoryInfo<'_>, array: &Bound<'_>) -> ort::Result<Self> {
        let dims: Vec<i64> = array.shape.iter().map(|&d| d as i64).collect();
        let mut raw = ptr::null_mut();
        // SAFETY: `dims` lives through the call, which copies it; nothing is read or written at
        // the address before a run.
        checked(unsafe {
            (ort::api::ort().CreateTensorWithDataAsOrtValue)(
                info.ptr(),
                array.address as *mut c_void,
                array.bytes(),
                dims.as_ptr(),
                dims.len(),
                array.dtype.into(),
                &raw mut raw,
            )
        })?;
        NonNull::new(raw)
            .map(Self)
            .ok_or_else(|| ort::Error::new("no value was made"))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: made by CreateTensorWithDataAsOrtValue, released once; a binding holds its own
        // share.
        unsafe { (ort::api::ort().ReleaseValue)(self.0.as_ptr()) }
    }
}

fn checked(status: sys::OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: a status that ONNX Runtime returned just now, not yet released.
    unsafe { ort::Error::result_from_status(status) }
}
