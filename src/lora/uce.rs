//! Unified concept editing in closed form (Gandikota et al., arXiv 2308.14761), as the authors'
//! `uce_sd_debias.py` has it, as an adapter.
//!
//! Of a cross-attention's key or value layer W it asks that each concept cⱼ (a caption's last token) give
//! vⱼ* = W(cⱼ + δⱼ), where δⱼ = Σ dᵢcᵢ moves an edited concept towards others and is 0 for one to preserve:
//!
//! `W' = (λW + Σ sⱼ vⱼ* cⱼᵀ)(λI + Σ sⱼ cⱼcⱼᵀ)⁻¹`.
//!
//! The authors invert a matrix as wide as the text for every layer. But λW + Σ sⱼ W cⱼcⱼᵀ is W times what is
//! inverted, so W' − W = W Δ A with Δ the columns δⱼ and A = (λS⁻¹ + CᵀC)⁻¹Cᵀ: a LoRA whose rank is the number
//! of edited concepts is the whole edit, and its A is every layer's.

use super::Factors;
use crate::base::linalg::solve;

/// A concept and what is asked of it.
#[derive(Debug, Clone)]
pub struct Concept {
    /// Its embedding.
    pub key: Vec<f32>,
    /// Where it is moved; nothing for one to preserve.
    pub moved: Option<Vec<f32>>,
    /// How much it counts, above 0.
    pub scale: f64,
}

/// An edit, ready for any layer.
#[derive(Debug)]
pub struct Edit {
    /// A: [edited concepts, width].
    a: Vec<f32>,
    moves: Vec<Vec<f32>>,
}

impl Edit {
    /// Works out the layers' common factor; λ, above 0, holds on to the old weights.
    ///
    /// # Panics
    /// If embeddings differ in length, or a scale or λ isn't above 0.
    pub fn new(concepts: &[Concept], lambda: f64) -> Self {
        let width = concepts.first().map_or(0, |concept| concept.key.len());
        assert!(concepts.iter().all(|concept| concept.key.len() == width));
        let count = concepts.len();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum()
        };
        let mut matrix = vec![0.0; count * count];
        for (i, one) in concepts.iter().enumerate() {
            for (j, other) in concepts.iter().enumerate() {
                matrix[i * count + j] = dot(&one.key, &other.key);
            }
            matrix[i * count + i] += lambda / one.scale;
        }
        let keys = concepts.iter().flat_map(|concept| &concept.key);
        let keys: Vec<f64> = keys.map(|&x| f64::from(x)).collect();
        let solved = solve(&matrix, count, &keys);
        let rows = solved.chunks_exact(width.max(1)).zip(concepts);
        let edited = rows.filter(|(_, concept)| concept.moved.is_some());
        Self {
            a: edited
                .flat_map(|(row, _)| row.iter().map(|&x| x as f32))
                .collect(),
            moves: concepts
                .iter()
                .filter_map(|concept| concept.moved.clone())
                .collect(),
        }
    }

    /// Concepts that are edited, which is the adapter's rank.
    pub fn rank(&self) -> usize {
        self.moves.len()
    }

    /// The factors of a layer of these weights, [outputs, width].
    pub fn factors(&self, weight: &[f32]) -> Factors {
        let rank = self.rank();
        let width = self.a.len() / rank.max(1);
        let mut b = Vec::with_capacity(weight.len() / width.max(1) * rank);
        for row in weight.chunks_exact(width.max(1)) {
            let along = |moved: &Vec<f32>| -> f64 {
                row.iter()
                    .zip(moved)
                    .map(|(&w, &d)| f64::from(w) * f64::from(d))
                    .sum()
            };
            b.extend(self.moves.iter().map(|moved| along(moved) as f32));
        }
        Factors {
            a: self.a.clone(),
            b,
            rank,
            alpha: rank as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tensors::Weights;
    use crate::tensors::mapped::TensorFile;

    /// Single-precision inverses on the authors' side; weights are of order 0.1.
    const NEAR: f32 = 1e-5;

    /// The layers after two rounds of the authors' own code, frozen by `scripts/oracle/uce.py`.
    #[test]
    fn layers_become_what_uce_makes_of_them() {
        let frozen = TensorFile::open(Path::new("tests/fixtures/lora/uce.safetensors")).unwrap();
        let read = |name: &str| frozen.f32(name).unwrap();
        // Rows: concepts; columns of `directions`: the concepts moved towards.
        let (shape, directions) = read("directions");
        let keys = |name: &str| -> Vec<Vec<f32>> {
            let (shape, values) = read(name);
            values.chunks(shape[1]).map(<[f32]>::to_vec).collect()
        };
        let (edited, towards) = (keys("edited"), keys("towards"));
        let moved = |row: &[f32]| {
            let sum = |i: usize| row.iter().zip(&towards).map(|(d, c)| d * c[i]).sum();
            (0..towards[0].len()).map(sum).collect()
        };
        let edits = edited.into_iter().zip(directions.chunks(shape[1]));
        let mut concepts: Vec<Concept> = edits
            .map(|(key, row)| Concept {
                key,
                moved: Some(moved(row)),
                scale: 1.0,
            })
            .collect();
        concepts.extend(keys("preserved").into_iter().map(|key| Concept {
            key,
            moved: None,
            scale: 2.0,
        }));
        let edit = Edit::new(&concepts, 0.5);
        assert_eq!(edit.rank(), 2);
        let unet = "tests/fixtures/nets/sd15_2/unet/diffusion_pytorch_model.safetensors";
        let weights = Weights::open_files([unet]).unwrap();
        let (mut layers, mut largest) = (0, 0.0f32);
        for tensor in weights.iter() {
            if !tensor.name.contains("attn2.to_k") && !tensor.name.contains("attn2.to_v") {
                continue;
            }
            let (old, expected) = (tensor.read_f32().unwrap(), read(&tensor.name).1);
            let factors = edit.factors(&old);
            let width = factors.inputs();
            for (place, (&old, &expected)) in old.iter().zip(expected).enumerate() {
                let (row, column) = (place / width, place % width);
                let change: f32 = (0..factors.rank)
                    .map(|r| factors.b[row * factors.rank + r] * factors.a[r * width + column])
                    .sum();
                let name = &tensor.name;
                assert!(
                    (old + change - expected).abs() < NEAR,
                    "{name}: {change} {expected}"
                );
                largest = largest.max(change.abs());
            }
            layers += 1;
        }
        assert!(layers > 1 && largest > 0.01, "{layers} {largest}");
    }
}
