//! Whole graphs with optimum's input and output names, ready to be written.
//!
//! Names, axes and dtypes follow optimum-onnx (`exporters/onnx/model_configs.py`), so that its
//! pipelines open what is written. Where it matters to exactness they differ: `timestep` is f32
//! (optimum reads the dtype from the session), which keeps fractional timesteps.
//!
//! Every function returns an optimized graph. Batch size, height and width are symbols; sizes that
//! a network halves are declared as multiples, so a shape that can't work is refused while
//! building, not at run time.

use std::rc::Rc;

use super::clip::{self, ClipTextConfig, ClipVisionConfig};
use super::resnet::{self, ResnetConfig};
use super::unet::{self, TextTime, UnetConfig, UnetInputs};
use super::vae::{self, VaeConfig};
use super::{Lora, Params, Result};
use crate::family::{TIME_IDS, ports};
use crate::graph::{DType, Dim, Graph, Value};
use crate::lora::{LoraModule, LoraSpec};
use crate::tensors::Scope;

pub use super::unet_grad::unet_grad;

/// How graphs are built.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Dtype of activations (but for what half precision would spoil: softmax, norms' statistics,
    /// time, losses and the training graph's LoRA branch stay f32) and of the latents, text embeddings and pictures that go in and out.
    /// Weights are stored as the checkpoint has them, whatever this is.
    pub compute: DType,
    /// LoRA inputs of the UNet graphs; none in the others.
    pub lora: Option<LoraSpec>,
    /// Number of `time_ids` of a UNet with added conditioning: 6, or 5 for the SDXL refiner.
    pub time_ids: u64,
    /// Whether `unet_grad` computes its blocks again for their gradient instead of keeping what is
    /// inside them: much less memory for a quarter more time.
    pub checkpointing: bool,
    /// Most bytes of a matrix of attention scores at the planned sizes; attention is cut into as
    /// many parts as that takes.
    pub score_limit: Option<u64>,
    /// The sizes to lay graphs out for.
    pub plan: Plan,
}

/// The sizes that graphs are laid out for. They run at any others too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Samples at once.
    pub batch: u64,
    /// Height and width of the latents.
    pub latent: [u64; 2],
}

impl Default for Plan {
    /// One picture of SDXL's size.
    fn default() -> Self {
        Self {
            batch: 1,
            latent: [128, 128],
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compute: DType::F32,
            lora: Some(LoraSpec::default()),
            time_ids: TIME_IDS as u64,
            checkpointing: false,
            score_limit: None,
            plan: Plan::default(),
        }
    }
}

impl Options {
    /// The weights of a network as its function takes them.
    pub(super) fn params<'a>(&self, w: &Scope<'a>) -> Params<'a> {
        Params::new(w.clone(), self.compute).with_score_limit(self.score_limit)
    }

    /// The sizes [B, ., h, w] of latents, or of pictures so many times larger.
    fn batch_and_size(&self, g: &mut Graph, multiple_of: u64, factor: u64) -> [Dim; 3] {
        let [height, width] = self.plan.latent;
        let sizes = [
            (ports::axes::BATCH, 1, self.plan.batch),
            (ports::axes::HEIGHT, multiple_of, factor * height),
            (ports::axes::WIDTH, multiple_of, factor * width),
        ];
        sizes.map(|(name, multiple_of, planned)| {
            let symbol = g.symbol(name, multiple_of);
            g.plan(symbol, planned);
            symbol.into()
        })
    }
}

/// A UNet graph and the layers whose LoRA factors it takes.
#[derive(Debug)]
pub struct UnetGraph {
    /// The graph.
    pub graph: Graph,
    /// Its LoRA layers in the order of its inputs.
    pub lora: Vec<LoraModule>,
}

/// `CLIPTextModel`, SD's text encoder: `input_ids` [B, S] i64 to `last_hidden_state`,
/// `pooler_output` and `hidden_states.0` to `hidden_states.N`.
///
/// # Errors
/// As [`clip::text_model`].
pub fn text_encoder(config: &ClipTextConfig, w: &Scope, options: &Options) -> Result<Graph> {
    text(config, w, options, |g, outputs, _| {
        g.output(ports::text::LAST_HIDDEN_STATE, outputs.last_hidden_state)?;
        g.output(ports::text::POOLER_OUTPUT, outputs.pooled)?;
        hidden_states(g, outputs)
    })
}

/// `CLIPTextModelWithProjection`, SDXL's second text encoder: `input_ids` [B, S] i64 to
/// `text_embeds` [B, projection_dim], `last_hidden_state` and `hidden_states.0` to `.N`.
///
/// # Errors
/// As [`clip::text_model`].
pub fn text_encoder_2(config: &ClipTextConfig, w: &Scope, options: &Options) -> Result<Graph> {
    text(config, w, options, |g, outputs, w| {
        let embeds = clip::text_projection(g, config, w, outputs.pooled)?;
        g.output(ports::text::TEXT_EMBEDS, embeds)?;
        g.output(ports::text::LAST_HIDDEN_STATE, outputs.last_hidden_state)?;
        hidden_states(g, outputs)
    })
}

/// The text tower of a `CLIPModel`: `input_ids` [B, S] i64 to `text_embeds` [B, projection_dim].
///
/// # Errors
/// As [`clip::text_model`].
pub fn clip_text(config: &ClipTextConfig, w: &Scope, options: &Options) -> Result<Graph> {
    text(config, w, options, |g, outputs, w| {
        let embeds = clip::text_projection(g, config, w, outputs.pooled)?;
        Ok(g.output(ports::text::TEXT_EMBEDS, embeds)?)
    })
}

fn text(
    config: &ClipTextConfig,
    w: &Scope,
    options: &Options,
    outputs: impl FnOnce(&mut Graph, &clip::TextOutputs, &Params) -> Result<()>,
) -> Result<Graph> {
    let mut g = Graph::new();
    let w = options.params(w);
    let batch = g.symbol(ports::axes::BATCH, 1);
    let shape = [batch.into(), config.max_position_embeddings.into()];
    let ids = g.input(ports::text::INPUT_IDS, DType::I64, &shape)?;
    let result = clip::text_model(&mut g, config, &w, ids)?;
    outputs(&mut g, &result, &w)?;
    g.optimize();
    Ok(g)
}

fn hidden_states(g: &mut Graph, outputs: &clip::TextOutputs) -> Result<()> {
    for (index, &state) in outputs.hidden_states.iter().enumerate() {
        g.output(&ports::text::hidden_state(index), state)?;
    }
    Ok(())
}

/// The vision tower of a `CLIPModel` or `CLIPVisionModelWithProjection`: `pixel_values`
/// [B, 3, size, size] to `image_embeds` [B, projection_dim].
///
/// # Errors
/// As [`clip::image_embeds`].
pub fn clip_vision(config: &ClipVisionConfig, w: &Scope, options: &Options) -> Result<Graph> {
    let mut g = Graph::new();
    let w = options.params(w);
    let batch = g.symbol(ports::axes::BATCH, 1);
    let size = Dim::from(config.image_size);
    let shape = [batch.into(), config.num_channels.into(), size.clone(), size];
    let pixels = g.input(ports::vision::PIXEL_VALUES, options.compute, &shape)?;
    let embeds = clip::image_embeds(&mut g, config, &w, pixels)?;
    g.output(ports::vision::IMAGE_EMBEDS, embeds)?;
    g.optimize();
    Ok(g)
}

/// The UNet: `sample` [B, C, h, w], `timestep` [] f32, `encoder_hidden_states` [B, S, D], with
/// added conditioning `text_embeds` [B, P] and `time_ids` [B, n], and the LoRA inputs, to
/// `out_sample` [B, C, h, w].
///
/// # Errors
/// As [`unet::build`]; a LoRA target that names no linear layer.
pub fn unet(config: &UnetConfig, w: &Scope, options: &Options) -> Result<UnetGraph> {
    let mut g = Graph::new();
    let w = options.params(w);
    let inputs = unet_inputs(&mut g, config, options, Timestep::Shared)?;
    let Some(spec) = &options.lora else {
        return finish(g, |g| unet::build(g, config, &w, &inputs), Vec::new);
    };
    let lora = Rc::new(Lora::new(&mut g, spec.clone(), None)?);
    let w = w.with_lora(lora.clone());
    let built = finish(
        g,
        |g| unet::build(g, config, &w, &inputs),
        || lora.modules(),
    )?;
    lora.check_targets()?;
    Ok(built)
}

fn finish(
    mut g: Graph,
    build: impl FnOnce(&mut Graph) -> Result<Value>,
    modules: impl FnOnce() -> Vec<LoraModule>,
) -> Result<UnetGraph> {
    let prediction = build(&mut g)?;
    g.output(ports::unet::OUT_SAMPLE, prediction)?;
    g.optimize();
    Ok(UnetGraph {
        graph: g,
        lora: modules(),
    })
}

/// Whether the samples of a batch share their timestep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestep {
    /// [], as samplers step a whole batch.
    Shared,
    /// `[B]`, as training draws them.
    PerSample,
}

/// Adds the UNet's inputs.
pub(super) fn unet_inputs(
    g: &mut Graph,
    config: &UnetConfig,
    options: &Options,
    timestep: Timestep,
) -> Result<UnetInputs> {
    let [batch, height, width] = options.batch_and_size(g, config.size_multiple(), 1);
    let length = Dim::from(g.symbol(ports::axes::SEQUENCE, 1));
    let compute = options.compute;
    let latent = [batch.clone(), config.in_channels.into(), height, width];
    let sample = g.input(ports::unet::SAMPLE, compute, &latent)?;
    let times: &[Dim] = match timestep {
        Timestep::Shared => &[],
        Timestep::PerSample => std::slice::from_ref(&batch),
    };
    let timestep = g.input(ports::unet::TIMESTEP, DType::F32, times)?;
    let text = [batch.clone(), length, config.text_width()?.into()];
    let encoder_hidden_states = g.input(ports::unet::ENCODER_HIDDEN_STATES, compute, &text)?;
    let added = match config.text_time()? {
        None => None,
        Some(widths) => Some(added_inputs(g, options, &batch, widths)?),
    };
    Ok(UnetInputs {
        sample,
        timestep,
        encoder_hidden_states,
        added,
    })
}

fn added_inputs(
    g: &mut Graph,
    options: &Options,
    batch: &Dim,
    widths: TextTime,
) -> Result<(Value, Value)> {
    let pooled = widths.pooled(options.time_ids)?;
    let text_embeds = g.input(
        ports::unet::TEXT_EMBEDS,
        options.compute,
        &[batch.clone(), pooled.into()],
    )?;
    let ids = [batch.clone(), options.time_ids.into()];
    let time_ids = g.input(ports::unet::TIME_IDS, DType::F32, &ids)?;
    Ok((text_embeds, time_ids))
}

/// The VAE's encoder: `sample` [B, 3, H, W] in −1…1 to `latent_parameters` [B, 2·C, H/f, W/f],
/// mean and log variance.
///
/// # Errors
/// As [`vae::encode`].
pub fn vae_encoder(config: &VaeConfig, w: &Scope, options: &Options) -> Result<Graph> {
    let mut g = Graph::new();
    let w = options.params(w);
    let sample = picture(
        &mut g,
        ports::vae::SAMPLE,
        config.in_channels,
        config.factor(),
        options,
    )?;
    let moments = vae::encode(&mut g, config, &w, sample)?;
    g.output(ports::vae::LATENT_PARAMETERS, moments)?;
    g.optimize();
    Ok(g)
}

/// The VAE's decoder: `latent_sample` [B, C, h, w], already divided by the scaling factor, to
/// `sample` [B, 3, f·h, f·w].
///
/// # Errors
/// As [`vae::decode`].
pub fn vae_decoder(config: &VaeConfig, w: &Scope, options: &Options) -> Result<Graph> {
    let mut g = Graph::new();
    let w = options.params(w);
    let latent = picture(
        &mut g,
        ports::vae::LATENT_SAMPLE,
        config.latent_channels,
        1,
        options,
    )?;
    let sample = vae::decode(&mut g, config, &w, latent)?;
    g.output(ports::vae::SAMPLE, sample)?;
    g.optimize();
    Ok(g)
}

/// A ResNet classifier: `pixel_values` [B, 3, H, W] to the logits [B, n] of each head, by name.
///
/// # Errors
/// As [`resnet::build`].
pub fn classifier(config: &ResnetConfig, w: &Scope, options: &Options) -> Result<Graph> {
    let mut g = Graph::new();
    let w = options.params(w);
    let channels = config.num_channels;
    let pixels = picture(
        &mut g,
        ports::vision::PIXEL_VALUES,
        channels,
        config.size_multiple(),
        options,
    )?;
    for (name, logits) in resnet::build(&mut g, config, &w, pixels)? {
        g.output(&name, logits)?;
    }
    g.optimize();
    Ok(g)
}

/// An input [B, channels, height, width].
fn picture(
    g: &mut Graph,
    name: &str,
    channels: u64,
    multiple_of: u64,
    options: &Options,
) -> Result<Value> {
    let [batch, height, width] = options.batch_and_size(g, multiple_of, multiple_of);
    let shape = [batch, channels.into(), height, width];
    Ok(g.input(name, options.compute, &shape)?)
}
