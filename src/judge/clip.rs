//! CLIP: pictures and captions as points on one sphere.
//!
//! Agreement of a picture and its caption is 100 times the cosine of their embeddings, as the
//! paper's tables have it (for OpenAI's CLIP that is also its `logits_per_image`, whose scale is
//! 100).

use std::path::Path;

use image::RgbImage;
use image::imageops::crop_imm;
use serde_json::Value;

use super::error::{Error, Result};
use crate::base::fsio;
use crate::bundle::{Bundle, Part};
use crate::diffusion::tokenizer::Tokenizer;
use crate::family::ports::{text, vision};
use crate::nets::clip::ClipConfig;
use crate::nets::read_config;
use crate::picture::{Filter, Pixels, planes, resample};
use crate::runtime::{Feed, Runtime, Session, SessionOptions};

/// What the cosine is multiplied by.
pub const CONVENTION: f64 = 100.0;
/// Captions run together.
const CAPTIONS: usize = 32;

/// Both towers of a bundle's CLIP.
#[derive(Debug)]
pub struct Clip {
    vision: Session,
    text: Session,
    tokenizer: Tokenizer,
    preparation: Preparation,
    width: usize,
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
        let config: ClipConfig = read_config(&config_path).map_err(|e| Error::Preprocessing {
            path: config_path,
            problem: e.to_string(),
        })?;
        let (text, vision) = (config.text(), config.vision());
        // A CLIP may bring its own tokenizer; the demo's shares the pipeline's.
        let own = ["tokenizer.json", "vocab.json"]
            .iter()
            .any(|f| folder.join(f).is_file());
        let tokenizer = if own {
            folder.clone()
        } else {
            bundle.dir().join("tokenizer")
        };
        let length = usize::try_from(text.max_position_embeddings).unwrap_or(usize::MAX);
        let size = u32::try_from(vision.image_size).unwrap_or(u32::MAX);
        Ok(Self {
            vision: bundle.session(runtime, Part::ClipVision, options)?,
            text: bundle.session(runtime, Part::ClipText, options)?,
            tokenizer: Tokenizer::open(&tokenizer, length)?,
            preparation: Preparation::read(&folder, size)?,
            width: usize::try_from(vision.projection_dim).unwrap_or(usize::MAX),
        })
    }

    /// Length of an embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The embeddings of pictures, each of length 1.
    ///
    /// # Errors
    /// A picture can't be brought to the network's size, or the run fails.
    pub fn pictures(&mut self, pictures: &[&RgbImage]) -> Result<Vec<Vec<f32>>> {
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let size = self.preparation.size as usize;
        let mut values = Vec::with_capacity(pictures.len() * 3 * size * size);
        for picture in pictures {
            values.extend(self.preparation.tensor(picture)?);
        }
        let shape = [pictures.len(), 3, size, size];
        let feed = Feed::new().f32_slice(vision::PIXEL_VALUES, &values, &shape);
        let embeds = self.vision.run(&feed)?.f32_vec(vision::IMAGE_EMBEDS)?;
        Ok(embeds.chunks_exact(self.width).map(normalized).collect())
    }

    /// The embeddings of captions, each of length 1.
    ///
    /// # Errors
    /// A caption can't be tokenized, or the run fails.
    pub fn captions(&mut self, captions: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(captions.len());
        for some in captions.chunks(CAPTIONS) {
            let mut ids = Vec::new();
            for caption in some {
                ids.extend(self.tokenizer.encode(caption)?.ids);
            }
            let shape = [some.len(), ids.len() / some.len()];
            let feed = Feed::new().i64_slice(text::INPUT_IDS, &ids, &shape);
            let embeds = self.text.run(&feed)?.f32_vec(text::TEXT_EMBEDS)?;
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

/// How a picture becomes the vision tower's input (transformers' `CLIPImageProcessor`).
#[derive(Debug, Clone, PartialEq)]
struct Preparation {
    size: u32,
    resize: Option<Resize>,
    crop: Option<[u32; 2]>,
    filter: Filter,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resize {
    /// The shorter side becomes this.
    Shortest(u32),
    /// Width and height become these.
    Exactly([u32; 2]),
}

impl Preparation {
    /// Reads `preprocessor_config.json`; without one, OpenAI's constants at the network's size.
    fn read(folder: &Path, size: u32) -> Result<Self> {
        let path = folder.join("preprocessor_config.json");
        if !path.is_file() {
            return Ok(Self::openai(size));
        }
        let text = fsio::read_to_string(&path)?;
        let parsed = serde_json::from_str(&text).map_err(|e| e.to_string());
        parsed
            .and_then(|config| Self::parse(&config, size))
            .map_err(|problem| Error::Preprocessing { path, problem })
    }

    fn openai(size: u32) -> Self {
        Self {
            size,
            resize: Some(Resize::Shortest(size)),
            crop: Some([size, size]),
            filter: Filter::Bicubic,
            scale: 1.0 / 255.0,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }

    fn parse(config: &Value, size: u32) -> std::result::Result<Self, String> {
        let default = Self::openai(size);
        let on = |key: &str| config[key].as_bool().unwrap_or(true);
        let filter = match config["resample"].as_u64() {
            Some(2) => Filter::Bilinear,
            Some(3) | None => Filter::Bicubic,
            Some(other) => {
                return Err(format!(
                    "resample: expected 2 (bilinear) or 3 (bicubic), got {other}"
                ));
            }
        };
        let resize = match on("do_resize") {
            false => None,
            true => resize(&config["size"])?.or(default.resize),
        };
        let crop = match on("do_center_crop") {
            false => None,
            true => sides(&config["crop_size"])?.or(default.crop),
        };
        let normalize = on("do_normalize");
        let three = |key: &str, otherwise: [f32; 3], off: f32| match normalize {
            false => Ok([off; 3]),
            true if config[key].is_null() => Ok(otherwise),
            true => serde_json::from_value::<[f32; 3]>(config[key].clone())
                .map_err(|_| format!("{key}: expected three numbers")),
        };
        Ok(Self {
            size,
            resize,
            crop,
            filter,
            scale: match on("do_rescale") {
                false => 1.0,
                true => config["rescale_factor"]
                    .as_f64()
                    .map_or(default.scale, |f| f as f32),
            },
            mean: three("image_mean", default.mean, 0.0)?,
            std: three("image_std", default.std, 1.0)?,
        })
    }

    /// The picture as `[3, size, size]`.
    fn tensor(&self, picture: &RgbImage) -> Result<Vec<f32>> {
        let resized;
        let mut picture = picture;
        let target = self.resize.map(|r| r.target(picture.dimensions()));
        if let Some(target) = target.filter(|t| *t != <[u32; 2]>::from(picture.dimensions())) {
            let (width, height) = picture.dimensions();
            let whole = [0, 0, i64::from(width), i64::from(height)];
            resized = resample(picture, whole, target, self.filter);
            picture = &resized;
        }
        let (width, height) = picture.dimensions();
        let [crop_width, crop_height] = self.crop.unwrap_or([width, height]);
        let fits = crop_width <= width && crop_height <= height;
        if !fits || [crop_width, crop_height] != [self.size; 2] {
            return Err(Error::Preprocessing {
                path: "preprocessor_config.json".into(),
                problem: format!(
                    "a picture of {width}x{height} does not become the {0}x{0} that the network \
                     takes",
                    self.size
                ),
            });
        }
        let (x, y) = ((width - crop_width) / 2, (height - crop_height) / 2);
        let seen = crop_imm(picture, x, y, crop_width, crop_height).to_image();
        let pixels = Pixels {
            order: [0, 1, 2],
            scale: self.scale,
            mean: self.mean,
            std: self.std,
        };
        Ok(planes(&seen, &pixels))
    }
}

impl Resize {
    /// Width and height of a picture of this size afterwards.
    fn target(self, (width, height): (u32, u32)) -> [u32; 2] {
        match self {
            Resize::Exactly(target) => target,
            Resize::Shortest(short) => {
                let (shorter, longer) = (width.min(height).max(1), width.max(height));
                let long = u64::from(short) * u64::from(longer) / u64::from(shorter);
                let long = u32::try_from(long).unwrap_or(u32::MAX);
                match width <= height {
                    true => [short, long],
                    false => [long, short],
                }
            }
        }
    }
}

/// `size`: a number or `shortest_edge`, or `width` and `height`.
fn resize(value: &Value) -> std::result::Result<Option<Resize>, String> {
    let short = value.as_u64().or_else(|| value["shortest_edge"].as_u64());
    if let Some(short) = short {
        return Ok(Some(Resize::Shortest(pixels(short)?)));
    }
    Ok(sides(value)?.map(Resize::Exactly))
}

/// A number, or `width` and `height`.
fn sides(value: &Value) -> std::result::Result<Option<[u32; 2]>, String> {
    if value.is_null() {
        return Ok(None);
    }
    if let Some(side) = value.as_u64() {
        return Ok(Some([pixels(side)?; 2]));
    }
    match (value["width"].as_u64(), value["height"].as_u64()) {
        (Some(width), Some(height)) => Ok(Some([pixels(width)?, pixels(height)?])),
        _ => Err(format!("expected a size in pixels, got {value}")),
    }
}

fn pixels(side: u64) -> std::result::Result<u32, String> {
    let side = u32::try_from(side).ok().filter(|s| (1..=8192).contains(s));
    side.ok_or_else(|| "expected a size from 1 to 8192 pixels".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use serde_json::json;

    #[test]
    fn the_processors_keys_are_followed() {
        let demo = json!({"do_center_crop": false, "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.5, "resample": 2,
            "size": {"height": 8, "width": 8}});
        let parsed = Preparation::parse(&demo, 8).unwrap();
        assert_eq!(parsed.resize, Some(Resize::Exactly([8, 8])));
        assert_eq!((parsed.crop, parsed.filter), (None, Filter::Bilinear));
        let picture = RgbImage::from_pixel(8, 8, Rgb([2, 3, 4]));
        let tensor = parsed.tensor(&picture).unwrap();
        assert_eq!(
            (tensor.len(), tensor[0], tensor[64], tensor[191]),
            (192, 1.0, 2.0, 3.0)
        );
        let openai = json!({"size": 8, "crop_size": 8});
        assert_eq!(
            Preparation::parse(&openai, 8).unwrap(),
            Preparation::openai(8)
        );
        for (config, expected) in [
            (json!({"resample": 0}), "resample: expected 2"),
            (
                json!({"size": {"longest_edge": 8}}),
                "expected a size in pixels",
            ),
            (
                json!({"image_mean": [0.5]}),
                "image_mean: expected three numbers",
            ),
        ] {
            let error = Preparation::parse(&config, 8).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_shorter_side_counts_and_the_middle_is_kept() {
        assert_eq!(Resize::Shortest(8).target((20, 10)), [16, 8]);
        assert_eq!(Resize::Shortest(224).target((224, 225)), [224, 225]);
        let mut picture = RgbImage::new(16, 8);
        picture.put_pixel(4, 0, Rgb([255; 3]));
        let preparation = Preparation {
            mean: [0.0; 3],
            std: [1.0; 3],
            ..Preparation::openai(8)
        };
        let tensor = preparation.tensor(&picture).unwrap();
        assert_eq!((tensor[0], tensor[1]), (1.0, 0.0));
        let uncropped = Preparation {
            crop: None,
            ..preparation
        };
        let error = uncropped.tensor(&picture).unwrap_err();
        assert!(error.to_string().contains("a picture of 16x8"), "{error}");
    }
}
