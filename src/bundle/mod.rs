//! The bundle: the folder that `pa-export` writes and every other command reads.
//!
//! It is laid out as optimum lays an exported pipeline out (`unet/model.onnx` beside its
//! `config.json`, tokenizers, scheduler, `model_index.json`), so that optimum's pipelines open it,
//! with our `unet_grad/` and a `bundle.json` that says what is where, what it was made of, and
//! which LoRA layers it takes. Weights are not copied: the checkpoint's files get second names
//! beside the graphs that point into them, by reflinks where the file system has them, else by hard
//! links. [`Bundle::open`] therefore checks that nobody has changed them since. `onnx` (not ONNX
//! Runtime) takes several hard links for an attack and refuses the file; [`Options::copy`] is for those
//! who need it.
//! [`Bundle::job`] makes graphs for one job of the same weights.

mod build;
mod error;
mod event;
mod export;
mod identity;
mod inspect;
mod job;
mod link;
mod manifest;
mod merge;
mod open;
pub mod options;
mod part;
mod place;
mod plan;
mod sizes;
mod source;
mod verify;
mod write;

pub use error::{Error, Result};
pub use event::{Event, Names};
pub use export::export;
pub use identity::Identity;
pub use inspect::Verified;
pub use job::{Job, JobGraph, operators};
pub use manifest::{
    BundleManifest, Converted, Link, LoraInfo, MANIFEST, Merged, PartInfo, Port, WeightFile,
};
pub use open::Bundle;
pub use options::{Adapter, Options, Planned};
pub use part::{Part, Target};
pub use plan::{Estimate, plan};
