//! Whole graphs with optimum's input and output names, ready to be written.
//!
//! Names, axes and dtypes follow optimum-onnx (`exporters/onnx/model_configs.py`), so that its
//! pipelines open what is written. Where it matters to exactness they differ: `timestep` is f32
//! (optimum reads the dtype from the session), which keeps fractional timesteps.
//!
//! Every function returns an optimized graph. Batch size, height and width are symbols; sizes that
//! a network halves are declared as multiples, so a shape that can't work is refused while
//! building, not at run time.

mod options;
mod pictures;
mod text;
mod unet;
mod unet_grad;

pub use options::{Options, PlannedSizes};
pub use pictures::{classifier, clip_vision, vae_decoder, vae_encoder};
pub use text::{clip_text, text_encoder, text_encoder_2};
pub use unet::{UnetGraph, unet};
pub use unet_grad::unet_grad;
