//! The CUDA driver.

use cudarc::driver::CudaContext;

/// Number of CUDA devices, at least one, or what is missing. Never panics.
pub(crate) fn cuda_devices() -> Result<usize, String> {
    // SAFETY: only looks the driver's library up. It must come first: any other driver call
    // panics when that library is absent.
    #[expect(unsafe_code, reason = "cudarc's only probe that does not panic")]
    let present = unsafe { cudarc::driver::sys::is_culib_present() };
    if !present {
        return Err("libcuda (the NVIDIA driver) is not installed".into());
    }
    let count =
        CudaContext::device_count().map_err(|e| format!("the driver does not start: {e}"))?;
    match usize::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("the driver finds no device".into()),
    }
}
