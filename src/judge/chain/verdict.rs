//! What a chain says about a picture.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a chain says about one picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The picture counts, with these attributes.
    Kept(Attributes),
    /// The picture is left out, and why.
    Dropped(DropReason),
}

/// The attributes of the person in a picture.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// Per axis each value and its probability, in the manifest's order; sums to 1.
    pub axes: BTreeMap<String, Vec<(String, f32)>>,
    /// Expectations of outputs with ranges (axis → Σ i·p(i), e.g. years).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f32>,
}

impl Attributes {
    /// The most probable value of `axis` and its probability.
    pub fn dominant(&self, axis: &str) -> Option<(&str, f32)> {
        let values = self.axes.get(axis)?;
        winner(values.iter().map(|(value, p)| (value.as_str(), *p)))
    }

    /// `{axis: {value: probability}}`, as `metadata.jsonl` keeps it.
    pub fn to_json(&self) -> serde_json::Value {
        let axis = |values: &Vec<(String, f32)>| -> serde_json::Value {
            values
                .iter()
                .map(|(v, p)| (v.clone(), (*p).into()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        self.axes
            .iter()
            .map(|(name, values)| (name.clone(), axis(values)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// Why a picture doesn't count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The file is no picture that can be decoded.
    Unreadable,
    /// The detector found no face.
    NoFace,
    /// More than one face, and the manifest asks for one.
    SeveralFaces,
    /// A gate's winning label.
    Gate(String),
    /// The winning value of this axis is less probable than its minimum.
    Unsure(String),
}

impl std::fmt::Display for DropReason {
    /// The key under which it is counted: `unreadable`, `no_face`, `several_faces`, a gate's
    /// label, `unsure_<axis>`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable => f.write_str("unreadable"),
            Self::NoFace => f.write_str("no_face"),
            Self::SeveralFaces => f.write_str("several_faces"),
            Self::Gate(label) => f.write_str(label),
            Self::Unsure(axis) => write!(f, "unsure_{axis}"),
        }
    }
}

/// The most probable value, of equals the first by name: the one order that a manifest, an axes file
/// and a stored answer share. Nothing of nothing.
pub(in crate::judge) fn winner<'a>(
    values: impl IntoIterator<Item = (&'a str, f32)>,
) -> Option<(&'a str, f32)> {
    let better = |a: &(&str, f32), b: &(&str, f32)| a.1.total_cmp(&b.1).then(b.0.cmp(a.0));
    values.into_iter().max_by(better)
}

/// As [`winner`], of an output's values. There is one: an output has labels or ranges.
pub(super) fn dominant(values: &[(String, f32)]) -> (&str, f32) {
    let values = values.iter().map(|(value, p)| (value.as_str(), *p));
    winner(values).unwrap_or(("", f32::NEG_INFINITY))
}
