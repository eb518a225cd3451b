//! Human preference score v2, in its two versions.
//!
//! They are two networks, and the same picture gets another number from each (SDXL 27.7 and 30.6 in their
//! authors' tables), so that each is a column of its own, and `hps` alone is refused. The authors' code prints
//! the cosine, their tables 100 times that, as here.

use super::clip::agreement;
use super::metric::{Asked, Better, Metric, Need, Shape, Unit};
use crate::judge::clip::Tower;

/// Version 2.0, the default of the authors' code.
pub static V20: Metric = Metric {
    key: "hps_v2.0",
    asked: Asked::Name("hps_v2.0"),
    title: "Human preference, HPS v2.0",
    about: "100 × cosine of HPS v2.0's embeddings of picture and caption; not to be held against v2.1",
    unit: Unit::Number,
    better: Better::Higher,
    decimals: 2,
    needs: &[Need::Clip(Tower::HpsV20)],
    method: None,
    shape: Shape::Pictures(|instruments| agreement(instruments, &V20, Tower::HpsV20)),
};

/// Version 2.1.
pub static V21: Metric = Metric {
    key: "hps_v2.1",
    asked: Asked::Name("hps_v2.1"),
    title: "Human preference, HPS v2.1",
    about: "100 × cosine of HPS v2.1's embeddings of picture and caption; not to be held against v2.0",
    unit: Unit::Number,
    better: Better::Higher,
    decimals: 2,
    needs: &[Need::Clip(Tower::HpsV21)],
    method: None,
    shape: Shape::Pictures(|instruments| agreement(instruments, &V21, Tower::HpsV21)),
};
