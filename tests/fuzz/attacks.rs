//! The known tricks, one by one; each is refused with its own error, in little memory.

use std::path::Path;

use popalign::tensors::{Error, Weights};
use tempfile::TempDir;

use crate::forge::{fixture, put, safetensors, state, text, torch, zip};
use crate::memory::peak;

/// Opens a file of these bytes, within its size in memory.
#[track_caller]
fn open(name: &str, bytes: &[u8]) -> Error {
    let dir = TempDir::new().unwrap();
    let path = put(dir.path(), name, bytes);
    let (result, memory) = peak(|| Weights::open_files([&path]));
    assert!(
        memory < 200 * bytes.len() + (1 << 20),
        "{memory} bytes for {}",
        bytes.len()
    );
    let error = result.unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
    error
}

#[track_caller]
fn malformed(error: &Error, expected: &str) {
    let Error::Malformed { problem, .. } = error else {
        panic!("expected `{expected}`, got {error:?}");
    };
    assert!(
        problem.contains(expected),
        "{problem:?} should contain {expected:?}"
    );
}

#[test]
fn pickles_that_name_code() {
    let global = |code: &[u8]| match open("x.pth", &torch(code, 4)) {
        Error::Pickle { global, .. } => global,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        global(b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR."),
        "os.system"
    );
    assert_eq!(global(b"\x80\x02cbuiltins\neval\n."), "builtins.eval");
    // By two texts on the stack, under a tensor's module, and behind a harmless beginning.
    let mut stacked = b"\x80\x04}0".to_vec();
    text(&mut stacked, "posix");
    text(&mut stacked, "system");
    stacked.extend(b"\x93.");
    assert_eq!(global(&stacked), "posix.system");
    assert_eq!(global(b"\x80\x02ctorch\nload\n."), "torch.load");
    assert_eq!(
        global(b"\x80\x02ctorch._utils\n_import_dotted_name\n."),
        "torch._utils._import_dotted_name"
    );
    assert_eq!(
        global(b"\x80\x02ctorch.FloatStorage\n__init__\n."),
        "torch.FloatStorage.__init__"
    );
}

#[test]
fn instructions_that_make_objects_of_classes() {
    for code in [
        // INST, OBJ, EXT1, PERSID, NEXT_BUFFER
        &b"(ios\nsystem\n."[..],
        b"(o.",
        b"\x82\x01.",
        b"Pos.system\n.",
        b"\x97.",
    ] {
        let error = open("x.pth", &torch(code, 4));
        malformed(&error, "is not one that describes tensors");
    }
    // NEWOBJ and NEWOBJ_EX, which training checkpoints have beside their state dict, make nothing:
    // what they stand for is refused by name where it would be the state dict.
    for code in [&b"cos\nsystem\n)\x81."[..], b"cos\nsystem\n)}\x92."] {
        match open("x.pth", &torch(code, 4)) {
            Error::Pickle { global, .. } => assert_eq!(global, "os.system"),
            other => panic!("{other:?}"),
        }
    }
    for (code, expected) in [
        (&b")\x81."[..], "more off the stack than there is"),
        (b")}\x92.", "more off the stack than there is"),
        (b"K\x01)\x81.", "a call of what is no function"),
        (b"K\x01)}\x92.", "a call of what is no function"),
        // BYTEARRAY8 is data, and no state dict.
        (b"\x96\0\0\0\0\0\0\0\0.", "no dictionary of tensors"),
        (b"\x96\0\0\0\0\0\0\0\x80.", "it is truncated"),
    ] {
        malformed(&open("x.pth", &torch(code, 4)), expected);
    }
}

#[test]
fn calls_of_what_is_no_function() {
    for (code, expected) in [
        (
            &b"ctorch\nFloatStorage\n)R."[..],
            "a call of what is no function",
        ),
        (b"K\x01)R.", "a call of what is no function"),
        (
            b"ccollections\nOrderedDict\n(K\x01tR.",
            "a call of what is no function",
        ),
        (
            b"ccollections\nOrderedDict\nNR.",
            "a call without arguments",
        ),
        (b"K\x01}b.", "attributes are set on what is no dictionary"),
        (b"0.", "more off the stack than there is"),
        (b"(0.", "more off the stack than there is"),
        (b"t.", "items without a mark"),
        (b"h\x05.", "it recalls 5, which it never stored"),
        (b"X\xff\xff\xff\xffabc", "it is truncated"),
        (b"\x8d\0\0\0\0\0\0\0\x80abc", "it is truncated"),
        // An integer too long for any count is kept as data (a random generator's state is one).
        (b"\x8a\x09123456789.", "no dictionary of tensors"),
    ] {
        malformed(&open("x.pth", &torch(code, 4)), expected);
    }
}

/// 2^63 and its like, wherever a size can stand.
#[test]
fn sizes_that_overflow() {
    let big = i64::MAX;
    for (offset, shape) in [
        (0, &[big][..]),
        (0, &[big, big]),
        (0, &[1 << 32, 1 << 32]),
        (0, &[big, 3, 0]),
        (big, &[1]),
        (1 << 62, &[1]),
        (1, &[1]),
    ] {
        let strides = vec![1; shape.len()];
        let error = open("x.pth", &torch(&state("w", offset, shape, &strides), 4));
        malformed(&error, "does not fit its storage of 4 bytes");
    }
    for (offset, shape) in [(-1, &[1][..]), (0, &[-1]), (0, &[i64::MIN])] {
        let error = open("x.pth", &torch(&state("w", offset, shape, &[1]), 4));
        malformed(&error, "a size or stride that is no list of counts");
    }
    let header = |shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    for (shape, offsets, expected) in [
        ("[9223372036854775808]", "[0,4]", "doesn't fit its 4 bytes"),
        (
            "[4294967296,4294967296,4]",
            "[0,4]",
            "doesn't fit its 4 bytes",
        ),
        (
            "[18446744073709551616]",
            "[0,4]",
            "header entry is malformed",
        ),
        ("[1e300]", "[0,4]", "header entry is malformed"),
        ("[1]", "[0,9223372036854775808]", "it is truncated"),
        (
            "[1]",
            "[18446744073709551612,18446744073709551615]",
            "it is truncated",
        ),
        ("[1]", "[9223372036854775808,4]", "run backwards"),
    ] {
        let file = safetensors(header(shape, offsets).as_bytes(), &[0; 4]);
        malformed(&open("x.safetensors", &file), expected);
    }
    for length in [1_u64 << 63, u64::MAX, u64::MAX - 8, 100_000_001] {
        let file = [&length.to_le_bytes(), &b"{}"[..]].concat();
        malformed(
            &open("x.safetensors", &file),
            "not a safetensors file: its header would have",
        );
    }
}

#[test]
fn tensors_that_overlap_or_leave_their_file() {
    let two = |second: &str| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},
                "b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
        )
    };
    for (second, expected) in [
        ("[2,6]", "tensor `b` overlaps"),
        ("[0,4]", "tensor `b` overlaps"),
        ("[5,9]", "leaves a hole"),
        ("[6,10]", "the file has only 9"),
    ] {
        let file = safetensors(two(second).as_bytes(), &[0; 9]);
        malformed(&open("x.safetensors", &file), expected);
    }
}

/// Bytes of a zip file from `at` on replaced.
fn patched(mut file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn zips_that_unfold_or_lie() {
    let good = torch(&state("w", 0, &[1], &[1]), 4);
    let directory = good.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let second = directory + 46 + "x/data.pkl".len();
    let end = good.len() - 22;
    for (at, bytes, expected) in [
        // Compressed: what a bomb needs.
        (directory + 10, &b"\x08\0"[..], "compressed or encrypted"),
        (directory + 8, b"\x01\0", "compressed or encrypted"),
        // Two sizes; more than there is; the same bytes again under another name.
        (directory + 24, b"\xff\xff\0\0", "two different sizes"),
        (
            directory + 20,
            b"\xff\xff\xff\0\xff\xff\xff\0",
            "ends behind the file's end",
        ),
        (
            directory + 20,
            b"\xff\xff\xff\xff\xff\xff\xff\xff",
            "lacks its zip64 sizes",
        ),
        (second + 42, b"\0\0\0\0", "two entries overlap"),
        (directory + 42, b"\xff\xff\0\0", "points behind its end"),
        (end + 16, b"\xff\xff\xff\x7f", "points behind its end"),
        (end + 12, b"\xff\xff\xff\x7f", "are too many"),
        (end, b"XX", "no end record"),
    ] {
        let file = patched(good.clone(), at, bytes);
        malformed(&open("x.pth", &file), expected);
    }
    let twice = zip(&[("x/data.pkl", b"}."), ("x/data.pkl", b"}.")]);
    malformed(&open("x.pth", &twice), "comes twice");
    malformed(
        &open("x.pth", &zip(&[("y/other", b"")])),
        "without data.pkl",
    );
    malformed(
        &open("x.pth", &torch(&state("w", 0, &[2], &[1]), 4)),
        "does not fit its storage",
    );
    let long = vec![b'N'; (16 << 20) + 1];
    malformed(
        &open("x.pth", &torch(&long, 4)),
        "its data.pkl has 16777217 bytes",
    );
    let foreign = zip(&[("x/data.pkl", b"}."), ("x/byteorder", b"big")]);
    malformed(&open("x.pth", &foreign), "byte order is not little");
}

/// 2^63 in the fields that zip64 has for it.
#[test]
fn zip64_sizes_that_overflow() {
    let file = fixture("torch/state.pth");
    let at = file.windows(4).rposition(|w| w == b"PK\x06\x06").unwrap();
    let locator = file.windows(4).rposition(|w| w == b"PK\x06\x07").unwrap();
    for (at, expected) in [
        (at + 32, "too many"),
        (at + 40, "too many"),
        (at + 48, "behind its end"),
        (locator + 8, "behind its end"),
    ] {
        for number in [1_u64 << 63, u64::MAX, u64::MAX - 56] {
            let file = patched(file.clone(), at, &number.to_le_bytes());
            malformed(&open("x.pth", &file), expected);
        }
    }
}

/// What is stored once and named a thousand times must not be copied each time.
#[test]
fn pickles_that_unfold() {
    let wide = |each: &[u8]| {
        // Item 1 is a tuple of many ones; then `each`, again and again.
        let mut code = b"\x80\x02K\x01q\x00(".to_vec();
        code.extend(b"h\x00".repeat(20_000));
        code.extend(b"tq\x01");
        code.extend(each.repeat(20_000));
        code.push(b'.');
        torch(&code, 4)
    };
    malformed(&open("x.pth", &wide(b"h\x01Q")), "more than 8 arguments");
    let tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000tQK\0h\x01h\x01tR";
    malformed(&open("x.pth", &wide(tensor)), "more than 8 axes");
    // Tuples of tuples of tuples: 2^1000 items if anybody counted.
    let mut laughs = b"\x80\x02)".to_vec();
    laughs.extend(b"q\x000h\x00h\x00\x86".repeat(1000));
    laughs.push(b'.');
    malformed(&open("x.pth", &torch(&laughs, 4)), "holds no dictionary");
    // A dictionary that holds itself holds no tensors.
    let dir = TempDir::new().unwrap();
    let path = put(dir.path(), "x.pth", &torch(b"}q\0X\x01\0\0\0ah\0s.", 4));
    assert_eq!(Weights::open_files([path]).unwrap().iter().count(), 0);
}

/// An index that leads elsewhere or to itself.
#[test]
fn indices_that_lead_astray() {
    let refuse = |shard: &str, prepare: &dyn Fn(&Path)| {
        let dir = TempDir::new().unwrap();
        prepare(dir.path());
        let index = serde_json::json!({"weight_map": {"w": shard}}).to_string();
        put(dir.path(), INDEX, index.as_bytes());
        Weights::open_dir(dir.path()).unwrap_err()
    };
    const INDEX: &str = "model.safetensors.index.json";
    let nothing: &dyn Fn(&Path) = &|_| {};
    for shard in [
        "../x.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "./x.safetensors",
        "..",
        ".",
        "",
        "x.safetensors/",
        "~/../x",
    ] {
        let outside: &dyn Fn(&Path) = &|_| {};
        malformed(&refuse(shard, outside), "is not a plain file name");
    }
    malformed(&refuse("x\0.safetensors", nothing), "is missing");
    // Its own name, and the name of another index that names it.
    malformed(&refuse(INDEX, nothing), "not a safetensors file");
    let other = |dir: &Path| {
        let back = serde_json::json!({"weight_map": {"w": INDEX}}).to_string();
        put(dir, "other.index.json", back.as_bytes());
    };
    malformed(
        &refuse("other.index.json", &other),
        "not a safetensors file",
    );
    // A folder, and a link to itself.
    let folder = |dir: &Path| std::fs::create_dir(dir.join("s")).unwrap();
    malformed(&refuse("s", &folder), "is missing");
    #[cfg(unix)]
    {
        let circle = |dir: &Path| std::os::unix::fs::symlink("s", dir.join("s")).unwrap();
        malformed(&refuse("s", &circle), "is missing");
    }
}
