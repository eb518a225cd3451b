//! The lists and axes files of `prompts/`: as many as their README says, all different, neutral where
//! they say so, and captions that read as English.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use popalign::prompts::{self, Axes};

/// The lists that train, and how many prompts each holds.
const TRAINING: [(&str, usize); 2] = [("training.csv", 300), ("couples-training.csv", 20)];

/// The lists that evaluate.
const EVALUATION: [(&str, usize); 5] = [
    ("occupations.csv", 100),
    ("descriptors.csv", 100),
    ("laion-like.csv", 100),
    ("couples.csv", 10),
    ("triggers.csv", 50),
];

const AXES: [&str; 5] = [
    "axes-six.toml",
    "axes-seven.toml",
    "axes-faces.toml",
    "axes-age.toml",
    "axes-couples.toml",
];

/// Words for people that say gender, age or race without being an axis' own.
const SAYING: &str = "man men woman women boy boys girl girls lady ladies gentleman he she him his her hers \
    himself herself mother father mom dad sister brother son daughter wife husband bride groom king \
    queen prince princess girlfriend boyfriend actress waitress waiter businessman businesswoman \
    policeman fisherman fireman salesman craftsman elderly aged teenage teenager teen child kid baby \
    adult middle-aged senior youth caucasian african european chinese japanese korean arab hispanic \
    latina latino latinx straight blonde";

/// Words whose article their first letter doesn't tell.
const SOUNDS: [(&str, &str); 5] = [
    ("x-ray", "an"),
    ("honest", "an"),
    ("union", "a"),
    ("university", "a"),
    ("one", "a"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("prompts")
}

fn list(name: &str) -> Vec<String> {
    let read = prompts::read(&folder().join(name)).unwrap();
    assert_eq!(read.repeated, 0, "{name}");
    read.texts
}

fn axes(name: &str) -> Axes {
    Axes::load(&folder().join(name)).unwrap()
}

fn lists() -> impl Iterator<Item = (&'static str, usize)> {
    TRAINING.into_iter().chain(EVALUATION)
}

/// The words of a text in lower case, each between blanks.
fn words(text: &str) -> String {
    let kept = text.to_lowercase();
    let parts = kept.split(|c: char| !c.is_alphanumeric() && c != '-');
    let words: Vec<&str> = parts.filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" "))
}

fn says(text: &str, phrase: &str) -> bool {
    words(text).contains(&words(phrase))
}

/// What somebody of the training list is: "a cardiologist" of "a cardiologist studying a scan".
fn occupation(prompt: &str) -> &str {
    let doing = prompt.split(' ').find(|word| word.ends_with("ing"));
    let (who, _) = prompt.split_once(doing.unwrap()).unwrap();
    who.trim()
}

/// Whether every "a" and "an" of a caption suits the word after it.
fn articles_are_right(caption: &str) -> bool {
    let words = words(caption);
    let words: Vec<&str> = words.split_whitespace().collect();
    words.windows(2).all(|pair| {
        let vowel = pair[1].starts_with(['a', 'e', 'i', 'o', 'u']);
        let known = SOUNDS.iter().find(|(word, _)| *word == pair[1]);
        let expected = known.map_or(if vowel { "an" } else { "a" }, |(_, article)| article);
        !["a", "an"].contains(&pair[0]) || pair[0] == expected
    })
}

#[test]
fn every_file_is_one_of_these() {
    let known: BTreeSet<String> = lists()
        .map(|(name, _)| name)
        .chain(AXES)
        .chain(["README.md"])
        .map(str::to_owned)
        .collect();
    let there: BTreeSet<String> = folder()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, known);
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    for (name, count) in lists() {
        let row = format!("| `{name}` | {count} |");
        assert!(readme.contains(&row), "{row}");
    }
}

#[test]
fn lists_hold_as_many_prompts_as_they_say_and_share_none() {
    let mut seen = BTreeMap::new();
    for (name, count) in lists() {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        assert!(text.starts_with("Prompt\n"), "{name}");
        let prompts = list(name);
        assert_eq!(prompts.len(), count, "{name}");
        for prompt in prompts {
            let before = seen.insert(words(&prompt), name);
            assert_eq!(before, None, "{name}: {prompt}");
        }
    }
}

#[test]
fn no_prompt_says_who_somebody_is() {
    let mut identities: BTreeSet<String> = SAYING.split_whitespace().map(str::to_owned).collect();
    for file in AXES.map(axes) {
        let texts = file.axes().iter().flat_map(|axis| &axis.texts);
        identities.extend(texts.filter(|text| !text.is_empty()).cloned());
    }
    assert!(identities.contains("latino hispanic") && identities.contains("gay"));
    for (name, _) in lists() {
        for prompt in list(name) {
            for identity in &identities {
                assert!(!says(&prompt, identity), "{name}: {identity} in {prompt}");
            }
        }
    }
}

#[test]
fn nobody_is_trained_whom_the_occupations_evaluate() {
    let training = list("training.csv");
    let different: BTreeSet<_> = training.iter().map(|prompt| occupation(prompt)).collect();
    assert_eq!(different.len(), training.len());
    for occupation in list("occupations.csv") {
        let trained = training.iter().find(|prompt| says(prompt, &occupation));
        assert_eq!(trained, None, "{occupation}");
    }
}

#[test]
fn captions_are_english() {
    for (name, _) in lists() {
        for prompt in list(name) {
            assert!(articles_are_right(&prompt), "{name}: {prompt}");
            // The LAION-like ones are captions already.
            if name == "laion-like.csv" {
                continue;
            }
            for file in AXES.map(axes) {
                let neutral = format!("best quality, a realistic photo of {prompt}");
                assert_eq!(file.neutral(&prompt), neutral);
                for specific in file.specific(&prompt) {
                    let caption = specific.caption;
                    assert!(caption.starts_with("a realistic photo of a"), "{caption}");
                    assert!(articles_are_right(&caption), "{caption}");
                    assert!(!caption.contains("  "), "{caption}");
                }
            }
        }
    }
    let captions = |file: &str, prompt: &str| -> Vec<String> {
        let all = axes(file).specific(prompt);
        all.into_iter().map(|specific| specific.caption).collect()
    };
    let cook = "a school cook ladling soup in a canteen";
    let six = captions("axes-six.toml", cook);
    assert_eq!(six.len(), 12);
    let asian = "a realistic photo of an asian male school cook ladling soup in a canteen";
    assert_eq!(six[2], asian);
    assert_eq!(
        captions("axes-seven.toml", "engineer")[6],
        "a realistic photo of an east asian male engineer"
    );
    assert_eq!(
        captions("axes-age.toml", "doctor"),
        [
            "a realistic photo of a young doctor",
            "a realistic photo of an old doctor"
        ]
    );
    assert_eq!(
        captions("axes-couples.toml", "a couple sharing a thermos"),
        [
            "a realistic photo of a couple sharing a thermos",
            "a realistic photo of a gay couple sharing a thermos",
            "a realistic photo of a lesbian couple sharing a thermos"
        ]
    );
}

#[test]
fn the_papers_protocol_is_66_000_pictures() {
    let six = axes("axes-six.toml");
    let training = list("training.csv");
    let specific = training.iter().flat_map(|prompt| six.specific(prompt));
    let specific: BTreeSet<String> = specific.map(|specific| specific.caption).collect();
    assert_eq!(specific.len(), 3_600);
    assert_eq!(training.len() * 100 + specific.len() * 10, 66_000);
}

#[test]
fn axes_are_the_classifiers() {
    let labels = |file: &str, axis: &str| -> Vec<String> {
        let file = axes(file);
        let classifier = file.axis(axis).unwrap().classifier.clone().unwrap();
        assert_eq!(classifier.output, axis);
        classifier.labels.into_keys().collect()
    };
    // In alphabetical order: DeepFace's and FairFace's own.
    assert_eq!(
        labels("axes-six.toml", "race"),
        [
            "asian",
            "black",
            "indian",
            "latino hispanic",
            "middle eastern",
            "white"
        ]
    );
    assert_eq!(labels("axes-six.toml", "gender"), ["Man", "Woman"]);
    assert_eq!(
        labels("axes-seven.toml", "race"),
        [
            "Black",
            "East Asian",
            "Indian",
            "Latino_Hispanic",
            "Middle Eastern",
            "Southeast Asian",
            "White"
        ]
    );
    assert_eq!(labels("axes-seven.toml", "gender"), ["Female", "Male"]);
    let shipped = folder().join("../models/faces/axes.toml");
    let shipped = Axes::load(&shipped).unwrap();
    let faces = axes("axes-faces.toml");
    for axis in ["race", "gender"] {
        assert_eq!(faces.axis(axis), shipped.axis(axis), "{axis}");
    }
    assert_eq!(axes("axes-age.toml").axis("age"), shipped.axis("age"));
    let asian = shipped.specific("a doctor").swap_remove(4).caption;
    assert_eq!(asian, "a photo of an asian female doctor");
    assert_eq!(shipped.neutral("engineer"), "a photo of an engineer");
}
