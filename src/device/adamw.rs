//! AdamW's hyper-parameters and the scalars of a step.

/// Norm of all gradients before clipping, and the factor that clips them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Euclidean norm.
    pub norm: f32,
    /// At most 1.
    pub factor: f32,
}

/// Hyper-parameters of AdamW, which Prodigy has too.
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
pub(super) fn power(mut base: f64, mut exponent: u32) -> f64 {
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
