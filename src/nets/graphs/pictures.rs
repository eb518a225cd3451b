//! What takes or makes pictures: VAE, CLIP's vision tower, classifiers.

use super::options::Options;
use crate::family::ports;
use crate::graph::{Dim, Graph, Kind, Value};
use crate::nets::Result;
use crate::nets::clip::{self, ClipVisionConfig};
use crate::nets::resnet::{self, ResnetConfig};
use crate::nets::vae::{self, VaeConfig};
use crate::tensors::Scope;

/// The VAE's encoder: `sample` [B, 3, H, W] in −1…1 to `latent_parameters` [B, 2·C, H/f, W/f],
/// mean and log variance.
///
/// # Errors
/// As [`vae::encode`].
pub fn vae_encoder(config: &VaeConfig, w: &Scope, options: &Options) -> Result<Graph> {
    let mut g = options.graph();
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
    options.finish(&mut g, Kind::Forward)?;
    Ok(g)
}

/// The VAE's decoder: `latent_sample` [B, C, h, w], already divided by the scaling factor, to
/// `sample` [B, 3, f·h, f·w].
///
/// # Errors
/// As [`vae::decode`].
pub fn vae_decoder(config: &VaeConfig, w: &Scope, options: &Options) -> Result<Graph> {
    let mut g = options.graph();
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
    options.finish(&mut g, Kind::Forward)?;
    Ok(g)
}

/// A ResNet classifier: `pixel_values` [B, 3, H, W] to the logits [B, n] of each head, by name.
///
/// # Errors
/// As [`resnet::build`].
pub fn classifier(config: &ResnetConfig, w: &Scope, options: &Options) -> Result<Graph> {
    let mut g = options.graph();
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
    options.finish(&mut g, Kind::Forward)?;
    Ok(g)
}

/// The vision tower of a `CLIPModel` or `CLIPVisionModelWithProjection`: `pixel_values`
/// [B, 3, size, size] to `image_embeds` [B, projection_dim].
///
/// # Errors
/// As [`clip::image_embeds`].
pub fn clip_vision(config: &ClipVisionConfig, w: &Scope, options: &Options) -> Result<Graph> {
    let mut g = options.graph();
    let w = options.params(w);
    let batch = options.batch(&mut g);
    let size = Dim::from(config.image_size);
    let shape = [batch, config.num_channels.into(), size.clone(), size];
    let pixels = g.input(ports::vision::PIXEL_VALUES, options.compute, &shape)?;
    let embeds = clip::image_embeds(&mut g, config, &w, pixels)?;
    g.output(ports::vision::IMAGE_EMBEDS, embeds)?;
    options.finish(&mut g, Kind::Forward)?;
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
