//! Captions' embeddings as FairImagen projects them: the pooled one, and of each token's the parts of
//! text encoders that are as wide as it (of SDXL the second one's).

use super::identity::Identities;
use super::{Error, GuidanceKind, Request, Result};
use crate::bundle::Bundle;
use crate::data::writer::TextFile;
use crate::diffusion::fair_pca::FairPca;
use crate::diffusion::pipeline::Conditioning;
use crate::diffusion::text::{self, Embedding};

/// What is projected of a token's embedding: where the text encoders' parts end.
#[derive(Debug)]
pub(super) struct Parts(Vec<usize>);

impl Parts {
    /// Those of a model's, where the method projects.
    pub(super) fn of(request: &Request, bundle: &Bundle) -> Result<Option<Self>> {
        let kind = request.steering.kind;
        if kind != GuidanceKind::FairImagen {
            return Ok(None);
        }
        if !bundle.family()?.descriptor().added_conditioning {
            return Err(Error::Option {
                option: "guidance",
                value: kind.name(),
                problem: "it learns from pooled embeddings, which are SDXL's; this model has none"
                    .into(),
            });
        }
        Ok(Some(Self(text::widths(bundle)?)))
    }
}

/// Every axis' projection.
#[derive(Debug)]
pub(super) struct Projected<'a> {
    axes: Vec<FairPca>,
    parts: &'a Parts,
}

impl<'a> Projected<'a> {
    /// Learns from the data set's own captions.
    pub(super) fn learn(
        request: &Request,
        identities: &Identities,
        parts: &'a Parts,
        text: &TextFile,
    ) -> Result<Self> {
        let numbers = request.steering.fair_pca.unwrap_or_default();
        let axes = identities.learn(text, numbers)?;
        Ok(Self { axes, parts })
    }

    /// A caption's embeddings, projected and moved.
    pub(super) fn embedding(
        &self,
        caption: Conditioning<'_>,
        moves: &[(usize, usize)],
    ) -> Embedding {
        let mut prompt_embeds = caption.prompt_embeds.to_vec();
        let mut pooled = caption.pooled.unwrap_or_default().to_vec();
        let each: usize = self.parts.0.iter().sum();
        let mut first = 0;
        for &width in &self.parts.0 {
            if width == pooled.len() {
                let part = |token: &[f32]| token[first..first + width].to_vec();
                let mut rows: Vec<f32> = prompt_embeds.chunks_exact(each).flat_map(part).collect();
                self.apply(&mut rows, moves);
                let tokens = prompt_embeds.chunks_exact_mut(each);
                for (token, row) in tokens.zip(rows.chunks_exact(width)) {
                    token[first..first + width].copy_from_slice(row);
                }
            }
            first += width;
        }
        self.apply(&mut pooled, moves);
        Embedding {
            prompt_embeds,
            pooled: Some(pooled),
        }
    }

    fn apply(&self, rows: &mut [f32], moves: &[(usize, usize)]) {
        for (axis, &(group, sample)) in self.axes.iter().zip(moves) {
            axis.apply(rows, group, sample);
        }
    }
}
