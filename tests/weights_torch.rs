//! torch's files, read without executing their pickles; written by `scripts/oracle/torch_files.py`.

use std::fs;
use std::path::{Path, PathBuf};

use popalign::tensors::{Error, Weights};

fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/fixtures/torch").join(name)
}

#[test]
fn state_dicts_hold_what_safetensors_does() {
    let expected = Weights::open_files([fixture("state.safetensors")]).unwrap();
    for name in [
        "state.pth",
        "training.ckpt",
        "lightning-2.ckpt",
        "lightning-4.ckpt",
        "lightning-5.ckpt",
    ] {
        let found = Weights::open_files([fixture(name)]).unwrap();
        assert_eq!(found.iter().count(), expected.iter().count(), "{name}");
        for tensor in expected.iter() {
            let other = found.tensor(&tensor.name).unwrap();
            assert_eq!(
                (&other.shape, other.dtype),
                (&tensor.shape, tensor.dtype),
                "{name} {}",
                tensor.name
            );
            assert!(
                other.read_bytes().unwrap() == tensor.read_bytes().unwrap(),
                "{name} {}",
                tensor.name
            );
        }
    }
}

#[test]
fn a_pickle_with_code_is_refused_by_name_and_not_run() {
    for name in ["code.pth", "code-inside.ckpt", "code-beside.ckpt"] {
        let error = Weights::open_files([fixture(name)]).unwrap_err();
        assert!(
            matches!(&error, Error::Pickle { global, .. } if global.ends_with(".system")),
            "{name}: {error}"
        );
        assert!(error.hint().is_some());
    }
}

#[test]
fn what_cant_be_pointed_at_says_so() {
    for (name, expected) in [
        ("transposed.pth", "strides [1, 4], expected it contiguous"),
        (
            "old.pth",
            "not a zip file, as torch has written since version 1.6",
        ),
    ] {
        let text = Weights::open_files([fixture(name)])
            .unwrap_err()
            .to_string();
        assert!(text.contains(expected) && text.contains(name), "{text}");
    }
}

/// Every cut and every flipped byte gives tensors within the file or an error, never a panic.
#[test]
fn broken_files_are_errors() {
    let bytes = fs::read(fixture("state.pth")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pth");
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let size = bytes.len() as u64;
        if let Ok(weights) = Weights::open_files([&path]) {
            for tensor in weights.iter() {
                assert!(tensor.offset + tensor.len <= size, "{}", tensor.name);
            }
        }
    };
    for length in (0..bytes.len()).step_by(7) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(Weights::open_files([&path]).is_err(), "cut at {length}");
    }
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            open(&changed);
        }
    }
}
