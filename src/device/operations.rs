//! What a training step asks of a device.

use super::adamw::{AdamWStep, Clip};
use super::error::Error;
use super::half::Half;
use super::layout::Layout;
use super::link::{Link, Meeting};
use super::loss::{Term, Weights};
use super::noise::{Diffuse, Diffused};
use super::prodigy::{Prodigy, ProdigyMoments, ProdigyUpdate};
use super::state::Codes;
use crate::runtime::Memory;

/// A place where training steps are computed: buffers of single-precision numbers and the
/// operations between the network's runs.
pub trait Device {
    /// A buffer in the device's memory.
    type Buffer;
    /// A buffer of 16-bit numbers.
    type Halves;
    /// The same of bytes.
    type Bytes;

    /// What to call the device in logs.
    fn name(&self) -> String;
    /// Where its buffers lie.
    fn memory(&self) -> Memory;
    /// Address of a buffer's first number.
    fn address(&self, buffer: &Self::Buffer) -> u64;
    /// Address that a buffer's numbers are written to.
    fn address_mut(&self, buffer: &mut Self::Buffer) -> u64;
    /// Address of a buffer's first number.
    fn halves_address(&self, halves: &Self::Halves) -> u64;
    /// A buffer of `n` zeros.
    fn zeros(&self, n: usize) -> Result<Self::Buffer, Error>;
    /// Rounds numbers to a 16-bit format.
    fn to_half(&self, buffer: &Self::Buffer, kind: Half) -> Result<Self::Halves, Error>;
    /// Copies numbers to the device.
    fn upload(&self, host: &[f32]) -> Result<Self::Buffer, Error>;
    /// Copies numbers from the device.
    fn download(&self, buffer: &Self::Buffer) -> Result<Vec<f32>, Error>;
    /// Copies bytes to the device.
    fn upload_bytes(&self, host: &[u8]) -> Result<Self::Bytes, Error>;
    /// Copies bytes from the device.
    fn download_bytes(&self, bytes: &Self::Bytes) -> Result<Vec<u8>, Error>;
    /// Draws noise and mixes it into latents [batch, elements].
    fn diffuse(
        &self,
        call: &Diffuse<'_>,
        latents: &Self::Buffer,
    ) -> Result<Diffused<Self::Buffer>, Error>;
    /// Puts a micro-batch's errors [2, n] where its samples stand among all errors, [2, total].
    fn place(
        &self,
        errors: &Self::Buffer,
        places: &[usize],
        all: &mut Self::Buffer,
    ) -> Result<(), Error>;
    /// Per-sample factors of a loss from the errors of the global batch, [2, total]: `mse`, then
    /// `ref_mse`. `scale` \[total\] multiplies each sample's part; those of a pair and of a set have
    /// one. A sample of no term has the factor 0.
    fn weights(
        &self,
        terms: &[Term],
        errors: &Self::Buffer,
        scale: &[f32],
    ) -> Result<Weights<Self::Buffer>, Error>;
    /// Adds the weighted per-sample gradients of a micro-batch to `sum`; `grads` holds those of every
    /// factor at its [`Layout::batch_range`]. `c` are the factors of the whole batch, `places` where
    /// the samples stand in it.
    fn accumulate(
        &self,
        grads: &Self::Buffer,
        layout: &Layout,
        c: &Self::Buffer,
        places: &[usize],
        sum: &mut Self::Buffer,
    ) -> Result<(), Error>;
    /// A copy of a buffer of LoRA factors, A and B of a layer in turn, in which each B is multiplied.
    fn scale(
        &self,
        from: &Self::Buffer,
        layout: &Layout,
        scale: f32,
    ) -> Result<Self::Buffer, Error>;
    /// Norm and clipping factor of a gradient.
    fn global_norm(&self, grad: &Self::Buffer, max_norm: f64) -> Result<Clip, Error>;
    /// Clips a gradient and applies it to the parameters and both moments.
    fn adamw(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &Self::Buffer,
        p: &mut Self::Buffer,
        moments: [&mut Self::Buffer; 2],
    ) -> Result<(), Error>;
    /// The same with moments in eight bits.
    fn adamw8(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &Self::Buffer,
        p: &mut Self::Buffer,
        blocks: &Layout,
        moments: [&mut Codes<Self::Buffer, Self::Bytes>; 2],
    ) -> Result<(), Error>;
    /// Clips a gradient and applies it to Prodigy's moments; gives the gradient's product with the way from the
    /// parameters back to the start, and the size of what is added up.
    fn prodigy_moments(
        &self,
        step: &ProdigyMoments,
        clip: Clip,
        grad: &Self::Buffer,
        p: &Self::Buffer,
        own: &mut Prodigy<Self::Buffer>,
    ) -> Result<[f64; 2], Error>;
    /// Applies Prodigy's moments to the parameters.
    fn prodigy_update(
        &self,
        step: &ProdigyUpdate,
        p: &mut Self::Buffer,
        own: &Prodigy<Self::Buffer>,
    ) -> Result<(), Error>;
    /// Moves an average towards the parameters.
    fn ema(&self, p: &Self::Buffer, average: &mut Self::Buffer, decay: f64) -> Result<(), Error>;

    /// A place for ranks to meet, if their devices can pass buffers to each other here.
    fn meeting(&self) -> Result<Option<Meeting>, Error> {
        Ok(None)
    }

    /// Meets the other ranks; returns when all of them have come.
    fn link(
        &self,
        _meeting: &Meeting,
        _rank: usize,
        _size: usize,
    ) -> Result<Box<dyn Link<Self::Buffer>>, Error> {
        Err(Error::Unavailable {
            reason: format!("{} has no link to other ranks", self.name()),
        })
    }
}
