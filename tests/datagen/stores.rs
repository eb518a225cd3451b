//! Data sets in an object store: the bytes of a folder's, whatever happens to the server.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use popalign::data::dataset::{self, Kind, LatentsRef, PictureRow};
use popalign::data::manifest::{DatasetManifest, Layout};
use popalign::data::writer::{DatasetWriter, Finish, latents_name};
use popalign::prompts::caption_id;
use popalign::store::Store;

use crate::process::{self, failed, succeeded};
use crate::server::Server;
use crate::world::{SDXL, World, listing, same, same_objects};

/// 24 pictures: two units.
const QUICK: [&str; 4] = ["--neutral", "12", "--steps", "2"];

fn world(server: &Server) -> World {
    World::new(&SDXL, &["ox", "doctor"]).with(server.environment())
}

fn tool(world: &World, words: &[&str]) -> Output {
    world
        .within(&mut process::pa_datagen())
        .args(words)
        .output()
        .unwrap()
}

/// A run into a store, to the end.
#[track_caller]
fn done(world: &World, prefix: &str, options: &[&str]) -> String {
    succeeded(&world.run(&Server::url(prefix), options))
}

#[test]
fn a_store_gets_the_bytes_of_a_folder() {
    let server = Server::start();
    let world = world(&server);
    let whole = world.done("whole", &QUICK);
    let options = [&QUICK[..], &["--dry-run"]].concat();
    let foreseen = world.run(&Server::url("out"), &options);
    succeeded(&foreseen);
    assert!(String::from_utf8_lossy(&foreseen.stdout).contains("24 to draw of 24"));
    assert!(!server.objects("out").exists());
    let said = done(&world, "out", &QUICK);
    assert!(
        said.contains("s3://bucket/out: complete, 24 pictures kept"),
        "{said}"
    );
    same_objects(&whole, &server.objects("out"));
    assert!(done(&world, "out", &QUICK).contains("0 drawn now"));
    // Shards, one after the other, the slash at the end of no account.
    for shard in ["1/2", "0/2"] {
        done(
            &world,
            "shards/",
            &[&QUICK[..], &["--shard", shard]].concat(),
        );
    }
    same_objects(&whole, &server.objects("shards"));
    // Another configuration is refused.
    let output = world.run(&Server::url("out"), &["--neutral", "12", "--steps", "3"]);
    failed(
        &output,
        1,
        &["s3://bucket/out/manifest.json", "another `steps`"],
    );
    let said = succeeded(&tool(&world, &["check", "s3://bucket/out", "whole"]));
    assert!(
        said.contains("s3://bucket/out: whole, 24 pictures"),
        "{said}"
    );
    assert!(!world.path("s3:").exists());
}

#[test]
fn captions_with_enough_and_deleted_pictures_are_kept_in_a_store_too() {
    let server = Server::start();
    let world = world(&server);
    let axes = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pipeline/axes.toml"
    );
    let chain = SDXL.bundle.join("chain.toml").display().to_string();
    let options = format!(
        "--steps 2 --seed 3 --axes {axes} --filter {chain} --until 2 --until-limit 3 --rejected delete"
    );
    let options: Vec<&str> = options.split(' ').collect();
    let whole = world.done("whole", &options);
    for shard in ["0/2", "1/2"] {
        done(&world, "out", &[&options[..], &["--shard", shard]].concat());
    }
    same_objects(&whole, &server.objects("out"));
    assert!(done(&world, "out", &options).contains("0 drawn now"));
    succeeded(&tool(&world, &["check", "s3://bucket/out"]));
}

#[test]
fn a_set_is_brought_to_a_store_and_back() {
    let server = Server::start();
    let world = world(&server);
    let whole = world.done("whole", &QUICK);
    let merge = |from: &[&str], to: &str| {
        succeeded(&tool(&world, &[&["merge", "--out", to][..], from].concat()))
    };
    merge(&["whole"], "s3://bucket/up");
    same_objects(&whole, &server.objects("up"));
    merge(&["s3://bucket/up"], "down");
    same(&whole, &world.path("down"));
    // Halves from a store and a folder, into a store.
    done(&world, "half", &[&QUICK[..], &["--shard", "0/2"]].concat());
    world.done("half", &[&QUICK[..], &["--shard", "1/2"]].concat());
    merge(&["s3://bucket/half", "half"], "s3://bucket/both");
    same_objects(&whole, &server.objects("both"));
    let output = tool(&world, &["merge", "s3://bucket/none", "--out", "none"]);
    failed(&output, 1, &["s3://bucket/none is not a data set"]);
    let output = tool(&world, &["merge", "whole", "--out", "s3://bucket"]);
    failed(&output, 1, &["s3://bucket is not empty"]);
}

/// A set with files that travel in several parts.
#[test]
fn large_files_travel_in_parts() {
    let server = Server::start();
    let world = world(&server);
    let caption = "an ox";
    let layout = Layout {
        width: 1,
        height: 1,
        latent: [4, 1000, 1000],
        prompt_embeds: [77, 2048],
        pooled: None,
        captions: 1,
        images: 3,
        unit_images: 3,
        size_conditions: None,
        ragged: false,
    };
    let numbers = |n: usize| -> Vec<f32> { (0..n).map(|i| i as f32).collect() };
    let row = |index: usize| PictureRow {
        file_name: None,
        prompt: caption.to_owned(),
        neutral_prompt: caption.to_owned(),
        subject: caption.to_owned(),
        kind: Kind::Neutral,
        axes: Default::default(),
        seed: 0,
        prompt_id: caption_id(caption),
        image_id: index as u32,
        identity: Default::default(),
        drawn_prompt: None,
        latents: LatentsRef {
            file: latents_name(0),
            index,
        },
        sha256: None,
        verdict: None,
        dropped: None,
    };
    let manifest = DatasetManifest::new(Default::default(), Default::default(), layout);
    let writer = DatasetWriter::open(Store::Folder(world.path("large")), manifest).unwrap();
    let text = |_| Ok::<_, dataset::Error>((numbers(77 * 2048), None));
    writer.write_text(&[caption_id(caption)], text).unwrap();
    let rows: Vec<PictureRow> = (0..3).map(row).collect();
    writer.write_unit(0, &rows, &numbers(12_000_000)).unwrap();
    assert!(matches!(writer.finish().unwrap(), Finish::Complete(_)));
    succeeded(&tool(
        &world,
        &["merge", "large", "--out", "s3://bucket/large"],
    ));
    same_objects(&world.path("large"), &server.objects("large"));
    succeeded(&tool(&world, &["check", "s3://bucket/large"]));
    succeeded(&tool(
        &world,
        &["merge", "s3://bucket/large", "--out", "down"],
    ));
    same(&world.path("large"), &world.path("down"));
}

#[test]
fn what_is_missing_or_changed_in_a_store_is_found_and_made_again() {
    let server = Server::start();
    let world = world(&server);
    let whole = world.done("whole", &QUICK);
    done(&world, "out", &QUICK);
    let out = server.objects("out");
    let names: Vec<String> = listing(&out.join("images")).into_keys().collect();
    let missing = out.join("images").join(&names[3]);
    let changed = out.join("images").join(&names[20]);
    let bytes = fs::read(&changed).unwrap();
    fs::remove_file(&missing).unwrap();
    // The server goes on saying the hash that it was put with: only who reads it finds out.
    fs::write(&changed, "another picture").unwrap();
    let output = tool(&world, &["check", "s3://bucket/out"]);
    let expected = [
        format!("images/{} is missing", names[3]),
        format!("images/{} is not what was written", names[20]),
        "2 problems were found".to_owned(),
    ];
    failed(&output, 1, &expected.each_ref().map(String::as_str));
    let output = tool(&world, &["merge", "s3://bucket/out", "--out", "down"]);
    let expected = format!(
        "s3://bucket/out/images/{} was received with other bytes",
        names[20]
    );
    failed(&output, 1, &[&expected]);
    // Whoever puts another object takes the hash with it.
    fs::write(&changed, bytes).unwrap();
    server.put(&format!("out/images/{}", names[20]), "another picture");
    let said = done(&world, "out", &QUICK);
    assert!(said.contains("2 files are missing or damaged"), "{said}");
    same_objects(&whole, &out);
    // What nothing names is found, and left.
    server.put("out/images/own.png", "mine");
    let output = tool(&world, &["check", "s3://bucket/out"]);
    failed(&output, 1, &["images/own.png is a stranger"]);
    server.put("other/letter.txt", "mine");
    let output = world.run("s3://bucket/other", &QUICK);
    failed(
        &output,
        1,
        &["s3://bucket/other is neither empty nor a data set"],
    );
}

#[test]
fn a_server_that_is_lost_is_named_and_the_run_goes_on() {
    let mut server = Server::start();
    let world = world(&server);
    let whole = world.done("whole", &QUICK);
    // Nothing is drawn before somebody listens.
    server.stop();
    let output = world.run("s3://bucket/out", &QUICK);
    failed(
        &output,
        1,
        &["cannot open s3://bucket/out", "AWS_ENDPOINT_URL"],
    );
    server.go_on();
    let mut command = world.command("s3://bucket/out", &[&QUICK[..], &["--batch", "1"]].concat());
    command
        .env("POPALIGN_STORE_PATIENCE", "1")
        .stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let pictures = server.objects("out/images");
    while count(&pictures) < 5 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    server.stop();
    let output = child.wait_with_output().unwrap();
    failed(
        &output,
        1,
        &["s3://bucket/out/", "hint: what is in the store stays"],
    );
    server.go_on();
    done(&world, "out", &QUICK);
    same_objects(&whole, &server.objects("out"));
}

/// How many files a folder has that may not be there yet.
fn count(dir: &Path) -> usize {
    dir.read_dir().map_or(0, Iterator::count)
}

#[test]
fn stores_that_cannot_be_used_are_refused() {
    let server = Server::start();
    let world = world(&server);
    let refused = |change: &[(&'static str, &str)], expected: &[&str]| {
        let mut command = world.command("s3://bucket/out", &QUICK);
        let output = command.envs(change.iter().copied()).output().unwrap();
        failed(
            &output,
            1,
            &[&["cannot", "s3://bucket/out"][..], expected].concat(),
        );
    };
    let wrong = [("AWS_SECRET_ACCESS_KEY", "wrong")];
    refused(
        &wrong,
        &["SignatureDoesNotMatch", "hint: s3:// is reached by"],
    );
    refused(
        &[("AWS_ALLOW_HTTP", "false")],
        &["https", "AWS_ALLOW_HTTP=true"],
    );
    let output = world
        .command("s3://bucket/out", &QUICK)
        .env("POPALIGN_STORE_PATIENCE", "soon")
        .output()
        .unwrap();
    failed(
        &output,
        1,
        &["POPALIGN_STORE_PATIENCE=soon: expected seconds from 0 to 300"],
    );
    let output = world.run("s3://nowhere/out", &QUICK);
    let expected = [
        "cannot open s3://nowhere/out",
        "NoSuchBucket",
        "make the bucket first",
    ];
    failed(&output, 1, &expected);
    // Who may only look is told at the first file.
    let looking = World::new(&SDXL, &["ox"]).with(server.looking());
    let output = looking.run("s3://bucket/out", &QUICK);
    failed(
        &output,
        1,
        &["cannot write s3://bucket/out/manifest.json", "AccessDenied"],
    );
    for wrong in ["ftp://host/a", "s3:/bucket/a", "s3://", "s3://bucket/a?b"] {
        failed(
            &world.run(wrong, &QUICK),
            2,
            &["--out", "s3://bucket/prefix"],
        );
    }
    assert!(!server.objects("out").exists());
    assert!(!world.path("s3:").exists());
}

#[test]
fn commands_that_take_folders_say_so() {
    let server = Server::start();
    let world = world(&server);
    let says = |command: &mut Command, words: &str, expected: &[&str]| {
        let output = world
            .within(command)
            .args(words.split(' '))
            .output()
            .unwrap();
        failed(&output, 1, expected);
    };
    let fetch = [
        "s3://bucket/a is a URL",
        "hint: fetch it first: pa-datagen merge",
    ];
    says(
        &mut process::pa_datagen(),
        "tar s3://bucket/a --out tars",
        &fetch,
    );
    let fetch = ["there is no folder s3://bucket/a", fetch[1]];
    says(
        &mut process::pa_score(),
        "s3://bucket/a --out scores.json",
        &fetch,
    );
    world.done("set", &QUICK);
    let folder = "it is a URL, and this takes a folder";
    says(
        &mut process::pa_datagen(),
        "tar set --out s3://bucket/tars",
        &[folder],
    );
    let source = SDXL.source.display();
    says(
        &mut process::pa_export(),
        &format!("{source} -o s3://bucket/b"),
        &[folder],
    );
    assert!(!world.path("s3:").exists());
}
