//! Agreement of picture and caption, in CLIPs' spaces: the bundle's, and published ones, each a column of
//! its own.
//!
//! 100 × cosine is for OpenAI's CLIPs what transformers calls `logits_per_image`, whose scale is 100: the
//! official code of PopAlign prints that of ViT-B/32.

use super::metric::{Asked, Better, Instruments, Metric, Need, Shape, Unit};
use crate::judge::clip::{CONVENTION, Tower};
use crate::score::Result;

/// The metric, of the bundle's CLIP.
pub static METRIC: Metric = Metric {
    key: "clip",
    asked: Asked::Name("clip"),
    title: "Agreement with captions",
    about: "100 × cosine of CLIP's embeddings of picture and caption",
    shape: Shape::Pictures(|instruments| agreement(instruments, &METRIC, Tower::Bundle)),
    needs: &[Need::Clip(Tower::Bundle)],
    ..AGREEMENT
};

/// The metric, of OpenAI's ViT-B/32.
pub static B32: Metric = Metric {
    key: "clip_b32",
    asked: Asked::Name("clip_b32"),
    title: "Agreement with captions, CLIP B/32",
    about: "100 × cosine of OpenAI's CLIP ViT-B/32's embeddings of picture and caption",
    shape: Shape::Pictures(|instruments| agreement(instruments, &B32, Tower::ClipB32)),
    needs: &[Need::Clip(Tower::ClipB32)],
    ..AGREEMENT
};

/// The metric, of OpenAI's ViT-L/14.
pub static L14: Metric = Metric {
    key: "clip_l14",
    asked: Asked::Name("clip_l14"),
    title: "Agreement with captions, CLIP L/14",
    about: "100 × cosine of OpenAI's CLIP ViT-L/14's embeddings of picture and caption",
    shape: Shape::Pictures(|instruments| agreement(instruments, &L14, Tower::ClipL14)),
    needs: &[Need::Clip(Tower::ClipL14)],
    ..AGREEMENT
};

/// The metric, of LAION's ViT-H/14.
pub static H14: Metric = Metric {
    key: "clip_h14",
    asked: Asked::Name("clip_h14"),
    title: "Agreement with captions, CLIP H/14",
    about: "100 × cosine of LAION's CLIP ViT-H/14's embeddings of picture and caption",
    shape: Shape::Pictures(|instruments| agreement(instruments, &H14, Tower::ClipH14)),
    needs: &[Need::Clip(Tower::ClipH14)],
    ..AGREEMENT
};

/// What all have in common.
const AGREEMENT: Metric = Metric {
    key: "",
    asked: Asked::Name(""),
    title: "",
    about: "",
    unit: Unit::Number,
    better: Better::Higher,
    decimals: 2,
    needs: &[],
    method: None,
    shape: Shape::Pictures(|_| Ok(Vec::new())),
};

/// 100 × cosine of picture and caption, in a tower's space.
pub(super) fn agreement(
    instruments: &mut Instruments<'_>,
    metric: &Metric,
    tower: Tower,
) -> Result<Vec<Option<f64>>> {
    let cosines = instruments.agreement(metric, tower)?.into_iter();
    Ok(cosines.map(|cosine| Some(CONVENTION * cosine?)).collect())
}
