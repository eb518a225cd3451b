//! What the READMEs tell people to type can be typed: every option is one of its command's, every file
//! is there, and the recipe for one's own model runs as it stands, shorter, on the embedded model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../process/mod.rs"]
mod process;
mod recipe;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use words::{Text, commands, spans};

/// The files that people read.
const READMES: [&str; 5] = [
    "README.md",
    "models/demo/README.md",
    "models/faces/README.md",
    "kernels/README.md",
    "prompts/README.md",
];
/// Options of other programs, and the one of these that needs a feature.
const FOREIGN: [&str; 5] = ["--use_lora", "--snr_gamma", "--features", "--mpi", "-n"];
/// The toolkit's commands.
const COMMANDS: [&str; 4] = ["pa-export", "pa-datagen", "pa-finetune", "pa-score"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

fn command(name: &str) -> Command {
    match name {
        "pa-export" => process::pa_export(),
        "pa-datagen" => process::pa_datagen(),
        "pa-finetune" => process::pa_finetune(),
        "pa-score" => process::pa_score(),
        _ => panic!("no command {name}"),
    }
}

/// The options that a command's help names.
fn options(name: &str) -> BTreeSet<String> {
    let output = command(name).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let mut own = BTreeSet::new();
    for line in help.lines() {
        let mut words = line
            .split_whitespace()
            .map(|word| word.trim_end_matches(','));
        // A line of an option begins with it, or with its short form.
        if let Some(first) = words.next().filter(|word| word.starts_with('-')) {
            own.extend(
                [first.to_owned()]
                    .into_iter()
                    .chain(words.next().map(str::to_owned)),
            );
        }
    }
    own.retain(|word| word.starts_with('-'));
    assert!(own.len() > 5, "{help}");
    own
}

/// A word's option, without a value that is attached or what closes a sentence.
fn option(word: &str) -> Option<&str> {
    let name = word.split('=').next()?;
    let name = name.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '…');
    let is_option = name.starts_with("--") || name.len() == 2;
    (name.starts_with('-') && is_option && !name.ends_with('…')).then_some(name)
}

#[test]
fn every_option_is_one_of_its_command_s() {
    let known: BTreeMap<&str, _> = COMMANDS.iter().map(|name| (*name, options(name))).collect();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for name in READMES {
        let text = read(name);
        for Text { line, text } in commands(&text).into_iter().chain(spans(&text)) {
            let mut own = None;
            let mut script = None;
            for word in text.split_whitespace() {
                if known.contains_key(word) {
                    (own, script) = (Some(word), None);
                } else if word.starts_with("scripts/") && root().join(word).is_file() {
                    script = Some(read(word));
                }
                let Some(option) = option(word).filter(|option| !FOREIGN.contains(option)) else {
                    continue;
                };
                let has = |command: &&str| known[command].contains(option);
                let fine = match (&script, own) {
                    (Some(script), _) => script.contains(option),
                    (None, Some(command)) => has(&command),
                    (None, None) => COMMANDS.iter().any(has),
                };
                checked += 1;
                if !fine {
                    wrong.push(format!("{name}:{line}: {option} in `{text}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 40, "{checked}");
}

/// The examples of a command's help.
#[test]
fn every_option_of_an_example_is_one_of_its_command_s() {
    for name in COMMANDS {
        let own = options(name);
        let output = command(name).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let (_, examples) = help.split_once("Examples:").unwrap();
        let mut checked = 0;
        for line in examples
            .lines()
            .filter(|line| line.trim_start().starts_with("pa-"))
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[0], name, "{line}");
            for option in words.iter().filter_map(|word| option(word)) {
                assert!(own.contains(option), "{option} in {line}");
            }
            for file in words.iter().filter(|word| word.starts_with("models/")) {
                assert!(root().join(file).exists(), "{file} in {line}");
            }
            checked += 1;
        }
        assert!(checked > 1, "{help}");
    }
}

#[test]
fn every_file_of_the_repository_is_there() {
    let places = [
        "models/", "scripts/", "kernels/", "src/", "tests/", "prompts/",
    ];
    let mut wrong = Vec::new();
    let mut checked = 0;
    for name in READMES {
        let text = read(name);
        let folder = root().join(name).parent().unwrap().to_path_buf();
        for Text { line, text } in commands(&text).into_iter().chain(spans(&text)) {
            for word in text.split_whitespace() {
                let word = word.trim_matches(|c: char| ",;:()".contains(c));
                let named = places.iter().any(|place| word.starts_with(place));
                if !named || word.contains(['*', '{', '…']) {
                    continue;
                }
                checked += 1;
                let there = |base: &Path| base.join(word).exists();
                if !there(&root()) && !there(&folder) {
                    wrong.push(format!("{name}:{line}: {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 15, "{checked}");
}
