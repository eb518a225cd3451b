//! `ResNetForImageClassification` (transformers `modeling_resnet.py`): attribute classifiers such as
//! the demo world's, or FairFace's ResNet-34.
//!
//! One key is ours: `heads`, the label names of each of several classifications that share the
//! network. Their logits lie one after the other in the last layer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::config::Config;
use super::layers::Activation;
use super::{Params, Result};
use crate::graph::{Conv, Graph, Pool, Value};

/// torch `BatchNorm2d`'s default.
const EPSILON: f32 = 1e-5;
/// A bottleneck's inner layers are this much narrower.
const REDUCTION: u64 = 4;

/// `ResNetConfig`, with transformers' defaults.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are transformers' own")]
pub struct ResnetConfig {
    pub num_channels: u64,
    pub embedding_size: u64,
    pub hidden_sizes: Vec<u64>,
    pub depths: Vec<u64>,
    pub layer_type: String,
    pub hidden_act: String,
    pub downsample_in_first_stage: bool,
    pub downsample_in_bottleneck: bool,
    pub num_labels: Option<u64>,
    pub id2label: Option<Map<String, Json>>,
    /// Name of each classification and its labels, in the order of the logits.
    pub heads: Option<Map<String, Json>>,
}

impl Default for ResnetConfig {
    fn default() -> Self {
        Self {
            num_channels: 3,
            embedding_size: 64,
            hidden_sizes: vec![256, 512, 1024, 2048],
            depths: vec![3, 4, 6, 3],
            layer_type: "bottleneck".into(),
            hidden_act: "relu".into(),
            downsample_in_first_stage: false,
            downsample_in_bottleneck: false,
            num_labels: None,
            id2label: None,
            heads: None,
        }
    }
}

impl Config for ResnetConfig {
    const NETWORK: &'static str = "ResNetForImageClassification";

    fn check(&self) -> Result<()> {
        let stages = self.hidden_sizes.len();
        Self::require(stages > 0 && self.depths.len() == stages, "depths", || {
            format!("{} entries for {stages} hidden_sizes", self.depths.len())
        })?;
        Self::require(!self.depths.contains(&0), "depths", || {
            "a stage has no layers".into()
        })?;
        self.activation()?;
        let bottleneck = self.bottleneck()?;
        let divides = self
            .hidden_sizes
            .iter()
            .all(|n| n.is_multiple_of(REDUCTION));
        Self::require(!bottleneck || divides, "hidden_sizes", || {
            format!("bottlenecks need multiples of {REDUCTION}")
        })?;
        self.heads().map(drop)
    }
}

impl ResnetConfig {
    fn activation(&self) -> Result<Activation> {
        Activation::by_name(&self.hidden_act).ok_or_else(|| {
            Self::unsupported(
                "hidden_act",
                &self.hidden_act,
                "relu, gelu, quick_gelu, silu",
            )
        })
    }

    fn bottleneck(&self) -> Result<bool> {
        match self.layer_type.as_str() {
            "bottleneck" => Ok(true),
            "basic" => Ok(false),
            other => Err(Self::unsupported("layer_type", other, "basic, bottleneck")),
        }
    }

    /// What height and width must be multiples of, so that every halving is exact.
    pub fn size_multiple(&self) -> u64 {
        let halvings =
            self.hidden_sizes.len() as u64 + 1 + u64::from(self.downsample_in_first_stage);
        1 << halvings
    }

    /// Name and number of labels of each output.
    ///
    /// # Errors
    /// A head whose labels are not a list, or no head and no number of labels.
    pub fn heads(&self) -> Result<Vec<(String, u64)>> {
        let Some(heads) = &self.heads else {
            let labels = self.id2label.as_ref().map(|labels| labels.len() as u64);
            // Two is the number that transformers assumes, and then doesn't write.
            return Ok(vec![(
                "logits".into(),
                self.num_labels.or(labels).unwrap_or(2),
            )]);
        };
        heads
            .iter()
            .map(|(name, labels)| match labels.as_array() {
                Some(labels) if !labels.is_empty() => Ok((name.clone(), labels.len() as u64)),
                _ => Err(Self::unsupported(
                    "heads",
                    labels,
                    "a list of label names per head",
                )),
            })
            .collect()
    }
}

/// Logits of each head, [B, labels], for `pixels` [B, num_channels, H, W] (normalised as the model
/// was trained), H and W multiples of [`ResnetConfig::size_multiple`].
///
/// # Errors
/// Weights that are missing or of another shape than the configuration says.
pub fn build(
    g: &mut Graph,
    config: &ResnetConfig,
    w: &Params,
    pixels: Value,
) -> Result<Vec<(String, Value)>> {
    let features = w.within(g, "resnet", |g, w| {
        let x = w.within(g, "embedder.embedder", |g, w| {
            let layer = Layer::new((config.num_channels, config.embedding_size), 7, 2);
            conv_layer(g, w, layer, pixels, Some(config.activation()?))
        })?;
        let mut x = g.max_pool2d(x, Pool::new(3, 2, 1))?;
        let mut inp = config.embedding_size;
        for (stage, (&out, &depth)) in config.hidden_sizes.iter().zip(&config.depths).enumerate() {
            for layer in 0..depth {
                let halve = layer == 0 && (stage > 0 || config.downsample_in_first_stage);
                let name = format_args!("encoder.stages.{stage}.layers.{layer}").to_string();
                let step = if halve { 2 } else { 1 };
                x = w.within(g, name, |g, w| block(g, config, w, x, (inp, out), step))?;
                inp = out;
            }
        }
        Ok(x)
    })?;
    let width = config.hidden_sizes[config.hidden_sizes.len() - 1];
    let mean = g.global_average_pool(features)?;
    let batch = g.shape(mean)[0].clone();
    let mean = g.reshape(mean, &[batch, width.into()])?;
    let heads = config.heads()?;
    let total = heads.iter().map(|head| head.1).sum();
    let logits = w.within(g, "classifier.1", |g, w| {
        w.linear(g, mean, width, total, true)
    })?;
    let mut start = 0;
    heads
        .into_iter()
        .map(|(name, labels)| {
            let part = g.slice(logits, 1, start, start + labels)?;
            start += labels;
            Ok((name, part))
        })
        .collect()
}

/// `ResNetBasicLayer` or `ResNetBottleNeckLayer`.
fn block(
    g: &mut Graph,
    config: &ResnetConfig,
    w: &Params,
    x: Value,
    (inp, out): (u64, u64),
    stride: u64,
) -> Result<Value> {
    let activation = config.activation()?;
    let layers = if config.bottleneck()? {
        let narrow = out / REDUCTION;
        let early = config.downsample_in_bottleneck;
        vec![
            Layer::new((inp, narrow), 1, if early { stride } else { 1 }),
            Layer::new((narrow, narrow), 3, if early { 1 } else { stride }),
            Layer::new((narrow, out), 1, 1),
        ]
    } else {
        vec![
            Layer::new((inp, out), 3, stride),
            Layer::new((out, out), 3, 1),
        ]
    };
    let last = layers.len() - 1;
    let mut y = x;
    for (index, layer) in layers.into_iter().enumerate() {
        // transformers activates the inner layers with ReLU whatever `hidden_act` says.
        let inner = (index < last).then_some(Activation::Relu);
        y = w.within(g, format_args!("layer.{index}"), |g, w| {
            conv_layer(g, w, layer, y, inner)
        })?;
    }
    let shortcut = if inp == out && stride == 1 {
        x
    } else {
        let layer = Layer::new((inp, out), 1, stride);
        w.within(g, "shortcut", |g, w| conv_layer(g, w, layer, x, None))?
    };
    let sum = g.add(y, shortcut)?;
    activation.apply(g, sum)
}

/// A convolution's geometry.
#[derive(Debug, Clone, Copy)]
struct Layer {
    channels: (u64, u64),
    kernel: u64,
    stride: u64,
}

impl Layer {
    fn new(channels: (u64, u64), kernel: u64, stride: u64) -> Self {
        Self {
            channels,
            kernel,
            stride,
        }
    }
}

/// `ResNetConvLayer`: convolution without bias, batch normalisation, activation.
fn conv_layer(
    g: &mut Graph,
    w: &Params,
    layer: Layer,
    x: Value,
    activation: Option<Activation>,
) -> Result<Value> {
    let out = layer.channels.1;
    let conv = Conv::new(layer.stride, layer.kernel / 2);
    let x = w.within(g, "convolution", |g, w| {
        w.conv(g, x, layer.channels, layer.kernel, conv, false)
    })?;
    let x = w.within(g, "normalization", |g, w| {
        let scale = w.get(g, "weight", &[out])?;
        let bias = w.get(g, "bias", &[out])?;
        let mean = w.get(g, "running_mean", &[out])?;
        let variance = w.get(g, "running_var", &[out])?;
        Ok(g.batch_norm(x, scale, bias, mean, variance, EPSILON)?)
    })?;
    match activation {
        Some(activation) => activation.apply(g, x),
        None => Ok(x),
    }
}
