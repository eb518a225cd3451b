//! The metrics: one file each (or for a few of one formula), and the list of them.
//!
//! A new one is a file with a [`Metric`] and its two lines here. The parser of `--metrics`, the
//! help, the assessment, `scores.json` and the report go through the list, in its order.

pub mod aesthetic;
pub mod clip;
pub mod clip_cosine;
pub mod discrepancy;
pub mod entropy;
pub mod frechet;
pub mod hps;
pub mod metric;
pub mod parity_gap;
pub mod pick;
pub mod pixel_difference;
pub mod pooled_discrepancy;
pub mod recall;
pub mod reference;
pub mod strict_recall;

use metric::Metric;

/// All metrics, in the order in which they are shown.
pub static METRICS: &[&Metric] = &[
    &discrepancy::METRIC,
    &pooled_discrepancy::METRIC,
    &entropy::METRIC,
    &parity_gap::METRIC,
    &recall::METRIC,
    &strict_recall::METRIC,
    &clip::METRIC,
    &clip::B32,
    &clip::L14,
    &clip::H14,
    &aesthetic::METRIC,
    &hps::V20,
    &hps::V21,
    &pick::METRIC,
    &reference::METRIC,
    &frechet::METRIC,
    &pixel_difference::METRIC,
    &clip_cosine::METRIC,
];
