//! Before and while: `--dry-run`, and the file of figures.

use std::fs;

use serde_json::Value;

use crate::process::{failed, stderr, succeeded};
use crate::world::{DEMO, SDXL, World, root};

/// The one event of a dry run.
fn estimate(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// 300 neutral captions of 100 pictures and 3,600 specific ones of 10: the paper's section 4.
#[test]
fn the_papers_whole_protocol_is_told_by_a_dry_run() {
    let world = World::new(&DEMO, &["replaced below"]);
    fs::copy(
        root().join("prompts/training.csv"),
        world.path("prompts.csv"),
    )
    .unwrap();
    let axes = root().join("prompts/axes-six.toml").display().to_string();
    let options = ["--axes", &axes, "--dry-run", "--json"];
    let found = estimate(&world.run("out", &options));
    let number = |pointer: &str| found.pointer(pointer).and_then(Value::as_f64).unwrap();
    assert_eq!(number("/captions"), 3_900.0);
    assert_eq!(number("/pictures"), 66_000.0);
    assert_eq!(number("/todo"), 66_000.0);
    assert_eq!(number("/picture_steps"), 66_000.0 * 50.0);
    // 4 x 16 x 16 floats of a latent; a portrait of 64 x 64 pixels is a few kilobytes of PNG.
    assert_eq!(number("/bytes/latents"), 66_000.0 * 4.0 * 256.0 * 4.0);
    let picture = number("/bytes/pictures") / 66_000.0;
    assert!((500.0..14_000.0).contains(&picture), "{picture}");
    assert!(number("/bytes/text") > 0.0 && number("/bytes/rows") > 0.0);
    assert!(number("/bytes_free") > 0.0);
    let shares: f64 = ["unet", "vae", "filter", "encode"]
        .iter()
        .map(|name| number(&format!("/shares/{name}")))
        .sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    // What each picture takes, for all of them, on the workers; captions come to that.
    let drawing = number("/seconds_per_picture") * 66_000.0 / number("/workers");
    assert!(number("/seconds") >= drawing * 0.999, "{found}");
    assert_eq!(number("/measured/steps"), 3.0);
    // A shard is told its own part.
    let options = [&options[..], &["--shard", "1/3"]].concat();
    let shard = estimate(&world.run("out", &options));
    assert_eq!(
        (&shard["pictures"], &shard["todo"]),
        (&66_000.into(), &22_000.into())
    );
    assert!(!world.path("out").exists());
}

#[test]
fn a_dry_run_tells_people_and_touches_nothing() {
    let world = World::new(&SDXL, &["ox", "doctor", "cook"]);
    let options = ["--neutral", "16", "--steps", "2"];
    let dry = [&options[..], &["--dry-run"]].concat();
    let said = |dry: &[&str]| {
        let output = world.run("out", dry);
        succeeded(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    let text = said(&dry);
    for part in [
        "48 to draw of 48",
        "96, 2 a picture",
        "time ",
        "UNet",
        " free",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!world.path("out").exists());
    // What is there already isn't counted again.
    world.done("out", &[&options[..], &["--shard", "0/3"]].concat());
    let before = crate::world::listing(&world.path("out"));
    let text = said(&dry);
    assert!(text.contains("32 to draw of 48"), "{text}");
    assert_eq!(before, crate::world::listing(&world.path("out")));
    let other = [&dry[..], &["--seed", "7"]].concat();
    failed(&world.run("out", &other), 1, &["another `seed`"]);
}

#[test]
fn the_figures_of_a_run_stand_in_a_file() {
    let world = World::new(&SDXL, &["ox"]);
    let chain = SDXL.bundle.join("chain.toml").display().to_string();
    let axes = root().join("models/demo/axes.toml").display().to_string();
    let file = world.path("pa.prom").display().to_string();
    let quick = ["--neutral", "6", "--specific", "0", "--steps", "2"];
    let filtered = ["--axes", &axes, "--filter", &chain, "--metrics-file", &file];
    world.done("out", &[&quick[..], &filtered[..]].concat());
    let text = fs::read_to_string(&file).unwrap();
    let value = |line: &str| -> f64 {
        let name = format!("popalign_datagen_{line} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&name));
        found
            .unwrap_or_else(|| panic!("{name} in {text}"))
            .parse()
            .unwrap()
    };
    assert_eq!(value("pictures_todo{shard=\"0/1\"}"), 6.0);
    assert_eq!(value("steps_total{shard=\"0/1\"}"), 12.0);
    assert_eq!(value("complete{shard=\"0/1\"}"), 1.0);
    assert_eq!(value("left_seconds{shard=\"0/1\"}"), 0.0);
    for stage in ["unet", "vae", "filter", "encode"] {
        let line = format!("stage_seconds_total{{shard=\"0/1\",stage=\"{stage}\"}}");
        assert!(value(&line) > 0.0, "{text}");
    }
    let kept = value("pictures_kept_total{shard=\"0/1\"}");
    let dropped = text.lines().filter(|line| line.contains("dropped_total{"));
    let dropped: f64 = dropped
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    assert_eq!(kept + dropped, 6.0);
    let nowhere = ["--metrics-file", "none/pa.prom"];
    failed(&world.run("new", &nowhere), 1, &["none/pa.prom"]);
    let both = ["--dry-run", "--metrics-file", &file];
    failed(&world.run("new", &both), 2, &["--metrics-file"]);
    assert!(!world.path("new").exists());
}
