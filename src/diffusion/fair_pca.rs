//! FairPCA of captions' embeddings, as FairImagen has it (Fu et al., arXiv 2510.21363; its `fair_PCA.py`
//! with `remove` and `enoise`, the README's settings).
//!
//! Of the pooled embeddings of captions that name an axis' values, grouped by value, the directions along
//! which groups' means differ are taken out, and of the rest the principal components are kept; an
//! embedding is projected onto these. Then a step along one group's direction is added: as long as some
//! caption of that group reaches in it, so that pictures spread over the groups.
//!
//! Two things are the code's rather than the paper's: embeddings aren't centred, and the noise's scale
//! counts twice (0.6 adds 0.36 of a reach).

use ndarray::{Array2, ArrayView2};
use std::str::FromStr;

use crate::base::linalg::eigen;

/// How much of embeddings is kept, and what is added.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct FairPcaNumbers {
    /// Principal components that are kept, at most.
    pub components: usize,
    /// s: the noise's scale.
    pub noise: f64,
}

impl Default for FairPcaNumbers {
    /// The authors'.
    fn default() -> Self {
        Self {
            components: 600,
            noise: 0.6,
        }
    }
}

impl FromStr for FairPcaNumbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (components, noise) = text.split_once(',')?;
            let components = components.trim().parse().ok().filter(|&n| n > 0)?;
            let noise: f64 = noise.trim().parse().ok()?;
            let known = noise >= 0.0 && noise.is_finite();
            known.then_some(Self { components, noise })
        };
        parse().ok_or_else(|| {
            "expected COMPONENTS,NOISE with a number from 1 and a number from 0, as 600,0.6".into()
        })
    }
}

/// What is below this share of the largest is rounding: embeddings are single precision.
const ROUNDING: f64 = 1e-9;

/// An axis' projection, learnt from embeddings.
#[derive(Debug, Clone)]
pub struct FairPca {
    width: usize,
    /// What is kept: symmetric, [width, width].
    kept: Array2<f32>,
    /// Per group the direction in which its mean differs, of length 1.
    directions: Vec<Vec<f64>>,
    /// Per group how far each of its captions reaches in that.
    reaches: Vec<Vec<f64>>,
    /// What reaches are multiplied with.
    scale: f64,
}

impl FairPca {
    /// Learns from each group's embeddings of `width` numbers. Two groups of an axis that stands
    /// `alone` have one direction between them; else every group has its own.
    ///
    /// # Panics
    /// If there are fewer than two groups, or an empty one.
    pub fn fit(groups: &[Vec<&[f32]>], width: usize, numbers: FairPcaNumbers, alone: bool) -> Self {
        assert!(groups.len() > 1 && groups.iter().all(|group| !group.is_empty()));
        let all: Vec<&[f32]> = groups.iter().flatten().copied().collect();
        let rows = all.iter().flat_map(|row| row.iter().map(|&x| f64::from(x)));
        let x = Array2::from_shape_vec((all.len(), width), rows.collect());
        let x = x.unwrap_or_else(|_| unreachable!("every embedding has the width"));
        let mut differences = differences(groups, width);
        if groups.len() == 2 && alone {
            differences = vec![differences[1].clone(); 2];
        }
        let out = basis(&differences);
        let kept = kept(&x, &out, numbers.components);
        let directions: Vec<Vec<f64>> = differences.into_iter().map(unit).collect();
        let reach = |(group, direction): (&Vec<&[f32]>, &Vec<f64>)| {
            let along = |row: &&[f32]| {
                row.iter()
                    .zip(direction)
                    .map(|(&a, b)| f64::from(a) * b)
                    .sum()
            };
            group.iter().map(along).collect()
        };
        Self {
            width,
            kept: kept.mapv(|x| x as f32),
            reaches: groups.iter().zip(&directions).map(reach).collect(),
            directions,
            scale: numbers.noise * numbers.noise,
        }
    }

    /// Captions of a group that a step can be as long as.
    pub fn samples(&self, group: usize) -> usize {
        self.reaches[group].len()
    }

    /// Projects embeddings, one after another, and moves each towards a group, as far as one of its
    /// captions reaches.
    ///
    /// # Panics
    /// If `rows` isn't whole embeddings.
    pub fn apply(&self, rows: &mut [f32], group: usize, sample: usize) {
        let shape = (rows.len() / self.width, self.width);
        let view = ArrayView2::from_shape(shape, rows);
        let view = view.unwrap_or_else(|_| unreachable!("whole embeddings are given"));
        let projected = view.dot(&self.kept);
        let step = self.scale * self.reaches[group][sample];
        let step: Vec<f32> = self.directions[group]
            .iter()
            .map(|d| (step * d) as f32)
            .collect();
        let moved = projected.rows().into_iter().flat_map(|row| row.to_vec());
        for ((to, from), step) in rows.iter_mut().zip(moved).zip(step.iter().cycle()) {
            *to = from + step;
        }
    }
}

/// Per group the sum of its embeddings less its share of all.
#[expect(clippy::cast_precision_loss, reason = "captions are few")]
fn differences(groups: &[Vec<&[f32]>], width: usize) -> Vec<Vec<f64>> {
    let sum = |group: &Vec<&[f32]>| {
        let mut sum = vec![0.0; width];
        for row in group {
            sum.iter_mut()
                .zip(*row)
                .for_each(|(s, &x)| *s += f64::from(x));
        }
        sum
    };
    let sums: Vec<Vec<f64>> = groups.iter().map(sum).collect();
    let count: usize = groups.iter().map(Vec::len).sum();
    let less = |(group, sum): (&Vec<&[f32]>, &Vec<f64>)| {
        let share = group.len() as f64 / count as f64;
        let all = |i: usize| sums.iter().map(|sum| sum[i]).sum::<f64>();
        (0..width).map(|i| sum[i] - share * all(i)).collect()
    };
    groups.iter().zip(&sums).map(less).collect()
}

/// An orthonormal basis of what some vectors span (Gram and Schmidt, twice).
fn basis(vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let largest = vectors.iter().map(|v| length(v)).fold(0.0, f64::max);
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for vector in vectors {
        let mut left = vector.clone();
        for _ in 0..2 {
            for known in &basis {
                let along: f64 = known.iter().zip(&left).map(|(a, b)| a * b).sum();
                left.iter_mut()
                    .zip(known)
                    .for_each(|(l, k)| *l -= along * k);
            }
        }
        if length(&left) > largest * ROUNDING.sqrt() {
            basis.push(unit(left));
        }
    }
    basis
}

fn unit(mut vector: Vec<f64>) -> Vec<f64> {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    // Groups with one mean have no direction.
    let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter_mut().for_each(|x| *x *= factor);
    vector
}

/// The projection onto at most `components` principal components of what is orthogonal to `out`;
/// onto all of it where there are no more than that.
fn kept(x: &Array2<f64>, out: &[Vec<f64>], components: usize) -> Array2<f64> {
    let width = x.ncols();
    let mut rest = Array2::<f64>::eye(width);
    for vector in out {
        let column = ArrayView2::from_shape((width, 1), vector);
        let column = column.unwrap_or_else(|_| unreachable!("vectors have the width"));
        rest = rest - column.dot(&column.t());
    }
    if components >= width - out.len() {
        return rest;
    }
    let inner = x.dot(&rest);
    let inner = inner.t().dot(&inner);
    let found = eigen(&inner.iter().copied().collect::<Vec<_>>(), width);
    let largest = found.values.last().copied().unwrap_or(0.0);
    let known = found
        .values
        .iter()
        .filter(|&&value| value > largest * ROUNDING);
    // Components that no embedding has are nobody's.
    let count = components.min(known.count());
    let vectors = ArrayView2::from_shape((width, width), &found.vectors);
    let vectors = vectors.unwrap_or_else(|_| unreachable!("as many as the matrix has"));
    let vectors = vectors.slice(ndarray::s![.., width - count..]);
    vectors.dot(&vectors.t())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::mapped::TensorFile;

    /// Single precision on the authors' side; embeddings are of order 1.
    const NEAR: f32 = 2e-4;

    /// What FairImagen's own code makes of fixed embeddings, frozen by `scripts/oracle/fair_imagen.py`.
    #[test]
    fn embeddings_become_what_fairimagen_makes_of_them() {
        let path = std::path::Path::new("tests/fixtures/pipeline/fair_imagen.safetensors");
        let file = TensorFile::open(path).unwrap();
        let read = |name: &str| file.f32(name).unwrap();
        let mut seen = 0;
        for (case, groups, alone) in [("two", 2, true), ("pair", 2, false), ("three", 3, true)] {
            let sets: Vec<(Vec<f32>, usize)> = (0..groups)
                .map(|g| read(&format!("{case}.group.{g}")))
                .map(|(shape, values)| (values.to_vec(), shape[1]))
                .collect();
            let rows = sets
                .iter()
                .map(|(values, width)| values.chunks(*width).collect());
            let rows: Vec<Vec<&[f32]>> = rows.collect();
            let width = sets[0].1;
            for components in [6, 600] {
                let numbers = FairPcaNumbers {
                    components,
                    noise: 0.6,
                };
                let fair = FairPca::fit(&rows, width, numbers, alone);
                for (group, sample) in [(0, 1), (groups - 1, 3)] {
                    let mut found = read("embeddings").1.to_vec();
                    fair.apply(&mut found, group, sample);
                    let name = format!("{case}.{components}.{group}.{sample}");
                    for (a, b) in found.iter().zip(read(&name).1) {
                        assert!((a - b).abs() < NEAR, "{name}: {a} for {b}");
                    }
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 12);
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!("600,0.6".parse(), Ok(FairPcaNumbers::default()));
        for bad in ["", "0,1", "5", "5,-1", "5,NaN", "x,1"] {
            assert!(bad.parse::<FairPcaNumbers>().is_err(), "{bad}");
        }
    }

    #[test]
    fn groups_that_do_not_differ_are_left_alone() {
        let row = [1.0f32, 2.0, 3.0];
        let groups = vec![vec![&row[..]], vec![&row[..]]];
        let fair = FairPca::fit(&groups, 3, FairPcaNumbers::default(), true);
        let mut found = [0.5, -1.0, 2.0];
        fair.apply(&mut found, 1, 0);
        assert_eq!(found, [0.5, -1.0, 2.0]);
    }
}
