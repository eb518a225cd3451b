//! One update by whichever optimizer a state is of.

use super::adamw::{AdamW, Clip};
use super::error::Error;
use super::operations::Device;
use super::prodigy::{Prodigy, ProdigyUpdate};
use super::state::{Moments, State};

/// Clips and applies a gradient: update number `t` (the first is 1) at a learning rate.
///
/// # Errors
/// When the device refuses.
pub fn update<D: Device>(
    device: &D,
    hyper: &AdamW,
    (t, lr): (u32, f64),
    clip: Clip,
    grad: &D::Buffer,
    state: &mut State<D::Buffer, D::Bytes>,
) -> Result<(), Error> {
    let p = &mut state.p;
    match &mut state.moments {
        Moments::Full { m, v } => device.adamw(&hyper.step(t, lr), clip, grad, p, [m, v]),
        Moments::Blockwise { blocks, m, v } => {
            device.adamw8(&hyper.step(t, lr), clip, grad, p, blocks, [m, v])
        }
        Moments::Prodigy(own) => prodigy(device, hyper, lr, clip, grad, p, own),
    }
}

/// A learning rate of 0 leaves everything as it is, and so do gradients that were all zero so far.
fn prodigy<D: Device>(
    device: &D,
    hyper: &AdamW,
    lr: f64,
    clip: Clip,
    grad: &D::Buffer,
    p: &mut D::Buffer,
    own: &mut Prodigy<D::Buffer>,
) -> Result<(), Error> {
    if lr == 0.0 {
        return Ok(());
    }
    let eta = lr * own.estimate.rate(hyper);
    let moments = own.estimate.moments(hyper);
    let sums = device.prodigy_moments(&moments, clip, grad, p, own)?;
    if own.estimate.advance(hyper, eta, sums) {
        let step = ProdigyUpdate {
            keep: (1.0 - hyper.weight_decay * eta) as f32,
            rate: eta as f32,
            eps: (own.estimate.d * hyper.eps) as f32,
        };
        device.prodigy_update(&step, p, own)?;
    }
    Ok(())
}
