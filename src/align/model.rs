//! The network as training sees it: errors and their gradients, per sample.

#![expect(
    unsafe_code,
    reason = "ONNX Runtime is given the addresses of the device's buffers"
)]

use std::time::Duration;

use super::factors::FactorSet;
use super::made::{LARGE_MODEL, Made, Making};
use super::{Error, Result};
use crate::bundle::{Bundle, Part, Port};
use crate::data::dataset::Dataset;
use crate::device::{Device, Half};
use crate::family::TIME_IDS;
use crate::family::ports::{training, unet};
use crate::graph::DType;
use crate::nets::read_config;
use crate::nets::unet::UnetConfig;
use crate::runtime::{Bound, ElementType, Ep, Feed, Runtime, Session, SessionOptions};

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
    pub time_ids: [f32; TIME_IDS],
}

/// What a network says about a batch.
#[derive(Debug)]
pub struct Gradients<B> {
    /// Mean squared error of each sample with the LoRA, then of each without it: [2, n].
    pub errors: B,
    /// d mse_i / d factor, [n, factor], of every factor at its
    /// [`Layout::batch_range`](crate::device::Layout::batch_range).
    pub grads: B,
}

/// Something that gives errors and per-sample gradients.
pub trait GradientModel<D: Device> {
    /// Whether it computes in fp16, whose numbers end at 65504.
    fn is_fp16(&self) -> bool;

    /// Time spent in the network so far.
    fn busy(&self) -> Duration;

    /// Runs a batch with the factors in `p`.
    ///
    /// # Errors
    /// Whatever the implementation runs into.
    fn run(
        &mut self,
        device: &D,
        batch: &Batch<'_, D::Buffer>,
        factors: &FactorSet,
        p: &D::Buffer,
    ) -> Result<Gradients<D::Buffer>>;
}

/// A bundle's `unet_grad` on ONNX Runtime, which reads and writes a device's buffers where they are.
#[derive(Debug)]
pub struct UnetGrad {
    graphs: Graphs,
    /// What the graph takes.
    inputs: Vec<Port>,
    /// The type of its activations, and of the noisy latents that it takes.
    dtype: DType,
    /// Whether it takes pooled embeddings and size conditions.
    added_conditioning: bool,
    /// `grad.<factor>` of every factor.
    outputs: Vec<String>,
}

/// The graphs that a run takes.
#[derive(Debug)]
enum Graphs {
    /// The exported one, of any size: TensorRT builds its engines of that, and a small model's is as fast on a CPU.
    Exported(Box<Session>),
    /// Those made for its sizes.
    Made(Box<Made>),
}

impl UnetGrad {
    /// Checks that the data set is of the same model. Graphs are made when they are needed, or [`UnetGrad::load`]ed.
    ///
    /// # Errors
    /// A bundle without the graph, a data set of another model, what ONNX Runtime refuses.
    pub fn open(
        runtime: &Runtime,
        bundle: &Bundle,
        options: &SessionOptions,
        dataset: &Dataset,
        factors: &FactorSet,
        making: Making,
    ) -> Result<Self> {
        let info = bundle.part(Part::UnetGrad)?;
        let said = making != Making::default();
        if said && options.ep == Ep::TensorRt {
            return Err(Error::Option {
                option: "ep",
                value: "tensorrt".into(),
                problem: "its engines are built of the exported graph: give --checkpointing, \
                          --attention-memory and --target to pa-export"
                    .into(),
            });
        }
        // A small model on a CPU gains nothing, and keeps the bits of the exported graph.
        let small = options.ep == Ep::Cpu && info.parameters < LARGE_MODEL && !said;
        let graphs = match small || options.ep == Ep::TensorRt {
            true => {
                let session = bundle.session(runtime, Part::UnetGrad, options)?;
                Graphs::Exported(Box::new(session))
            }
            false => {
                let [tokens, _] = dataset.manifest().layout.prompt_embeds;
                let made = Made::new(runtime, bundle, options, tokens, making)?;
                Graphs::Made(Box::new(made))
            }
        };
        let outputs = factors.list().iter().map(|f| training::grad(&f.name));
        let model = Self {
            graphs,
            inputs: info.inputs.clone(),
            dtype: info.dtype,
            added_conditioning: bundle.family()?.descriptor().added_conditioning,
            outputs: outputs.collect(),
        };
        model.check(bundle, dataset)?;
        Ok(model)
    }

    /// Makes and loads the graph for a micro-batch of a data set's pictures.
    ///
    /// # Errors
    /// What ONNX Runtime refuses.
    pub fn load(&mut self, micro_batch: usize, dataset: &Dataset) -> Result<()> {
        let [_, height, width] = dataset.latent_shape();
        match &mut self.graphs {
            Graphs::Exported(_) => Ok(()),
            Graphs::Made(made) => made.session((micro_batch, [height, width])).map(|_| ()),
        }
    }

    /// Checks that a data set is of the same model.
    ///
    /// # Errors
    /// [`Error::Mismatch`].
    pub fn check(&self, bundle: &Bundle, dataset: &Dataset) -> Result<()> {
        let layout = &dataset.manifest().layout;
        let [c, h, w] = layout.latent;
        let [tokens, width] = layout.prompt_embeds;
        let mut expected = vec![
            (unet::SAMPLE, "latents of shape", vec![1, c, h, w]),
            (
                unet::ENCODER_HIDDEN_STATES,
                "text embeddings of shape",
                vec![1, tokens, width],
            ),
        ];
        if self.added_conditioning {
            let length = layout.pooled.unwrap_or(0);
            expected.push((
                unet::TEXT_EMBEDS,
                "pooled embeddings of length",
                vec![1, length],
            ));
        }
        for (name, what, shape) in expected {
            let mut ports = self.inputs.iter().filter(|port| port.name == name);
            if let Some(port) = ports.find(|port| !port.accepts(&shape)) {
                return Err(Error::Mismatch {
                    what,
                    data: format!("{:?}", &shape[1..]),
                    graph: port.shape_text(),
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

    /// What goes in from the host: text embeddings, time steps and sizes.
    fn conditions<'a, B>(&self, batch: &Batch<'a, B>) -> Feed<'a> {
        let n = batch.shape[0];
        let [tokens, width] = batch.embeds_shape;
        let embeds = [n, tokens, width];
        let mut feed = Feed::new()
            .i64_slice(unet::TIMESTEP, batch.timesteps, &[n])
            .f32_slice(unet::ENCODER_HIDDEN_STATES, batch.prompt_embeds, &embeds);
        if let (Some(pooled), true) = (batch.pooled, self.added_conditioning) {
            feed.push_f32(unet::TEXT_EMBEDS, pooled, &[n, pooled.len() / n]);
        }
        if self.added_conditioning {
            feed.push_f32(unet::TIME_IDS, batch.time_ids.repeat(n), &[n, TIME_IDS]);
        }
        feed
    }
}

/// What the UNet's latent heights and widths must be multiples of.
fn unet_multiple(bundle: &Bundle) -> Result<usize> {
    let config: UnetConfig = read_config(&bundle.dir().join("unet/config.json"))?;
    Ok(config.size_multiple() as usize)
}

impl<D: Device> GradientModel<D> for UnetGrad {
    fn is_fp16(&self) -> bool {
        self.dtype == DType::F16
    }

    fn busy(&self) -> Duration {
        match &self.graphs {
            Graphs::Exported(session) => session.busy(),
            Graphs::Made(made) => made.busy(),
        }
    }

    fn run(
        &mut self,
        device: &D,
        batch: &Batch<'_, D::Buffer>,
        factors: &FactorSet,
        p: &D::Buffer,
    ) -> Result<Gradients<D::Buffer>> {
        let conditions = self.conditions(batch);
        let [n, _, height, width] = batch.shape;
        let session = match &mut self.graphs {
            Graphs::Exported(session) => session,
            Graphs::Made(made) => made.session((n, [height, width]))?,
        };
        let (own, computes) = (device.memory(), session.memory());
        if own != computes {
            return Err(Error::Memory { own, computes });
        }
        let layout = factors.layout();
        let mut grads = device.zeros(n * layout.total())?;
        let mut errors = device.zeros(2 * n)?;

        let (kind, sample) = match self.dtype {
            DType::F16 => (Some(Half::F16), ElementType::Float16),
            DType::BF16 => (Some(Half::Bf16), ElementType::Bfloat16),
            _ => (None, ElementType::Float32),
        };
        let halves = kind.map(|kind| device.to_half(batch.sample, kind));
        let halves = halves.transpose()?;
        let mut inputs = vec![
            Bound {
                dtype: sample,
                ..Bound::f32(
                    unet::SAMPLE,
                    &batch.shape,
                    match &halves {
                        Some(halves) => device.halves_address(halves),
                        None => device.address(batch.sample),
                    },
                )
            },
            Bound::f32(training::TARGET, &batch.shape, device.address(batch.target)),
        ];
        let p = device.address(p);
        let start = device.address_mut(&mut errors);
        let mut outputs = vec![
            Bound::f32(training::MSE, &[n], start),
            Bound::f32(training::REF_MSE, &[n], at(start, n)),
        ];
        let start = device.address_mut(&mut grads);
        for (m, factor) in factors.list().iter().enumerate() {
            let [rows, columns] = factor.shape;
            let place = at(p, layout.range(m).start);
            inputs.push(Bound::f32(&factor.name, &factor.shape, place));
            let place = at(start, layout.batch_range(m, n).start);
            outputs.push(Bound::f32(&self.outputs[m], &[n, rows, columns], place));
        }
        // SAFETY: the buffers lie in the session's memory, have the layout's sizes and live until
        // the end of this function, which is behind the run on the one stream that both use; the
        // outputs are this function's own.
        unsafe { session.run_bound(&conditions, &inputs, &outputs) }?;
        Ok(Gradients { errors, grads })
    }
}

/// Address of number `index` of an fp32 buffer.
fn at(start: u64, index: usize) -> u64 {
    start + (index * size_of::<f32>()) as u64
}
