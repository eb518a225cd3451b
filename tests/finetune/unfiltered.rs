//! Data sets that no classifier has looked at.

use std::fs;

use crate::process::{failed, succeeded};
use crate::refused::refused;
use crate::world::World;

const OPTIONS: [&str; 4] = ["--steps", "2", "--batch", "2"];

#[test]
fn they_are_refused_unless_asked_for() {
    let world = World::new();
    let judged = world.dir().join("judged");
    succeeded(&world.command_into(&judged, &OPTIONS).output().unwrap());
    let pairs = judged.join("pairs.jsonl");

    world.data_set(&|row, _| row.verdict = None);
    let data = world.data().display().to_string();
    let expected = [
        &format!("the data set {data} is unfiltered: 6 of 6 neutral pictures have no verdict, and"),
        "hint: draw the data set with pa-datagen --filter CHAIN, or go on with --unfiltered",
    ];
    refused(&world, &OPTIONS, &expected);
    // The axes are said where a file says which count.
    let axes = world.dir().join("axes.toml");
    let demo = include_str!("../../models/demo/axes.toml");
    fs::write(&axes, demo).unwrap();
    let more = [&OPTIONS[..], &["--axes", axes.to_str().unwrap()]].concat();
    refused(&world, &more, &["no verdict on gender, skin, age, and"]);
    // Without a swap the draws are those of a world of men.
    world.trained(&[&OPTIONS[..], &["--unfiltered"]].concat());
    let drawn = fs::read_to_string(world.out().join("pairs.jsonl")).unwrap();
    assert_eq!(drawn, fs::read_to_string(&pairs).unwrap());
    assert!(!drawn.contains("\"swapped\":true"));
    // Who wins is no question where pairs come from a file.
    let own = world.dir().join("own");
    let more = [&OPTIONS[..], &["--pairs", pairs.to_str().unwrap()]].concat();
    succeeded(&world.command_into(&own, &more).output().unwrap());
}

#[test]
fn one_picture_or_one_of_several_sets_is_enough() {
    let world = World::new();
    let second = world.dir().join("second");
    world.data_set(&|row, _| {
        if row.image_id == 1 && row.subject == "nurse" {
            row.verdict = None;
        }
    });
    fs::rename(world.data(), &second).unwrap();
    world.data_set(&|_, _| ());
    let options = [&OPTIONS[..], &["--data", second.to_str().unwrap()]].concat();
    let expected = format!(
        "the data set {} is unfiltered: 1 of 6 neutral pictures have no verdict",
        second.display()
    );
    failed(&world.run(&options), 1, &[&expected, "--unfiltered"]);
    assert!(!world.out().exists());
    world.trained(&[&options[..], &["--unfiltered"]].concat());
}
