//! How a picture becomes the vision tower's input.
//!
//! Three preparations are in use: that of transformers' `CLIPImageProcessor`, which its configuration
//! describes; OpenAI's and open_clip's, made of torchvision's `Resize` and `CenterCrop`; and that of
//! HPS v2, which resizes a tensor so that the whole picture is seen, black around it.

use std::path::Path;

use image::RgbImage;
use image::imageops::crop_imm;
use serde_json::Value;

use crate::base::fsio;
use crate::judge::error::{Error, Result};
use crate::picture::{Filter, Pixels, planes, resample, resample_unrounded};

/// The preparation for one network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Preparation {
    size: u32,
    fit: Fit,
    filter: Filter,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

/// How a picture is brought to the network's size.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fit {
    /// Resized in bytes, then its middle cut out.
    Cut {
        resize: Option<Resize>,
        crop: Option<[u32; 2]>,
        middle: Middle,
    },
    /// Resized in floats until its longer side fits, in the middle of black.
    Whole,
}

/// Where the middle of what has an odd number of pixels too many begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Middle {
    /// Half of them, cut: transformers.
    Floor,
    /// Half of them to the even number: torchvision, through Python's `round`.
    Even,
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
    pub(super) fn read(folder: &Path, size: u32) -> Result<Self> {
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

    /// What transformers does without a configuration.
    fn openai(size: u32) -> Self {
        Self {
            size,
            fit: Fit::Cut {
                resize: Some(Resize::Shortest(size)),
                crop: Some([size, size]),
                middle: Middle::Floor,
            },
            filter: Filter::Bicubic,
            scale: 1.0 / 255.0,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }

    /// What OpenAI's CLIP and open_clip do.
    pub(super) fn torchvision(size: u32) -> Self {
        Self {
            fit: Fit::Cut {
                resize: Some(Resize::Shortest(size)),
                crop: Some([size, size]),
                middle: Middle::Even,
            },
            ..Self::openai(size)
        }
    }

    /// What HPS v2 does (hpsv2 `open_clip/transform.py`, `ResizeMaxSize`).
    pub(super) fn hps(size: u32) -> Self {
        Self {
            fit: Fit::Whole,
            ..Self::openai(size)
        }
    }

    /// The same with another mean and deviation.
    pub(super) fn normalized_by(self, mean: [f32; 3], std: [f32; 3]) -> Self {
        Self { mean, std, ..self }
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
            true => resize(&config["size"])?.or(Some(Resize::Shortest(size))),
        };
        let crop = match on("do_center_crop") {
            false => None,
            true => sides(&config["crop_size"])?.or(Some([size, size])),
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
            fit: Fit::Cut {
                resize,
                crop,
                middle: Middle::Floor,
            },
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

    /// The side of what it makes of a picture.
    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    /// The picture as `[3, size, size]`.
    pub(super) fn tensor(&self, picture: &RgbImage) -> Result<Vec<f32>> {
        match self.fit {
            Fit::Whole => Ok(self.whole(picture)),
            Fit::Cut {
                resize,
                crop,
                middle,
            } => self.cut(picture, resize, crop, middle),
        }
    }

    fn cut(
        &self,
        picture: &RgbImage,
        resize: Option<Resize>,
        crop: Option<[u32; 2]>,
        middle: Middle,
    ) -> Result<Vec<f32>> {
        let resized;
        let mut picture = picture;
        let target = resize.map(|r| r.target(picture.dimensions()));
        if let Some(target) = target.filter(|t| *t != <[u32; 2]>::from(picture.dimensions())) {
            let (width, height) = picture.dimensions();
            let whole = [0, 0, i64::from(width), i64::from(height)];
            resized = resample(picture, whole, target, self.filter);
            picture = &resized;
        }
        let (width, height) = picture.dimensions();
        let [crop_width, crop_height] = crop.unwrap_or([width, height]);
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
        let (x, y) = (
            middle.of(width - crop_width),
            middle.of(height - crop_height),
        );
        let seen = crop_imm(picture, x, y, crop_width, crop_height).to_image();
        let pixels = Pixels {
            order: [0, 1, 2],
            scale: self.scale,
            mean: self.mean,
            std: self.std,
        };
        Ok(planes(&seen, &pixels))
    }

    fn whole(&self, picture: &RgbImage) -> Vec<f32> {
        let (width, height) = picture.dimensions();
        let size = self.size as usize;
        let scale = f64::from(self.size) / f64::from(width.max(height).max(1));
        // Ties to even, as Python rounds; a thread of a picture keeps a pixel, where torch fails.
        let side = |n: u32| ((f64::from(n) * scale).round_ties_even() as u32).clamp(1, self.size);
        let [wide, high] = [side(width), side(height)];
        let seen = resample_unrounded(picture, [wide, high], self.filter);
        let [left, top] = [self.size - wide, self.size - high].map(|rest| rest as usize / 2);
        let mut values = Vec::with_capacity(3 * size * size);
        let (wide, high) = (wide as usize, high as usize);
        for (channel, plane) in seen.chunks_exact(wide * high).enumerate() {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            let start = values.len();
            values.resize(start + size * size, -mean / std);
            for (y, row) in plane.chunks_exact(wide).enumerate() {
                let from = start + (top + y) * size + left;
                for (to, value) in values[from..].iter_mut().zip(row) {
                    *to = (value - mean) / std;
                }
            }
        }
        values
    }
}

impl Middle {
    /// Where the middle begins if so many pixels are too many.
    fn of(self, rest: u32) -> u32 {
        match self {
            Self::Floor => rest / 2,
            Self::Even => (f64::from(rest) / 2.0).round_ties_even() as u32,
        }
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
        let exactly = Fit::Cut {
            resize: Some(Resize::Exactly([8, 8])),
            crop: None,
            middle: Middle::Floor,
        };
        assert_eq!((parsed.fit, parsed.filter), (exactly, Filter::Bilinear));
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
            fit: Fit::Cut {
                resize: Some(Resize::Shortest(8)),
                crop: None,
                middle: Middle::Floor,
            },
            ..preparation
        };
        let error = uncropped.tensor(&picture).unwrap_err();
        assert!(error.to_string().contains("a picture of 16x8"), "{error}");
        let halves = |middle: Middle| [0, 1, 2, 3, 5].map(|rest| middle.of(rest));
        assert_eq!(halves(Middle::Floor), [0, 0, 1, 1, 2]);
        assert_eq!(halves(Middle::Even), [0, 0, 1, 2, 2]);
    }

    #[test]
    fn whole_pictures_stand_in_the_middle_of_black() {
        let preparation = Preparation {
            mean: [0.5; 3],
            std: [0.5; 3],
            ..Preparation::hps(8)
        };
        let white = RgbImage::from_pixel(16, 6, Rgb([255; 3]));
        let tensor = preparation.tensor(&white).unwrap();
        assert_eq!(tensor.len(), 3 * 64);
        let rows: Vec<bool> = tensor[..64].chunks(8).map(|row| row[3] > 0.0).collect();
        // Three rows of eight, two above them.
        assert_eq!(rows, [false, false, true, true, true, false, false, false]);
        assert!(tensor.iter().all(|x| (x.abs() - 1.0).abs() < 1e-5));
    }
}
