//! What is asked of guidance, and whether its parts go together.

use serde_json::{Map, Value, json};

use super::{Error, Result};
use crate::base::Values;
use crate::diffusion::fair_pca::FairPcaNumbers;
use crate::diffusion::guidance::{Annealing, Compat, Edits, Guidance, Interval, Method};

/// What `--guidance-rescale` can be.
pub const RESCALES: Values<f32> = Values::within("a number", 0.0, 1.0);

/// The training-free method: how captions steer, and what is done about the population they lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuidanceKind {
    /// Plain classifier-free guidance
    Cfg,
    /// Condition-annealed sampling: captions fade in out of noise
    Cads,
    /// Classifier-free guidance whose scale fades in
    DynamicCfg,
    /// Semantic edits towards an identity that each neutral picture draws from the axes' target
    FairDiffusion,
    /// Each neutral picture draws an identity from the axes' target, and its caption says it
    Resample,
    /// FairPCA of captions' embeddings, and a step towards an identity that each picture draws
    FairImagen,
}

impl GuidanceKind {
    /// Its name on the command line.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Whether pictures draw an identity.
    pub fn draws_identities(self) -> bool {
        !matches!(self, Self::Cfg | Self::Cads | Self::DynamicCfg)
    }

    fn anneals(self) -> bool {
        matches!(self, Self::Cads | Self::DynamicCfg)
    }
}

/// What is asked of guidance.
#[derive(Debug, Clone, PartialEq)]
pub struct Steering {
    /// The method.
    pub kind: GuidanceKind,
    /// Guidance scale; 1 or less is no guidance.
    pub cfg: f32,
    /// How captions or the scale fade in, for the methods that do that [default: the authors'].
    pub annealing: Option<Annealing>,
    /// Whose annealing [default: its authors'].
    pub compat: Option<Compat>,
    /// How edits act, for the method that makes some [default: the authors'].
    pub edits: Option<Edits>,
    /// How embeddings are projected, for the method that does [default: the authors'].
    pub fair_pca: Option<FairPcaNumbers>,
    /// The steps that are guided [default: all].
    pub interval: Option<Interval>,
    /// How much of a guided prediction is brought back to the positive one's deviation [default: 0].
    pub rescale: Option<f32>,
}

impl Steering {
    /// Guidance with its numbers.
    ///
    /// # Errors
    /// [`Error::Option`] for options that the method has no use for.
    pub fn guidance(&self) -> Result<Guidance> {
        self.check()?;
        let annealing = self.annealing.unwrap_or_default();
        let compat = self.compat.unwrap_or_default();
        Ok(Guidance {
            scale: self.cfg,
            method: match self.kind {
                GuidanceKind::Cfg | GuidanceKind::Resample | GuidanceKind::FairImagen => {
                    Method::Plain
                }
                GuidanceKind::Cads => Method::Cads(annealing, compat),
                GuidanceKind::DynamicCfg => Method::DynamicCfg(annealing, compat),
                GuidanceKind::FairDiffusion => {
                    Method::FairDiffusion(self.edits.unwrap_or_default())
                }
            },
            rescale: self.rescale.unwrap_or(0.0),
            interval: self.interval.unwrap_or_default(),
        })
    }

    fn check(&self) -> Result<()> {
        let refuse = |given: bool, option: &'static str, allowed: bool, methods: &str| {
            let problem = || format!("{option} is for {methods}");
            match given && !allowed {
                true => Err(self.bad(problem())),
                false => Ok(()),
            }
        };
        let annealers = "cads and dynamic-cfg";
        let fair = self.kind == GuidanceKind::FairDiffusion;
        if self.kind == GuidanceKind::Cfg && self.annealing.is_some() {
            return Err(self.bad(format!(
                "it anneals nothing; --annealing is for {annealers}"
            )));
        }
        refuse(
            self.annealing.is_some(),
            "--annealing",
            self.kind.anneals(),
            annealers,
        )?;
        refuse(
            self.compat.is_some(),
            "--compat",
            self.kind.anneals(),
            annealers,
        )?;
        refuse(self.edits.is_some(), "--edits", fair, "fair-diffusion")?;
        let projects = self.kind == GuidanceKind::FairImagen;
        refuse(
            self.fair_pca.is_some(),
            "--fair-pca",
            projects,
            "fair-imagen",
        )?;
        let whole = "the methods that guide every step alike: cfg, cads, resample and fair-imagen";
        let alike = !fair && self.kind != GuidanceKind::DynamicCfg;
        refuse(self.interval.is_some(), "--cfg-interval", alike, whole)?;
        let rescale = "every method but fair-diffusion, whose edits it would undo";
        refuse(self.rescale.is_some(), "--guidance-rescale", !fair, rescale)?;
        let needy = [
            (fair, "--guidance fair-diffusion edits what is guided"),
            (
                self.interval.is_some(),
                "--cfg-interval says what is guided",
            ),
            (
                self.rescale.is_some(),
                "--guidance-rescale rescales what is guided",
            ),
        ];
        match needy
            .into_iter()
            .find(|(asked, _)| *asked && self.cfg <= 1.0)
        {
            None => Ok(()),
            Some((_, why)) => Err(Error::Option {
                option: "cfg",
                value: self.cfg.to_string(),
                problem: format!("{why}: expected more than 1"),
            }),
        }
    }

    fn bad(&self, problem: String) -> Error {
        Error::Option {
            option: "guidance",
            value: self.kind.name(),
            problem,
        }
    }

    /// What the manifest records; of what isn't asked for, nothing.
    pub(super) fn record(&self, config: &mut Map<String, Value>) {
        let mut put = |key: &str, value: Value| config.insert(key.to_owned(), value);
        put("cfg", json!(self.cfg));
        put("guidance", json!(self.kind));
        if self.kind.anneals() {
            put("annealing", json!(self.annealing.unwrap_or_default()));
        }
        if self.compat.unwrap_or_default() != Compat::default() {
            put("compat", json!(self.compat));
        }
        if self.kind == GuidanceKind::FairDiffusion {
            put("edits", json!(self.edits.unwrap_or_default()));
        }
        if self.kind == GuidanceKind::FairImagen {
            put("fair_pca", json!(self.fair_pca.unwrap_or_default()));
        }
        if let Some(interval) = self.interval {
            put("cfg_interval", json!(interval.to_string()));
        }
        if let Some(rescale) = self.rescale {
            put("guidance_rescale", json!(rescale));
        }
    }
}
