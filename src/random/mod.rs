//! Addressed randomness, and what is drawn from it.

mod philox;
mod stream;

pub use philox::*;
pub use stream::Stream;
pub(crate) use stream::shuffle;
