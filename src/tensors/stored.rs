//! Element types of weights.

use half::slice::HalfFloatSliceExt;

/// An element type, and how fp32 is made of it and made it.
pub(crate) trait Stored: bytemuck::Pod + Send {
    /// What rounds to infinity, and all above.
    const LIMIT: f32;
    fn load(from: &[Self], to: &mut [f32]);
    fn store(from: &[f32], to: &mut [Self]);
}

impl Stored for half::f16 {
    const LIMIT: f32 = 65520.0;
    fn load(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn store(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Stored for half::bf16 {
    const LIMIT: f32 = f32::from_bits(0x7f7f_8000);
    fn load(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn store(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Stored for f32 {
    const LIMIT: f32 = f32::INFINITY;
    fn load(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    fn store(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

impl Stored for f64 {
    const LIMIT: f32 = f32::INFINITY;
    fn load(from: &[Self], to: &mut [f32]) {
        to.iter_mut()
            .zip(from)
            .for_each(|(to, &from)| *to = from as f32);
    }
    fn store(from: &[f32], to: &mut [Self]) {
        to.iter_mut()
            .zip(from)
            .for_each(|(to, &from)| *to = from.into());
    }
}
