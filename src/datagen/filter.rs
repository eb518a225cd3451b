//! The sanity filter: what a classifier chain says of a picture, held to its caption.
//!
//! As the paper does ("we drop pairs that are incorrect or ambiguous", section 3): a picture in
//! which the chain can't tell the person is dropped for the chain's reason (`no_face`, `ambiguous`,
//! `unsure_age` …), and one of a specific caption that shows another value than the caption names
//! is dropped as `mismatch:AXIS`. Dropped pictures stay in the data set, marked: what was left out,
//! and why, is for everyone to see.

use std::path::Path;

use image::RgbImage;

use super::{Error, Picture, Result};
use crate::data::dataset::Kind;
use crate::judge::chain::{Chain, Verdict};
use crate::judge::reading::{Meaning, Meanings, Readings, Silence};
use crate::prompts::Axes;
use crate::runtime::{Runtime, SessionOptions};

/// What a filter says of a picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Judgement {
    /// What the chain saw, in the axes' values; nothing where it could not say.
    pub(super) verdict: Option<Readings>,
    /// Why the picture is dropped.
    pub(super) dropped: Option<String>,
}

/// A loaded chain with what its labels mean.
#[derive(Debug)]
pub(super) struct Filter {
    chain: Chain,
    meanings: Meanings,
}

impl Filter {
    /// Loads a chain and checks that it measures what the axes file says it does.
    pub(super) fn open(
        runtime: &Runtime,
        manifest: &Path,
        options: &SessionOptions,
        axes: Option<&Axes>,
    ) -> Result<Self> {
        let chain = Chain::open(runtime, manifest, options)?;
        let meanings = Meanings::of(axes);
        meanings
            .check(chain.manifest())
            .map_err(|misfit| Error::Axis {
                axes: axes
                    .map(|axes| axes.file().to_path_buf())
                    .unwrap_or_default(),
                chain: manifest.to_path_buf(),
                misfit,
            })?;
        Ok(Self { chain, meanings })
    }

    /// The chain's name and hash.
    pub(super) fn identity(&self) -> (String, String) {
        let name = self.chain.manifest().name.clone();
        (name, self.chain.sha256().to_owned())
    }

    /// Judges pictures, in order.
    pub(super) fn judge(
        &mut self,
        images: &[RgbImage],
        pictures: &[Picture<'_>],
    ) -> Result<Vec<Judgement>> {
        let verdicts = self.chain.classify(images)?;
        let both = verdicts.into_iter().zip(pictures);
        Ok(both
            .map(|(verdict, picture)| judgement(verdict, picture, &self.meanings))
            .collect())
    }
}

fn judgement(verdict: Verdict, picture: &Picture<'_>, meanings: &Meanings) -> Judgement {
    let seen = match verdict {
        Verdict::Dropped(reason) => {
            return Judgement {
                verdict: None,
                dropped: Some(reason.to_string()),
            };
        }
        Verdict::Kept(attributes) => attributes,
    };
    let readings = meanings.keep(&seen);
    let contradicts = |meaning: &&Meaning| {
        let asked = picture.axes.get(meaning.axis());
        asked.is_some_and(|asked| match meaning.read(&readings) {
            Ok(standing) => meaning.values()[standing.dominant] != *asked,
            Err(Silence::Meaningless(_)) => true,
            // What the chain doesn't measure contradicts nothing.
            Err(Silence::Unmeasured) => false,
        })
    };
    let mismatch = match picture.kind {
        Kind::Specific => meanings.iter().find(contradicts),
        Kind::Neutral => None,
    };
    Judgement {
        dropped: mismatch.map(|meaning| format!("mismatch:{}", meaning.axis())),
        verdict: Some(readings),
    }
}

#[cfg(test)]
mod tests;
