//! Text encoding: from a caption to what the UNet is conditioned on.
//!
//! SDXL takes the last but one hidden state of both text encoders, side by side, and the second
//! one's projected pooled embedding; SD 1.5 takes the last hidden state of its only one. Which
//! encoder feeds what is the family's to say ([`crate::family::Descriptor`]). (diffusers,
//! `pipeline_stable_diffusion_xl.py` and `pipeline_stable_diffusion.py`, `encode_prompt`.)
//!
//! Captions are encoded one at a time: the time is nothing beside that of the UNet, and an
//! embedding then depends on its caption alone, on any execution provider.

use std::path::PathBuf;

use super::NonFinite;
use super::tokenizer::{self, Tokenizer};
use crate::bundle::{self, Bundle, Part, Port};
use crate::family::ports::{text, unet};
use crate::family::{Family, HiddenState, TextEncoder};
use crate::runtime::{self, Feed, Outputs, Runtime, Session, SessionOptions};

/// Why captions can't be encoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// A text encoder failed.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// An embedding that is none.
    #[error("{found}, for the caption \"{caption}\"")]
    NonFinite {
        /// Which numbers.
        found: NonFinite,
        /// The caption.
        caption: String,
    },
    /// A graph that is not laid out as expected.
    #[error("{}: {problem}", path.display())]
    Graph {
        /// The model file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Sizes of a model's text conditioning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextShape {
    /// The model's family, which says what of the captions goes where.
    pub family: Family,
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Width of a token's embedding.
    pub width: usize,
    /// Length of the pooled embedding, in a family that takes one.
    pub pooled: Option<usize>,
}

impl TextShape {
    /// What a bundle's graphs declare.
    ///
    /// # Errors
    /// [`bundle::Error::NoPart`] for a bundle without a UNet or text encoder, [`Error::Graph`] for
    /// one whose inputs are not those of a text-conditioned UNet.
    pub fn of(bundle: &Bundle) -> Result<Self, Error> {
        bundle.part(Part::Unet)?;
        let family = bundle.family()?;
        let pooled = match family.descriptor().added_conditioning {
            true => Some(last_dim(bundle, Part::Unet, unet::TEXT_EMBEDS)?),
            false => None,
        };
        let (_, encoder) = encoders(bundle, family)?[0];
        Ok(Self {
            family,
            tokens: last_dim(bundle, encoder, text::INPUT_IDS)?,
            width: last_dim(bundle, Part::Unet, unet::ENCODER_HIDDEN_STATES)?,
            pooled,
        })
    }

    /// The embedding that stands for no negative caption.
    pub fn zeros(&self) -> Embedding {
        Embedding {
            prompt_embeds: vec![0.0; self.tokens * self.width],
            pooled: self.pooled.map(|length| vec![0.0; length]),
        }
    }
}

/// The text encoders that a model uses, and the parts that they are.
pub(super) fn encoders(
    bundle: &Bundle,
    family: Family,
) -> Result<Vec<(&'static TextEncoder, Part)>, bundle::Error> {
    let all = family.descriptor().encoders.iter();
    all.map(|encoder| (encoder, Part::from(encoder.slot)))
        .filter(|(encoder, part)| !encoder.optional || bundle.has(*part))
        .map(|(encoder, part)| bundle.part(part).map(|_| (encoder, part)))
        .collect()
}

/// How many numbers of a token's embedding each text encoder gives, in their order.
///
/// # Errors
/// [`Error::Graph`] for an encoder whose configuration doesn't say.
pub fn widths(bundle: &Bundle) -> Result<Vec<usize>, Error> {
    let all = encoders(bundle, bundle.family()?)?.into_iter();
    all.map(|(_, part)| {
        let name = format!("{part}/config.json");
        let width = bundle.json(&name)?["hidden_size"].as_u64();
        width
            .map(|width| width as usize)
            .ok_or_else(|| Error::Graph {
                path: bundle.dir().join(name),
                problem: "it has no number `hidden_size`".into(),
            })
    })
    .collect()
}

/// The tokenizer of a text encoder.
pub(super) fn tokenizer(
    bundle: &Bundle,
    encoder: &TextEncoder,
    shape: TextShape,
) -> Result<Tokenizer, Error> {
    let dir = bundle.dir().join(encoder.slot.tokenizer());
    Ok(Tokenizer::open(&dir, shape.tokens)?)
}

fn port<'a>(bundle: &'a Bundle, part: Part, name: &str) -> Result<&'a Port, Error> {
    let found = bundle.part(part)?.inputs.iter().find(|p| p.name == name);
    found.ok_or(Error::Graph {
        path: bundle.path(part)?,
        problem: format!("it has no input `{name}`"),
    })
}

/// The last dimension of an input, which must be a number.
fn last_dim(bundle: &Bundle, part: Part, name: &str) -> Result<usize, Error> {
    let port = port(bundle, part, name)?;
    let dim = port.shape.last().and_then(serde_json::Value::as_u64);
    dim.map(|d| d as usize).ok_or(Error::Graph {
        path: bundle.path(part)?,
        problem: format!("input `{name}` has no fixed last dimension"),
    })
}

/// What the UNet is told about a caption.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// `[tokens, width]`, row-major.
    pub prompt_embeds: Vec<f32>,
    /// The pooled embedding, where the model takes one.
    pub pooled: Option<Vec<f32>>,
}

/// The loaded text encoders of a model.
#[derive(Debug)]
pub struct TextEncoders {
    shape: TextShape,
    encoders: Vec<Encoder>,
}

#[derive(Debug)]
struct Encoder {
    part: Part,
    tokenizer: Tokenizer,
    session: Session,
    /// The output that conditions the UNet.
    hidden: String,
    /// Whether it gives the pooled embedding.
    pooled: bool,
}

impl Encoder {
    fn check(&self, values: &[f32], output: &'static str, caption: &str) -> Result<(), Error> {
        if values.iter().all(|x| x.is_finite()) {
            return Ok(());
        }
        Err(Error::NonFinite {
            found: NonFinite {
                part: self.part,
                output,
                fp16: self.session.is_fp16(),
            },
            caption: caption.to_owned(),
        })
    }
}

impl TextEncoders {
    /// Loads the text encoders and tokenizers of a bundle.
    ///
    /// # Errors
    /// A part or tokenizer that is missing, what ONNX Runtime refuses.
    pub fn open(
        bundle: &Bundle,
        runtime: &Runtime,
        options: &SessionOptions,
    ) -> Result<Self, Error> {
        let shape = TextShape::of(bundle)?;
        let mut loaded = Vec::new();
        for (encoder, part) in encoders(bundle, shape.family)? {
            let session = bundle.session(runtime, part, options)?;
            loaded.push(Encoder {
                part,
                tokenizer: tokenizer(bundle, encoder, shape)?,
                hidden: match encoder.state {
                    HiddenState::LastButOne => last_but_one(&session)?,
                    HiddenState::Last => text::LAST_HIDDEN_STATE.to_owned(),
                },
                pooled: encoder.pooled,
                session,
            });
        }
        Ok(Self {
            shape,
            encoders: loaded,
        })
    }

    /// Sizes of what [`Self::encode`] gives.
    pub fn shape(&self) -> TextShape {
        self.shape
    }

    /// Encodes a caption. What one that is too long loses is [`super::lost`]'s to say.
    ///
    /// # Errors
    /// A text encoder that fails, that gives other sizes than the UNet takes or numbers that are
    /// none.
    pub fn encode(&mut self, caption: &str) -> Result<Embedding, Error> {
        let tokens = self.shape.tokens;
        let mut states = Vec::new();
        let mut pooled = None;
        for encoder in &mut self.encoders {
            let ids = encoder.tokenizer.encode(caption)?;
            let feed = Feed::new().i64_slice(text::INPUT_IDS, &ids.ids, &[1, tokens]);
            let outputs = encoder.session.run(&feed)?;
            let state = outputs.f32_vec(&encoder.hidden)?;
            encoder.check(&state, "hidden_states", caption)?;
            states.push(state);
            if encoder.pooled {
                let embeds = pooled_embedding(encoder, &outputs, self.shape.pooled)?;
                encoder.check(&embeds, text::TEXT_EMBEDS, caption)?;
                pooled = Some(embeds);
            }
        }
        self.join(&states, pooled)
    }

    /// Puts the encoders' states of each token side by side.
    fn join(&self, states: &[Vec<f32>], pooled: Option<Vec<f32>>) -> Result<Embedding, Error> {
        let TextShape { tokens, width, .. } = self.shape;
        let widths: Vec<usize> = states.iter().map(|s| s.len() / tokens).collect();
        if widths.iter().sum::<usize>() != width {
            return Err(Error::Graph {
                path: self.encoders[0].session.path().to_path_buf(),
                problem: format!(
                    "the text encoders give {widths:?} numbers a token, the UNet takes {width}"
                ),
            });
        }
        let mut prompt_embeds = Vec::with_capacity(tokens * width);
        for token in 0..tokens {
            for (state, &width) in states.iter().zip(&widths) {
                prompt_embeds.extend_from_slice(&state[token * width..(token + 1) * width]);
            }
        }
        Ok(Embedding {
            prompt_embeds,
            pooled,
        })
    }
}

fn pooled_embedding(
    encoder: &Encoder,
    outputs: &Outputs,
    expected: Option<usize>,
) -> Result<Vec<f32>, Error> {
    let pooled = outputs.f32_vec(text::TEXT_EMBEDS)?;
    match expected {
        Some(length) if length != pooled.len() => Err(Error::Graph {
            path: encoder.session.path().to_path_buf(),
            problem: format!(
                "`text_embeds` has {} numbers, the UNet takes {length}",
                pooled.len()
            ),
        }),
        _ => Ok(pooled),
    }
}

/// The name of the last but one hidden state: there are N + 1 of them, from 0.
fn last_but_one(session: &Session) -> Result<String, Error> {
    let states = session
        .outputs()
        .iter()
        .filter(|output| output.name.starts_with(text::HIDDEN_STATES))
        .count();
    match states {
        2.. => Ok(text::hidden_state(states - 2)),
        _ => Err(Error::Graph {
            path: session.path().to_path_buf(),
            problem: "it has no outputs `hidden_states.*`".into(),
        }),
    }
}
