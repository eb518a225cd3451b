//! The network as training sees it: errors and their gradients, per sample.

use super::factors::FactorSet;
use super::{Error, Result};
use crate::bundle::{Bundle, Part};
use crate::data::dataset::Dataset;
use crate::device::{Cpu, Device};
use crate::nets::read_config;
use crate::nets::unet::UnetConfig;
use crate::runtime::{Feed, Runtime, Session, SessionOptions};

/// A (micro-)batch of diffused samples.
#[derive(Debug)]
pub struct Batch<'a, B> {
    /// Noisy latents, [n, C, h, w].
    pub sample: &'a B,
    /// What the network is to predict, [n, C, h, w].
    pub target: &'a B,
    /// n, C, h, w.
    pub shape: [usize; 4],
    /// Training time step of each sample.
    pub timesteps: &'a [i64],
    /// Text embeddings, [n, tokens, width].
    pub prompt_embeds: &'a [f32],
    /// Tokens and width.
    pub embeds_shape: [usize; 2],
    /// Pooled text embeddings, [n, length], for models that take them.
    pub pooled: Option<&'a [f32]>,
    /// Size conditions of every sample: height, width, top, left, height, width.
    pub time_ids: [f32; 6],
}

/// What a network says about a batch.
#[derive(Debug)]
pub struct Gradients<B> {
    /// Mean squared error of each sample with the LoRA.
    pub mse: Vec<f32>,
    /// Mean squared error of each sample without it.
    pub ref_mse: Vec<f32>,
    /// For each factor d mse_i / d factor, [n, factor].
    pub grads: Vec<B>,
}

/// Something that gives errors and per-sample gradients.
pub trait GradientModel<D: Device> {
    /// Whether it computes in fp16, whose numbers end at 65504.
    fn is_fp16(&self) -> bool;

    /// Runs a batch with the factors in `p`.
    ///
    /// # Errors
    /// Whatever the implementation runs into.
    fn run(
        &mut self,
        batch: &Batch<'_, D::Buffer>,
        factors: &FactorSet,
        p: &D::Buffer,
    ) -> Result<Gradients<D::Buffer>>;
}

/// A bundle's `unet_grad` on ONNX Runtime's CPU provider.
#[derive(Debug)]
pub struct UnetGrad {
    session: Session,
}

impl UnetGrad {
    /// Loads the graph and checks that the data set is of the same model.
    ///
    /// # Errors
    /// A bundle without the graph, a data set of another model, what ONNX Runtime refuses.
    pub fn open(
        runtime: &Runtime,
        bundle: &Bundle,
        options: &SessionOptions,
        dataset: &Dataset,
    ) -> Result<Self> {
        let session = bundle.session(runtime, Part::UnetGrad, options)?;
        let model = Self { session };
        model.check(bundle, dataset)?;
        Ok(model)
    }

    /// Checks that a data set is of the same model.
    ///
    /// # Errors
    /// [`Error::Mismatch`].
    pub fn check(&self, bundle: &Bundle, dataset: &Dataset) -> Result<()> {
        let session = &self.session;
        let layout = &dataset.manifest().layout;
        let [c, h, w] = layout.latent;
        let [tokens, width] = layout.prompt_embeds;
        let mut expected = vec![
            ("sample", "latents of shape", vec![1, c, h, w]),
            (
                "encoder_hidden_states",
                "text embeddings of shape",
                vec![1, tokens, width],
            ),
        ];
        if session.input("text_embeds").is_some() {
            let length = layout.pooled.unwrap_or(0);
            expected.push((
                "text_embeds",
                "pooled embeddings of length",
                vec![1, length],
            ));
        }
        for (name, what, shape) in expected {
            if let Some(spec) = session.input(name).filter(|s| !s.accepts(&shape)) {
                return Err(Error::Mismatch {
                    what,
                    data: format!("{:?}", &shape[1..]),
                    graph: spec.shape_text(),
                });
            }
        }
        let multiple = unet_multiple(bundle)?;
        if !h.is_multiple_of(multiple) || !w.is_multiple_of(multiple) {
            return Err(Error::Mismatch {
                what: "latents of shape",
                data: format!("{:?}", [c, h, w]),
                graph: format!("heights and widths that are multiples of {multiple}"),
            });
        }
        Ok(())
    }
}

/// What the UNet's latent heights and widths must be multiples of.
fn unet_multiple(bundle: &Bundle) -> Result<usize> {
    let config: UnetConfig = read_config(&bundle.dir().join("unet/config.json"))?;
    Ok(config.size_multiple() as usize)
}

impl GradientModel<Cpu> for UnetGrad {
    fn is_fp16(&self) -> bool {
        self.session.is_fp16()
    }

    fn run(
        &mut self,
        batch: &Batch<'_, Vec<f32>>,
        factors: &FactorSet,
        p: &Vec<f32>,
    ) -> Result<Gradients<Vec<f32>>> {
        let n = batch.shape[0];
        let [tokens, width] = batch.embeds_shape;
        let mut feed = Feed::new()
            .f32_slice("sample", batch.sample, &batch.shape)
            .f32_slice("target", batch.target, &batch.shape)
            .i64_slice("timestep", batch.timesteps, &[n])
            .f32_slice(
                "encoder_hidden_states",
                batch.prompt_embeds,
                &[n, tokens, width],
            );
        if let (Some(pooled), true) = (batch.pooled, self.session.input("text_embeds").is_some()) {
            feed.push_f32("text_embeds", pooled, &[n, pooled.len() / n]);
        }
        if self.session.input("time_ids").is_some() {
            feed.push_f32("time_ids", batch.time_ids.repeat(n), &[n, 6]);
        }
        for (factor, values) in factors.parts(p) {
            feed.push_f32(factor.name.as_str(), values, &factor.shape);
        }
        let outputs = self.session.run(&feed)?;
        let grads = factors
            .list()
            .iter()
            .map(|f| outputs.f32_vec(&format!("grad.{}", f.name)))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Gradients {
            mse: outputs.f32_vec("mse")?,
            ref_mse: outputs.f32_vec("ref_mse")?,
            grads,
        })
    }
}
