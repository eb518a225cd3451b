//! CLIP: pictures and captions as points on one sphere.
//!
//! Agreement of a picture and its caption is 100 times the cosine of their embeddings, as the
//! paper's tables have it (for OpenAI's CLIP that is also its `logits_per_image`, whose scale is
//! 100).
//!
//! A bundle brings a CLIP; published ones ([`Tower`]) are built over their own files ([`Source`]).

mod original;
mod preparation;
mod source;
mod tower;

pub use source::Source;
pub use tower::Tower;

use std::collections::BTreeMap;

use image::RgbImage;

use super::error::{Error, Result};
use super::network;
use crate::bundle::{Bundle, Part};
use crate::diffusion::tokenizer::Tokenizer;
use crate::family::ports::{text, vision};
use crate::nets::clip::ClipConfig;
use crate::nets::graphs::{self, Options};
use crate::nets::read_config;
use crate::runtime::{Feed, Runtime, Session, SessionOptions};
use preparation::Preparation;

/// What the cosine is multiplied by.
pub const CONVENTION: f64 = 100.0;
/// Several CLIPs at once.
pub type Clips = BTreeMap<Tower, Clip>;

/// Captions run together.
const CAPTIONS: usize = 32;
/// Pictures run together: sixteen of the largest tower's take 100 MB of activations.
const PICTURES: usize = 16;

/// Both towers of a CLIP; that of texts only where captions are wanted.
#[derive(Debug)]
pub struct Clip {
    vision: Session,
    text: Option<Text>,
    preparation: Preparation,
    width: usize,
    scale: Option<f64>,
}

/// The tower of texts.
#[derive(Debug)]
struct Text {
    session: Session,
    tokenizer: Tokenizer,
}

impl Clip {
    /// Whether the bundle has what it takes.
    pub fn is_in(bundle: &Bundle) -> bool {
        bundle.has(Part::ClipText) && bundle.has(Part::ClipVision)
    }

    /// Opens the CLIP of a bundle.
    ///
    /// # Errors
    /// A part is missing or its configuration can't be followed.
    pub fn open(runtime: &Runtime, bundle: &Bundle, options: &SessionOptions) -> Result<Self> {
        let folder = bundle.dir().join(Part::ClipVision.folder());
        let config_path = folder.join("config.json");
        let config: ClipConfig =
            read_config(&config_path).map_err(|e| Error::network(&config_path, e))?;
        let (text, vision) = (config.text(), config.vision());
        // A CLIP may bring its own tokenizer; the demo's shares the pipeline's.
        let tokenizer = match Tokenizer::is_in(&folder) {
            true => folder.clone(),
            false => bundle.dir().join("tokenizer"),
        };
        let length = usize::try_from(text.max_position_embeddings).unwrap_or(usize::MAX);
        let size = u32::try_from(vision.image_size).unwrap_or(u32::MAX);
        Ok(Self {
            vision: bundle.session(runtime, Part::ClipVision, options)?,
            text: Some(Text {
                session: bundle.session(runtime, Part::ClipText, options)?,
                tokenizer: Tokenizer::open(&tokenizer, length)?,
            }),
            preparation: Preparation::read(&folder, size)?,
            width: usize::try_from(vision.projection_dim).unwrap_or(usize::MAX),
            scale: None,
        })
    }

    /// Builds a published CLIP over its own weights, its tower of texts too if a tokenizer was looked for.
    ///
    /// # Errors
    /// The weights don't fit the configuration, or ONNX Runtime refuses.
    pub fn build(runtime: &Runtime, mut source: Source, options: &SessionOptions) -> Result<Self> {
        let tokenizer = source.tokenizer.take();
        let Source {
            weights, config, ..
        } = &source;
        let graphs = Options {
            lora: None,
            ..Options::default()
        };
        let (scope, vision) = (weights.scope(""), config.vision());
        let failed = |e| Error::network(source.path(), e);
        let graph = graphs::clip_vision(&vision, &scope, &graphs).map_err(failed)?;
        let session = network::open(runtime, &graph, weights, options)?;
        let scale = source.scale()?;
        let text = match tokenizer {
            None => None,
            Some(tokenizer) => {
                let graph = graphs::clip_text(&config.text(), &scope, &graphs);
                let graph = graph.map_err(failed)?;
                Some(Text {
                    session: network::open(runtime, &graph, weights, options)?,
                    tokenizer,
                })
            }
        };
        Ok(Self {
            vision: session,
            text,
            preparation: source.preparation,
            width: usize::try_from(vision.projection_dim).unwrap_or(usize::MAX),
            scale,
        })
    }

    /// Length of an embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What cosines are multiplied by to be the model's own logits, where its file says it.
    pub fn scale(&self) -> Option<f64> {
        self.scale
    }

    /// What the vision tower is given of a picture: `[3, size, size]`.
    ///
    /// # Errors
    /// The picture can't be brought to the network's size.
    pub fn prepared(&self, picture: &RgbImage) -> Result<Vec<f32>> {
        self.preparation.tensor(picture)
    }

    /// The embeddings of pictures, each of length 1.
    ///
    /// # Errors
    /// A picture can't be brought to the network's size, or the run fails.
    pub fn pictures(&mut self, pictures: &[&RgbImage]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(pictures.len());
        for some in pictures.chunks(PICTURES) {
            let mut values = Vec::new();
            for picture in some {
                values.extend(self.preparation.tensor(picture)?);
            }
            let size = self.preparation.size();
            let shape = [some.len(), 3, size, size];
            let feed = Feed::new().f32_slice(vision::PIXEL_VALUES, &values, &shape);
            let embeds = self.vision.run(&feed)?.f32_vec(vision::IMAGE_EMBEDS)?;
            all.extend(embeds.chunks_exact(self.width).map(normalized));
        }
        Ok(all)
    }

    /// The embeddings of captions, each of length 1.
    ///
    /// # Errors
    /// It was opened for pictures only, a caption can't be tokenized, or the run fails.
    pub fn captions(&mut self, captions: &[&str]) -> Result<Vec<Vec<f32>>> {
        let text = self.text.as_mut().ok_or(Error::NoCaptions)?;
        let mut all = Vec::with_capacity(captions.len());
        for some in captions.chunks(CAPTIONS) {
            let mut ids = Vec::new();
            for caption in some {
                ids.extend(text.tokenizer.encode(caption)?.ids);
            }
            let shape = [some.len(), ids.len() / some.len()];
            let feed = Feed::new().i64_slice(text::INPUT_IDS, &ids, &shape);
            let embeds = text.session.run(&feed)?.f32_vec(text::TEXT_EMBEDS)?;
            all.extend(embeds.chunks_exact(self.width).map(normalized));
        }
        Ok(all)
    }
}

/// The cosine of two embeddings of length 1.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
    products.sum()
}

fn normalized(row: &[f32]) -> Vec<f32> {
    let length = cosine(row, row).sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    row.iter().map(|x| (f64::from(*x) * scale) as f32).collect()
}
