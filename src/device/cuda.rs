//! CUDA: the kernels loaded on a GPU and launched through the driver.
//!
//! Nothing is linked: the driver is looked up when asked for, and [`probe`] says in words what is
//! missing instead of panicking.

#![expect(
    unsafe_code,
    reason = "launching a kernel and looking for shared libraries are FFI edges"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr,
    DriverError, LaunchConfig, PushKernelArg, ValidAsZeroBits,
};
use cudarc::nvrtc::Ptx;

use super::adamw::{AdamWStep, Clip};
use super::error::Error;
use super::half::Half;
use super::layout::Layout;
use super::link::{Link, Meeting};
use super::loss::{Summary, Term, TermScalars, Weights};
use super::nccl;
use super::noise::{Diffuse, Diffused};
use super::operations::Device;
use super::prodigy::{Prodigy, ProdigyMoments, ProdigyUpdate};
use super::ptx::Compiler;
use super::sources::SOURCES;
use super::state::Codes;
use crate::runtime::{Memory, cuda_devices};

/// Threads of a block: `LANES` of `kernels/common.cuh`.
const THREADS: u32 = 256;
/// Blocks of a launch; more elements than they hold come by grid stride.
const MAX_BLOCKS: usize = 4096;
/// Numbers of a term's summary: those of `pa_weights`.
const SUMMARY: usize = 4;
/// Elements that one block sums for the global norm: `CHUNK` of `kernels/global_norm.cu`.
const CHUNK: usize = 65_536;

/// Launches a kernel over some blocks with the given arguments.
///
/// Every use below passes the parameters of the kernel's signature in its order, with buffers of
/// the sizes that the signature's comment asks for.
macro_rules! launch {
    ($device:expr, $kernel:literal, $blocks:expr, $($argument:expr),+ $(,)?) => {{
        let mut call = $device.stream.launch_builder(&$device.functions[$kernel]);
        $(call.arg($argument);)+
        let config = LaunchConfig {
            grid_dim: ($blocks.clamp(1, MAX_BLOCKS) as u32, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: see the macro's comment; the buffers outlive the launch because freeing them is
        // ordered on the same stream.
        unsafe { call.launch(config) }
            .map(|_| ())
            .map_err(driver($kernel))
    }};
}

mod update;

/// Number of CUDA devices, or what is missing. Never panics.
pub fn probe() -> Result<usize, Error> {
    cuda_devices().map_err(|reason| Error::Unavailable { reason })
}

/// One GPU with the kernels loaded, working on one stream.
pub struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    memory: Memory,
    functions: BTreeMap<&'static str, CudaFunction>,
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cuda")
            .field("ordinal", &self.context.ordinal())
            .finish_non_exhaustive()
    }
}

/// The newest CUDA that the driver knows: 12020 for 12.2.
fn driver_version() -> Result<i32, Error> {
    let mut version = 0;
    // SAFETY: `probe` found the library, and the function writes one integer.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut version) }
        .result()
        .map_err(driver("driver version"))?;
    Ok(version)
}

fn driver(call: &'static str) -> impl FnOnce(DriverError) -> Error {
    move |e| Error::Driver {
        call,
        reason: e.to_string(),
    }
}

impl Cuda {
    /// Opens a device and loads the kernels on it.
    pub fn open(ordinal: usize) -> Result<Self, Error> {
        let count = probe()?;
        if ordinal >= count {
            return Err(Error::Unavailable {
                reason: format!("device {ordinal} was asked for, there are {count}"),
            });
        }
        let context = CudaContext::new(ordinal).map_err(driver("open device"))?;
        let (major, minor) = context
            .compute_capability()
            .map_err(driver("compute capability"))?;
        // Of one major version code runs on every later minor; NVRTC may not know the newest.
        let arch = match (major, minor) {
            (12.., _) => "compute_90",
            (9.., _) => "sm_90",
            (8, 9) => "sm_89",
            (8, 6..) => "sm_86",
            (8, _) => "sm_80",
            _ => "sm_75",
        };
        let stream = context.new_stream().map_err(driver("new stream"))?;
        let compiler = Compiler::find(driver_version()?);
        let mut functions = BTreeMap::new();
        for source in SOURCES {
            let module = context
                .load_module(Ptx::from_src(compiler.ptx(source, arch)?))
                .map_err(driver("load module"))?;
            for &name in source.kernels {
                let function = module.load_function(name).map_err(driver(name))?;
                functions.insert(name, function);
            }
        }
        Ok(Self {
            context,
            stream,
            memory: Memory::Cuda(ordinal as i32),
            functions,
        })
    }

    /// Says that the device's buffers can be read and written as the host's own.
    ///
    /// # Safety
    /// It must be true. No GPU keeps this promise for the memory that is allocated here; a stand-in
    /// for the driver in a test does.
    pub unsafe fn assume_host_memory(&mut self) {
        self.memory = Memory::Host;
    }

    /// The stream of all work here; ONNX Runtime is given the same one.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    fn cleared<T: DeviceRepr + ValidAsZeroBits>(&self, n: usize) -> Result<CudaSlice<T>, Error> {
        // A device allocation of no bytes is an error; one element serves.
        self.stream
            .alloc_zeros(n.max(1))
            .map_err(driver("allocate"))
    }

    fn put<T: DeviceRepr>(&self, host: &[T]) -> Result<CudaSlice<T>, Error> {
        self.stream
            .clone_htod(host)
            .map_err(driver("copy to device"))
    }

    fn put_places(&self, places: &[usize]) -> Result<CudaSlice<i64>, Error> {
        self.put(&places.iter().map(|&p| p as i64).collect::<Vec<_>>())
    }
}

fn blocks_for(elements: usize) -> usize {
    elements.div_ceil(THREADS as usize)
}

// SAFETY: plain numbers laid out as the kernels' structure of the same name.
unsafe impl DeviceRepr for AdamWStep {}
// SAFETY: as above.
unsafe impl DeviceRepr for ProdigyMoments {}
// SAFETY: as above.
unsafe impl DeviceRepr for ProdigyUpdate {}
// SAFETY: plain numbers laid out as the kernels' `Term`.
unsafe impl DeviceRepr for TermScalars {}

impl Device for Cuda {
    type Buffer = CudaSlice<f32>;
    type Halves = CudaSlice<u16>;
    type Bytes = CudaSlice<u8>;

    fn name(&self) -> String {
        self.context
            .name()
            .unwrap_or_else(|_| format!("cuda:{}", self.context.ordinal()))
    }

    fn memory(&self) -> Memory {
        self.memory
    }

    // The guards that these drop record events for other streams; all work is on this one, ONNX
    // Runtime's too.
    fn address(&self, buffer: &CudaSlice<f32>) -> u64 {
        buffer.device_ptr(&self.stream).0
    }

    fn address_mut(&self, buffer: &mut CudaSlice<f32>) -> u64 {
        buffer.device_ptr_mut(&self.stream).0
    }

    fn halves_address(&self, halves: &CudaSlice<u16>) -> u64 {
        halves.device_ptr(&self.stream).0
    }

    fn zeros(&self, n: usize) -> Result<CudaSlice<f32>, Error> {
        self.cleared(n)
    }

    fn to_half(&self, buffer: &CudaSlice<f32>, kind: Half) -> Result<CudaSlice<u16>, Error> {
        let mut halves = self.cleared::<u16>(buffer.len())?;
        let (n, kind) = (buffer.len() as i64, kind as u32);
        launch!(
            self,
            "pa_to_half",
            blocks_for(buffer.len()),
            buffer,
            &mut halves,
            &n,
            &kind,
        )?;
        Ok(halves)
    }

    fn upload(&self, host: &[f32]) -> Result<CudaSlice<f32>, Error> {
        self.put(host)
    }

    fn download(&self, buffer: &CudaSlice<f32>) -> Result<Vec<f32>, Error> {
        self.stream
            .clone_dtoh(buffer)
            .map_err(driver("copy from device"))
    }

    fn upload_bytes(&self, host: &[u8]) -> Result<CudaSlice<u8>, Error> {
        self.put(host)
    }

    fn download_bytes(&self, bytes: &CudaSlice<u8>) -> Result<Vec<u8>, Error> {
        self.stream
            .clone_dtoh(bytes)
            .map_err(driver("copy from device"))
    }

    fn diffuse(
        &self,
        call: &Diffuse<'_>,
        latents: &CudaSlice<f32>,
    ) -> Result<Diffused<CudaSlice<f32>>, Error> {
        let (batch, n) = (call.addresses.len(), call.elements);
        let ids = |pick: fn(&(u32, u32)) -> u32| {
            self.put(&call.addresses.iter().map(pick).collect::<Vec<u32>>())
        };
        let (prompt_id, image_id) = (ids(|a| a.0)?, ids(|a| a.1)?);
        let (signal, sigma) = (self.put(call.signal)?, self.put(call.sigma)?);
        let mut out = Diffused {
            noise: self.cleared(batch * n)?,
            sample: self.cleared(batch * n)?,
            target: self.cleared(batch * n)?,
        };
        let (batch64, n64) = (batch as i64, n as i64);
        let tag = (u32::from(call.purpose as u8) << 24) | call.step;
        let v_prediction = u32::from(call.v_prediction);
        launch!(
            self,
            "pa_diffuse",
            blocks_for(batch * n.div_ceil(4)),
            latents,
            &prompt_id,
            &image_id,
            &signal,
            &sigma,
            &mut out.noise,
            &mut out.sample,
            &mut out.target,
            &batch64,
            &n64,
            &call.seed,
            &tag,
            &v_prediction,
        )?;
        Ok(out)
    }

    fn place(
        &self,
        errors: &CudaSlice<f32>,
        places: &[usize],
        all: &mut CudaSlice<f32>,
    ) -> Result<(), Error> {
        let (n, total) = (places.len() as i64, all.len() as i64 / 2);
        let places_d = self.put_places(places)?;
        launch!(
            self,
            "pa_place",
            blocks_for(2 * places.len()),
            errors,
            &places_d,
            &n,
            all,
            &total,
        )
    }

    fn weights(
        &self,
        terms: &[Term],
        errors: &CudaSlice<f32>,
        scale: &[f32],
    ) -> Result<Weights<CudaSlice<f32>>, Error> {
        let (scale_d, mut c) = (self.put(scale)?, self.zeros(scale.len())?);
        let (total, count) = (scale.len() as i64, errors.len() as i64);
        // Of each term its summary, then the place of the first error that is not finite.
        let mut read = self.cleared::<f64>(SUMMARY * terms.len() + 1)?;
        for (t, term) in terms.iter().enumerate() {
            let mut summary = read.slice_mut(SUMMARY * t..SUMMARY * (t + 1));
            let scalars = term.scalars();
            launch!(
                self,
                "pa_weights",
                1usize,
                errors,
                &scale_d,
                &total,
                &mut c,
                &mut summary,
                &scalars,
            )?;
        }
        let mut place = read.slice_mut(SUMMARY * terms.len()..);
        launch!(self, "pa_first_bad", 1usize, errors, &count, &mut place)?;
        let read = self
            .stream
            .clone_dtoh(&read)
            .map_err(driver("copy from device"))?;
        let (sums, place) = read.split_at(SUMMARY * terms.len());
        let place = place[0] as usize;
        let sums = sums.chunks_exact(SUMMARY).map(|s| Summary {
            loss: s[0],
            mu: s[1],
            accuracy: s[2],
            margin: s[3],
        });
        Ok(Weights {
            c,
            terms: sums.collect(),
            bad: (place < errors.len()).then_some(place),
        })
    }

    fn accumulate(
        &self,
        grads: &CudaSlice<f32>,
        layout: &Layout,
        c: &CudaSlice<f32>,
        places: &[usize],
        sum: &mut CudaSlice<f32>,
    ) -> Result<(), Error> {
        let (offsets, at) = (self.put_places(layout.offsets())?, self.put_places(places)?);
        let (factors, batch) = (layout.factors() as i64, places.len() as i64);
        launch!(
            self,
            "pa_accumulate",
            blocks_for(layout.total()),
            grads,
            &offsets,
            &factors,
            c,
            &at,
            &batch,
            sum,
        )
    }

    fn scale(
        &self,
        from: &CudaSlice<f32>,
        layout: &Layout,
        scale: f32,
    ) -> Result<CudaSlice<f32>, Error> {
        self.launch_scale(from, layout, scale)
    }

    fn global_norm(&self, grad: &CudaSlice<f32>, max_norm: f64) -> Result<Clip, Error> {
        let chunks = grad.len().div_ceil(CHUNK);
        let (n, chunks64) = (grad.len() as i64, chunks as i64);
        let mut partial = self.cleared::<f64>(chunks)?;
        launch!(self, "pa_square_sums", chunks, grad, &n, &mut partial)?;
        let mut clip = self.cleared::<f32>(2)?;
        launch!(
            self, "pa_norm", 1usize, &partial, &chunks64, &max_norm, &mut clip
        )?;
        let clip = self.download(&clip)?;
        Ok(Clip {
            norm: clip[0],
            factor: clip[1],
        })
    }

    fn adamw(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &CudaSlice<f32>,
        p: &mut CudaSlice<f32>,
        moments: [&mut CudaSlice<f32>; 2],
    ) -> Result<(), Error> {
        self.launch_adamw(step, clip, grad, p, moments)
    }

    fn adamw8(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &CudaSlice<f32>,
        p: &mut CudaSlice<f32>,
        blocks: &Layout,
        moments: [&mut Codes<CudaSlice<f32>, CudaSlice<u8>>; 2],
    ) -> Result<(), Error> {
        self.launch_adamw8(step, clip, grad, p, blocks, moments)
    }

    fn prodigy_moments(
        &self,
        step: &ProdigyMoments,
        clip: Clip,
        grad: &CudaSlice<f32>,
        p: &CudaSlice<f32>,
        own: &mut Prodigy<CudaSlice<f32>>,
    ) -> Result<[f64; 2], Error> {
        self.launch_prodigy_moments(step, clip, grad, p, own)
    }

    fn prodigy_update(
        &self,
        step: &ProdigyUpdate,
        p: &mut CudaSlice<f32>,
        own: &Prodigy<CudaSlice<f32>>,
    ) -> Result<(), Error> {
        self.launch_prodigy_update(step, p, own)
    }

    fn ema(
        &self,
        p: &CudaSlice<f32>,
        average: &mut CudaSlice<f32>,
        decay: f64,
    ) -> Result<(), Error> {
        let n = p.len() as i64;
        let one_minus_decay = (1.0 - decay) as f32;
        launch!(
            self,
            "pa_ema",
            blocks_for(p.len()),
            p,
            average,
            &n,
            &one_minus_decay
        )
    }

    fn meeting(&self) -> Result<Option<Meeting>, Error> {
        nccl::present().then(nccl::meeting).transpose()
    }

    fn link(
        &self,
        meeting: &Meeting,
        rank: usize,
        size: usize,
    ) -> Result<Box<dyn Link<CudaSlice<f32>>>, Error> {
        Ok(Box::new(nccl::meet(&self.stream, meeting, rank, size)?))
    }
}
