use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::runtime::Feed;
use crate::tensors::{NewTensor, write_safetensors};

fn adapter() -> LoraAdapter {
    let paths = [
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0",
        "mid_block.attentions.0.transformer_blocks.3.attn1.to_v",
        "up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_k",
    ];
    let modules = paths
        .iter()
        .zip(1u16..)
        .map(|(path, i)| {
            let factors = Factors {
                a: (0..6).map(|k| f32::from(k + i)).collect(),
                b: (0..10u16).map(|k| f32::from(k) - f32::from(i)).collect(),
                rank: 2,
                alpha: 4.0,
            };
            ((*path).to_owned(), factors)
        })
        .collect();
    LoraAdapter { modules }
}

fn modules() -> Vec<LoraModule> {
    let of = |path: &String| LoraModule {
        path: path.clone(),
        in_features: 3,
        out_features: 5,
    };
    adapter().modules.keys().map(of).collect()
}

#[test]
fn every_written_format_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pytorch_lora_weights.safetensors");
    write_diffusers(&path, &adapter()).unwrap();
    assert_eq!(read(&path).unwrap(), adapter());
    assert_eq!(read(dir.path()).unwrap(), adapter(), "by its folder");
    for naming in [KohyaNames::Sgm, KohyaNames::Diffusers] {
        let path = dir.path().join("kohya.safetensors");
        write_kohya(&path, &adapter(), naming, None).unwrap();
        assert_eq!(read(&path).unwrap(), adapter(), "{naming:?}");
    }
}

#[test]
fn kohya_names_are_those_of_its_sdxl_files() {
    let sgm = |p| names::to_kohya_sgm(p);
    assert_eq!(
        sgm("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"),
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    );
    assert_eq!(
        sgm("down_blocks.2.attentions.1.proj_in"),
        "lora_unet_input_blocks_8_1_proj_in"
    );
    assert_eq!(
        sgm("mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj"),
        "lora_unet_middle_block_1_transformer_blocks_9_ff_net_0_proj"
    );
    assert_eq!(
        sgm("up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_out.0"),
        "lora_unet_output_blocks_5_1_transformer_blocks_0_attn2_to_out_0"
    );
    for path in [
        "down_blocks.2.attentions.1.proj_in",
        "mid_block.attentions.0.proj_out",
    ] {
        let name = sgm(path);
        let name = name.strip_prefix("lora_unet_").unwrap();
        assert_eq!(names::from_kohya(name).as_deref(), Some(path));
    }
}

/// Every attention layer of SDXL, as diffusers reads kohya's names: `scripts/oracle/lora_roundtrip.py`.
#[test]
fn diffusers_knows_every_name_of_sdxl() {
    let list = include_str!("../../tests/fixtures/finetune/sdxl_kohya_names.txt");
    for line in list.lines() {
        let (kohya, path) = line.split_once(' ').unwrap();
        assert_eq!(names::to_kohya_sgm(path), kohya);
        let name = kohya.strip_prefix("lora_unet_").unwrap();
        assert_eq!(names::from_kohya(name).as_deref(), Some(path));
    }
    assert_eq!(list.lines().count(), 560);
}

/// One layer under a key pair, written with extra metadata.
fn file(dir: &Path, a: &str, b: &str, metadata: &[(&str, &str)]) -> PathBuf {
    let path = dir.join("adapter_model.safetensors");
    let (av, bv) = ([1.0f32; 6], [2.0f32; 10]);
    let tensors = [
        NewTensor::f32(a, &[2, 3], &av),
        NewTensor::f32(b, &[5, 2], &bv),
    ];
    let metadata = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    write_safetensors(&path, &tensors, &metadata).unwrap();
    path
}

#[test]
fn older_spellings_and_configurations_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let q = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
    let o = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0";
    let block = "unet.mid_block.attentions.0.transformer_blocks.0.attn1";
    for (a, b, module) in [
        (
            format!("unet.{q}.lora.down.weight"),
            format!("unet.{q}.lora.up.weight"),
            q,
        ),
        (
            format!("{block}.processor.to_out_lora.down.weight"),
            format!("{block}.processor.to_out_lora.up.weight"),
            o,
        ),
        (
            format!("base_model.model.{q}.lora_A.weight"),
            format!("base_model.model.{q}.lora_B.weight"),
            q,
        ),
    ] {
        let read = read(file(dir.path(), &a, &b, &[])).unwrap();
        assert_eq!(read.modules[module].alpha, 2.0, "without a word alpha is r");
    }
    let (a, b) = (
        format!("unet.{q}.lora_A.weight"),
        format!("unet.{q}.lora_B.weight"),
    );
    let config = r#"{"unet.r": 2, "unet.lora_alpha": 16, "unet.alpha_pattern": {}}"#;
    let path = file(dir.path(), &a, &b, &[("lora_adapter_metadata", config)]);
    assert_eq!(read(&path).unwrap().modules[q].alpha, 16.0);
    let path = file(dir.path(), &a, &b, &[]);
    crate::base::fsio::write(
        dir.path().join("adapter_config.json"),
        r#"{"r": 2, "lora_alpha": 8, "alpha_pattern": {"attn1.to_q": 6}}"#,
    )
    .unwrap();
    assert_eq!(read(&path).unwrap().modules[q].alpha, 6.0);
}

#[test]
fn what_is_not_plain_lora_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let up = "unet.mid_block.attentions.0.proj_in.lora_B.weight";
    for (key, expected) in [
        ("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a", "LoHa"),
        ("lora_unet_mid_block_attentions_0_proj_in.lokr_w1", "LoKr"),
        (
            "lora_unet_mid_block_attentions_0_proj_in.dora_scale",
            "DoRA",
        ),
        (
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
            "text encoder",
        ),
        ("lora_unet_conv_in.lora_down.weight", "LoCon"),
        ("down_blocks.0.weight", "not a LoRA key"),
    ] {
        let error = read(file(dir.path(), key, up, &[]))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected) && error.contains(key), "{error}");
    }
    let error = read(file(dir.path(), "unet.x.lora_A.weight", up, &[])).unwrap_err();
    assert!(matches!(error, Error::Half { .. }), "{error}");
    let wide = [0.0f32; 54];
    let conv = [NewTensor::f32("unet.x.lora_A.weight", &[2, 3, 3, 3], &wide)];
    let path = dir.path().join("conv.safetensors");
    write_safetensors(&path, &conv, &BTreeMap::new()).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("convolution"));
}

#[test]
fn fitting_pads_the_rank_and_folds_alpha() {
    let fitted = adapter().fit(&modules(), 4).unwrap();
    let inputs: Vec<_> = fitted.inputs().collect();
    assert_eq!(inputs.len(), 8);
    let (name, a, shape) = inputs[0];
    assert_eq!(
        name,
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight"
    );
    assert_eq!((shape, a.len()), ([4, 3], 12));
    assert_eq!(a[..6], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(a[6..].iter().all(|&v| v == 0.0));
    let (_, b, shape) = inputs[1];
    assert_eq!((shape, b.len()), ([5, 4], 20));
    // Row 0 of B was [-1, 0]; alpha / r = 2.
    assert_eq!(b[..4], [-2.0, 0.0, 0.0, 0.0]);
    assert_eq!(b[4..6], [2.0, 4.0]);
    let mut feed = Feed::new();
    fitted.feed(&mut feed);
    assert_eq!(feed.len(), 8);
}

#[test]
fn an_adapter_that_does_not_fit_is_an_error() {
    let error = adapter().fit(&modules(), 1).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Rank {
                found: 2,
                limit: 1,
                ..
            }
        ),
        "{error}"
    );
    let error = adapter().fit(&modules()[1..], 2).unwrap_err().to_string();
    assert!(
        error.contains("attn1.to_q") && error.contains("to_k, to_out.0, to_v"),
        "{error}"
    );
    let mut other = modules();
    other[0].in_features = 7;
    let error = adapter().fit(&other, 2).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Size {
                expected: [7, 5],
                ..
            }
        ),
        "{error}"
    );
}
