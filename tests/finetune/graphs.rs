//! The training graphs that a run makes for itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use popalign::graph::{check, external_files};
use popalign::runtime::{Ep, Runtime, Session, SessionOptions};

use crate::process::stderr;
use crate::world::{World, log};

/// Every file that the model points to stands beside it, and is the bundle's own.
#[track_caller]
fn linked(model: &Path, bundle: &Path) {
    let folder = model.parent().unwrap();
    let files = external_files(&fs::read(model).unwrap()).unwrap();
    assert!(!files.is_empty());
    for file in files {
        let inode = |dir: &Path| fs::metadata(dir.join(&file)).unwrap().ino();
        assert_eq!(inode(folder), inode(&bundle.join("unet_grad")), "{file}");
    }
}

#[test]
fn the_graphs_that_would_run_are_written_also_for_a_gpu_that_is_not_here() {
    let world = World::new();
    let dir = world.dir().join("graphs");
    let graphs = dir.to_str().unwrap();
    for target in ["plain", "cuda"] {
        let options = [
            "--write-graph",
            graphs,
            "--target",
            target,
            "--preserve",
            "0.5",
        ];
        let output = world.run(&[&options[..], &["--batch", "2", "--micro-batch", "4"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!world.out().exists(), "nothing is trained");
        let folder = dir.join("unet_grad");
        let names: BTreeSet<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".onnx"))
            .collect();
        // Two pairs are a whole micro-batch; the preserved picture is one of its own.
        let expected = ["model-1x8x6.onnx", "model.onnx"].map(String::from);
        assert_eq!(names, BTreeSet::from(expected), "{target}");
        for name in names {
            let model = folder.join(name);
            linked(&model, &world.bundle());
            check(&model).unwrap();
            let options = SessionOptions {
                finished: true,
                ..SessionOptions::new(Ep::Cpu, 0, 1)
            };
            let session = Session::open(&Runtime::load().unwrap(), &model, &options).unwrap();
            // Sizes are numbers, the LoRA's factors are inputs like others.
            let inputs = session.inputs();
            assert!(
                inputs
                    .iter()
                    .all(|spec| spec.dims.iter().all(Option::is_some))
            );
            assert!(
                inputs
                    .iter()
                    .any(|spec| spec.name.ends_with("lora_A.weight"))
            );
        }
    }
}

#[test]
fn operators_that_the_provider_lacks_are_refused() {
    let world = World::new();
    let output = world.run(&["--ep", "cpu", "--target", "cuda", "--steps", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("--target cuda: this run is on the CPU"),
        "{text}"
    );
    assert!(!world.out().exists());
}

/// Roundings of the errors, about 1e-7 of them, times a β of 5000.
const LOSS: f64 = 1e-3;

/// Blocks computed again, attention cut, other operators: the same run, but for roundings.
#[test]
fn how_a_graph_is_made_changes_no_number() {
    let world = World::new();
    let losses = |options: &[&str]| -> Vec<f64> {
        let _ = fs::remove_dir_all(world.out());
        world.trained(&[&["--steps", "3", "--batch", "2", "--warmup", "0"], options].concat());
        let lines = log(&world.out().join("log.jsonl"));
        lines
            .iter()
            .map(|line| line["loss"].as_f64().unwrap())
            .collect()
    };
    let expected = losses(&[]);
    assert_eq!(expected.len(), 3);
    for options in [
        &["--checkpointing", "on"][..],
        &["--checkpointing", "off", "--attention-memory", "1"],
        &["--target", "plain"],
    ] {
        for (a, b) in losses(options).iter().zip(&expected) {
            assert!((a - b).abs() <= LOSS * b.abs(), "{options:?}: {a} and {b}");
        }
    }
}

/// What a bundle was exported with, its graphs for a run have too.
#[test]
fn an_export_with_checkpointing_trains_with_it() {
    let world = World::new();
    world.export(&["--lora-rank", "3", "--checkpointing"]);
    let output = world.run(&["--steps", "1", "--batch", "1", "--attention-memory", "64"]);
    assert!(
        stderr(&output).contains("blocks computed again"),
        "{}",
        stderr(&output)
    );
    let output = world.run(&["--steps", "2", "--batch", "1", "--checkpointing", "off"]);
    assert!(
        !stderr(&output).contains("blocks computed again"),
        "{}",
        stderr(&output)
    );
}
