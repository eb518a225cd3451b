//! Captions that are longer than a text encoder sees: what they lose is told, and no identity is lost.

use std::fs;

use popalign::diffusion::tokenizer::Tokenizer;
use serde_json::Value;

use crate::process::{failed, stderr};
use crate::world::{DEMO, SDXL, World, json, root};

const QUICK: [&str; 6] = ["--neutral", "1", "--steps", "1", "--format", "none"];

/// Decoded tokens have blanks around marks and are in lower case; the written text is as it was.
fn bare(text: &str) -> String {
    let lower = text.to_lowercase();
    lower.split_whitespace().collect()
}

#[test]
fn captions_lose_what_diffusers_warns_of() {
    let frozen = json(root().join("tests/fixtures/pipeline/long_captions.json"));
    let mut cut = 0;
    for (folder, frozen) in frozen.as_object().unwrap() {
        let length = frozen["length"].as_u64().unwrap() as usize;
        let tokenizer = Tokenizer::open(&root().join(folder), length).unwrap();
        for case in frozen["cases"].as_array().unwrap() {
            let (text, removed) = (case["text"].as_str(), case["removed"].as_str());
            let (text, removed) = (text.unwrap(), removed.unwrap());
            let kept = tokenizer.encode(text).unwrap().kept;
            assert_eq!(bare(&text[kept..]), bare(removed), "{folder}: {text:?}");
            cut += usize::from(kept < text.len());
        }
    }
    assert!(cut > 12, "{cut}");
}

#[test]
fn lost_words_are_named_for_the_first_captions_and_counted_for_all() {
    let ends = ["one", "two", "three", "four", "five"];
    let long = |end: &str| format!("{} {end}", "a ".repeat(75).trim());
    let prompts = ends.map(long);
    let mut list: Vec<&str> = prompts.iter().map(String::as_str).collect();
    list.push("a photo of a doctor");
    let world = World::new(&DEMO, &list);
    let negative = long("ugly");
    let options = [&QUICK[..], &["--json", "--negative", &negative]].concat();
    let output = world.run("out", &options);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let warnings = stderr(&output);
    let warnings: Vec<&str> = warnings
        .lines()
        .filter(|l| l.contains("too long"))
        .collect();
    let [warning] = warnings[..] else {
        panic!("{warnings:#?}");
    };
    for expected in [
        "6 of 7 captions are too long for the text encoder's 77 tokens and lose their end",
        "\"one\" of \"a a",
        "\"three\" of",
        "and 3 more",
    ] {
        assert!(warning.contains(expected), "{expected}: {warning}");
    }
    assert!(!warning.contains("four"), "{warning}");
    let events = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["event"] == "truncated")
        .collect();
    assert_eq!(events.len(), 1);
    let first = events[0]["lost"]["first"].as_array().unwrap();
    let lost: Vec<&str> = first
        .iter()
        .map(|cut| cut["lost"].as_str().unwrap())
        .collect();
    assert_eq!(lost, ends[..3]);
    assert_eq!(first[0]["prompt"], list[0]);
}

/// The demo's axes with other templates.
fn axes(world: &World, specific: &str) -> String {
    let text = fs::read_to_string(root().join("models/demo/axes.toml")).unwrap();
    let from = "a photo of a {age} {skin}-skinned {gender} {prompt}";
    assert!(text.contains(from));
    let path = world.path("axes.toml");
    fs::write(&path, text.replace(from, specific)).unwrap();
    path.display().to_string()
}

#[test]
fn a_caption_that_loses_its_identity_is_refused() {
    let long = "a ".repeat(70);
    let world = World::new(&DEMO, &["doctor", long.trim()]);
    let run = |specific: &str, more: &[&str]| {
        let axes = axes(&world, specific);
        let options = [&QUICK[..], &["--axes", &axes, "--specific", "1"], more].concat();
        let _ = fs::remove_dir_all(world.path("out"));
        world.run("out", &options)
    };
    let output = run("a {prompt}, {age}, of the kind that is {gender}", &[]);
    let expected = [
        "axes.toml: the caption \"a a a",
        "names gender by \"male\"",
        "its 77 tokens",
        "shorten the prompt \"a a",
        "`specific` name {gender} earlier",
    ];
    failed(&output, 1, &expected);
    assert!(!world.path("out").exists(), "something was left behind");
    // The identity is seen, or is not asked for: the lost end is told, and that is all.
    for (specific, more) in [
        (
            "a {gender} {prompt}, {age}, of the kind that is {gender}",
            &[][..],
        ),
        (
            "a {prompt}, {age}, of the kind that is {gender}",
            &["--specific", "0"],
        ),
        (
            "a {age} {gender} {prompt} in a large garden by the sea",
            &[],
        ),
    ] {
        let axes = axes(&world, specific);
        let mut options = [&QUICK[..], &["--axes", &axes]].concat();
        options.extend(if more.is_empty() {
            &["--specific", "1"]
        } else {
            more
        });
        let _ = fs::remove_dir_all(world.path("out"));
        let output = world.run("out", &options);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{specific}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn half_a_word_behind_the_cut_of_one_tokenizer_is_lost() {
    // Twelve tokens, of which "a" and "ox" are one or two; the second tokenizer has another
    // vocabulary, and what either loses is lost.
    let world = World::new(&SDXL, &["ox"]);
    let encoders = ["tokenizer", "tokenizer_2"];
    let kept = |text: &str| {
        encoders.map(|name| {
            let tokenizer = Tokenizer::open(&SDXL.bundle.join(name), 12).unwrap();
            tokenizer.encode(text).unwrap().kept
        })
    };
    let mut words = String::new();
    // The first filler at which the word is cut in the middle by one of them at least.
    let split = (0..12).find(|_| {
        words.push_str("a ");
        let text = format!("{words}ox female");
        let (start, end) = (text.len() - "female".len(), text.len());
        kept(&text).iter().any(|&kept| start < kept && kept < end)
    });
    assert!(split.is_some(), "no filler cuts the word");
    let axes = axes(&world, &format!("{words}{{prompt}} {{gender}}"));
    let options = [&QUICK[..], &["--axes", &axes, "--specific", "1"]].concat();
    failed(
        &world.run("out", &options),
        1,
        &["names gender by", "its 12 tokens"],
    );
    assert!(!world.path("out").exists());
}
