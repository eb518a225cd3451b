use std::path::PathBuf;

use crate::tensors::Weights;
use crate::tensors::safetensors::*;
use proptest::prelude::*;

/// A file with this header text and `data` zero bytes after it.
fn file(dir: &Path, header: &str, data: usize) -> PathBuf {
    let path = dir.join("x.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn refusal(header: &str, data: usize) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), header, data);
    let text = Weights::open_files([&path]).unwrap_err().to_string();
    assert!(text.contains("x.safetensors"), "{text}");
    text
}

#[test]
fn the_reference_implementation_reads_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let half = [half::f16::from_f32(0.5), half::f16::from_f32(-2.0)];
    let tensors = [
        NewTensor::f16("b", &[2], &half),
        NewTensor::f32("z", &[1, 3], &[1.0, 2.0, 3.0]),
        NewTensor::f32("a", &[], &[7.0]),
        NewTensor::i64("n", &[1], &[-1]),
    ];
    let metadata = BTreeMap::from([("format".into(), "pt".into()), ("a".into(), "1".into())]);
    write_safetensors(&path, &tensors, &metadata).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let read = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("z").unwrap().shape(), [1, 3]);
    assert_eq!(read.tensor("n").unwrap().data(), (-1i64).to_le_bytes());
    let weights = Weights::open_files([&path]).unwrap();
    assert_eq!(
        weights.tensor("b").unwrap().read_f32().unwrap(),
        [0.5, -2.0]
    );
    assert_eq!(
        weights.tensor("z").unwrap().read_f32().unwrap(),
        [1.0, 2.0, 3.0]
    );
    assert_eq!(super::metadata(&path).unwrap(), metadata);
    assert_eq!(weights.unused(), ["a", "n"]);
    // Aligned, so that the tensors can be mapped as they are.
    assert_eq!(weights.tensor("z").unwrap().offset % 4, 0);
    let mut reversed = tensors.to_vec();
    reversed.reverse();
    write_safetensors(&path, &reversed, &metadata).unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap(),
        bytes,
        "the order given must not matter"
    );
}

#[test]
fn every_broken_header_is_refused_by_name() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    for (header, data, expected) in [
        (entry("F32", "[2]", "[0,8]"), 4, "tensor `w` ends at byte 8"),
        (
            entry("F13", "[2]", "[0,8]"),
            8,
            "tensor `w` has unknown dtype `F13`",
        ),
        (
            entry("F32", "[2]", "[8,0]"),
            8,
            "tensor `w`: offsets [8, 0] run backwards",
        ),
        (entry("F32", "[3]", "[0,8]"), 8, "doesn't fit its 8 bytes"),
        (
            entry("F32", "[2]", "[0,8]"),
            9,
            "1 bytes after the last tensor",
        ),
        (entry("F32", "[1]", "[4,8]"), 8, "tensor `w` leaves a hole"),
        (
            entry("F32", "[-1]", "[0,8]"),
            8,
            "tensor `w`: header entry is malformed",
        ),
        (
            entry("F32", "[9223372036854775808,8]", "[0,0]"),
            0,
            "doesn't fit",
        ),
        ("[]".into(), 0, "not a JSON object"),
        (r#"{"__metadata__":{"a":1}}"#.into(), 0, "`__metadata__`"),
    ] {
        let text = refusal(&header, data);
        assert!(
            text.contains(expected),
            "{text:?} should contain {expected:?}"
        );
    }
    let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    assert!(refusal(overlap, 6).contains("tensor `b` overlaps"));
}

#[test]
fn short_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    for (bytes, expected) in [
        (&b"abc"[..], "truncated: 3 bytes"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
            "not a safetensors file",
        ),
        (b"\x40\0\0\0\0\0\0\0{}", "truncated: a header of 64 bytes"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let text = Weights::open_files([&path]).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn shards_variants_and_scopes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let none = BTreeMap::new();
    let error = Weights::open_dir(dir).unwrap_err().to_string();
    assert!(error.contains("no weights in"), "{error}");
    let one = [NewTensor::f32("a.b.weight", &[2], &[1.0, 2.0])];
    let two = [NewTensor::f32("a.c.weight", &[1], &[3.0])];
    write_safetensors(dir.join("model.fp16-1.safetensors"), &one, &none).unwrap();
    write_safetensors(dir.join("model.fp16-2.safetensors"), &two, &none).unwrap();
    let index = dir.join("model.safetensors.index.fp16.json");
    let map = r#"{"weight_map":{"a.b.weight":"model.fp16-1.safetensors","a.c.weight":"model.fp16-2.safetensors"}}"#;
    std::fs::write(&index, map).unwrap();
    let weights = Weights::open_dir(dir).unwrap();
    assert_eq!(weights.parameters(), 3);
    let scope = weights.scope("a");
    assert!(scope.contains("b.weight") && scope.contains_scope("b") && !scope.contains_scope("d"));
    assert_eq!(
        scope
            .pp("c")
            .get("weight", &[1])
            .unwrap()
            .read_f32()
            .unwrap(),
        [3.0]
    );
    let error = scope.pp("c").get("weight", &[4]).unwrap_err().to_string();
    assert!(
        error.contains("`a.c.weight`") && error.contains("[1], expected [4]"),
        "{error}"
    );
    let error = scope.get("nothing", &[4]).unwrap_err().to_string();
    assert!(
        error.contains("missing tensor `a.nothing` [4] in"),
        "{error}"
    );
    for (map, expected) in [
        (
            r#"{"weight_map":{"a":"../x.safetensors"}}"#,
            "not a plain file name",
        ),
        (
            r#"{"weight_map":{"a":"gone.safetensors"}}"#,
            "shard `gone.safetensors` is missing",
        ),
        (
            r#"{"weight_map":{"q":"model.fp16-1.safetensors"}}"#,
            "tensor `q` is not in shard",
        ),
        (r#"{"weight_map":[]}"#, "not a shard index"),
    ] {
        std::fs::write(&index, map).unwrap();
        let error = Weights::open_dir(dir).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    write_safetensors(dir.join("model.safetensors"), &one, &none).unwrap();
    assert_eq!(
        Weights::open_dir(dir).unwrap().parameters(),
        2,
        "the plain file comes first"
    );
    let twice = [
        dir.join("model.safetensors"),
        dir.join("model.fp16-1.safetensors"),
    ];
    let error = Weights::open_files(twice).unwrap_err().to_string();
    assert!(error.contains("tensor `a.b.weight` is in both"), "{error}");
}

proptest! {
    /// Whatever bytes come, reading ends in a value or an error, and what is accepted is what
    /// the reference implementation accepts.
    #[test]
    fn damaged_files_never_panic(at in 0usize..200, byte: u8, cut in 0usize..250) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let tensors = [
            NewTensor::f32("w", &[2, 2], &[1.0; 4]),
            NewTensor::u8("bytes", &[5], &[1; 5]),
        ];
        write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(cut.max(1));
        std::fs::write(&path, &bytes).unwrap();
        let ours = Weights::open_files([&path]).is_ok();
        let theirs = ::safetensors::SafeTensors::deserialize(&bytes).is_ok();
        prop_assert!(!ours || theirs, "accepted what the reference refuses");
    }
}
