//! Several processes on one run, one for each GPU.
//!
//! Every rank holds the same LoRA and takes its share of a batch's micro-batches. What they exchange
//! makes the step that of the whole batch: all errors, so that the offset μ is the batch's, and the
//! sum of gradients. Both are passed from rank to rank, each adding its samples to what it was
//! given, so the additions happen in the order of one process; where the micro-batches are the same
//! too, so is every bit of the LoRA, for any number of ranks. (A tree of partial sums would be
//! faster by milliseconds of a step of seconds, and would tie the result to the number of ranks.)

#[cfg(feature = "mpi")]
pub mod mpi;

use super::{Error, Result};
use crate::base::fsio;
use crate::device::{Device, Link};

/// The processes of a run, seen from one of them. Every rank calls the same methods in the same
/// order.
pub trait Ranks: std::fmt::Debug {
    /// This process's number, from 0.
    fn rank(&self) -> usize;
    /// How many there are.
    fn size(&self) -> usize;
    /// Everyone's numbers, in order of rank. Ranks may give different counts.
    ///
    /// # Errors
    /// [`Error::Ranks`], here and below, if a message cannot be passed.
    fn gather(&mut self, own: &[f32]) -> Result<Vec<Vec<f32>>>;
    /// Fills `buffer` with what the rank before sent.
    ///
    /// # Errors
    /// See [`Ranks::gather`].
    fn receive(&mut self, buffer: &mut [f32]) -> Result<()>;
    /// Sends to the next rank.
    ///
    /// # Errors
    /// See [`Ranks::gather`].
    fn send(&mut self, buffer: &[f32]) -> Result<()>;
    /// Fills everyone's `buffer` with the last rank's.
    ///
    /// # Errors
    /// See [`Ranks::gather`].
    fn spread(&mut self, buffer: &mut [f32]) -> Result<()>;
}

/// The only process of its run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&mut self, own: &[f32]) -> Result<Vec<Vec<f32>>> {
        Ok(vec![own.to_vec()])
    }

    fn receive(&mut self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn send(&mut self, _: &[f32]) -> Result<()> {
        Ok(())
    }

    fn spread(&mut self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }
}

/// The share of `parts` that a rank takes: neighbours, in order of rank.
pub fn share(ranks: &dyn Ranks, parts: usize) -> std::ops::Range<usize> {
    let at = |rank| rank * parts / ranks.size();
    at(ranks.rank())..at(ranks.rank() + 1)
}

/// Links the ranks' devices, if there are several and all of them can.
///
/// # Errors
/// See [`Ranks::gather`]; when a device that could link up fails to.
pub fn link<D: Device>(
    ranks: &mut dyn Ranks,
    device: &D,
) -> Result<Option<Box<dyn Link<D::Buffer>>>> {
    if ranks.size() == 1 {
        return Ok(None);
    }
    // Every rank offers a place; all go to the first one's.
    let own = device.meeting()?.map(|place| place.map(f32::from));
    let all = ranks.gather(own.as_ref().map_or(&[], |place| place.as_slice()))?;
    if all.iter().any(Vec::is_empty) {
        tracing::debug!("gradients pass between ranks through the host");
        return Ok(None);
    }
    let place = std::array::from_fn(|i| all[0][i] as u8);
    Ok(Some(device.link(&place, ranks.rank(), ranks.size())?))
}

/// What the ranks before this one made of `n` zeros.
///
/// # Errors
/// See [`Ranks::gather`]; when the device or its link refuses.
pub fn received<D: Device>(
    ranks: &mut dyn Ranks,
    link: Option<&dyn Link<D::Buffer>>,
    device: &D,
    n: usize,
) -> Result<D::Buffer> {
    let mut buffer = device.zeros(n)?;
    if ranks.rank() > 0 {
        match link {
            Some(link) => link.receive(&mut buffer)?,
            None => {
                let mut host = vec![0.0; n];
                ranks.receive(&mut host)?;
                buffer = device.upload(&host)?;
            }
        }
    }
    Ok(buffer)
}

/// What all ranks made of it, of what this one did.
///
/// # Errors
/// See [`received`].
pub fn passed_on<D: Device>(
    ranks: &mut dyn Ranks,
    link: Option<&dyn Link<D::Buffer>>,
    device: &D,
    mut buffer: D::Buffer,
) -> Result<D::Buffer> {
    match link {
        _ if ranks.size() == 1 => {}
        Some(link) => {
            link.send(&buffer)?;
            link.spread(&mut buffer)?;
        }
        None => {
            let mut host = device.download(&buffer)?;
            ranks.send(&host)?;
            ranks.spread(&mut host)?;
            buffer = device.upload(&host)?;
        }
    }
    Ok(buffer)
}

/// For each question whether any rank says yes.
///
/// # Errors
/// See [`Ranks::gather`].
pub fn any<const N: usize>(ranks: &mut dyn Ranks, said: [bool; N]) -> Result<[bool; N]> {
    let all = ranks.gather(&said.map(|yes| f32::from(u8::from(yes))))?;
    Ok(std::array::from_fn(|i| all.iter().any(|own| own[i] != 0.0)))
}

/// Checks that all ranks hold the same numbers.
///
/// # Errors
/// [`Error::Diverged`].
pub fn agree(ranks: &mut dyn Ranks, numbers: &[f32], step: u32) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let digest = fsio::sha256_bytes(bytemuck::cast_slice(numbers));
    let own: Vec<f32> = digest.bytes().map(f32::from).collect();
    let all = ranks.gather(&own)?;
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => Err(Error::Diverged { step, rank }),
    }
}
