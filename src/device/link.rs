//! The way from device to device, where ranks have several.

use super::error::Error;

/// Bytes of a [`Meeting`]: those of NCCL's unique id.
pub const MEETING: usize = 128;

/// Where ranks find each other to [`Device::link`](super::Device::link) up.
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
