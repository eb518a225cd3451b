//! Population-level preference alignment (PopAlign) of image diffusion models.
//!
//! The way of the data: [`weights`] and [`nets`] turn a checkpoint into ONNX graphs built by
//! [`graph`], kept in a [`bundle`]; [`runtime`] runs them; [`generate`] draws pictures into a
//! [`data`] set by [`diffusion`]; [`align`] fine-tunes a LoRA on it with the kernels of
//! [`device`]; [`score`] measures the population before and after.

pub mod align;
pub mod base;
pub mod bundle;
pub mod cli;
pub mod data;
pub mod device;
pub mod diffusion;
pub mod fsio;
pub mod generate;
pub mod graph;
pub mod hub;
pub mod nets;
pub mod runtime;
pub mod score;
pub mod weights;
