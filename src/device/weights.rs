//! Twin of `kernels/weights.cu`, where the equations stand.

use super::cpu::{LANES, tree_sum};
use super::loss::{Loss, Summary, Term};
use crate::base::exact::{neg_log_sigmoid, sigmoid_neg};

/// A term's samples among those of the batch.
struct Samples<'a> {
    mse: &'a [f32],
    ref_mse: &'a [f32],
    scale: &'a [f32],
}

impl Samples<'_> {
    /// Implied reward / beta.
    fn reward(&self, i: usize) -> f64 {
        f64::from(self.ref_mse[i]) - f64::from(self.mse[i])
    }

    /// By how much the winners of pair p's set lead.
    fn lead(&self, p: usize, set: usize) -> f64 {
        let first = p - p % set;
        let mut sum = 0.0;
        for q in first..first + set {
            sum += self.reward(2 * q) - self.reward(2 * q + 1);
        }
        sum
    }

    fn scale(&self, i: usize) -> f64 {
        f64::from(self.scale[i])
    }
}

/// Twin of `pa_weights`: writes the factors of a term's samples and sums it up. `errors` holds all
/// samples' `mse`, then all `ref_mse`; `scale` and `c` are of all samples too.
///
/// # Panics
/// When the slices don't fit each other or the term's samples hold half a pair or half a set.
pub fn weights(term: &Term, errors: &[f32], scale: &[f32], c: &mut [f32]) -> Summary {
    let (mse, ref_mse) = errors.split_at(scale.len());
    let of = || term.samples.clone();
    let samples = Samples {
        mse: &mse[of()],
        ref_mse: &ref_mse[of()],
        scale: &scale[of()],
    };
    let c = &mut c[of()];
    match term.loss {
        Loss::Reference | Loss::Each => single(term, &samples, c),
        _ => paired(term, &samples, c),
    }
}

/// Lane t sums pairs t, t + 256 ..; then the fixed tree.
fn over_pairs(pairs: usize, term: impl Fn(usize, &mut f64)) -> f64 {
    let mut lanes = [0.0f64; LANES];
    for p in 0..pairs {
        term(p, &mut lanes[p % LANES]);
    }
    tree_sum(&mut lanes)
}

fn paired(term: &Term, samples: &Samples<'_>, c: &mut [f32]) -> Summary {
    let (set, alpha) = match term.loss {
        Loss::Lead { set } => (set, 0.0),
        Loss::Offset { alpha } => (1, alpha),
        _ => (1, 0.0),
    };
    assert!(
        c.len().is_multiple_of(2 * set),
        "errors of whole pairs and sets"
    );
    let pairs = c.len() / 2;
    let count = pairs as f64;
    let mean = |value: &dyn Fn(usize) -> f64| over_pairs(pairs, |p, sum| *sum += value(p)) / count;
    let mean_w = mean(&|p| samples.reward(2 * p));
    let mean_l = mean(&|p| samples.reward(2 * p + 1));
    let accuracy = mean(&|p| match samples.lead(p, 1).partial_cmp(&0.0) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    });
    let mu = match term.loss {
        Loss::Offset { .. } => alpha * mean_w + (1.0 - alpha) * mean_l,
        _ => 0.0,
    };
    let loss = if term.loss == Loss::Error {
        for (i, c) in c.iter_mut().enumerate() {
            let own = term.weight * samples.scale(i) * (2.0 / (2.0 * count));
            *c = if i % 2 == 0 { own as f32 } else { 0.0 };
        }
        mean(&|p| samples.scale(2 * p) * f64::from(samples.mse[2 * p]))
    } else {
        logistic(term, samples, set, mu, c)
    };
    Summary {
        loss,
        mu,
        accuracy,
        margin: term.beta * (mean_w - mean_l),
    }
}

/// The loss and factors of the two arithmetics that put a logit through the logistic function.
fn logistic(term: &Term, samples: &Samples<'_>, set: usize, mu: f64, c: &mut [f32]) -> f64 {
    let n = c.len() as f64;
    let beta = term.beta;
    let z = |p: usize, side: usize| match term.loss {
        Loss::Lead { .. } => 0.5 * beta * samples.lead(p, set),
        _ => sign(side) * beta * (samples.reward(2 * p + side) - mu),
    };
    for (i, c) in c.iter_mut().enumerate() {
        let (p, side) = (i / 2, i % 2);
        let own = sign(side) * beta * sigmoid_neg(z(p, side)) / n;
        *c = (term.weight * samples.scale(i) * (set as f64 * own)) as f32;
    }
    let total = over_pairs(c.len() / 2, |p, sum| {
        for side in 0..2 {
            *sum += samples.scale(2 * p + side) * neg_log_sigmoid(z(p, side));
        }
    });
    total / n
}

fn sign(side: usize) -> f64 {
    if side == 0 { 1.0 } else { -1.0 }
}

/// [`Loss::Reference`] and [`Loss::Each`]: added up sample after sample.
fn single(term: &Term, samples: &Samples<'_>, c: &mut [f32]) -> Summary {
    let n = c.len() as f64;
    let mut sum = 0.0;
    for (i, c) in c.iter_mut().enumerate() {
        let (loss, own) = if term.loss == Loss::Each {
            (f64::from(samples.mse[i]), term.weight / n)
        } else {
            let z = term.beta * samples.reward(i);
            let own = term.weight * term.beta * sigmoid_neg(z) / n;
            (neg_log_sigmoid(z), own)
        };
        sum += samples.scale(i) * loss;
        *c = (samples.scale(i) * own) as f32;
    }
    Summary {
        loss: sum / n,
        mu: 0.0,
        accuracy: 0.0,
        margin: 0.0,
    }
}

/// Twin of `pa_first_bad`: the place of the first number that is infinite or NaN.
pub fn first_bad(errors: &[f32]) -> Option<usize> {
    errors.iter().position(|error| !error.is_finite())
}
