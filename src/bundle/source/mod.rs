//! Checkpoints as they come: folders in diffusers' layout, one network's folder, single files.
//!
//! What a checkpoint lacks comes from `--base`, a diffusers folder: the other networks of a model
//! that is only a UNet, the tokenizers of a single file. A single file's configurations are those
//! of its family, unless the base has them. Where nothing of the name is on the disk, both may be
//! ids of the Hugging Face hub ([`hub`]).

mod builtin;
mod files;
mod hub;
mod index;
mod open;

pub(super) use open::Source;
