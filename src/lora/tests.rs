use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::runtime::Feed;
use crate::tensors::{DType, NewTensor, write_safetensors};

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
    let error = read(file(dir.path(), "unet.mid_block.x.lora_A.weight", up, &[])).unwrap_err();
    assert!(matches!(error, Error::Half { .. }), "{error}");
    let wide = [0.0f32; 54];
    let conv = [NewTensor::f32(
        "unet.mid_block.x.lora_A.weight",
        &[2, 3, 3, 3],
        &wide,
    )];
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

/// A folder of PEFT's with the frozen factors and `config`.
fn peft_folder(dir: &Path, config: &serde_json::Value) -> PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lora");
    let name = "adapter_model.safetensors";
    std::fs::copy(fixture.join(name), dir.join(name)).unwrap();
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    dir.to_path_buf()
}

fn peft_cases() -> serde_json::Value {
    serde_json::from_str(include_str!("../../tests/fixtures/lora/peft.json")).unwrap()
}

/// What `PeftModel.from_pretrained(…).merge_and_unload()` adds: `scripts/oracle/lora_peft.py`.
#[test]
fn every_setting_counts_as_peft_counts_it() {
    let all = peft_cases();
    let modules = all["modules"].as_array().unwrap();
    for (name, case) in all["cases"].as_object().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let adapter = read(peft_folder(dir.path(), &case["config"]))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(adapter.modules.len(), modules.len());
        for (module, scale) in modules.iter().zip(case["scales"].as_array().unwrap()) {
            let factors = &adapter.modules[module.as_str().unwrap()];
            let found = f64::from(factors.alpha) / factors.rank as f64;
            let expected = scale.as_f64().unwrap();
            assert!((found - expected).abs() < 1e-5, "{name} {module}: {found}");
        }
    }
}

#[test]
fn a_setting_that_cant_be_followed_is_refused_by_name() {
    let all = peft_cases();
    let base = &all["cases"]["plain"]["config"];
    let refused = all["refused"].as_object().unwrap().clone();
    let other = [
        ("modules_to_save", serde_json::json!(["conv_in"])),
        ("bias", "lora_only".into()),
        ("layer_replication", serde_json::json!([[0, 2]])),
        ("kasa_config", serde_json::json!({"r": 1})),
        ("a_new_setting", 3.into()),
        ("use_rslora", "yes".into()),
        ("lora_alpha", "8".into()),
        ("rank_pattern", serde_json::json!(["to_q"])),
        ("alpha_pattern", serde_json::json!({r"to_q\z": 1})),
        ("peft_type", "LOHA".into()),
    ];
    let other = other.map(|(key, value)| {
        let mut config = base.clone();
        config[key] = value;
        (key.to_owned(), config)
    });
    for (key, config) in refused.into_iter().chain(other) {
        let dir = tempfile::tempdir().unwrap();
        let error = read(peft_folder(dir.path(), &config)).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(&key) && error.contains("adapter_config.json"),
            "{error}"
        );
    }
}

/// The original code's names with dots, and ComfyUI's prefix, before either kind of names.
#[test]
fn comfy_and_dotted_names_are_those_of_diffusers() {
    let dir = tempfile::tempdir().unwrap();
    let q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
    let mid = "mid_block.attentions.0.proj_in";
    for (name, expected) in [
        ("input_blocks.4.1.transformer_blocks.0.attn1.to_q", q),
        (
            "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
            q,
        ),
        ("model.diffusion_model.middle_block.1.proj_in", mid),
        ("diffusion_model.mid_block.attentions.0.proj_in", mid),
        (
            "base_model.model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
            q,
        ),
        (q, q),
    ] {
        for (down, up) in [
            ("lora_A", "lora_B"),
            ("lora_down", "lora_up"),
            ("lora.down", "lora.up"),
        ] {
            let keys = [down, up].map(|end| format!("{name}.{end}.weight"));
            let adapter = read(file(dir.path(), &keys[0], &keys[1], &[])).unwrap();
            assert_eq!(
                adapter.modules.keys().collect::<Vec<_>>(),
                [expected],
                "{name}"
            );
        }
    }
    for (name, expected) in [
        (
            "diffusion_model.double_blocks.0.img_attn.qkv",
            "not a LoRA key",
        ),
        ("transformer.blocks.0.attn1.to_q", "not a LoRA key"),
        ("input_blocks.1.0.emb_layers.1", "LoCon"),
        (
            "base_model.model.text_model.encoder.layers.0.self_attn.q_proj",
            "text encoder",
        ),
    ] {
        let keys = ["lora_A", "lora_B"].map(|end| format!("{name}.{end}.weight"));
        let error = read_all(file(dir.path(), &keys[0], &keys[1], &[])).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let text = "text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc1";
    let keys = ["lora_A", "lora_B"].map(|end| format!("{text}.{end}.weight"));
    let path = file(dir.path(), &keys[0], &keys[1], &[]);
    assert_eq!(
        read_all(&path).unwrap().keys().collect::<Vec<_>>(),
        [&"text_encoder_2"]
    );
    assert!(matches!(
        read(&path).unwrap_err(),
        Error::TextEncoder { .. }
    ));
}

#[test]
fn an_alpha_may_be_an_integer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kohya.safetensors");
    let name = "lora_unet_mid_block_attentions_0_proj_in";
    let (a, b) = ([1.0f32; 6], [2.0f32; 10]);
    for (dtype, bytes) in [
        (DType::I64, 4i64.to_le_bytes().to_vec()),
        (DType::I32, 4i32.to_le_bytes().to_vec()),
        (DType::U8, vec![4]),
        (DType::F64, 4f64.to_le_bytes().to_vec()),
    ] {
        let alpha = NewTensor {
            name: format!("{name}.alpha"),
            dtype,
            shape: Vec::new(),
            data: bytes.into(),
        };
        let tensors = [
            alpha,
            NewTensor::f32(format!("{name}.lora_down.weight"), &[2, 3], &a),
            NewTensor::f32(format!("{name}.lora_up.weight"), &[5, 2], &b),
        ];
        write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        let adapter = read(&path).unwrap();
        assert_eq!(
            adapter.modules["mid_block.attentions.0.proj_in"].alpha, 4.0,
            "{dtype}"
        );
    }
}
