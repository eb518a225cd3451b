//! LoRA files: PEFT, diffusers, kohya and ComfyUI are read, diffusers and kohya are written.
//!
//! An adapter is a pair of factors per linear layer, `W + (alpha / r) B A`. The formats
//! differ in names and in where alpha stands:
//!
//! | format | factors | alpha |
//! | --- | --- | --- |
//! | PEFT | `base_model.model.M.lora_A.weight`, `lora_B` | `adapter_config.json` beside the file |
//! | diffusers | `unet.M.lora_A.weight`, `unet.M.lora.down.weight`, `unet.M.processor.to_q_lora.down.weight` | `lora_adapter_metadata` in the header, else r |
//! | kohya | `lora_unet_M_with_underscores.lora_down.weight`, `lora_up` | `….alpha`, else r |
//! | ComfyUI | `diffusion_model.M.lora_A.weight` or `lora_down`, M named as diffusers or the original code do | `….alpha`, else r |
//!
//! Names follow diffusers 0.36 (`loaders/lora_conversion_utils.py`, `loaders/lora_base.py`). What
//! is not a plain LoRA of linear layers (LoHa, LoKr, DoRA, convolutions) is refused by name: left
//! out, it would silently give other pictures. So is a text encoder's, except where it is merged
//! ([`read_all`], [`merge()`]): the text encoders' graphs take no factors.

mod adapter;
mod config;
mod error;
mod merge;
mod module;
mod names;
mod pattern;
mod read;
mod settings;
mod target;
pub mod uce;
mod write;

pub use adapter::{Factors, Fitted, LoraAdapter};
pub use error::{Error, Result};
pub use merge::merge;
pub use module::{LoraModule, LoraSpec, MOST_RANK, RANKS};
pub use names::targets;
pub use read::{Adapters, read, read_all};
pub use write::{KohyaNames, write_diffusers, write_kohya};

#[cfg(test)]
mod tests;
