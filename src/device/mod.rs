//! Kernels and their CPU twins.
//!
//! Every operation of a training step outside the network exists twice: as CUDA source in
//! `kernels/*.cu` and as a Rust twin in [`cpu`]. Both use the same order of operations (fixed
//! reduction trees, no fused multiply-add), so that they give the same bits. [`Device`] is what
//! the training loop sees of either.

pub mod blockwise;
pub mod cpu;
pub mod cuda;
mod nccl;
pub mod ptx;
pub mod sources;
mod state;

use std::ops::Range;

use crate::random::Purpose;
use cpu::Half;
pub use state::{Codes, HostState, Moments, State};

use crate::runtime::Memory;

/// Why a device could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable CUDA installation.
    #[error("CUDA cannot run here: {reason}")]
    Unavailable {
        /// What is missing.
        reason: String,
    },
    /// A kernel did not compile.
    #[error("kernel source {source_file} does not compile: {log}")]
    Compile {
        /// File under `kernels/`.
        source_file: &'static str,
        /// The compiler's words.
        log: String,
    },
    /// The driver refused a call.
    #[error("CUDA call `{call}` failed: {reason}")]
    Driver {
        /// The kernel or operation.
        call: &'static str,
        /// The driver's words.
        reason: String,
    },
}

/// Where each LoRA factor lies in one flat buffer: `offsets[m]..offsets[m + 1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    offsets: Vec<usize>,
}

impl Layout {
    /// Factors of these lengths, one after another.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut offsets = vec![0];
        for length in lengths {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        Self { offsets }
    }

    /// Number of factors.
    pub fn factors(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Place of factor `m`'s gradients of a batch among those of all factors: each factor's are
    /// [batch, elements], factor after factor.
    pub fn batch_range(&self, m: usize, batch: usize) -> Range<usize> {
        batch * self.offsets[m]..batch * self.offsets[m + 1]
    }

    /// Elements of all factors.
    pub fn total(&self) -> usize {
        self.offsets[self.factors()]
    }

    /// Place of factor `m`.
    pub fn range(&self, m: usize) -> Range<usize> {
        self.offsets[m]..self.offsets[m + 1]
    }

    /// Start of every factor, and the end of the last.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }
}

/// What a training loss is; equations in `kernels/weights.cu`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Population alignment: every sample against the batch's mean implied reward.
    PopAlign {
        /// Strength of the implied divergence penalty.
        beta: f64,
        /// Weight of the winners' mean in the offset, 0 to 1.
        alpha: f64,
    },
    /// Diffusion-DPO: winner against loser of each pair.
    Dpo {
        /// Strength of the implied divergence penalty.
        beta: f64,
    },
    /// Diffusion-DPO on sets: the winners' sum against the losers' of each set of pairs.
    Set {
        /// Strength of the implied divergence penalty.
        beta: f64,
        /// Pairs of a set; those of one follow each other.
        size: usize,
    },
    /// Plain fine-tuning on the winners.
    Sft {
        /// Scales the logged margin only.
        beta: f64,
    },
}

impl Loss {
    /// What the kernel takes: kind, beta, alpha and the pairs of a set.
    pub fn parameters(&self) -> (u32, f64, f64, usize) {
        match *self {
            Loss::PopAlign { beta, alpha } => (0, beta, alpha, 1),
            Loss::Dpo { beta } => (1, beta, 0.0, 1),
            Loss::Set { beta, size } => (1, beta, 0.0, size),
            Loss::Sft { beta } => (2, beta, 0.0, 1),
        }
    }
}

/// Errors of a global batch, what its factors are made of. Sample 2p is the winner and 2p + 1 the
/// loser of pair p.
#[derive(Debug, Clone, Copy)]
pub struct Errors<'a> {
    /// With the LoRA.
    pub mse: &'a [f32],
    /// Without it.
    pub ref_mse: &'a [f32],
    /// What each pair's term of the loss is multiplied with; those of a set have one.
    pub scale: &'a [f32],
}

/// Factors of a batch, and what the log shows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// dL / d mse_i per sample.
    pub c: Vec<f32>,
    /// Loss of the global batch.
    pub loss: f64,
    /// The offset of the PopAlign loss; 0 for others.
    pub mu: f64,
    /// Share of pairs (of sets, where the loss takes sets) whose winner has the higher implied
    /// reward; ties count half.
    pub accuracy: f64,
    /// Mean of beta (g_w - g_l) over pairs.
    pub margin: f64,
}

/// Norm of all gradients before clipping, and the factor that clips them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Euclidean norm.
    pub norm: f32,
    /// At most 1.
    pub factor: f32,
}

/// Arguments of a diffusion (q-sample) of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Diffuse<'a> {
    /// Seed of the noise.
    pub seed: u64,
    /// Purpose of the noise.
    pub purpose: Purpose,
    /// Step word of the address.
    pub step: u32,
    /// Elements of one sample.
    pub elements: usize,
    /// The two id words of each sample's noise address.
    pub addresses: &'a [(u32, u32)],
    /// sqrt(alpha_bar) of each sample's time step.
    pub signal: &'a [f32],
    /// sqrt(1 - alpha_bar) of each sample's time step.
    pub sigma: &'a [f32],
    /// Whether the network predicts v instead of epsilon.
    pub v_prediction: bool,
}

/// A diffused batch, each [batch, elements].
#[derive(Debug)]
pub struct Diffused<B> {
    /// Standard normal noise.
    pub noise: B,
    /// Noisy latents.
    pub sample: B,
    /// What the network is to predict.
    pub target: B,
}

/// Hyper-parameters of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// The scalars of one AdamW step, computed in double precision and rounded once. In memory as
/// `AdamWStep` of `kernels/adamw.cuh`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct AdamWStep {
    /// 1 - lr * weight decay.
    pub keep: f32,
    /// lr / (1 - beta1^t).
    pub rate: f32,
    /// sqrt(1 - beta2^t).
    pub root: f32,
    /// 1 - beta1.
    pub one_minus_beta1: f32,
    /// beta2.
    pub beta2: f32,
    /// 1 - beta2.
    pub one_minus_beta2: f32,
    /// Added to the denominator.
    pub eps: f32,
}

impl AdamW {
    /// Scalars of update number `t` (the first is 1) at a learning rate.
    pub fn step(&self, t: u32, lr: f64) -> AdamWStep {
        AdamWStep {
            keep: (1.0 - lr * self.weight_decay) as f32,
            rate: (lr / (1.0 - power(self.beta1, t))) as f32,
            root: (1.0 - power(self.beta2, t)).sqrt() as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            eps: self.eps as f32,
        }
    }
}

/// `base` to the power `exponent` by repeated squaring: the library's `powi` may differ between
/// platforms.
fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// Bytes of a [`Meeting`]: those of NCCL's unique id.
pub const MEETING: usize = 128;

/// Where ranks find each other to [`Device::link`] up.
pub type Meeting = [u8; MEETING];

/// Passes buffers between the devices of ranks without the host. All ranks call the same methods in
/// the same order, with buffers of one size.
pub trait Link<B>: std::fmt::Debug {
    /// Fills `buffer` with what the rank before sent; the first rank's stays as it is.
    fn receive(&self, buffer: &mut B) -> Result<(), Error>;
    /// Sends to the next rank, if there is one.
    fn send(&self, buffer: &B) -> Result<(), Error>;
    /// Fills everyone's `buffer` with the last rank's.
    fn spread(&self, buffer: &mut B) -> Result<(), Error>;
}

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
    /// Per-sample factors of a loss from the errors of the global batch.
    fn weights(&self, loss: &Loss, errors: &Errors<'_>) -> Result<Weights, Error>;
    /// Adds the weighted per-sample gradients to `sum`; `grads` holds those of every factor at
    /// its [`Layout::batch_range`].
    fn accumulate(
        &self,
        grads: &Self::Buffer,
        layout: &Layout,
        c: &[f32],
        sum: &mut Self::Buffer,
    ) -> Result<(), Error>;
    /// Norm and clipping factor of a gradient.
    fn global_norm(&self, grad: &Self::Buffer, max_norm: f64) -> Result<Clip, Error>;
    /// Clips and applies a gradient.
    fn adamw(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &Self::Buffer,
        state: &mut State<Self::Buffer, Self::Bytes>,
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

/// The CPU, through the twins of the kernels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

impl Device for Cpu {
    type Buffer = Vec<f32>;
    type Halves = Vec<u16>;
    type Bytes = Vec<u8>;

    fn name(&self) -> String {
        "cpu".to_owned()
    }

    fn memory(&self) -> Memory {
        Memory::Host
    }

    fn address(&self, buffer: &Vec<f32>) -> u64 {
        buffer.as_ptr() as u64
    }

    fn address_mut(&self, buffer: &mut Vec<f32>) -> u64 {
        buffer.as_mut_ptr() as u64
    }

    fn halves_address(&self, halves: &Vec<u16>) -> u64 {
        halves.as_ptr() as u64
    }

    fn zeros(&self, n: usize) -> Result<Vec<f32>, Error> {
        Ok(vec![0.0; n])
    }

    fn to_half(&self, buffer: &Vec<f32>, kind: Half) -> Result<Vec<u16>, Error> {
        Ok(cpu::to_half(buffer, kind))
    }

    fn upload(&self, host: &[f32]) -> Result<Vec<f32>, Error> {
        Ok(host.to_vec())
    }

    fn download(&self, buffer: &Vec<f32>) -> Result<Vec<f32>, Error> {
        Ok(buffer.clone())
    }

    fn upload_bytes(&self, host: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(host.to_vec())
    }

    fn download_bytes(&self, bytes: &Vec<u8>) -> Result<Vec<u8>, Error> {
        Ok(bytes.clone())
    }

    fn diffuse(&self, call: &Diffuse<'_>, latents: &Vec<f32>) -> Result<Diffused<Vec<f32>>, Error> {
        let zeros = || vec![0.0; latents.len()];
        let mut out = Diffused {
            noise: zeros(),
            sample: zeros(),
            target: zeros(),
        };
        cpu::diffuse(
            call,
            latents,
            &mut out.noise,
            &mut out.sample,
            &mut out.target,
        );
        Ok(out)
    }

    fn weights(&self, loss: &Loss, errors: &Errors<'_>) -> Result<Weights, Error> {
        Ok(cpu::weights(loss, errors))
    }

    fn accumulate(
        &self,
        grads: &Vec<f32>,
        layout: &Layout,
        c: &[f32],
        sum: &mut Vec<f32>,
    ) -> Result<(), Error> {
        cpu::accumulate(grads, layout, c, sum);
        Ok(())
    }

    fn global_norm(&self, grad: &Vec<f32>, max_norm: f64) -> Result<Clip, Error> {
        Ok(cpu::global_norm(grad, max_norm))
    }

    fn adamw(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &Vec<f32>,
        state: &mut HostState,
    ) -> Result<(), Error> {
        let p = &mut state.p;
        match &mut state.moments {
            Moments::Full { m, v } => cpu::adamw(step, clip, grad, p, m, v),
            Moments::Blockwise { blocks, m, v } => {
                blockwise::adamw(step, clip, grad, p, blocks, m, v);
            }
        }
        Ok(())
    }

    fn ema(&self, p: &Vec<f32>, average: &mut Vec<f32>, decay: f64) -> Result<(), Error> {
        cpu::ema(p, average, (1.0 - decay) as f32);
        Ok(())
    }
}
