//! `--json`: one event a line on standard output, and nothing else there.

use serde_json::Value;

use crate::process::stderr;
use crate::world::{SDXL, World};

fn events(world: &World, out: &str, options: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = world.run(out, options);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert!(output.status.code().is_some(), "{}", stderr(&output));
    (output.status.code(), text.lines().map(parse).collect())
}

#[test]
fn a_run_tells_its_start_its_units_and_its_end() {
    let long = "the man and the doctor and the cook in the garden";
    let world = World::new(&SDXL, &["ox", long, "ox"]);
    let options = [
        "--neutral",
        "10",
        "--steps",
        "2",
        "--json",
        "--shard",
        "0/2",
    ];
    let (code, events) = events(&world, "out", &options);
    assert_eq!(code, Some(0));
    let names: Vec<&str> = events
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    let expected = ["repeated", "truncated", "encoded", "start", "unit", "done"];
    assert_eq!(names, expected);
    assert_eq!(events[0]["prompts"], 1);
    let lost = &events[1]["lost"];
    assert_eq!(
        (&lost["captions"], &lost["of"], &lost["tokens"]),
        (&1.into(), &2.into(), &12.into())
    );
    assert_eq!(lost["first"][0]["prompt"], long);
    let start = &events[3];
    assert_eq!(
        (&start["pictures"], &start["todo"], &start["ep"]),
        (&20.into(), &16.into(), &"cpu".into())
    );
    assert_eq!(
        (&events[4]["unit"], &events[4]["kept"]),
        (&0.into(), &16.into())
    );
    assert!(events[4]["seconds_left"].is_number());
    assert!(events[4]["shares"]["unet"].as_f64().unwrap() > 0.0);
    let done = &events[5];
    assert_eq!(
        (&done["complete"], &done["units_left"], &done["drawn"]),
        (&false.into(), &1.into(), &16.into())
    );
    assert_eq!(done["dropped"], serde_json::json!({}));
}

#[test]
fn an_error_is_an_event_too() {
    let world = World::new(&SDXL, &["ox"]);
    let (code, events) = events(&world, "out", &["--size", "30x32", "--json"]);
    assert_eq!(code, Some(1));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["event"], "error");
    let text = events[0]["error"][0].as_str().unwrap();
    assert!(text.contains("--size 30x32"), "{text}");
}
