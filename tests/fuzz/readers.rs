//! Every reader against mutated and random files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use popalign::family::checkpoint::Checkpoint;
use popalign::lora;
use popalign::lora::KohyaNames;
use popalign::tensors::{DType, Weights, metadata};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;

use crate::forge::{fixture, header_of, pickle_of, put, safetensors, torch};
use crate::memory::peak;
use crate::mutate::{mutated, mutations};

/// How many cases every test run tries.
const CASES: u32 = 500;

/// Runs `check` on many inputs: the same ones in every run, or new ones for as long as
/// `POPALIGN_FUZZ_SECONDS` says.
fn fuzz<S: Strategy>(name: &str, strategy: &S, check: impl Fn(S::Value, &Path)) {
    let dir = TempDir::new().unwrap();
    let seconds = std::env::var("POPALIGN_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|s| Duration::from_secs(s.parse().unwrap()));
    let start = Instant::now();
    let mut cases = 0;
    loop {
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        };
        let rng = match seconds {
            Some(_) => TestRng::from_seed(RngAlgorithm::ChaCha, &rand_seed()),
            None => TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        };
        let result = TestRunner::new_with_rng(config, rng).run(strategy, |input| {
            check(input, dir.path());
            Ok(())
        });
        if let Err(failure) = result {
            panic!("{name}: {failure}");
        }
        cases += CASES;
        if seconds.is_none_or(|limit| start.elapsed() >= limit) {
            break;
        }
    }
    #[expect(
        clippy::print_stderr,
        reason = "whoever fuzzes wants to know how much was tried"
    )]
    if seconds.is_some() {
        eprintln!(
            "{name}: {cases} cases in {:.0} s",
            start.elapsed().as_secs_f64()
        );
    }
}

/// 32 bytes that no other run has.
fn rand_seed() -> [u8; 32] {
    use std::hash::{BuildHasher, RandomState};
    let word = |_| RandomState::new().hash_one(Instant::now()).to_le_bytes();
    [0; 4].map(word).concat().try_into().unwrap()
}

/// A file that is valid but for a few changes, or no file at all.
fn file(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let valid = prop::sample::select(valid);
    let changed = (valid, mutations()).prop_map(|(file, changes)| mutated(file, &changes));
    prop_oneof![
        20 => changed,
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

/// A safetensors file whose length of the header is right, whatever the header says.
fn headed(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let valid = prop::sample::select(valid);
    (valid, mutations()).prop_map(|(file, changes)| {
        let (header, data) = header_of(&file);
        safetensors(&mutated(header, &changes), &data)
    })
}

/// Memory that reading `bytes` may take.
fn limit(bytes: usize) -> usize {
    200 * bytes + (1 << 20)
}

/// Opens weights, and reads whatever they claim to have.
fn open(path: &Path, bytes: usize) {
    let (result, memory) = peak(|| Weights::open_files([path]));
    assert!(
        memory <= limit(bytes),
        "{memory} bytes of memory for {bytes}"
    );
    let weights = match result {
        Ok(weights) => weights,
        Err(error) => {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(error.to_string().contains(name), "{error}");
            return;
        }
    };
    let _ = weights.parameters();
    for tensor in weights.iter() {
        assert!(tensor.offset + tensor.len <= bytes as u64, "{tensor:?}");
        assert_eq!(
            tensor.elements() * tensor.dtype.size(),
            tensor.len,
            "{tensor:?}"
        );
        let floats = matches!(
            tensor.dtype,
            DType::F16 | DType::BF16 | DType::F32 | DType::F64
        );
        assert_eq!(tensor.read_f32().is_ok(), floats, "{tensor:?}");
        let _ = tensor.rows(1, 3);
    }
}

fn small_safetensors() -> Vec<Vec<u8>> {
    vec![
        fixture("torch/state.safetensors"),
        safetensors(
            br#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"BF16","shape":[],"data_offsets":[12,14]},"c":{"dtype":"I64","shape":[1],"data_offsets":[14,22]}}"#,
            &[3; 22],
        ),
    ]
}

#[test]
fn safetensors_files() {
    let files = || small_safetensors();
    let strategy = prop_oneof![file(files()), headed(files())];
    fuzz("safetensors", &strategy, |bytes, dir| {
        let path = put(dir, "x.safetensors", &bytes);
        open(&path, bytes.len());
        let _ = metadata(&path);
    });
}

/// Tables and JSON by the readers of prompts, which imagefolders and sheets share.
#[test]
fn lists_of_prompts() {
    for (name, text) in [
        (
            "x.csv",
            "id,Prompt\r\n1,\"two\nlines, \"\"quoted\"\"\"\r\r\n 2 , \"a\"b \n3\n",
        ),
        ("x.tsv", "\u{feff}text\tid\n\"tab\tinside\"\t1\nx\t\"2\"\n"),
        ("x.json", "[\"a\", {\"prompt\": \"b\", \"id\": [1, {}]}]"),
        (
            "x.jsonl",
            "\u{feff}{\"text\": \"a\"}\r\n\r\"b\"\n{\n\"caption\": \"\\u00e4\"\n}",
        ),
    ] {
        let files = vec![text.as_bytes().to_vec()];
        fuzz(name, &file(files), |bytes, dir| {
            let path = put(dir, name, &bytes);
            match popalign::prompts::read(&path) {
                Ok(prompts) => assert!(prompts.texts.iter().all(|text| text.trim() == text)),
                Err(error) => assert!(error.to_string().contains(name), "{error}"),
            }
        });
    }
}

#[test]
fn single_file_checkpoints() {
    let (header, _) = header_of(&fixture("checkpoints/sdxl.safetensors"));
    // The names are what matters: all tensors are made empty.
    let names: serde_json::Value = serde_json::from_slice(&header).unwrap();
    let empty = |name: &String| {
        let entry = serde_json::json!({"dtype": "U8", "shape": [3, 0], "data_offsets": [0, 0]});
        (name.clone(), entry)
    };
    let names = names.as_object().unwrap().keys();
    let entries: serde_json::Map<_, _> = names.step_by(9).map(empty).collect();
    let valid = safetensors(
        serde_json::Value::Object(entries).to_string().as_bytes(),
        b"",
    );
    fuzz("checkpoint", &headed(vec![valid]), |bytes, dir| {
        let path = put(dir, "x.safetensors", &bytes);
        let Ok(checkpoint) = Checkpoint::open(&path) else {
            return;
        };
        for network in ["unet", "vae", "text_encoder", "text_encoder_2"] {
            assert!(checkpoint.has(network) || checkpoint.weights(network).is_err());
            let _ = checkpoint.weights(network);
        }
    });
}

#[test]
fn torch_files() {
    let valid = ["torch/state.pth", "torch/training.ckpt"]
        .map(fixture)
        .to_vec();
    fuzz("torch zip", &file(valid), |bytes, dir| {
        open(&put(dir, "x.pth", &bytes), bytes.len());
    });
}

#[test]
fn pickles() {
    let valid = ["torch/state.pth", "torch/training.ckpt", "torch/code.pth"];
    let valid: Vec<_> = valid.iter().map(|f| pickle_of(&fixture(f))).collect();
    let instructions =
        b"\x80\x95(0}])NKMJ\x8aXU\x8cBqr\x94hjt\x85\x86\x87aesuc\x93QRb.\x88\x89G\0\x01a\n";
    let random = prop::collection::vec(prop::sample::select(instructions.to_vec()), 0..400);
    let strategy = prop_oneof![3 => file(valid), 1 => random];
    fuzz("pickle", &strategy, |pickle, dir| {
        let bytes = torch(&pickle, 96);
        open(&put(dir, "x.pth", &bytes), bytes.len());
    });
}

#[test]
fn shard_indices() {
    let shard = &small_safetensors()[1];
    let index = |a: &str, c: &str| {
        let map = serde_json::json!({"a.weight": a, "b": a, "c": c});
        serde_json::json!({"metadata": {"total_size": 22}, "weight_map": map}).to_string()
    };
    let valid = vec![
        index("s.safetensors", "s.safetensors").into_bytes(),
        index("s.safetensors", "../s.safetensors").into_bytes(),
        index("model.safetensors.index.json", "s.safetensors").into_bytes(),
    ];
    fuzz("index", &file(valid), |bytes, dir| {
        put(dir, "s.safetensors", shard);
        put(dir, "model.safetensors.index.json", &bytes);
        let size = bytes.len() + shard.len();
        let (result, memory) = peak(|| Weights::open_dir(dir));
        assert!(memory <= limit(size), "{memory} bytes of memory for {size}");
        if let Ok(weights) = result {
            for file in weights.files() {
                assert_eq!(file.parent(), Some(dir), "a shard outside its folder");
            }
        }
    });
}

/// Adapters of every naming, tiny.
fn adapters() -> Vec<Vec<u8>> {
    let linear = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
    let named = [
        (
            format!("base_model.model.{linear}.lora_A.weight"),
            format!("base_model.model.{linear}.lora_B.weight"),
        ),
        (
            format!("unet.{linear}.lora.down.weight"),
            format!("unet.{linear}.lora.up.weight"),
        ),
        (
            format!(
                "{}_lora.down.weight",
                linear.replace("to_q", "processor.to_q")
            ),
            format!(
                "{}_lora.up.weight",
                linear.replace("to_q", "processor.to_q")
            ),
        ),
        (
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight".into(),
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_up.weight".into(),
        ),
        (
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight".into(),
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight".into(),
        ),
    ];
    let config =
        r#"{"r":2,"lora_alpha":4,"alpha_pattern":{"to_q":1},"rank_pattern":{},"use_rslora":true}"#;
    let file = |(down, up): (String, String)| {
        let alpha = down
            .replace(".lora_down.weight", ".alpha")
            .replace(".lora.down.weight", ".alpha");
        let mut entries = serde_json::json!({
            "__metadata__": {"lora_adapter_metadata": config},
            down.as_str(): {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            up: {"dtype": "F16", "shape": [4, 2], "data_offsets": [24, 40]},
        });
        if alpha != down {
            entries[alpha.as_str()] =
                serde_json::json!({"dtype": "F32", "shape": [], "data_offsets": [40, 44]});
        }
        let data = vec![1; if alpha == down { 40 } else { 44 }];
        safetensors(entries.to_string().as_bytes(), &data)
    };
    named.map(file).to_vec()
}

#[test]
fn adapters_are_read_or_refused() {
    let strategy = prop_oneof![1 => file(adapters()), 4 => headed(adapters())];
    fuzz("lora", &strategy, |bytes, dir| {
        let path = put(dir, "x.safetensors", &bytes);
        let (result, memory) = peak(|| lora::read_all(&path));
        assert!(
            memory <= limit(bytes.len()),
            "{memory} bytes of memory for {}",
            bytes.len()
        );
        for adapter in result.into_iter().flat_map(BTreeMap::into_values) {
            for factors in adapter.modules.values() {
                assert_eq!(factors.a.len(), factors.rank * factors.inputs());
                assert_eq!(factors.b.len(), factors.rank * factors.outputs());
            }
            for names in [KohyaNames::Diffusers, KohyaNames::Sgm] {
                let _ = lora::write_kohya(&dir.join("y.safetensors"), &adapter, names, None);
            }
        }
    });
}

#[test]
fn configurations_beside_adapters() {
    let config = br#"{"peft_type":"LORA","r":2,"lora_alpha":4,"use_rslora":true,"use_dora":false,"alpha_pattern":{"attn1.to_q":1.5},"rank_pattern":{"to_q":3},"unet.lora_alpha":2}"#;
    let adapter = adapters().swap_remove(0);
    let (header, data) = header_of(&adapter);
    let header = String::from_utf8(header)
        .unwrap()
        .replace("lora_adapter_metadata", "other");
    let adapter = safetensors(header.as_bytes(), &data);
    fuzz(
        "adapter_config",
        &file(vec![config.to_vec()]),
        |bytes, dir| {
            put(dir, "adapter_model.safetensors", &adapter);
            put(dir, "adapter_config.json", &bytes);
            if let Err(error) = lora::read_all(dir) {
                assert!(error.to_string().contains("adapter"), "{error}");
            }
        },
    );
}
