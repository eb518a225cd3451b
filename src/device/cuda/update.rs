//! Launches of what happens to the factors: their scale and the optimizers.

use cudarc::driver::{CudaSlice, LaunchConfig, PushKernelArg};

use super::{CHUNK, Cuda, MAX_BLOCKS, THREADS, blocks_for, driver};
use crate::device::adamw::{AdamWStep, Clip};
use crate::device::blockwise;
use crate::device::error::Error;
use crate::device::layout::Layout;
use crate::device::prodigy::{Prodigy, ProdigyMoments, ProdigyUpdate};
use crate::device::state::Codes;

impl Cuda {
    pub(super) fn launch_scale(
        &self,
        from: &CudaSlice<f32>,
        layout: &Layout,
        scale: f32,
    ) -> Result<CudaSlice<f32>, Error> {
        let offsets = self.put_places(layout.offsets())?;
        let factors = layout.factors() as i64;
        let mut to = self.cleared::<f32>(layout.total())?;
        launch!(
            self,
            "pa_scale",
            blocks_for(layout.total()),
            from,
            &mut to,
            &offsets,
            &factors,
            &scale,
        )?;
        Ok(to)
    }

    pub(super) fn launch_adamw(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &CudaSlice<f32>,
        p: &mut CudaSlice<f32>,
        [m, v]: [&mut CudaSlice<f32>; 2],
    ) -> Result<(), Error> {
        let clip = self.put(&[clip.norm, clip.factor])?;
        let n = grad.len() as i64;
        launch!(
            self,
            "pa_adamw",
            blocks_for(grad.len()),
            grad,
            &clip,
            p,
            m,
            v,
            &n,
            step,
        )
    }

    pub(super) fn launch_adamw8(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &CudaSlice<f32>,
        p: &mut CudaSlice<f32>,
        blocks: &Layout,
        [m, v]: [&mut Codes<CudaSlice<f32>, CudaSlice<u8>>; 2],
    ) -> Result<(), Error> {
        let clip = self.put(&[clip.norm, clip.factor])?;
        let starts = self.put_places(blocks.offsets())?;
        let count = blocks.factors() as i64;
        let (m_map, v_map) = (
            self.put(&*blockwise::SIGNED)?,
            self.put(&*blockwise::UNSIGNED)?,
        );
        launch!(
            self,
            "pa_adamw8",
            blocks.factors(),
            grad,
            &clip,
            p,
            &mut m.codes,
            &mut m.absmax,
            &mut v.codes,
            &mut v.absmax,
            &starts,
            &count,
            &m_map,
            &v_map,
            step,
        )
    }

    pub(super) fn launch_prodigy_moments(
        &self,
        step: &ProdigyMoments,
        clip: Clip,
        grad: &CudaSlice<f32>,
        p: &CudaSlice<f32>,
        own: &mut Prodigy<CudaSlice<f32>>,
    ) -> Result<[f64; 2], Error> {
        let clip = self.put(&[clip.norm, clip.factor])?;
        let chunks = grad.len().div_ceil(CHUNK);
        let (n, chunks64) = (grad.len() as i64, chunks as i64);
        let mut partial = self.cleared::<f64>(2 * chunks)?;
        launch!(
            self,
            "pa_prodigy_moments",
            chunks,
            grad,
            &clip,
            p,
            &own.start,
            &mut own.m,
            &mut own.v,
            &mut own.s,
            &n,
            &mut partial,
            step,
        )?;
        let mut sums = self.cleared::<f64>(2)?;
        launch!(
            self,
            "pa_prodigy_sums",
            1usize,
            &partial,
            &chunks64,
            &mut sums
        )?;
        let sums = self
            .stream
            .clone_dtoh(&sums)
            .map_err(driver("copy from device"))?;
        Ok([sums[0], sums[1]])
    }

    pub(super) fn launch_prodigy_update(
        &self,
        step: &ProdigyUpdate,
        p: &mut CudaSlice<f32>,
        own: &Prodigy<CudaSlice<f32>>,
    ) -> Result<(), Error> {
        let (blocks, n) = (blocks_for(p.len()), p.len() as i64);
        launch!(
            self,
            "pa_prodigy_update",
            blocks,
            &own.m,
            &own.v,
            p,
            &n,
            step,
        )
    }
}
