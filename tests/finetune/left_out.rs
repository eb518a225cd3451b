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
