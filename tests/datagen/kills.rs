//! Shards that are killed at random moments, at the same time, in one folder or one prefix of a store: in the
//! end `check` finds nothing, and the bytes are those of an unbroken run.
//!
//! Every day it is short; `POPALIGN_KILLS=50 POPALIGN_PICTURES=2000 cargo test --test datagen kills` is long.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use popalign::random::{Purpose, Stream};

use crate::process::{self, succeeded};
use crate::server::Server;
use crate::world::{SDXL, World, same, same_objects};

const SHARDS: usize = 3;

/// A number from the environment.
fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn world() -> World {
    World::new(&SDXL, &["doctor", "cook", "ox", "man in a hat"])
}

#[test]
fn killed_shards_end_with_the_bytes_of_one_unbroken_run() {
    let world = world();
    let whole = killed(&world, "killed", &world.path("killed"));
    same(&whole, &world.path("killed"));
}

#[test]
fn killed_shards_leave_the_same_bytes_in_a_store() {
    let server = Server::start();
    let world = world().with(server.environment());
    let objects = server.objects("killed");
    let whole = killed(&world, &Server::url("killed"), &objects);
    same_objects(&whole, &objects);
}

/// Draws one set without a break, and one into `out` by shards that are killed; `files` are the latter's files.
fn killed(world: &World, out: &str, files: &Path) -> PathBuf {
    let (kills, pictures) = (number("POPALIGN_KILLS", 6), number("POPALIGN_PICTURES", 96));
    let axes = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pipeline/axes.toml"
    );
    let chain = SDXL.bundle.join("chain.toml").display().to_string();
    let neutral = (pictures / 4).to_string();
    let options = format!("--specific 0 --steps 4 --threads 1 --axes {axes} --filter {chain}");
    let options: Vec<&str> = options.split(' ').chain(["--neutral", &neutral]).collect();
    let whole = world.done("whole", &options);
    let spawn = |index: usize| -> Child {
        let shard = format!("{index}/{SHARDS}");
        let mut command = world.command(out, &[&options[..], &["--shard", &shard]].concat());
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let mut moments = Stream::new(13, Purpose::Shuffle, kills, pictures, 0);
    let mut shards: Vec<Child> = (0..SHARDS).map(spawn).collect();
    let mut done = 0;
    let complete = || {
        let manifest = std::fs::read_to_string(files.join("manifest.json"));
        manifest.is_ok_and(|text| text.contains("\"outcome\""))
    };
    while done < kills && !complete() {
        // From before the model is loaded to some units on.
        std::thread::sleep(Duration::from_millis(moments.below(700).into()));
        let index = moments.below(SHARDS as u32) as usize;
        shards[index].kill().unwrap();
        shards[index].wait().unwrap();
        done += 1;
        shards[index] = spawn(index);
    }
    assert!(done * 2 >= kills, "complete after {done} kills");
    for mut shard in shards {
        assert!(shard.wait().unwrap().success());
    }
    // The last may have found another one still at work.
    let said = succeeded(&world.run(out, &options));
    assert!(said.contains("complete"), "{said}");
    let mut check = process::pa_datagen();
    succeeded(
        &world
            .within(&mut check)
            .args(["check", out])
            .output()
            .unwrap(),
    );
    whole
}
