//! What a network refuses, and that the message names it.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::error::Error;
use std::path::{Path, PathBuf};

use popalign::lora::LoraSpec;
use popalign::nets::Config;
use popalign::nets::clip::ClipTextConfig;
use popalign::nets::graphs::{self, Options};
use popalign::nets::resnet::ResnetConfig;
use popalign::nets::unet::UnetConfig;
use popalign::nets::vae::VaeConfig;
use popalign::tensors::{NewTensor, Weights, write_safetensors};
use serde_json::{Value as Json, json};

fn unet_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nets/sdxl_4/unet")
}

fn unet_json() -> Json {
    serde_json::from_slice(&std::fs::read(unet_folder().join("config.json")).unwrap()).unwrap()
}

/// The message and its causes.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

fn refused<T: Config>(json: &Json) -> String {
    match T::from_json(json) {
        Ok(_) => panic!("accepted: {json}"),
        Err(error) => chain(&error),
    }
}

#[test]
fn unsupported_switches_are_named_with_key_and_value() {
    let cases = [
        ("class_embed_type", json!("timestep"), "\"timestep\""),
        (
            "only_cross_attention",
            json!([false, true, false]),
            "[false,true,false]",
        ),
        ("resnet_out_scale_factor", json!(0.5), "0.5"),
        (
            "resnet_time_scale_shift",
            json!("scale_shift"),
            "\"scale_shift\"",
        ),
        ("time_cond_proj_dim", json!(256), "256"),
        ("addition_embed_type", json!("image"), "\"image\""),
        (
            "mid_block_type",
            json!("UNetMidBlock2DSimpleCrossAttn"),
            "SimpleCrossAttn",
        ),
        ("act_fn", json!("mish"), "\"mish\""),
    ];
    for (key, value, text) in cases {
        let mut config = unet_json();
        config[key] = value;
        let message = refused::<UnetConfig>(&config);
        assert!(
            message.contains(&format!("`{key}`")) && message.contains(text),
            "{message}"
        );
    }
}

#[test]
fn defaults_written_out_are_accepted() {
    let mut config = unet_json();
    for (key, value) in [
        ("act_fn", json!("silu")),
        ("only_cross_attention", json!([false, false, false])),
        ("resnet_out_scale_factor", json!(1.0)),
        ("num_attention_heads", json!(null)),
        ("mid_block_only_cross_attention", json!(null)),
        ("upcast_attention", json!(true)),
        ("a key of tomorrow", json!(1)),
    ] {
        config[key] = value;
    }
    UnetConfig::from_json(&config).unwrap();
}

#[test]
fn unknown_block_types_are_named() {
    let mut config = unet_json();
    config["down_block_types"][1] = json!("AttnDownBlock2D");
    let message = refused::<UnetConfig>(&config);
    assert!(
        message.contains("`down_block_types`: \"AttnDownBlock2D\""),
        "{message}"
    );
    assert!(message.contains("CrossAttnDownBlock2D"), "{message}");

    let vae = json!({"up_block_types": ["AttnUpDecoderBlock2D"]});
    let message = refused::<VaeConfig>(&vae);
    assert!(
        message.contains("`up_block_types`: \"AttnUpDecoderBlock2D\""),
        "{message}"
    );

    let message = refused::<ResnetConfig>(&json!({"layer_type": "dense"}));
    assert!(message.contains("`layer_type`: dense"), "{message}");
    let message = refused::<ClipTextConfig>(&json!({"hidden_act": "mish"}));
    assert!(message.contains("`hidden_act`: mish"), "{message}");
}

#[test]
fn contradictions_are_named() {
    let cases = [
        ("layers_per_block", json!([1, 2]), "3 entries"),
        ("norm_num_groups", json!(5), "5 groups don't divide 8"),
        ("attention_head_dim", json!(3), "3 heads don't divide 8"),
        ("addition_time_embed_dim", json!(null), "text_time needs it"),
        ("block_out_channels", json!([]), "it is empty"),
    ];
    for (key, value, text) in cases {
        let mut config = unet_json();
        config[key] = value;
        let message = refused::<UnetConfig>(&config);
        assert!(
            message.contains(&format!("`{key}`")) && message.contains(text),
            "{message}"
        );
    }
    assert!(
        refused::<UnetConfig>(&json!({"in_channels": "four"})).contains("UNet2DConditionModel")
    );
}

#[test]
fn a_missing_tensor_is_named_with_its_file_and_shape() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let all = Weights::open_dir(unet_folder()).unwrap();
    let dropped = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k.weight";
    let bytes: Vec<_> = all.iter().map(|t| (t, t.read_bytes().unwrap())).collect();
    let kept = bytes
        .iter()
        .filter(|(t, _)| t.name != dropped)
        .map(|(t, data)| NewTensor {
            name: t.name.clone(),
            dtype: t.dtype,
            shape: t.shape.clone(),
            data: data.as_slice().into(),
        });
    write_safetensors(
        &file,
        kept.collect::<Vec<_>>().as_slice(),
        &Default::default(),
    )
    .unwrap();
    let weights = Weights::open_files([&file]).unwrap();
    let config = UnetConfig::from_json(&unet_json()).unwrap();
    let error = graphs::unet(&config, &weights.scope(""), &Options::default()).unwrap_err();
    let message = chain(&error);
    assert!(message.contains(dropped), "{message}");
    assert!(
        message.contains("[16, 16]") && message.contains("model.safetensors"),
        "{message}"
    );
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let mut json = unet_json();
    json["cross_attention_dim"] = json!(40);
    let config = UnetConfig::from_json(&json).unwrap();
    let weights = Weights::open_dir(unet_folder()).unwrap();
    let error = graphs::unet(&config, &weights.scope(""), &Options::default()).unwrap_err();
    let message = chain(&error);
    assert!(message.contains("attn2.to_k.weight"), "{message}");
    assert!(message.contains("expected [12, 40]"), "{message}");
}

#[test]
fn lora_targets_must_be_linear_layers_that_exist() {
    let config = UnetConfig::from_json(&unet_json()).unwrap();
    let weights = Weights::open_dir(unet_folder()).unwrap();
    let build = |rank: u64, targets: &[&str]| {
        let targets = targets.iter().map(ToString::to_string).collect();
        let options = Options {
            lora: Some(LoraSpec { rank, targets }),
            ..Options::default()
        };
        graphs::unet_grad(&config, &weights.scope(""), &options)
    };
    let message = chain(&build(4, &["to_k", "to_quux"]).unwrap_err());
    assert!(
        message.contains("`to_quux`") && message.contains("no linear layer"),
        "{message}"
    );
    let message = chain(&build(4, &["conv1"]).unwrap_err());
    assert!(
        message.contains("resnets.0.conv1") && message.contains("convolution"),
        "{message}"
    );
    let message = chain(&build(0, &["to_k"]).unwrap_err());
    assert!(message.contains("rank"), "{message}");
}
