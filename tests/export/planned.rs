//! `pa-export --plan`, and the options that change what graphs take and not what they compute.

use std::fs;
use std::path::Path;

use popalign::bundle::Part;

use crate::checkpoint::{World, pa_export};
use crate::outputs::outputs;
use crate::process::stderr;

/// The estimates that `--plan` prints: (part, batch, activations in bytes).
fn plan(src: &Path, options: &[&str]) -> Vec<(String, u64, u64)> {
    let output = pa_export()
        .arg(src)
        .args(["--plan", "--json"])
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let part = event["part"].as_str().unwrap().to_owned();
        let number = |key: &str| event[key].as_u64().unwrap();
        assert!(number("weights") > 0 && number("largest") <= number("activations"));
        (part, number("batch"), number("activations"))
    };
    text.lines().map(line).collect()
}

#[test]
fn a_plan_covers_parts_and_batches_and_writes_nothing() {
    let world = World::new();
    let before = world.leftovers();
    let estimates = plan(&world.src(), &["--parts", "unet,unet_grad"]);
    // Two parts, three sizes, four batches.
    assert_eq!(estimates.len(), 24);
    let of = |part: &str, batch: u64| {
        let found = estimates.iter().filter(|e| e.0 == part && e.1 == batch);
        found.map(|e| e.2).max().unwrap()
    };
    assert!(of("unet_grad", 1) > of("unet", 1));
    assert!(of("unet", 8) > 4 * of("unet", 1));
    assert_eq!(world.leftovers(), before);
}

#[test]
fn checkpointing_takes_less_and_computes_the_same() {
    let world = World::new();
    let grad = ["--parts", "unet_grad", "--batch", "4"];
    let [plain, less] = [&[][..], &["--checkpointing", "--attention-memory", "1"]].map(|more| {
        plan(&world.src(), &[&grad, more].concat())
            .iter()
            .map(|e| e.2)
            .max()
    });
    assert!(less < plain, "{less:?} is not less than {plain:?}");

    let output = world.export(&["--parts", "unet_grad"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = outputs(&world.out(), Part::UnetGrad);
    fs::remove_dir_all(world.out()).unwrap();
    let output = world.export(&[&grad[..], &["--checkpointing"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(outputs(&world.out(), Part::UnetGrad), expected);
}

#[test]
fn a_size_that_cannot_be_drawn_is_refused() {
    let world = World::new();
    let output = world.export(&["--size", "33x64"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("--size 33x64") && text.contains("multiples of"),
        "{text}"
    );
    assert!(!world.out().exists());
}
