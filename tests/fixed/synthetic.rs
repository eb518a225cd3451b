//! A UNet of any configuration without weights: true names and shapes over a file of holes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use popalign::nets::unet::UnetConfig;
use popalign::tensors::Weights;
use serde_json::{Map, json};

/// The UNet's configuration of a family that single files are read with.
pub(crate) fn config(family: &str) -> UnetConfig {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join(format!("src/bundle/configs/{family}/unet/config.json"));
    popalign::nets::read_config(&path).unwrap()
}

/// Writes a safetensors file of fp16 zeros that takes no disk, and opens it.
pub(crate) fn weights(config: &UnetConfig, folder: &Path) -> Weights {
    let mut names = Names::default();
    names.unet(config);
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in &names.0 {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        let entry = json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let path = folder.join("diffusion_pytorch_model.safetensors");
    let mut file = File::create(&path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
    Weights::open_files([path]).unwrap()
}

/// Tensors by name, as diffusers' classes have them.
#[derive(Default)]
struct Names(Vec<(String, Vec<u64>)>);

impl Names {
    /// A layer with a bias.
    fn layer(&mut self, name: &str, weight: &[u64]) {
        self.0.push((format!("{name}.weight"), weight.to_vec()));
        self.0.push((format!("{name}.bias"), weight[..1].to_vec()));
    }

    fn conv(&mut self, name: &str, (inp, out): (u64, u64), kernel: u64) {
        self.layer(name, &[out, inp, kernel, kernel]);
    }

    fn unet(&mut self, c: &UnetConfig) {
        let widths = &c.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let temb = 4 * first;
        self.conv("conv_in", (c.in_channels, first), 3);
        self.layer("time_embedding.linear_1", &[temb, first]);
        self.layer("time_embedding.linear_2", &[temb, temb]);
        if let Some(width) = c.projection_class_embeddings_input_dim {
            self.layer("add_embedding.linear_1", &[temb, width]);
            self.layer("add_embedding.linear_2", &[temb, temb]);
        }
        let mut skips = vec![first];
        let mut inp = first;
        for (i, &out) in widths.iter().enumerate() {
            let at = format!("down_blocks.{i}");
            let crossed = c.down_block_types[i].starts_with("CrossAttn");
            for layer in 0..c.layers_per_block.at(i) {
                self.resnet(&format!("{at}.resnets.{layer}"), (inp, out), temb);
                if crossed {
                    self.transformer(c, &format!("{at}.attentions.{layer}"), i);
                }
                skips.push(out);
                inp = out;
            }
            if i + 1 < widths.len() {
                self.conv(&format!("{at}.downsamplers.0.conv"), (out, out), 3);
                skips.push(out);
            }
        }
        self.resnet("mid_block.resnets.0", (last, last), temb);
        self.transformer(c, "mid_block.attentions.0", widths.len() - 1);
        self.resnet("mid_block.resnets.1", (last, last), temb);
        let mut inp = last;
        for (i, &out) in widths.iter().rev().enumerate() {
            let at = format!("up_blocks.{i}");
            let stage = widths.len() - 1 - i;
            let crossed = c.up_block_types[i].starts_with("CrossAttn");
            for layer in 0..=c.layers_per_block.at(stage) {
                let joined = inp + skips.pop().unwrap();
                self.resnet(&format!("{at}.resnets.{layer}"), (joined, out), temb);
                if crossed {
                    self.transformer(c, &format!("{at}.attentions.{layer}"), stage);
                }
                inp = out;
            }
            if stage > 0 {
                self.conv(&format!("{at}.upsamplers.0.conv"), (out, out), 3);
            }
        }
        self.layer("conv_norm_out", &[first]);
        self.conv("conv_out", (first, c.out_channels), 3);
    }

    fn resnet(&mut self, at: &str, (inp, out): (u64, u64), temb: u64) {
        self.layer(&format!("{at}.norm1"), &[inp]);
        self.conv(&format!("{at}.conv1"), (inp, out), 3);
        self.layer(&format!("{at}.time_emb_proj"), &[out, temb]);
        self.layer(&format!("{at}.norm2"), &[out]);
        self.conv(&format!("{at}.conv2"), (out, out), 3);
        if inp != out {
            self.conv(&format!("{at}.conv_shortcut"), (inp, out), 1);
        }
    }

    fn transformer(&mut self, c: &UnetConfig, at: &str, stage: usize) {
        let width = c.block_out_channels[stage];
        let text = c.cross_attention_dim.at(stage);
        let projection: &[u64] = match c.use_linear_projection {
            true => &[width, width],
            false => &[width, width, 1, 1],
        };
        self.layer(&format!("{at}.norm"), &[width]);
        self.layer(&format!("{at}.proj_in"), projection);
        for layer in 0..c.transformer_layers_per_block.at(stage) {
            let at = format!("{at}.transformer_blocks.{layer}");
            for norm in ["norm1", "norm2", "norm3"] {
                self.layer(&format!("{at}.{norm}"), &[width]);
            }
            for (attention, source) in [("attn1", width), ("attn2", text)] {
                for (name, inp) in [("to_q", width), ("to_k", source), ("to_v", source)] {
                    let name = format!("{at}.{attention}.{name}.weight");
                    self.0.push((name, vec![width, inp]));
                }
                self.layer(&format!("{at}.{attention}.to_out.0"), &[width, width]);
            }
            self.layer(&format!("{at}.ff.net.0.proj"), &[8 * width, width]);
            self.layer(&format!("{at}.ff.net.2"), &[width, 4 * width]);
        }
        self.layer(&format!("{at}.proj_out"), projection);
    }
}
