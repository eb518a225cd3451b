//! How large a picture may be.

use super::format::Format;
use super::problem::{Problem, Reason};

/// Pillow refuses larger pictures too: at some size a header is an attack, not a photograph.
pub(super) const MOST_PIXELS: usize = 1 << 27;

/// Refuses what would unpack to more than [`MOST_PIXELS`].
pub(super) fn check(format: Format, width: u32, height: u32) -> Result<(), Problem> {
    match width as usize * height as usize > MOST_PIXELS {
        false => Ok(()),
        true => Err(Problem::TooLarge {
            format: format.name(),
            source: Reason(format!("{width}x{height} pixels are too many")),
        }),
    }
}
