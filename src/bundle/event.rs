//! What an export says while it runs, and where it can be stopped.

use std::path::Path;
use std::time::Duration;

use super::manifest::{Converted, PartInfo};
use super::{Error, Part, Result};
use crate::base::Stop;

/// What an export reports while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file comes from the hub; told again and again until `bytes` is `total`.
    Fetching {
        /// The repository, with the revision where one was named.
        repo: &'a str,
        /// The file's path in it.
        file: &'a str,
        /// Bytes that are there.
        bytes: u64,
        /// Bytes that it has.
        total: u64,
    },
    /// A graph was written.
    Part {
        /// Which one.
        part: Part,
        /// What was written.
        info: &'a PartInfo,
        /// Time it took to build and write.
        time: Duration,
    },
    /// A network's weights were written in another type.
    Converted {
        /// The new file.
        file: &'a Path,
        /// What was converted.
        converted: &'a Converted,
    },
    /// A weight file stands on another file system than the bundle, so its bytes were copied.
    Copied {
        /// The weight file.
        source: &'a Path,
        /// Its size.
        bytes: u64,
    },
    /// Every weight file has its names.
    Linked(&'a Names),
    /// A checkpoint holds tensors that no graph made of it reads.
    Unused {
        /// The checkpoint's folder or file.
        origin: &'a Path,
        /// The tensors' names.
        names: &'a [&'a str],
    },
}

/// How weight files stand in a bundle, by their names there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Names {
    /// Hard links: names of a file that has others. `onnx` refuses them.
    pub hard: usize,
    /// Files of their own that share the checkpoint's blocks.
    pub reflinks: usize,
    /// Other files of their own.
    pub own: usize,
}

/// Who is told about an export's steps, and who may stop it.
pub(super) struct Report<'a> {
    pub(super) stop: &'a Stop,
    pub(super) observe: &'a mut dyn FnMut(Event<'_>),
}

impl Report<'_> {
    /// Tells of a step.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if somebody asked the export to stop.
    pub(super) fn step(&mut self, event: Event<'_>) -> Result<()> {
        (self.observe)(event);
        match self.stop.asked() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}
