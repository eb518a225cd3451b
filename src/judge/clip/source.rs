//! What a published CLIP is made of, whichever of three forms it comes in.
//!
//! | form | what is read |
//! | --- | --- |
//! | OpenAI's file (`ViT-B-32.pt`), HPS' (`HPS_v2.1_compressed.pt`) | tensors; sizes are their shapes |
//! | open_clip's folder | `open_clip_config.json` with `open_clip_model.safetensors` or `open_clip_pytorch_model.bin` |
//! | transformers' folder | `config.json`, `preprocessor_config.json`, the weights by their usual names |

use std::path::{Path, PathBuf};

use super::original::{self, OpenClip};
use super::preparation::Preparation;
use super::tower::Tower;
use crate::diffusion::tokenizer::Tokenizer;
use crate::family::checkpoint::clip::transformers;
use crate::judge::error::{Error, Result};
use crate::judge::network::resolved;
use crate::judge::published::Places;
use crate::nets::clip::ClipConfig;
use crate::nets::read_config;
use crate::tensors::{Tensor, Weights, choose};

/// What pictures' agreement is multiplied by before it is a number of PickScore's, as its logarithm.
const LOGIT_SCALE: &str = "logit_scale";
const CONFIG: &str = "config.json";
const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";
const OPEN_CLIP_WEIGHTS: [&str; 2] = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"];

/// A published CLIP, found and read; no network is built yet.
#[derive(Debug)]
pub struct Source {
    /// Under transformers' names.
    pub(super) weights: Weights,
    pub(super) config: ClipConfig,
    pub(super) preparation: Preparation,
    pub(super) tokenizer: Option<Tokenizer>,
    /// Where it was found.
    path: PathBuf,
}

impl Source {
    /// Finds and reads a CLIP; nothing if it isn't there. `captions` says whether captions are wanted, for
    /// which a tokenizer is looked for beside it, in the places and in `tokenizers`.
    ///
    /// # Errors
    /// Files that can't be read or contradict each other; no tokenizer, or one of another vocabulary.
    pub fn find(
        tower: Tower,
        places: &Places,
        captions: bool,
        tokenizers: &[PathBuf],
    ) -> Result<Option<Self>> {
        let published = tower.published();
        let Some(path) = published.and_then(|published| places.find(&published)) else {
            return Ok(None);
        };
        let mut source = match path.is_dir() {
            false => Self::of_file(tower, &path)?,
            true if has_open_clip_only(&path) => Self::of_open_clip(&path)?,
            true => Self::of_transformers(&path)?,
        };
        if tower == Tower::PickScore && source.scale()?.is_none() {
            return Err(Error::Published {
                path,
                problem: format!("it has no `{LOGIT_SCALE}`, which its score is made with"),
            });
        }
        if captions {
            let own = if path.is_dir() {
                Some(&*path)
            } else {
                path.parent()
            };
            let own = own.map(Path::to_path_buf).into_iter();
            let dirs = places.dirs().iter();
            let dirs = dirs.flat_map(|dir| [dir.clone(), dir.join("tokenizer")]);
            let others = Tower::PUBLISHED.into_iter();
            let others = others.filter_map(|other| places.find(&other.published()?));
            let dirs = own
                .chain(dirs)
                .chain(others)
                .chain(tokenizers.iter().cloned());
            source.tokenizer = Some(source.find_tokenizer(dirs)?);
        }
        Ok(Some(source))
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weight files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.weights.files().iter().map(|file| &**file)
    }

    /// What agreement is multiplied by, where the file says it.
    ///
    /// # Errors
    /// It can't be read, or is no single number.
    pub fn scale(&self) -> Result<Option<f64>> {
        let Some(tensor) = self.weights.tensor(LOGIT_SCALE) else {
            return Ok(None);
        };
        match tensor.elements() {
            1 => Ok(Some(f64::from(tensor.read_f32()?[0]).exp())),
            n => Err(Error::Published {
                path: self.path.clone(),
                problem: format!("`{LOGIT_SCALE}` has {n} elements, expected one"),
            }),
        }
    }

    fn of_file(tower: Tower, path: &Path) -> Result<Self> {
        let original = tower.original();
        let weights = renamed(&Weights::open_files([path])?)?;
        let config = original::config(&weights, original)?;
        let size = side(&config);
        Ok(Self {
            preparation: match original.whole {
                true => Preparation::hps(size),
                false => Preparation::torchvision(size),
            },
            weights,
            config,
            tokenizer: None,
            path: path.to_path_buf(),
        })
    }

    fn of_open_clip(dir: &Path) -> Result<Self> {
        let config_path = dir.join(OPEN_CLIP_CONFIG);
        let said = OpenClip::read(&config_path)?;
        let file = OPEN_CLIP_WEIGHTS.map(|name| dir.join(name));
        let file = file.into_iter().find(|file| file.is_file());
        let file = file.ok_or_else(|| Error::Published {
            path: dir.to_path_buf(),
            problem: format!(
                "expected {} beside {OPEN_CLIP_CONFIG}",
                OPEN_CLIP_WEIGHTS.join(" or ")
            ),
        })?;
        let weights = renamed(&Weights::open_files([file])?)?;
        let config = original::config(&weights, said.original())?;
        said.check(&config_path, &config)?;
        let mut preparation = Preparation::torchvision(side(&config));
        if let (Some(mean), Some(std)) = (said.preprocess_cfg.mean, said.preprocess_cfg.std) {
            preparation = preparation.normalized_by(mean, std);
        }
        Ok(Self {
            preparation,
            weights,
            config,
            tokenizer: None,
            path: dir.to_path_buf(),
        })
    }

    fn of_transformers(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let config: ClipConfig = read_config(&path).map_err(|e| Error::network(&path, e))?;
        let weights = Weights::open_dir(dir)?;
        Ok(Self {
            preparation: Preparation::read(dir, side(&config))?,
            weights: resolved(&weights, |tensor| vec![tensor.clone()])?,
            config,
            tokenizer: None,
            path: dir.to_path_buf(),
        })
    }

    /// The first tokenizer in some folders that is of the text tower's vocabulary.
    fn find_tokenizer(&self, dirs: impl Iterator<Item = PathBuf>) -> Result<Tokenizer> {
        let text = self.config.text();
        let length = usize::try_from(text.max_position_embeddings).unwrap_or(usize::MAX);
        let wanted = text.vocab_size;
        let mut others = Vec::new();
        for dir in dirs.filter(|dir| Tokenizer::is_in(dir)) {
            let tokenizer = Tokenizer::open(&dir, length)?;
            let tokens = tokenizer.vocabulary() as u64;
            if tokens == wanted {
                return Ok(tokenizer);
            }
            others.push(format!("; that in {} has {tokens}", dir.display()));
        }
        Err(Error::Published {
            path: self.path.clone(),
            problem: format!(
                "no tokenizer of its {wanted} tokens: expected tokenizer.json, vocab.json and merges.txt, \
                 or bpe_simple_vocab_16e6.txt.gz beside it or in --weights{}",
                others.concat()
            ),
        })
    }
}

/// Whether a folder has a CLIP in open_clip's form and none in transformers'.
fn has_open_clip_only(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).is_file();
    let transformers = has(CONFIG) && choose(None, has).is_some();
    has(OPEN_CLIP_CONFIG) && !transformers
}

/// Weights of open_clip's names under transformers'.
fn renamed(weights: &Weights) -> Result<Weights> {
    resolved(weights, |tensor: &Tensor| match tensor.name.as_str() {
        LOGIT_SCALE => vec![tensor.clone()],
        name => transformers(name, tensor).unwrap_or_default(),
    })
}

fn side(config: &ClipConfig) -> u32 {
    u32::try_from(config.vision().image_size).unwrap_or(u32::MAX)
}
