//! How near pictures are to a bank of reference pictures, in the space of CLIP's embeddings.
//!
//! Two numbers. Each picture's *reference similarity* is the mean cosine to its [`NEIGHBOURS`]
//! nearest references: it falls when a picture looks like nothing in the bank, whoever is in it.
//! The *Fréchet distance* ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) compares the whole population with
//! the whole bank, so it also sees what is missing. Like every Fréchet distance it depends on the
//! number of pictures; only populations of equal size compare, and a bootstrap would only show
//! that repeated pictures are further away, so it has no interval.

use std::path::Path;

use rayon::prelude::*;

use super::{Error, Result};
use crate::base::linalg::{eigen, multiply, square_root};
use crate::tensors::Weights;

/// How many neighbours count.
pub const NEIGHBOURS: usize = 5;
/// The bank's file in a bundle.
pub const FILE: &str = "reference.safetensors";
/// Its tensor: `[pictures, width]`, each of length 1.
pub const TENSOR: &str = "embeds";
/// Half precision leaves lengths this near to 1.
const LENGTH_TOLERANCE: f32 = 0.01;

/// A bank of reference pictures.
#[derive(Debug)]
pub struct Bank {
    embeds: Vec<f32>,
    width: usize,
    population: Option<Rooted>,
}

impl Bank {
    /// Reads a bank of embeddings of this width.
    ///
    /// # Errors
    /// [`Error::Tensors`], [`Error::Reference`].
    pub fn open(path: &Path, width: usize) -> Result<Self> {
        let bad = |problem: String| Error::Reference {
            path: path.to_path_buf(),
            problem,
        };
        let weights = Weights::open_files([path])?;
        let tensor = weights
            .tensor(TENSOR)
            .ok_or_else(|| bad(format!("it has no tensor `{TENSOR}`")))?;
        let expected = format!("expected [pictures, {width}]");
        if tensor.shape.len() != 2 || tensor.shape[1] != width as u64 || tensor.shape[0] == 0 {
            return Err(bad(format!("`{TENSOR}` is {:?}, {expected}", tensor.shape)));
        }
        let embeds = tensor.read_f32()?;
        let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
        let off = |row: &&[f32]| (length(row) - 1.0).abs() > LENGTH_TOLERANCE;
        if let Some(row) = embeds.chunks_exact(width).find(off) {
            let length = length(row);
            return Err(bad(format!(
                "`{TENSOR}` holds a row of length {length}, expected 1"
            )));
        }
        let population = Gaussian::fit(embeds.chunks_exact(width), width).map(Rooted::new);
        Ok(Self {
            embeds,
            width,
            population,
        })
    }

    /// How many references there are.
    pub fn len(&self) -> usize {
        self.embeds.len() / self.width
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.embeds.is_empty()
    }

    /// The mean cosine of a normalised embedding to its nearest neighbours.
    pub fn similarity(&self, embedding: &[f32]) -> f64 {
        let mut cosines: Vec<f32> = self
            .embeds
            .chunks_exact(self.width)
            .map(|row| row.iter().zip(embedding).map(|(a, b)| a * b).sum())
            .collect();
        let count = NEIGHBOURS.min(cosines.len());
        cosines.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        let sum: f64 = cosines[..count].iter().map(|&c| f64::from(c)).sum();
        sum / count as f64
    }

    /// The Fréchet distance of a population to the bank; nothing for fewer than two pictures.
    pub fn frechet(&self, embeddings: &[&[f32]]) -> Option<f64> {
        let own = self.population.as_ref()?;
        let other = Gaussian::fit(embeddings.iter().copied(), self.width)?;
        Some(own.distance(&other))
    }
}

/// Mean and covariance of a population.
#[derive(Debug, Clone)]
struct Gaussian {
    mean: Vec<f64>,
    covariance: Vec<f64>,
}

impl Gaussian {
    /// As numpy's `mean` and `cov` (with n − 1) have it; nothing for fewer than two rows.
    fn fit<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Option<Self> {
        let rows: Vec<Vec<f64>> = rows
            .map(|row| row.iter().map(|&x| f64::from(x)).collect())
            .collect();
        if rows.len() < 2 {
            return None;
        }
        let count = rows.len() as f64;
        let mean: Vec<f64> = (0..width)
            .map(|j| rows.iter().map(|row| row[j]).sum::<f64>() / count)
            .collect();
        let centred: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| row.iter().zip(&mean).map(|(x, m)| x - m).collect())
            .collect();
        // Row by row: each is one sum in one order, whatever the threads.
        let covariance = (0..width).into_par_iter().flat_map_iter(|i| {
            let centred = &centred;
            (0..width).map(move |j| {
                let products = centred.iter().map(|row| row[i] * row[j]);
                products.sum::<f64>() / (count - 1.0)
            })
        });
        Some(Self {
            covariance: covariance.collect(),
            mean,
        })
    }
}

/// A population with the root of its covariance, which every distance to it needs.
#[derive(Debug)]
struct Rooted {
    population: Gaussian,
    root: Vec<f64>,
}

impl Rooted {
    fn new(population: Gaussian) -> Self {
        let n = population.mean.len();
        let root = square_root(&population.covariance, n);
        Self { population, root }
    }

    /// tr (C₁ C₂)^½ is the sum of the roots of the eigenvalues of C₁^½ C₂ C₁^½, which is symmetric.
    fn distance(&self, other: &Gaussian) -> f64 {
        let n = other.mean.len();
        let inner = multiply(&multiply(&self.root, &other.covariance, n), &self.root, n);
        // Rounding leaves it not quite symmetric.
        let symmetric: Vec<f64> = (0..n * n)
            .map(|k| (inner[k] + inner[(k % n) * n + k / n]) / 2.0)
            .collect();
        let roots: f64 = eigen(&symmetric, n)
            .values
            .iter()
            .map(|v| v.max(0.0).sqrt())
            .sum();
        let trace = |c: &[f64]| (0..n).map(|i| c[i * n + i]).sum::<f64>();
        let means = self.population.mean.iter().zip(&other.mean);
        let apart: f64 = means.map(|(a, b)| (a - b).powi(2)).sum();
        let own = &self.population.covariance;
        (apart + trace(own) + trace(&other.covariance) - 2.0 * roots).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fsio;
    use safetensors::tensor::{Dtype, TensorView};

    fn bank(rows: &[[f32; 2]]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let bytes: Vec<u8> = rows
            .iter()
            .flatten()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let view = TensorView::new(Dtype::F32, vec![rows.len(), 2], &bytes).unwrap();
        fsio::write(
            &path,
            safetensors::serialize([(TENSOR, view)], None).unwrap(),
        )
        .unwrap();
        (dir, path)
    }

    #[test]
    fn similarity_is_the_mean_of_the_nearest() {
        let (_dir, path) = bank(&[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]]);
        let bank = Bank::open(&path, 2).unwrap();
        // Fewer references than neighbours: all count.
        assert!((bank.similarity(&[1.0, 0.0]) - 0.6 / 4.0).abs() < 1e-7);
        let many: Vec<[f32; 2]> = std::iter::repeat_n([0.0, 1.0], 5)
            .chain(std::iter::repeat_n([1.0, 0.0], 9))
            .collect();
        let (_dir, path) = bank_of(&many);
        let bank = Bank::open(&path, 2).unwrap();
        assert_eq!(bank.len(), 14);
        assert_eq!(bank.similarity(&[0.0, 1.0]), 1.0);
    }

    fn bank_of(rows: &[[f32; 2]]) -> (tempfile::TempDir, std::path::PathBuf) {
        bank(rows)
    }

    #[test]
    fn a_population_is_at_no_distance_from_itself() {
        let rows = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, -0.6]];
        let (_dir, path) = bank(&rows);
        let bank = Bank::open(&path, 2).unwrap();
        let same: Vec<&[f32]> = rows.iter().map(<[f32; 2]>::as_slice).collect();
        assert!(bank.frechet(&same).unwrap() < 1e-12);
        assert_eq!(bank.frechet(&same[..1]), None);
        // One-dimensional by hand: N(0, s²) and N(d, s²) are d² apart.
        let moved: Vec<[f32; 2]> = rows.iter().map(|r| [r[0] + 0.5, r[1]]).collect();
        let moved: Vec<&[f32]> = moved.iter().map(<[f32; 2]>::as_slice).collect();
        assert!((bank.frechet(&moved).unwrap() - 0.25).abs() < 1e-6);
    }

    #[test]
    fn banks_that_do_not_fit_are_named() {
        let (_dir, path) = bank(&[[1.0, 0.0], [0.0, 3.0]]);
        let text = |width: usize| Bank::open(&path, width).unwrap_err().to_string();
        assert!(text(2).contains("a row of length 3, expected 1"));
        assert!(text(64).contains("is [2, 2], expected [pictures, 64]"));
    }
}
