//! Text encoding: from a caption to what the UNet is conditioned on.
//!
//! SDXL takes the last but one hidden state of both text encoders, side by side, and the second
//! one's projected pooled embedding; SD 1.5 takes the last hidden state of its only one. Which it
//! is follows from the UNet: only SDXL's has a `text_embeds` input. (diffusers,
//! `pipeline_stable_diffusion_xl.py` and `pipeline_stable_diffusion.py`, `encode_prompt`.)
//!
//! Captions are encoded one at a time: the time is nothing beside that of the UNet, and an
//! embedding then depends on its caption alone, on any execution provider.

use std::path::PathBuf;

use super::NonFinite;
use super::tokenizer::{self, Tokenizer};
use crate::bundle::{self, Bundle, Part, Port};
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
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Width of a token's embedding.
    pub width: usize,
    /// Length of the pooled embedding; only SDXL's kind has one.
    pub pooled: Option<usize>,
}

impl TextShape {
    /// What a bundle's graphs declare.
    ///
    /// # Errors
    /// [`bundle::Error::NoPart`] for a bundle without a UNet or text encoder, [`Error::Graph`] for
    /// one whose inputs are not those of a text-conditioned UNet.
    pub fn of(bundle: &Bundle) -> Result<Self, Error> {
        let unet = bundle.part(Part::Unet)?;
        let pooled = match unet.inputs.iter().find(|port| port.name == "text_embeds") {
            Some(port) => Some(last_dim(bundle, Part::Unet, port)?),
            None => None,
        };
        let encoder = encoders(bundle, pooled.is_some())?[0];
        Ok(Self {
            tokens: last_dim(bundle, encoder, port(bundle, encoder, "input_ids")?)?,
            width: last_dim(
                bundle,
                Part::Unet,
                port(bundle, Part::Unet, "encoder_hidden_states")?,
            )?,
            pooled,
        })
    }
}

impl TextShape {
    /// The embedding that stands for no negative caption.
    pub fn zeros(&self) -> Embedding {
        Embedding {
            prompt_embeds: vec![0.0; self.tokens * self.width],
            pooled: self.pooled.map(|length| vec![0.0; length]),
        }
    }
}

/// The text encoders that a model uses: SDXL's second one is enough (the refiner has only that).
fn encoders(bundle: &Bundle, pooled: bool) -> Result<Vec<Part>, Error> {
    if !pooled {
        bundle.part(Part::TextEncoder)?;
        return Ok(vec![Part::TextEncoder]);
    }
    bundle.part(Part::TextEncoder2)?;
    let first = Some(Part::TextEncoder).filter(|&part| bundle.has(part));
    Ok(first.into_iter().chain([Part::TextEncoder2]).collect())
}

fn port<'a>(bundle: &'a Bundle, part: Part, name: &str) -> Result<&'a Port, Error> {
    let found = bundle.part(part)?.inputs.iter().find(|p| p.name == name);
    found.ok_or(Error::Graph {
        path: bundle.path(part)?,
        problem: format!("it has no input `{name}`"),
    })
}

/// The last dimension of an input, which must be a number.
fn last_dim(bundle: &Bundle, part: Part, port: &Port) -> Result<usize, Error> {
    let dim = port.shape.last().and_then(serde_json::Value::as_u64);
    dim.map(|d| d as usize).ok_or(Error::Graph {
        path: bundle.path(part)?,
        problem: format!("input `{}` has no fixed last dimension", port.name),
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
    tokenizer: Tokenizer,
    session: Session,
    /// The output that conditions the UNet.
    hidden: String,
    /// Whether `text_embeds` is the pooled embedding.
    pooled: bool,
}

impl Encoder {
    fn check(&self, values: &[f32], output: &'static str, caption: &str) -> Result<(), Error> {
        if values.iter().all(|x| x.is_finite()) {
            return Ok(());
        }
        let part = match self.pooled {
            true => Part::TextEncoder2,
            false => Part::TextEncoder,
        };
        Err(Error::NonFinite {
            found: NonFinite {
                part,
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
        let sdxl = shape.pooled.is_some();
        let mut loaded = Vec::new();
        for part in encoders(bundle, sdxl)? {
            let session = bundle.session(runtime, part, options)?;
            loaded.push(Encoder {
                tokenizer: Tokenizer::open(&bundle.dir().join(tokenizer_dir(part)), shape.tokens)?,
                hidden: match sdxl {
                    true => last_but_one(&session)?,
                    false => "last_hidden_state".to_owned(),
                },
                pooled: part == Part::TextEncoder2,
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

    /// Encodes a caption; the flag says whether it was too long and lost its end.
    ///
    /// # Errors
    /// A text encoder that fails, that gives other sizes than the UNet takes or numbers that are
    /// none.
    pub fn encode(&mut self, caption: &str) -> Result<(Embedding, bool), Error> {
        let tokens = self.shape.tokens;
        let mut states = Vec::new();
        let (mut pooled, mut truncated) = (None, false);
        for encoder in &mut self.encoders {
            let ids = encoder.tokenizer.encode(caption)?;
            truncated |= ids.truncated;
            let feed = Feed::new().i64_slice("input_ids", &ids.ids, &[1, tokens]);
            let outputs = encoder.session.run(&feed)?;
            let state = outputs.f32_vec(&encoder.hidden)?;
            encoder.check(&state, "hidden_states", caption)?;
            states.push(state);
            if encoder.pooled {
                let embeds = pooled_embedding(encoder, &outputs, self.shape.pooled)?;
                encoder.check(&embeds, "text_embeds", caption)?;
                pooled = Some(embeds);
            }
        }
        Ok((self.join(&states, pooled)?, truncated))
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

fn tokenizer_dir(part: Part) -> &'static str {
    match part {
        Part::TextEncoder2 => "tokenizer_2",
        _ => "tokenizer",
    }
}

fn pooled_embedding(
    encoder: &Encoder,
    outputs: &Outputs,
    expected: Option<usize>,
) -> Result<Vec<f32>, Error> {
    let pooled = outputs.f32_vec("text_embeds")?;
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
        .filter(|output| output.name.starts_with("hidden_states."))
        .count();
    match states {
        2.. => Ok(format!("hidden_states.{}", states - 2)),
        _ => Err(Error::Graph {
            path: session.path().to_path_buf(),
            problem: "it has no outputs `hidden_states.*`".into(),
        }),
    }
}
