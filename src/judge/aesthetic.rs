//! LAION's aesthetic predictor: a number from 1 to 10, or about so, of CLIP ViT-L/14's embedding.
//!
//! Five linear layers without anything between them (christophschuhmann/improved-aesthetic-predictor,
//! `simple_inference.py`; its dropouts do nothing outside of training), so that they are one: w·x + b. It
//! is multiplied out in double precision.

use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::published::Published;
use crate::tensors::Weights;

/// The file that it is published as.
pub const PUBLISHED: Published = Published {
    files: &[("sac+logos+ava1-l14-linearMSE.pth", None)],
    repositories: &[],
};
/// The numbers of the linear layers in its list of layers; the others are dropouts.
const LAYERS: [usize; 5] = [0, 2, 4, 6, 7];

/// The predictor, as one linear function.
#[derive(Debug, Clone, PartialEq)]
pub struct Aesthetic {
    path: PathBuf,
    weights: Vec<f64>,
    bias: f64,
}

impl Aesthetic {
    /// Reads the published file.
    ///
    /// # Errors
    /// It can't be read, or its layers don't follow each other to one number.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Weights::open_files([path])?;
        // From the last layer to the first: the row vector of the layers that follow, times each.
        let (mut weights, mut bias) = (vec![1.0], 0.0);
        for layer in LAYERS.into_iter().rev() {
            let scope = file.scope(&format!("layers.{layer}"));
            let rows = weights.len();
            let shape = file.tensor(&format!("layers.{layer}.weight"));
            let columns = shape.and_then(|t| t.shape.get(1)).copied().unwrap_or(0);
            let matrix = scope.get("weight", &[rows as u64, columns])?.read_f32()?;
            let offset = scope.get("bias", &[rows as u64])?.read_f32()?;
            let products = weights.iter().zip(&offset);
            bias += products.map(|(w, b)| w * f64::from(*b)).sum::<f64>();
            let mut folded = vec![0.0; columns as usize];
            for (weight, row) in weights.iter().zip(matrix.chunks_exact(folded.len().max(1))) {
                let sums = folded.iter_mut().zip(row);
                sums.for_each(|(sum, x)| *sum += weight * f64::from(*x));
            }
            weights = folded;
        }
        Ok(Self {
            path: path.to_path_buf(),
            weights,
            bias,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses embeddings of another length.
    ///
    /// # Errors
    /// The two lengths.
    pub fn check(&self, width: usize) -> Result<()> {
        match self.weights.len() == width {
            true => Ok(()),
            false => Err(Error::Published {
                path: self.path.clone(),
                problem: format!(
                    "it takes embeddings of {} numbers, but the CLIP gives {width}",
                    self.weights.len()
                ),
            }),
        }
    }

    /// What it says of an embedding of length 1.
    pub fn of(&self, embedding: &[f32]) -> f64 {
        let products = self.weights.iter().zip(embedding);
        self.bias + products.map(|(w, x)| w * f64::from(*x)).sum::<f64>()
    }
}
