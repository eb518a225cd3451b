//! The same bytes however a run is cut: kills, shards, threads, batches.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use popalign::data::dataset::Dataset;
use popalign::random::{Purpose, Stream};

use crate::process::stderr;
use crate::world::{DEMO, SDXL, World, json, listing, same};

const PROMPTS: [&str; 3] = ["doctor", "cook", "man in a hat"];

/// Three prompts of 8 neutral and 12 specific captions' pictures, filtered: 60 pictures, 4 units,
/// the last one short.
fn options() -> Vec<&'static str> {
    let axes = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pipeline/axes.toml"
    );
    let rest = "--neutral 8 --specific 1 --steps 4 --seed 3 --filter";
    let mut options = vec!["--axes", axes];
    options.extend(rest.split(' '));
    options
}

fn world() -> (World, String) {
    let chain = SDXL.bundle.join("chain.toml").display().to_string();
    (World::new(&SDXL, &PROMPTS), chain)
}

fn with<'a>(chain: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all: Vec<&str> = options();
    all.push(chain);
    all.extend(more);
    all
}

#[test]
fn killed_anywhere_it_goes_on_to_the_bytes_of_an_unbroken_run() {
    let (world, chain) = world();
    let options = with(&chain, &["--threads", "2"]);
    let start = Instant::now();
    let whole = world.done("whole", &options);
    let unbroken = start.elapsed().as_millis() as u32;
    let mut kills = 0;
    for trial in 0..3 {
        let name = format!("killed-{trial}");
        let mut moments = Stream::new(11, Purpose::Shuffle, trial, 0, 0);
        loop {
            let mut command = world.command(&name, &options);
            command.stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            // At any moment of an unbroken run, starting and ending included.
            let moment = u64::from(moments.below(unbroken.max(2)));
            std::thread::sleep(Duration::from_millis(moment));
            let ended = child.try_wait().unwrap();
            child.kill().unwrap();
            let status = child.wait().unwrap();
            if ended.is_some() {
                assert!(status.success());
                break;
            }
            kills += 1;
            assert!(kills < 200, "it never gets anywhere");
        }
        same(&whole, &world.path(&name));
    }
    assert!(kills > 3, "only {kills} kills");
}

#[test]
fn shards_threads_and_batches_change_no_byte() {
    let (world, chain) = world();
    let whole = world.done("whole", &with(&chain, &["--threads", "2"]));
    // The later shard first; the folder is complete when both are done.
    for shard in ["1/2", "0/2"] {
        let found = world.done("shards", &with(&chain, &["--shard", shard]));
        let complete = json(found.join("manifest.json")).get("outcome").is_some();
        assert_eq!(complete, shard == "0/2");
    }
    same(&whole, &world.path("shards"));
    for (threads, batch) in [("1", "4"), ("2", "1"), ("1", "3"), ("3", "16")] {
        let name = format!("{threads}-{batch}");
        let more = ["--threads", threads, "--batch", batch];
        same(&whole, &world.done(&name, &with(&chain, &more)));
    }
}

/// The arithmetic of a real model: wider than a CPU's vectors, with products worth splitting.
#[test]
fn the_demo_model_gives_the_same_bits_at_any_batch_and_threads() {
    let world = World::new(&DEMO, &["a photo of a doctor", "a photo of a house"]);
    let run = |name: &str, threads: &str, batch: &str| {
        // Fewer units than threads: a worker has several threads.
        let options = ["--neutral", "5", "--steps", "3", "--threads", threads];
        world.done(name, &[&options[..], &["--batch", batch]].concat())
    };
    let whole = run("whole", "1", "8");
    for (threads, batch) in [("2", "8"), ("1", "1"), ("2", "3"), ("3", "16")] {
        same(&whole, &run(&format!("{threads}-{batch}"), threads, batch));
    }
}

#[test]
fn shards_at_the_same_time_share_a_folder() {
    let (world, chain) = world();
    let whole = world.done("whole", &with(&chain, &[]));
    let spawn = |shard| {
        let mut command = world.command("both", &with(&chain, &["--shard", shard]));
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = ["0/3", "1/3", "2/3"].map(spawn);
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    same(&whole, &world.path("both"));
}

#[test]
fn an_interrupted_run_ends_with_130_and_goes_on() {
    let (world, chain) = world();
    let whole = world.done("whole", &with(&chain, &[]));
    let mut command = world.command("cut", &with(&chain, &["--threads", "1"]));
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    // The embeddings are there: drawing has begun.
    let begun = Instant::now();
    while !world.path("cut/text.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    interrupt(child.id());
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("the same command goes on"), "{text}");
    assert!(Dataset::open(world.path("cut")).is_err());
    same(&whole, &world.done("cut", &with(&chain, &[])));
}

fn interrupt(process: u32) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -INT {process}")])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_complete_data_set_stays_as_it_is() {
    let (world, chain) = world();
    let whole = world.done("whole", &with(&chain, &[]));
    let before = listing(&whole);
    let written = modified(&whole);
    let output = world.run("whole", &with(&chain, &["--json"]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("0 drawn now"));
    assert_eq!(before, listing(&whole));
    assert_eq!(written, modified(&whole));
}

fn modified(dir: &Path) -> std::time::SystemTime {
    let latents = dir.join("latents-00000.safetensors");
    latents.metadata().unwrap().modified().unwrap()
}

#[test]
fn what_is_written_is_a_data_set_with_verdicts() {
    let (world, chain) = world();
    let set = Dataset::open(world.done("set", &with(&chain, &[]))).unwrap();
    assert_eq!(set.rows().len(), 60);
    assert!(set.dir().join("axes.toml").is_file());
    let outcome = set.manifest().outcome.clone().unwrap();
    assert_eq!(outcome.kept, set.kept().count());
    assert_eq!(
        outcome.dropped.values().sum::<usize>(),
        60 - outcome.kept,
        "{outcome:?}"
    );
    for (index, row) in set.rows().iter().enumerate() {
        let path = set.image_path(index).unwrap();
        let hash = popalign::base::fsio::sha256(&path).unwrap();
        assert_eq!(row.sha256.as_ref(), Some(&hash));
        // Dropped for what the chain saw, or because it could not see.
        let mismatch = row
            .dropped
            .as_ref()
            .is_some_and(|r| r.starts_with("mismatch:"));
        assert_eq!(row.verdict.is_some(), row.dropped.is_none() || mismatch);
    }
    // With a random model the classifier finds something to drop.
    assert!(!outcome.dropped.is_empty());
}

#[test]
fn pictures_are_kept_as_asked() {
    let world = World::new(&SDXL, &["ox"]);
    let run = |format: &str| {
        let options = ["--neutral", "2", "--steps", "2", "--format", format];
        Dataset::open(world.done(format, &options)).unwrap()
    };
    let (png, jpg, none) = (run("png"), run("jpg"), run("none"));
    let open = |set: &Dataset| image::open(set.image_path(1).unwrap()).unwrap().into_rgb8();
    let (exact, near) = (open(&png), open(&jpg));
    assert_eq!(exact.dimensions(), near.dimensions());
    let total: u32 = exact
        .iter()
        .zip(near.iter())
        .map(|(a, b)| u32::from(a.abs_diff(*b)))
        .sum();
    // Quality 95: a few grey levels on average even on noise.
    assert!(total / exact.len() as u32 <= 12, "{total}");
    assert_eq!(none.rows()[1].file_name, None);
    assert!(!none.dir().join("images").exists());
    assert_eq!(none.latents(1).unwrap(), png.latents(1).unwrap());
}
