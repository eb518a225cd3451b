//! Population-level preference alignment (PopAlign) of image diffusion models.
//!
//! The way of the data: [`tensors`] and [`nets`] turn a checkpoint into ONNX graphs built by
//! [`graph`], kept in a [`bundle`]; [`runtime`] runs them; [`datagen`] draws pictures into a
//! [`data`] set by [`diffusion`]; [`align`] fine-tunes a LoRA on it with the kernels of
//! [`device`]; [`judge`] says who is in a picture and [`score`] measures the population before and
//! after. The rooms stand in the order of ARCHITECTURE.md, each above all that it imports.

pub mod align;
pub mod base;
pub mod bundle;
pub mod cli;
pub mod data;
pub mod datagen;
pub mod device;
pub mod diffusion;
pub mod family;
pub mod graph;
pub mod hub;
pub mod judge;
pub mod lora;
pub mod nets;
pub mod picture;
pub mod prompts;
pub mod random;
pub mod runtime;
pub mod score;
pub mod store;
pub mod studio;
pub mod tensors;
