//! Launches of the optimizers.

use cudarc::driver::{CudaSlice, LaunchConfig, PushKernelArg};

use super::{Cuda, MAX_BLOCKS, THREADS, blocks_for, driver};
use crate::device::adamw::{AdamWStep, Clip};
use crate::device::blockwise;
use crate::device::error::Error;
use crate::device::state::{Moments, State};

impl Cuda {
    /// Clips and applies a gradient.
    pub(super) fn launch_adamw(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &CudaSlice<f32>,
        state: &mut State<CudaSlice<f32>, CudaSlice<u8>>,
    ) -> Result<(), Error> {
        let clip = self.put(&[clip.norm, clip.factor])?;
        let (m, v, blocks) = match &mut state.moments {
            Moments::Full { m, v } => {
                let n = grad.len() as i64;
                return launch!(
                    self,
                    "pa_adamw",
                    blocks_for(grad.len()),
                    grad,
                    &clip,
                    &mut state.p,
                    m,
                    v,
                    &n,
                    step,
                );
            }
            Moments::Blockwise { blocks, m, v } => (m, v, blocks),
        };
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
            &mut state.p,
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
}
