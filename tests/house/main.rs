//! The order of the rooms: every folder of `src` stands above all that it imports, and no files
//! import each other in a circle. ARCHITECTURE.md lists the rooms in the same order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod plan;
mod source;

use std::path::Path;

use plan::{Files, problems};

/// The rooms, bottom up.
const ROOMS: [&str; 22] = [
    "base",
    "store",
    "random",
    "tensors",
    "picture",
    "graph",
    "runtime",
    "device",
    "hub",
    "lora",
    "family",
    "nets",
    "bundle",
    "prompts",
    "diffusion",
    "judge",
    "data",
    "datagen",
    "align",
    "score",
    "studio",
    "cli",
];

/// The crate's files but for the commands, which stand above everything.
fn house() -> Files {
    let mut files = Files::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                let name = name.to_str().unwrap().to_owned();
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    files.retain(|name, _| !name.starts_with("src/bin/"));
    files
}

#[test]
fn rooms_stand_above_what_they_import_and_nothing_runs_in_a_circle() {
    let problems = problems(&house(), &ROOMS);
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_map_lists_the_rooms_in_their_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).unwrap();
    let room = |line: &str| {
        let cell = line.strip_prefix("| `src/")?.split('`').next()?;
        Some(cell.trim_end_matches(".rs").to_owned())
    };
    let listed: Vec<String> = text.lines().filter_map(room).collect();
    let top_down: Vec<&str> = ["bin"].into_iter().chain(ROOMS.into_iter().rev()).collect();
    assert_eq!(listed, top_down);
}

/// A small house whose rooms are `low`, `middle` and `top`.
fn small(changes: &[(&str, &str)]) -> Vec<String> {
    let mut files = Files::new();
    let own = [
        (
            "src/lib.rs",
            "pub mod low;\npub mod middle;\npub mod top;\n",
        ),
        ("src/low.rs", "pub struct Low;\n"),
        (
            "src/middle/mod.rs",
            "mod a;\nmod b;\n\npub use a::A;\npub(crate) use b::B;\n",
        ),
        (
            "src/middle/a.rs",
            "use crate::low::Low;\n\npub struct A(Low);\n",
        ),
        (
            "src/middle/b.rs",
            "use super::A;\n\npub(crate) struct B(A);\n",
        ),
        ("src/top.rs", "use crate::{low, middle::{self, A}};\n"),
    ];
    for (name, text) in own.iter().chain(changes) {
        files.insert((*name).to_owned(), (*text).to_owned());
    }
    problems(&files, &["low", "middle", "top"])
}

#[test]
fn an_upward_import_is_named_with_its_line_however_it_is_written() {
    assert_eq!(small(&[]), [""; 0]);
    for import in [
        "use crate::middle::A;",
        "use crate::{middle::A};",
        "use crate::middle::{\n    A,\n};",
        "use super::middle::A as Other;",
        "use crate::middle;",
        "pub use crate::middle::A;",
        "fn f(_: &crate::middle::A) {}",
    ] {
        let low = format!("pub struct Low;\n\n{import}\n");
        let found = small(&[("src/low.rs", &low)]);
        let expected = "upwards: src/low.rs:3 imports middle";
        assert!(found[0].starts_with(expected), "{import}: {found:?}");
    }
    // What is no code, or is for tests, imports nothing.
    let low = "pub struct Low; // crate::middle::A\nconst S: &str = \"crate::middle::A\";\n\
        #[cfg(test)]\nmod tests {\n    use crate::middle::A;\n}\n";
    assert_eq!(small(&[("src/low.rs", low)]), [""; 0]);
}

#[test]
fn a_circle_is_found_through_faces_and_module_names() {
    for a in [
        "use super::B;\n\npub struct A(B);\n",
        "use crate::middle::b;\n\npub struct A(b::B);\n",
    ] {
        let found = small(&[("src/middle/a.rs", a)]);
        assert!(found[0].contains("a circle: src/middle/a.rs:"), "{found:?}");
        assert!(
            found[0].contains("src/middle/b.rs:1 imports middle::A"),
            "{found:?}"
        );
    }
    let face = "mod a;\nmod b;\n\npub use a::A;\nuse b::B;\n\npub struct C(B);\n";
    let b = "use super::C;\n\npub(crate) struct B(C);\n";
    let found = small(&[("src/middle/mod.rs", face), ("src/middle/b.rs", b)]);
    assert!(
        found[0].contains("src/middle/mod.rs:5 imports middle::b::B"),
        "{found:?}"
    );
    let stray = small(&[("src/other.rs", "")]);
    assert_eq!(stray, ["src/other.rs stands in no room"]);
}
