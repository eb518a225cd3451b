//! What doesn't train is said last, and in the last event.

use serde_json::{Value, json};

use crate::process::{stderr, succeeded};
use crate::world::World;

#[test]
fn dropped_pictures_and_subjects_without_pairs_end_the_run() {
    let world = World::new();
    world.data_set(&|row, _| {
        // One subject has no neutral picture left.
        if row.subject == "nurse" && row.axes.is_empty() {
            row.dropped = Some("no_face".to_owned());
        } else if row.image_id == 0 && !row.axes.is_empty() {
            row.dropped = Some("mismatch:gender".to_owned());
        }
    });
    let output = world.run(&["--steps", "2", "--batch", "4", "--json"]);
    succeeded(&output);
    let said = stderr(&output);
    let last = said.lines().last().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let done: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let left = &done["left_out"];
    assert_eq!(left["reasons"]["no_face"]["pictures"], json!(3));
    let others = left["reasons"]["mismatch:gender"]["pictures"]
        .as_u64()
        .unwrap();
    assert_eq!(left["pictures"], json!(others + 3));
    let expected = format!(
        "{} of {} pictures left out: {others} mismatch:gender",
        others + 3,
        left["of"]
    );
    assert!(last.contains(&expected), "{expected}: {last}");
    assert!(last.contains("3 no face"), "{last}");
    assert!(last.ends_with("; 1 subjects without pairs"), "{last}");
    let subjects = done["subjects_left_out"].as_array().unwrap();
    assert!(
        subjects[0].as_str().unwrap().contains("nurse"),
        "{subjects:?}"
    );
}

/// A target that the pictures can't give is said in words, in an event and in the manifest.
#[test]
fn a_target_out_of_reach_is_named() {
    let world = World::new();
    let axes = world.dir().join("axes.toml");
    std::fs::write(
        &axes,
        "[template]\nneutral = \"a photo of a {prompt}\"\nspecific = \"a {gender} {prompt}\"\n\
         [[axis]]\nname = \"gender\"\nvalues = [\"female\", \"male\", \"other\"]\n",
    )
    .unwrap();
    let axes = axes.to_str().unwrap();
    let output = world.run(&["--steps", "1", "--batch", "2", "--json", "--axes", axes]);
    let said = succeeded(&output);
    let expected = "axis gender: other should be 33 % of the winners of 2 of 2 captions (\"a photo of a \
                    doctor\", \"a photo of a nurse\"), but none of their identity-specific pictures shows it";
    assert!(said.contains(&format!("off target: {expected}")), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let off: Vec<Value> = events.filter(|e| e["event"] == "off_target").collect();
    assert_eq!(off.len(), 1);
    assert_eq!(off[0]["reason"], expected);
    let manifest = std::fs::read(world.out().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["outcome"]["off_target"], json!([expected]));
}
