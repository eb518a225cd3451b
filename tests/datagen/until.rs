//! `--until`: each caption is drawn until enough pictures pass the filter, and what the filter drops is
//! kept or deleted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use popalign::data::dataset::{Dataset, PictureRow};
use popalign::random::{Purpose, Stream};

use crate::process::{failed, stderr};
use crate::world::{SDXL, World, json, listing, same};

const ENOUGH: usize = 3;
const MOST: usize = 9;

fn world() -> World {
    World::new(&SDXL, &["doctor", "cook"])
}

/// Two prompts of a neutral and 12 specific captions; the random model's pictures are dropped often.
fn options(more: &[&str]) -> Vec<String> {
    let axes = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pipeline/axes.toml"
    );
    let chain = SDXL.bundle.join("chain.toml").display().to_string();
    let options = format!("--steps 2 --seed 3 --axes {axes} --filter {chain}");
    let options = options.split(' ').chain(more.iter().copied());
    options.map(str::to_owned).collect()
}

fn until(world: &World, out: &str, more: &[&str]) -> String {
    let until = ["--until", "3", "--until-limit", "3"];
    run(world, out, &[&until, more].concat())
}

#[track_caller]
fn run(world: &World, out: &str, more: &[&str]) -> String {
    let options = options(more);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let output = world.run(out, &options);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stderr(&output)
}

/// A set's rows by caption.
fn captions(set: &Dataset) -> BTreeMap<&str, Vec<&PictureRow>> {
    let mut captions: BTreeMap<&str, Vec<&PictureRow>> = BTreeMap::new();
    for row in set.rows() {
        captions.entry(&row.prompt).or_default().push(row);
    }
    captions
}

#[test]
fn each_caption_has_the_first_pictures_that_pass() {
    let world = world();
    let said = until(&world, "out", &[]);
    let set = Dataset::open(world.path("out")).unwrap();
    let all = run(&world, "all", &["--neutral", "9", "--specific", "9"]);
    assert!(all.contains("complete"), "{all}");
    let all = Dataset::open(world.path("all")).unwrap();
    let (drawn, all) = (captions(&set), captions(&all));
    assert_eq!(drawn.len(), all.len());
    let (mut full, mut short) = (0, 0);
    for (caption, rows) in &drawn {
        // The same pictures as without a goal, up to the last that was needed.
        for (row, expected) in rows.iter().zip(&all[caption]) {
            assert_eq!(row.image_id, expected.image_id);
            assert_eq!(row.sha256, expected.sha256);
            assert_eq!(row.dropped, expected.dropped);
        }
        let kept = rows.iter().filter(|row| row.dropped.is_none()).count();
        if kept == ENOUGH {
            full += 1;
            assert!(rows.last().unwrap().dropped.is_none(), "{caption}");
        } else {
            short += 1;
            assert!(kept < ENOUGH && rows.len() == MOST, "{caption}: {kept}");
        }
    }
    assert!(full > 0 && short > 0, "{full} full, {short} short");
    let expected = format!("{short} captions have fewer pictures that passed");
    assert!(said.contains(&expected), "{said}");
    let manifest = json(world.path("out/manifest.json"));
    let until = serde_json::json!({"neutral": 3, "specific": 3, "limit": 3});
    assert_eq!(manifest["config"]["until"], until);
    let outcome = set.manifest().outcome.as_ref().unwrap();
    assert_eq!(outcome.kept, set.kept().count());
    assert_eq!(
        outcome.dropped.values().sum::<usize>(),
        set.rows().len() - outcome.kept
    );
    assert!(set.latents(set.rows().len() - 1).is_ok());
}

#[test]
fn the_bytes_are_the_same_however_it_is_cut() {
    let world = world();
    until(&world, "whole", &["--threads", "2"]);
    for (threads, batch) in [("1", "1"), ("3", "16")] {
        until(&world, "cut", &["--threads", threads, "--batch", batch]);
        same(&world.path("whole"), &world.path("cut"));
        fs::remove_dir_all(world.path("cut")).unwrap();
    }
    let mut parts = 0;
    for shard in ["2/3", "0/3", "1/3"] {
        until(&world, "shards", &["--shard", shard]);
        let done = json(world.path("shards/manifest.json"));
        parts += usize::from(done.get("outcome").is_none());
    }
    assert_eq!(parts, 2, "the last shard completes it");
    same(&world.path("whole"), &world.path("shards"));
}

#[test]
fn killed_anywhere_it_goes_on() {
    let world = world();
    let start = Instant::now();
    until(&world, "whole", &["--threads", "2", "--rejected", "delete"]);
    let unbroken = start.elapsed().as_millis() as u32;
    let mut moments = Stream::new(5, Purpose::Shuffle, 0, 0, 0);
    let mut kills = 0;
    let more = ["--until", "3", "--until-limit", "3", "--rejected", "delete"];
    let options = options(&more);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    loop {
        let mut command = world.command("killed", &options);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let moment = u64::from(moments.below(unbroken.max(2)));
        std::thread::sleep(Duration::from_millis(moment));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if ended.is_some() {
            break;
        }
        kills += 1;
        assert!(kills < 100, "it never gets anywhere");
    }
    same(&world.path("whole"), &world.path("killed"));
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn what_is_dropped_is_deleted_where_that_is_asked_for() {
    let world = world();
    until(&world, "kept", &[]);
    until(&world, "deleted", &["--rejected", "delete"]);
    let (kept, out) = (world.path("kept"), world.path("deleted"));
    let (before, after) = (Dataset::open(&kept).unwrap(), Dataset::open(&out).unwrap());
    let counts = |set: &Dataset| {
        let outcome = set.manifest().outcome.clone().unwrap();
        (outcome.kept, outcome.dropped)
    };
    assert_eq!(counts(&before), counts(&after));
    assert_eq!(before.rows().len(), after.rows().len());
    for (index, (a, b)) in before.rows().iter().zip(after.rows()).enumerate() {
        assert_eq!((&a.prompt, a.image_id), (&b.prompt, b.image_id));
        assert_eq!((&a.dropped, &a.verdict), (&b.dropped, &b.verdict));
        assert_eq!(b.file_name.is_some(), b.dropped.is_none());
        assert_eq!(
            before.latents(index).unwrap(),
            after.latents(index).unwrap()
        );
    }
    // Who reads metadata.jsonl finds only pictures that are there.
    assert_eq!(lines(&out.join("metadata.jsonl")), after.kept().count());
    let images = listing(&out.join("images"));
    assert_eq!(images.len(), after.kept().count());
    assert_eq!(
        lines(&out.join("rejected.jsonl")),
        after.rows().len() - after.kept().count()
    );
    // Without a goal it is an option too.
    let quick = ["--neutral", "4", "--specific", "0", "--rejected", "delete"];
    run(&world, "plain", &quick);
    assert_eq!(Dataset::open(world.path("plain")).unwrap().rows().len(), 8);
}

#[test]
fn what_is_missing_is_made_again() {
    let world = world();
    let more = ["--rejected", "delete"];
    until(&world, "whole", &more);
    let (whole, out) = (world.path("whole"), world.path("out"));
    let picture = listing(&whole.join("images")).into_keys().next().unwrap();
    let picture = format!("images/{picture}");
    for file in ["rejected.jsonl", &picture, "latents-00003.safetensors"] {
        crate::world::copy(&whole, &out);
        fs::copy(whole.join(".lock"), out.join(".lock")).unwrap();
        fs::remove_file(out.join(file)).unwrap();
        until(&world, "out", &more);
        same(&whole, &out);
    }
    let rows = fs::read(whole.join("metadata.jsonl")).unwrap();
    fs::write(out.join("metadata.jsonl"), &rows[..rows.len() / 2]).unwrap();
    let said = until(&world, "out", &more);
    assert!(said.contains("metadata.jsonl"), "{said}");
    same(&whole, &out);
}

#[test]
fn combinations_that_make_no_sense_are_refused() {
    let world = world();
    let axes = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pipeline/axes.toml"
    );
    let chain = SDXL.bundle.join("chain.toml").display().to_string();
    let goal = ["--until", "3", "--filter", &chain];
    for (options, code, expected) in [
        (&["--until", "3"][..], 2, "--filter"),
        (&["--rejected", "delete"], 2, "--filter"),
        (&["--until-limit", "3"], 2, "--until"),
        (&[&goal[..], &["--neutral", "3"]].concat(), 2, "--neutral"),
        (&["--until", "x", "--filter", &chain], 2, "N or NEUTRAL"),
        (
            &["--until", "3,4", "--filter", &chain],
            1,
            "specific captions",
        ),
        (&["--until", "0", "--filter", &chain], 1, "asks for none"),
        (
            &[&goal[..], &["--format", "none", "--rejected", "delete"]].concat(),
            1,
            "keeps no pictures",
        ),
        (
            &[
                "--until",
                "1000000",
                "--until-limit",
                "1000",
                "--axes",
                axes,
                "--filter",
                &chain,
            ],
            1,
            "--until-limit 1000",
        ),
    ] {
        failed(&world.run("out", options), code, &[expected]);
        assert!(!world.path("out").exists());
    }
}

#[test]
fn a_dry_run_tells_the_least_and_the_most() {
    let world = world();
    let more = [
        "--until",
        "3,2",
        "--until-limit",
        "3",
        "--dry-run",
        "--json",
    ];
    let options = options(&more);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let output = world.run("out", &options);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let specific = (found["captions"].as_u64().unwrap() - 2) * 2;
    assert_eq!(found["todo"], 2 * 3 + specific);
    assert_eq!(found["most"], 3 * (2 * 3 + specific));
}
