//! What a run is asked for, and what of it the manifest records.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::{Result, Steering, UNIT};
use crate::base::{Values, fsio, launcher};
use crate::bundle::{Bundle, Part};
use crate::diffusion::samplers::SamplerKind;
use crate::family::schedule::MOST_TIMESTEPS;
use crate::runtime::{Ep, SessionOptions};
use crate::store::Place;

/// What `--cfg` can be.
pub const SCALES: Values<f32> = Values::from("a number", 0.0);
/// What a side of `--size` can be, in pixels: sixteen times what SDXL was trained at.
pub const SIDES: Values<usize> = Values::within("pixels", 1, 16_384);
/// What a number of `--crop` can be at most: what a picture can be large.
const MOST_OFFSET: usize = 16_384;
/// What `--neutral` and `--specific` can be: pictures of a caption are counted up to 2^31 (validation's
/// come above), also where many prompts lead to one caption.
pub const PICTURES: Values<u32> = Values::within("a number of pictures", 0, 1_000_000);
/// What `--steps` can be: no more than a schedule can have.
pub const STEPS: Values<usize> = Values::within("a number of steps", 1, MOST_TIMESTEPS);
/// What `--batch` can be: a unit of the data set is drawn as a whole.
pub const BATCHES: Values<usize> = Values::within("a number of pictures", 1, UNIT);
/// What `--until-limit` can be.
pub const LIMITS: Values<u32> = Values::within("a number", 1, 1000);
/// What `--lora-scale` can be.
pub const FACTORS: Values<f32> = Values::all("a number");

/// What to generate, and where.
#[derive(Debug, Clone)]
pub struct Request {
    /// The bundle.
    pub model: PathBuf,
    /// The prompt list.
    pub prompts: PathBuf,
    /// Where the data set is to be.
    pub out: Place,
    /// Axes and caption templates; without, prompts are captions as they stand.
    pub axes: Option<PathBuf>,
    /// Pictures of each neutral caption.
    pub neutral: u32,
    /// Pictures of each specific caption.
    pub specific: u32,
    /// Sampling steps.
    pub steps: usize,
    /// The sampler.
    pub sampler: SamplerKind,
    /// How captions steer.
    pub steering: Steering,
    /// The negative caption [default: none, as the model's own pipeline has it].
    pub negative: Option<String>,
    /// Size of the pictures [default: the model's].
    pub size: Option<Size>,
    /// The size that the model is told the pictures were scaled from [default: their own].
    pub original_size: Option<Size>,
    /// Where it is told that they were cut out [default: at the corner].
    pub crop: Option<Crop>,
    /// Pictures drawn at once [default: 8, or 4 large ones].
    pub batch: Option<usize>,
    /// An adapter.
    pub lora: Option<PathBuf>,
    /// What the adapter is multiplied with.
    pub lora_scale: f32,
    /// Pictures that are to pass the filter, instead of pictures to draw.
    pub until: Option<Until>,
    /// What becomes of pictures that the filter drops.
    pub rejected: Rejected,
    /// Which part of the run is done here.
    pub shard: Shard,
    /// The classifier chain of the sanity filter: a file or the name of one that ships.
    pub filter: Option<String>,
    /// How pictures are kept.
    pub format: Format,
    /// Seed of all randomness.
    pub seed: u64,
    /// Execution provider, device, threads.
    pub session: SessionOptions,
}

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = || {
            let (width, height) = text.split_once(['x', 'X', '×']).unwrap_or((text, text));
            let (width, height) = (width.trim().parse().ok()?, height.trim().parse().ok()?);
            Some(Self { width, height }).filter(|size| width > 0 && size.height > 0)
        };
        let size =
            parse().ok_or_else(|| "expected WIDTHxHEIGHT in pixels, as 1024x1024".to_owned());
        size.and_then(|size| match SIDES.contains(size.width.max(size.height)) {
            true => Ok(size),
            false => Err(format!("expected WIDTHxHEIGHT, each {SIDES}")),
        })
    }
}

/// An offset in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// From the left.
    pub left: usize,
    /// From the top.
    pub top: usize,
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.left, self.top)
    }
}

impl FromStr for Crop {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = || {
            let (left, top) = text.split_once(',')?;
            let (left, top) = (left.trim().parse().ok()?, top.trim().parse().ok()?);
            let near = left <= MOST_OFFSET && top <= MOST_OFFSET;
            near.then_some(Self { left, top })
        };
        let expected = || format!("expected X,Y in pixels, each from 0 to {MOST_OFFSET}, as 0,128");
        parse().ok_or_else(expected)
    }
}

/// Pictures of each caption that are to pass the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Until {
    /// Of a neutral caption.
    pub neutral: u32,
    /// Of a specific one.
    pub specific: u32,
    /// At most so many times as many are drawn.
    pub limit: u32,
}

impl Until {
    /// So many of each caption, or of neutral and of specific ones, as `--until` has it: "10", "100,10".
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> std::result::Result<[u32; 2], String> {
        let parse = || {
            let (neutral, specific) = text.split_once(',').unwrap_or((text, text));
            let [neutral, specific] = [neutral, specific].map(|part| part.trim().parse().ok());
            Some([neutral?, specific?]).filter(|both| both.iter().all(|&n| PICTURES.contains(n)))
        };
        let expected = || format!("expected N or NEUTRAL,SPECIFIC, each {PICTURES}");
        parse().ok_or_else(expected)
    }
}

/// What becomes of pictures that the filter drops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rejected {
    /// They stay, marked with the reason
    #[default]
    Keep,
    /// Their files aren't written; their latents stay, and their rows in rejected.jsonl
    Delete,
}

/// One of several runs that share a data set: it does every `count`-th unit from `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// What `--shard` can be: a shard, or `env` for that of the launcher which started this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sharing {
    /// The shard.
    pub shard: Shard,
    /// The process's number among those of its machine: what is added to the device's.
    pub local: usize,
}

impl FromStr for Sharing {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text != "env" {
            let shard = text.parse()?;
            return Ok(Self { shard, local: 0 });
        }
        let found = launcher::rank_and_size();
        let [index, count] = found.ok_or("no mpirun or srun has started this process")?;
        Ok(Self {
            shard: Shard { index, count },
            local: launcher::local(),
        })
    }
}

impl Default for Shard {
    /// The whole.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl Shard {
    /// Whether a unit is this shard's to make.
    pub(super) fn has(self, unit: usize) -> bool {
        unit % self.count == self.index
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = || {
            let (index, count) = text.split_once('/')?;
            let (index, count) = (index.trim().parse().ok()?, count.trim().parse().ok()?);
            Some(Self { index, count }).filter(|shard| index < shard.count)
        };
        parse().ok_or_else(|| "expected i/n with i from 0 to n-1, as 0/4, or env".to_owned())
    }
}

/// How pictures are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// PNG, without loss
    Png,
    /// JPEG of quality 95
    Jpg,
    /// Latents and embeddings only: enough to train on
    None,
}

impl Format {
    /// The files' extension.
    pub fn extension(self) -> Option<&'static str> {
        match self {
            Format::Png => Some("png"),
            Format::Jpg => Some("jpg"),
            Format::None => None,
        }
    }
}

/// SHA-256s of what goes into a run.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    pub(super) prompts: String,
    pub(super) axes: Option<String>,
    /// Of the adapter's factors as they are fed, whatever file format they came from.
    pub(super) lora: Option<String>,
    /// The classifier chain's name, and the SHA-256 of it and its models.
    pub(super) chain: Option<(String, String)>,
}

/// An input file: name for people, hash for machines.
fn file(path: Option<&Path>, key: &str, hash: Option<&str>) -> Value {
    let Some((path, hash)) = path.zip(hash) else {
        return Value::Null;
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    json!({"file": name, key: hash})
}

impl Request {
    /// Everything that the data set's bytes depend on, for the manifest.
    pub(super) fn config(
        &self,
        bundle: &Bundle,
        hashes: &Hashes,
        (size, batch, ep): (Size, usize, Ep),
    ) -> Result<Map<String, Value>> {
        let mut config = model(bundle)?;
        let (axes, lora) = (self.axes.as_deref(), self.lora.as_deref());
        let mut put = |key: &str, value: Value| config.insert(key.to_owned(), value);
        put(
            "prompts",
            file(Some(&self.prompts), "sha256", Some(&hashes.prompts)),
        );
        put("axes", file(axes, "sha256", hashes.axes.as_deref()));
        match self.until {
            Some(until) => put("until", json!(until)),
            None => {
                put("neutral", json!(self.neutral));
                put("specific", json!(axes.map(|_| self.specific)))
            }
        };
        if self.rejected == Rejected::Delete {
            put("rejected", json!(self.rejected));
        }
        put("seed", json!(self.seed));
        put("steps", json!(self.steps));
        put("sampler", json!(self.sampler));
        self.steering.record(&mut config);
        let mut put = |key: &str, value: Value| config.insert(key.to_owned(), value);
        put("negative", json!(self.negative));
        put("size", json!(size.to_string()));
        if let Some(size) = self.original_size {
            put("original_size", json!(size.to_string()));
        }
        if let Some(crop) = self.crop {
            put("crop", json!(crop.to_string()));
        }
        put("lora", file(lora, "factors_sha256", hashes.lora.as_deref()));
        put("lora_scale", json!(lora.map(|_| self.lora_scale)));
        let chain = hashes.chain.as_ref();
        put(
            "filter",
            json!(chain.map(|(name, sha256)| json!({"chain": name, "sha256": sha256}))),
        );
        put("format", json!(self.format));
        put("ep", json!(ep));
        // See the module's documentation: on the CPU it changes no bit.
        if ep != Ep::Cpu {
            put("batch", json!(batch));
        }
        Ok(config)
    }
}

/// What the model is: a hash of each part's graph and weights, and of the files beside them.
fn model(bundle: &Bundle) -> Result<Map<String, Value>> {
    let mut config = Map::new();
    config.insert("pipeline".into(), json!(bundle.config().pipeline));
    for part in [
        Part::TextEncoder,
        Part::TextEncoder2,
        Part::Unet,
        Part::VaeDecoder,
    ] {
        if bundle.has(part) {
            config.insert(format!("model.{part}"), bundle.fingerprint(part)?.into());
        }
    }
    let mut folders: BTreeMap<&str, String> = BTreeMap::new();
    for (path, sha256) in &bundle.config().files {
        let folder = path.split('/').next().unwrap_or_default();
        if ["tokenizer", "tokenizer_2", "scheduler", "model_index.json"].contains(&folder) {
            folders
                .entry(folder)
                .or_default()
                .push_str(&format!("{path} {sha256}\n"));
        }
    }
    for (folder, list) in folders {
        let hash = fsio::sha256_bytes(list.as_bytes());
        config.insert(format!("model.{folder}"), hash.into());
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shards_are_read() {
        let size = |width, height| Ok(Size { width, height });
        assert_eq!("64x96".parse(), size(64, 96));
        assert_eq!("64".parse(), size(64, 64));
        assert_eq!("16384x8".parse(), size(16_384, 8));
        for bad in [
            "",
            "64x",
            "x64",
            "0x8",
            "-1x8",
            "64x64x3",
            "big",
            "100000x100000",
            "8x16385",
            "18446744073709551616x8",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        assert_eq!("128, 0".parse(), Ok(Crop { left: 128, top: 0 }));
        for bad in ["", "1", "-1,0", "0,16385", "1,2,3"] {
            assert!(bad.parse::<Crop>().is_err(), "{bad}");
        }
        assert_eq!(Until::parse("10"), Ok([10, 10]));
        assert_eq!(Until::parse("100, 0"), Ok([100, 0]));
        for bad in ["", "x", "1,", "-1", "1,2,3", "1000001"] {
            assert!(Until::parse(bad).is_err(), "{bad}");
        }
        assert_eq!("1/4".parse(), Ok(Shard { index: 1, count: 4 }));
        for bad in ["", "1", "4/4", "0/0", "-1/2", "a/b"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
