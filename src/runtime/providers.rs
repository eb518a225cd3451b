//! Execution providers: what can run here, and what is registered with a session.
//!
//! ONNX Runtime falls back to the CPU without a word when a provider can't start, and cudarc
//! panics where a library is absent; here each question is asked first and the answer is an error
//! with its reason.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use cudarc::driver::CudaContext;
use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider};
use ort::session::builder::SessionBuilder;

use super::driver::cuda_devices;
use super::{Ep, Error, Result, SessionOptions};

/// Registers what `options` ask for and returns what will run; `Auto` is resolved and logged.
pub(super) fn register(
    builder: SessionBuilder,
    options: &SessionOptions,
    engines: Option<&Path>,
) -> Result<(SessionBuilder, Ep)> {
    match options.ep {
        Ep::Cpu => Ok((builder, Ep::Cpu)),
        Ep::Cuda => Ok((with_cuda(builder, options)?, Ep::Cuda)),
        Ep::TensorRt => Ok((with_tensorrt(builder, options, engines)?, Ep::TensorRt)),
        Ep::Auto => match with_cuda(builder.clone(), options) {
            Ok(builder) => {
                say(format!(
                    "execution provider: cuda, device {}",
                    options.device
                ));
                Ok((builder, Ep::Cuda))
            }
            Err(error) => {
                say(format!("execution provider: cpu ({error})"));
                Ok((builder, Ep::Cpu))
            }
        },
    }
}

/// Logs what was picked: once, however many sessions ask.
fn say(picked: String) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.contains(&picked) {
        tracing::info!("{picked}");
        said.insert(picked);
    }
}

fn with_cuda(builder: SessionBuilder, options: &SessionOptions) -> Result<SessionBuilder> {
    let unavailable = |reason: String| Error::Unavailable {
        ep: Ep::Cuda,
        reason,
    };
    compiled_in::<ep::CUDA>().map_err(unavailable)?;
    device(options.device).map_err(unavailable)?;
    let cuda = cuda(options).build().error_on_failure();
    builder
        .with_execution_providers([cuda])
        .map_err(|e| unavailable(e.to_string()))
}

fn with_tensorrt(
    builder: SessionBuilder,
    options: &SessionOptions,
    engines: Option<&Path>,
) -> Result<SessionBuilder> {
    let unavailable = |reason: String| Error::Unavailable {
        ep: Ep::TensorRt,
        reason,
    };
    compiled_in::<ep::TensorRT>().map_err(unavailable)?;
    device(options.device).map_err(unavailable)?;
    let wanted = &options.tensorrt;
    let mut trt = ep::TensorRT::default()
        .with_device_id(options.device)
        .with_fp16(wanted.fp16);
    if let Some(stream) = stream(options) {
        // SAFETY: the session keeps the stream until it is gone itself.
        #[expect(unsafe_code, reason = "a stream is handed over by its address")]
        let shared = unsafe { trt.with_compute_stream(stream) };
        trt = shared;
    }
    if let Some(engines) = engines {
        let engines = engines.display();
        trt = trt
            .with_engine_cache(true)
            .with_engine_cache_path(&engines)
            .with_timing_cache(true)
            .with_timing_cache_path(&engines);
    }
    if let Some([min, opt, max]) = &wanted.profile {
        trt = trt
            .with_profile_min_shapes(min)
            .with_profile_opt_shapes(opt)
            .with_profile_max_shapes(max);
    }
    // What TensorRT leaves over runs on CUDA, not on the CPU.
    let providers = [
        trt.build().error_on_failure(),
        cuda(options).build().error_on_failure(),
    ];
    builder
        .with_execution_providers(providers)
        .map_err(|e| unavailable(e.to_string()))
}

/// CUDA with what makes runs repeatable: no TF32, no search for the fastest convolution (its
/// winner differs from run to run). SkipLayerNormalization's fast kernel sums in fp16; its strict
/// one keeps statistics in fp32, as everywhere here.
fn cuda(options: &SessionOptions) -> ep::CUDA {
    let cuda = ep::CUDA::default()
        .with_device_id(options.device)
        .with_tf32(false)
        .with_skip_layer_norm_strict_mode(true)
        .with_arbitrary_config("cudnn_conv_algo_search", "HEURISTIC");
    match stream(options) {
        // SAFETY: the session keeps the stream until it is gone itself.
        #[expect(unsafe_code, reason = "a stream is handed over by its address")]
        Some(stream) => unsafe { cuda.with_compute_stream(stream) },
        None => cuda,
    }
}

/// The address of the stream to share.
fn stream(options: &SessionOptions) -> Option<*mut ()> {
    let stream = options.stream.as_ref()?;
    Some(stream.0.cu_stream().cast())
}

/// Whether the library was built with this provider. (That it was does not mean it can run.)
fn compiled_in<E: ExecutionProvider>() -> std::result::Result<(), String> {
    match E::is_available() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "this build of ONNX Runtime does not have {}; it is in the onnxruntime-gpu package",
            E::NAME
        )),
        Err(e) => Err(e.to_string()),
    }
}

/// Whether a CUDA device of that number is there.
fn device(number: i32) -> std::result::Result<(), String> {
    let count = cuda_devices()?;
    match usize::try_from(number) {
        Ok(index) if index < count => Ok(()),
        _ => Err(format!(
            "there is no CUDA device {number}, only {count} of them"
        )),
    }
}

/// What identifies the GPU to an engine cache: an engine built for one does not fit another.
pub(super) fn device_identity(number: i32) -> String {
    let named = || {
        device(number).ok()?;
        let context = CudaContext::new(usize::try_from(number).ok()?).ok()?;
        let (major, minor) = context.compute_capability().ok()?;
        Some(format!("{} sm_{major}{minor}", context.name().ok()?))
    };
    named().unwrap_or_else(|| "no device".into())
}
