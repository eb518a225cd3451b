//! The graph of a part: in which type, with which operators, of which network.

use serde_json::Value as Json;

use super::source::Source;
use super::{Error, Options, Part, Result, Target};
use crate::graph::{DType, Graph};
use crate::lora::LoraModule;
use crate::nets;
use crate::nets::Config;
use crate::nets::graphs::{self, UnetGraph};
use crate::nets::vae::VaeConfig;
use crate::tensors::Weights;

/// A part's graph as it is written.
pub(super) struct Built {
    pub(super) graph: Graph,
    pub(super) lora: Vec<LoraModule>,
    pub(super) dtype: DType,
    pub(super) target: Target,
}

/// Builds the graph of a part in the type and with the operators that the options lead to.
pub(super) fn part_graph(
    part: Part,
    source: &Source,
    options: &Options,
    graphs: &graphs::Options,
    weights: &Weights,
) -> Result<Built> {
    let folder = part.source_folder();
    let config = source.config(folder)?;
    let refused = |e| Error::network(part, source.origin(folder), e);
    let dtype = compute(part, options.dtype, &config).map_err(refused)?;
    let graphs = graphs::Options {
        compute: dtype,
        ..graphs.clone()
    };
    let (mut graph, lora) = build(part, &config, weights, &graphs).map_err(refused)?;
    let target = target(part, options.target);
    if target == Target::Cuda {
        let lowered = graph.lower_for_cuda();
        lowered.map_err(|e| refused(nets::Error::Graph(e)))?;
    }
    Ok(Built {
        graph,
        lora,
        dtype,
        target,
    })
}

/// Builds the graph of a part from its configuration and weights.
pub(super) fn build(
    part: Part,
    config: &Json,
    weights: &Weights,
    options: &graphs::Options,
) -> nets::Result<(Graph, Vec<LoraModule>)> {
    let w = &weights.scope("");
    let unet = |built: UnetGraph| (built.graph, built.lora);
    let plain = |graph: Graph| (graph, Vec::new());
    match part {
        Part::TextEncoder => {
            graphs::text_encoder(&Config::from_json(config)?, w, options).map(plain)
        }
        Part::TextEncoder2 => {
            graphs::text_encoder_2(&Config::from_json(config)?, w, options).map(plain)
        }
        Part::Unet => graphs::unet(&Config::from_json(config)?, w, options).map(unet),
        Part::UnetGrad => graphs::unet_grad(&Config::from_json(config)?, w, options).map(unet),
        Part::VaeDecoder => graphs::vae_decoder(&Config::from_json(config)?, w, options).map(plain),
        Part::VaeEncoder => graphs::vae_encoder(&Config::from_json(config)?, w, options).map(plain),
        Part::Classifier => graphs::classifier(&Config::from_json(config)?, w, options).map(plain),
        Part::ClipText => {
            let config: nets::clip::ClipConfig = Config::from_json(config)?;
            graphs::clip_text(&config.text(), w, options).map(plain)
        }
        Part::ClipVision => {
            let config: nets::clip::ClipConfig = Config::from_json(config)?;
            graphs::clip_vision(&config.vision(), w, options).map(plain)
        }
    }
}

/// Which operators a part is written with where `asked` is the bundle's target. The training graph
/// is differentiated, and what measures runs anywhere.
fn target(part: Part, asked: Target) -> Target {
    match part {
        Part::UnetGrad | Part::Classifier | Part::ClipText | Part::ClipVision => Target::Plain,
        _ => asked,
    }
}

/// What a part computes in where the bundle's type is `asked`.
///
/// A VAE whose configuration says `force_upcast` overflows fp16 and stays f32 in an fp16 bundle,
/// as diffusers' pipelines run it. Classifiers and CLIP towers measure pictures: a measure must not
/// depend on the type the pictures were drawn in.
pub(super) fn compute(part: Part, asked: DType, config: &Json) -> nets::Result<DType> {
    match part {
        Part::TextEncoder | Part::TextEncoder2 | Part::Unet | Part::UnetGrad => Ok(asked),
        Part::VaeDecoder | Part::VaeEncoder => {
            let config: VaeConfig = Config::from_json(config)?;
            Ok(config.compute(asked))
        }
        Part::Classifier | Part::ClipText | Part::ClipVision => Ok(DType::F32),
    }
}
