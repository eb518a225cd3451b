//! What an optimizer keeps, on a device or on the host.

use super::layout::Layout;
use super::prodigy::Prodigy;

/// Parameters with what the optimizer keeps of them, all in one layout.
///
/// `B` holds single-precision numbers, `Q` bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct State<B, Q> {
    /// LoRA factors, single precision master copy.
    pub p: B,
    /// What the optimizer averages.
    pub moments: Moments<B, Q>,
}

/// What an optimizer keeps of each parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Moments<B, Q> {
    /// In single precision.
    Full {
        /// First moments.
        m: B,
        /// Second moments.
        v: B,
    },
    /// In eight bits; see [`super::blockwise`].
    Blockwise {
        /// Where each quantisation block lies.
        blocks: Layout,
        /// First moments.
        m: Codes<B, Q>,
        /// Second moments.
        v: Codes<B, Q>,
    },
    /// Prodigy's, beside those of AdamW.
    Prodigy(Prodigy<B>),
}

/// Numbers quantised by blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes<B, Q> {
    /// A byte an element.
    pub codes: Q,
    /// Largest magnitude of each block.
    pub absmax: B,
}

/// A state on the host.
pub type HostState = State<Vec<f32>, Vec<u8>>;

impl Moments<Vec<f32>, Vec<u8>> {
    /// Moments of zero in single precision.
    pub fn zeros(layout: &Layout) -> Self {
        let zeros = vec![0.0; layout.total()];
        Self::Full {
            m: zeros.clone(),
            v: zeros,
        }
    }
}

impl<B, Q> State<B, Q> {
    /// The same state in other buffers: a copy to a device or from it.
    ///
    /// # Errors
    /// The first of the two functions.
    pub fn try_map<B2, Q2, E>(
        &self,
        numbers: impl Fn(&B) -> Result<B2, E>,
        bytes: impl Fn(&Q) -> Result<Q2, E>,
    ) -> Result<State<B2, Q2>, E> {
        let codes = |of: &Codes<B, Q>| {
            Ok(Codes {
                codes: bytes(&of.codes)?,
                absmax: numbers(&of.absmax)?,
            })
        };
        let moments = match &self.moments {
            Moments::Full { m, v } => Moments::Full {
                m: numbers(m)?,
                v: numbers(v)?,
            },
            Moments::Blockwise { blocks, m, v } => Moments::Blockwise {
                blocks: blocks.clone(),
                m: codes(m)?,
                v: codes(v)?,
            },
            Moments::Prodigy(own) => Moments::Prodigy(own.try_map(&numbers)?),
        };
        Ok(State {
            p: numbers(&self.p)?,
            moments,
        })
    }
}
