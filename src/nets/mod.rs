//! The networks, each a plain function of builder, config and weights.
//!
//! A network's function mirrors the Python it comes from (each file names it) and takes the same
//! `config.json` and tensor names, so a diffusers folder is all that is needed. [`graphs`] wraps
//! the functions into whole ONNX graphs with optimum's input and output names; the rest is there
//! to be combined otherwise.
//!
//! [`Params`] is what a function gets for its weights: a view of the checkpoint, the dtype to
//! compute in, and the LoRA factors that linear layers should take as graph inputs ([`Lora`]).

mod attention;
pub mod clip;
mod config;
mod error;
pub mod graphs;
mod layers;
mod lora;
mod resblock;
pub mod resnet;
pub mod unet;
pub mod vae;

pub use config::{Config, PerBlock, read_config};
pub use error::{Error, Result};
pub use layers::Params;
pub use lora::Lora;
