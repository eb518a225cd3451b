//! `pa-datagen merge`, `check` and `tar`, and shards by launcher.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use popalign::data::dataset::Dataset;
use serde_json::Value;

use crate::process::{self, failed, stderr, succeeded};
use crate::world::{SDXL, World, json, listing, same};

/// 24 pictures: two units.
const QUICK: [&str; 4] = ["--neutral", "12", "--steps", "2"];

fn world() -> World {
    World::new(&SDXL, &["ox", "doctor"])
}

fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&QUICK[..], more].concat()
}

/// Runs a tool on folders of a world.
fn tool(world: &World, words: &[&str]) -> Output {
    let mut command = process::pa_datagen();
    command.args(words).current_dir(world.path(""));
    command.output().unwrap()
}

/// The kinds of problems that a check finds, with the exit code.
fn problems(world: &World, dir: &str) -> (Option<i32>, Vec<String>) {
    let output = tool(world, &["check", dir, "--json"]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<Value> = events.collect();
    let kinds = events.iter().filter(|event| event["event"] == "problem");
    let kinds = kinds.map(|event| event["kind"].as_str().unwrap().to_owned());
    (output.status.code(), kinds.collect())
}

/// A copy of a set.
fn copied(world: &World, from: &str, to: &str) {
    let _ = fs::remove_dir_all(world.path(to));
    for (name, bytes) in listing(&world.path(from)) {
        let path = world.path(to).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn shards_with_folders_of_their_own_are_merged_to_the_bytes_of_one_run() {
    let world = world();
    world.done("whole", &QUICK);
    for shard in ["0/2", "1/2"] {
        world.done(&shard.replace('/', "-"), &quick(&["--shard", shard]));
    }
    succeeded(&tool(&world, &["merge", "0-2", "1-2", "--out", "merged"]));
    same(&world.path("whole"), &world.path("merged"));
    // Once more, and with a finished set among them.
    succeeded(&tool(&world, &["merge", "0-2", "whole", "--out", "again"]));
    same(&world.path("whole"), &world.path("again"));
    // What is missing is said, and can be drawn.
    let output = tool(&world, &["merge", "1-2", "--out", "half"]);
    failed(&output, 1, &["1 of 2 units are in none", "hint: "]);
    world.done("half", &QUICK);
    same(&world.path("whole"), &world.path("half"));
    assert_eq!(problems(&world, "half"), (Some(0), vec![]));
}

#[test]
fn captions_with_enough_are_merged_too() {
    let world = world();
    let axes = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pipeline/axes.toml"
    );
    let chain = SDXL.bundle.join("chain.toml").display().to_string();
    let options = format!("--steps 2 --seed 3 --axes {axes} --filter {chain} --until 2");
    let options: Vec<&str> = options.split(' ').collect();
    world.done("whole", &options);
    for (name, shard) in [("a", "0/2"), ("b", "1/2")] {
        world.done(name, &[&options[..], &["--shard", shard]].concat());
    }
    succeeded(&tool(&world, &["merge", "a", "b", "--out", "merged"]));
    same(&world.path("whole"), &world.path("merged"));
    assert_eq!(problems(&world, "merged"), (Some(0), vec![]));
}

#[test]
fn data_sets_that_do_not_belong_together_are_not_merged() {
    let world = world();
    world.done("a", &quick(&["--shard", "0/2"]));
    world.done("b", &quick(&["--shard", "1/2", "--seed", "7"]));
    let merge = |dirs: &[&str]| tool(&world, &[&["merge", "--out", "out"], dirs].concat());
    failed(&merge(&["a", "b"]), 1, &["another `seed`"]);
    failed(&merge(&["a", "none"]), 1, &["none is not a data set"]);
    failed(&merge(&[]), 2, &["DIR"]);
    copied(&world, "a", "c");
    let latents = world.path("c/latents-00000.safetensors");
    let mut bytes = fs::read(&latents).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&latents, bytes).unwrap();
    let expected = ["a and c differ in unit 0"];
    failed(&merge(&["a", "c"]), 1, &expected);
    fs::create_dir(world.path("own")).unwrap();
    fs::write(world.path("own/letter.txt"), "").unwrap();
    let output = tool(&world, &["merge", "a", "--out", "own"]);
    failed(&output, 1, &["own is not empty"]);
}

/// Changes the rows of a set.
fn rows(world: &World, dir: &str, change: impl Fn(Vec<&str>) -> Vec<String>) {
    let path = world.path(dir).join("metadata.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let lines = change(text.lines().collect());
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

#[test]
fn a_check_finds_what_is_wrong() {
    let world = world();
    world.done("whole", &QUICK);
    assert_eq!(problems(&world, "whole"), (Some(0), vec![]));
    let names: Vec<String> = listing(&world.path("whole/images")).into_keys().collect();
    let image = |dir: &str, index: usize| world.path(dir).join("images").join(&names[index]);
    let found = |damage: &dyn Fn(&Path)| {
        copied(&world, "whole", "out");
        damage(&world.path("out"));
        problems(&world, "out")
    };
    let wrong = |kinds: &[&str]| (Some(1), kinds.iter().map(|&k| k.to_owned()).collect());
    let removed = found(&|_| fs::remove_file(image("out", 3)).unwrap());
    assert_eq!(removed, wrong(&["missing"]));
    let changed = found(&|_| fs::write(image("out", 3), "").unwrap());
    assert_eq!(changed, wrong(&["changed"]));
    let latents = found(&|out| fs::remove_file(out.join("latents-00001.safetensors")).unwrap());
    assert_eq!(latents, wrong(&["missing"]));
    let strange = found(&|out| fs::write(out.join("images/own.png"), "").unwrap());
    assert_eq!(strange, wrong(&["stranger"]));
    let hole = found(&|_| {
        rows(&world, "out", |lines| {
            let kept = lines.iter().enumerate().filter(|(index, _)| *index != 5);
            kept.map(|(_, line)| (*line).to_owned()).collect()
        });
    });
    // Its picture is nobody's then.
    assert_eq!(hole, wrong(&["changed", "hole", "stranger"]));
    let twice = found(&|_| {
        rows(&world, "out", |mut lines| {
            lines.push(lines[5]);
            lines.into_iter().map(str::to_owned).collect()
        });
    });
    assert_eq!(twice, wrong(&["changed", "twice", "alike"]));
    world.done("half", &quick(&["--shard", "0/2"]));
    assert_eq!(problems(&world, "half"), wrong(&["unfinished"]));
    fs::remove_file(image("half", 3)).unwrap();
    assert_eq!(problems(&world, "half"), wrong(&["missing", "unfinished"]));
    failed(&tool(&world, &["check", "none"]), 1, &["not a data set"]);
    let output = tool(&world, &["check", "whole", "out"]);
    failed(
        &output,
        1,
        &["whole: whole, 24 pictures", "3 problems were found"],
    );
}

/// The files of a tar, which a reader finds by the sizes in its headers.
fn entries(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (mut at, mut found) = (0, Vec::new());
    while tar[at] != 0 {
        let name = text(&tar[at..at + 100]).trim_end_matches('\0').to_owned();
        let size = usize::from_str_radix(&text(&tar[at + 124..at + 135]), 8).unwrap();
        found.push((name, tar[at + 512..at + 512 + size].to_vec()));
        at += 512 + size.next_multiple_of(512);
    }
    assert_eq!(tar.len(), at + 1024);
    found
}

#[test]
fn tars_hold_pictures_captions_rows_and_latents() {
    let world = world();
    let out = world.done("out", &QUICK);
    succeeded(&tool(
        &world,
        &["tar", "out", "--out", "tars", "--per-tar", "10"],
    ));
    let tars = listing(&world.path("tars"));
    let names: Vec<&str> = tars.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "pictures-000000.tar",
            "pictures-000001.tar",
            "pictures-000002.tar"
        ]
    );
    let all: Vec<(String, Vec<u8>)> = tars.values().flat_map(|tar| entries(tar)).collect();
    assert_eq!(all.len(), 24 * 4);
    let files: BTreeMap<&str, &[u8]> = all.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
    let set = Dataset::open(&out).unwrap();
    for (index, row) in set.rows().iter().enumerate() {
        let name = row.file_name.as_deref().unwrap();
        let key = name.trim_start_matches("images/").trim_end_matches(".png");
        let of = |extension: &str| files[format!("{key}.{extension}").as_str()];
        assert_eq!(of("png"), fs::read(out.join(name)).unwrap());
        assert_eq!(of("txt"), row.prompt.as_bytes());
        let own: Value = serde_json::from_slice(of("json")).unwrap();
        assert_eq!(own["image_id"], row.image_id);
        let latents: &[u8] = bytemuck::cast_slice(set.latents(index).unwrap());
        assert!(of("npy").ends_with(latents) && of("npy").starts_with(b"\x93NUMPY"));
    }
    // Its files stand together, and it is the same every time.
    assert_eq!(all[0].0.split('.').next(), all[3].0.split('.').next());
    succeeded(&tool(
        &world,
        &["tar", "out", "--out", "again", "--per-tar", "10"],
    ));
    same(&world.path("tars"), &world.path("again"));
    let output = tool(&world, &["tar", "out", "--out", "again"]);
    failed(&output, 1, &["again is not empty"]);
    world.done("half", &quick(&["--shard", "0/2"]));
    failed(
        &tool(&world, &["tar", "half", "--out", "new"]),
        1,
        &["unfinished"],
    );
    assert!(!world.path("new").exists());
}

#[test]
fn ranks_of_a_launcher_are_shards() {
    let world = world();
    let run = |variables: &[(&str, &str)]| {
        let mut command = world.command("out", &quick(&["--shard", "env"]));
        for name in ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied()).output().unwrap()
    };
    failed(&run(&[]), 2, &["no mpirun or srun"]);
    assert!(!world.path("out").exists());
    let said = succeeded(&run(&[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")]));
    assert!(said.contains("8 of 24 pictures"), "{said}");
    let mpirun = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")];
    let said = succeeded(&run(&mpirun));
    assert!(said.contains("complete, 24 pictures kept"), "{said}");
    world.done("whole", &QUICK);
    same(&world.path("whole"), &world.path("out"));
    assert!(
        json(world.path("out/manifest.json"))
            .get("outcome")
            .is_some()
    );
    assert!(stderr(&run(&mpirun)).contains("0 drawn now"));
}
