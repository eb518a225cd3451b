//! How drawing is shared out where nobody says: workers, their threads, their batches.

use crate::bundle::{Bundle, Part};
use crate::runtime::Ep;

/// Pictures drawn at once, for small latents (up to 32×32: a CPU's rate levels off there) and for
/// large ones (where SDXL at 1024×1024 still fits a GPU).
const BATCH: [usize; 2] = [8, 4];
/// Copies of a model that workers may hold in all, in bytes of fp32 weights.
const COPIES: u64 = 1 << 30;

/// How many workers draw what can be cut into `units`, and the threads of each.
pub(crate) fn workers(bundle: &Bundle, ep: Ep, threads: usize, units: usize) -> (usize, usize) {
    let parameters = |part| bundle.part(part).map_or(0, |part| part.parameters);
    let bytes = 4 * (parameters(Part::Unet) + parameters(Part::VaeDecoder));
    let copies = match ep {
        Ep::Cpu => (COPIES / bytes.max(1)) as usize,
        _ => 1,
    };
    let workers = threads.min(copies).min(units).max(1);
    (workers, threads / workers)
}

/// Pictures drawn at once, by the latents' channels, height and width.
pub(crate) fn batch([_, height, width]: [usize; 3]) -> usize {
    BATCH[usize::from(height * width > 32 * 32)]
}
