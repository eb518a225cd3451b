//! NCCL: buffers passed from GPU to GPU without the host.
//!
//! Looked up when asked for, as the driver is. Only point-to-point messages and a broadcast are
//! used: NCCL's own reductions add in an order that depends on the number of ranks.

#![expect(
    unsafe_code,
    reason = "cudarc's only probe for a library that does not panic"
)]

use std::ffi::c_char;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};
use cudarc::nccl::{Comm, Id, result::NcclError, sys};

use super::error::Error;
use super::link::{Link, MEETING, Meeting};

/// Whether the library is there. Never panics.
pub(super) fn present() -> bool {
    // SAFETY: only looks for the shared library; no symbol of it is called.
    unsafe { sys::is_culib_present() }
}

/// A new meeting point, made by one rank for all.
pub(super) fn meeting() -> Result<Meeting, Error> {
    let id = Id::new().map_err(failed("ncclGetUniqueId"))?;
    Ok(id.internal().map(|c| c as u8))
}

/// Meets the other ranks; returns when all are there.
pub(super) fn meet(
    stream: &Arc<CudaStream>,
    meeting: &Meeting,
    rank: usize,
    size: usize,
) -> Result<Nccl, Error> {
    let id = Id::uninit(std::array::from_fn::<_, MEETING, _>(|i| {
        meeting[i] as c_char
    }));
    let comm = Comm::from_rank(Arc::clone(stream), rank, size, id);
    comm.map(Nccl).map_err(failed("ncclCommInitRank"))
}

fn failed(call: &'static str) -> impl FnOnce(NcclError) -> Error {
    move |e| Error::Driver {
        call,
        reason: format!("{e:?}"),
    }
}

/// This rank's place among those that met.
#[derive(Debug)]
pub(super) struct Nccl(Comm);

impl Link<CudaSlice<f32>> for Nccl {
    fn receive(&self, buffer: &mut CudaSlice<f32>) -> Result<(), Error> {
        if self.0.rank() > 0 {
            let before = self.0.rank() as i32 - 1;
            self.0.recv(buffer, before).map_err(failed("ncclRecv"))?;
        }
        Ok(())
    }

    fn send(&self, buffer: &CudaSlice<f32>) -> Result<(), Error> {
        let next = self.0.rank() + 1;
        if next < self.0.world_size() {
            self.0
                .send(buffer, next as i32)
                .map_err(failed("ncclSend"))?;
        }
        Ok(())
    }

    fn spread(&self, buffer: &mut CudaSlice<f32>) -> Result<(), Error> {
        let last = self.0.world_size() as i32 - 1;
        let sent = self.0.broadcast_in_place(buffer, last);
        sent.map(|_| ()).map_err(failed("ncclBroadcast"))
    }
}
