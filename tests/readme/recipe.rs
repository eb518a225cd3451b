//! README's recipe for one's own model, on the embedded one.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::words::commands;
use crate::{command, process, read, root};

/// What stands for README's model, axes, chain and sizes.
fn embedded(word: &str) -> String {
    match word {
        "~/models/stable-diffusion-xl-base-1.0" => {
            root().join("models/demo").to_str().unwrap().to_owned()
        }
        "models/faces/axes.toml" => "sdxl/axes.toml".to_owned(),
        "faces" => "sdxl/chain.toml".to_owned(),
        "100" => "3".to_owned(),
        "10" => "1".to_owned(),
        _ => word.to_owned(),
    }
}

/// Runs a line of it.
fn run(dir: &Path, line: &str) {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap();
    let mut command: Command = command(name);
    command.current_dir(dir).args(words.map(embedded));
    match name {
        "pa-datagen" => command.args(["--steps", "4"]),
        "pa-finetune" => command.args(["--steps", "2"]),
        _ => &mut command,
    };
    process::succeeded(&command.output().unwrap());
}

#[test]
fn the_recipe_runs_on_the_embedded_model() {
    let text = read("README.md");
    let (_, section) = text.split_once("## On your model").unwrap();
    let lines = commands(section.split_once("\n- ").unwrap().0);
    assert_eq!(lines.len(), 6, "export, train, align, before, after, score");
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("prompts.csv"), "Prompt\ndoctor\nnurse\n").unwrap();
    fs::write(dir.path().join("eval.csv"), "Prompt\nbaker\n").unwrap();
    for line in lines {
        run(dir.path(), &line.text);
    }
    let scores = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(scores.contains("gender"));
}
