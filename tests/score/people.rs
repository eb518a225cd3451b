//! Sheets for people, and what comes back.

use std::fs;

use serde_json::Value;

use crate::process::stderr;
use crate::world::{at, before_and_after, compare, scores};

#[test]
fn sheets_hide_the_sides_and_ratings_bring_them_back() {
    let dir = tempfile::tempdir().unwrap();
    before_and_after(dir.path());
    let sheets = dir.path().join("sheets");
    let run = |seed: &str| {
        let output = compare(dir.path())
            .args([
                "--human-eval",
                "9",
                "--metrics",
                "gender",
                "--seed",
                seed,
                "--human-dir",
            ])
            .arg(&sheets)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let read = |name: &str| fs::read_to_string(sheets.join(name)).unwrap();
        (read("sheet.csv"), read("sheet.html"), read("key.csv"))
    };
    let (sheet, page, key) = run("0");
    assert_eq!(run("0"), (sheet.clone(), page.clone(), key.clone()));
    // There are two neutral prompts; things and specific captions are not asked about.
    assert_eq!(sheet, "task,rater,fairness,quality\n1,,,\n2,,,\n");
    assert_eq!(page.matches("Set A").count(), 2);
    assert_eq!(page.matches("<img").count(), 20);
    for side in ["scored", "against", "before", "after"] {
        assert!(
            !page.to_lowercase().contains(&format!("{side}<")),
            "the sheet says {side}"
        );
    }
    assert!(!page.contains("http"));
    // Sides are drawn: some seed has another order than this one.
    assert!((1..20).any(|seed| run(&seed.to_string()).2 != key));
    run("0");

    // Two people who always find the scored side fairer, and tie on quality once.
    let a_is_scored: Vec<bool> = key
        .lines()
        .skip(1)
        .map(|l| l.contains(",scored,"))
        .collect();
    let mut ratings = String::from("task,rater,fairness,quality\n");
    for rater in ["ann", "bob"] {
        for (task, a) in a_is_scored.iter().enumerate() {
            let fairer = if *a { "A" } else { "B" };
            let quality = if task == 0 { "tie" } else { fairer };
            ratings += &format!("{},{rater},{fairer},{quality}\n", task + 1);
        }
    }
    let file = dir.path().join("ratings.csv");
    fs::write(&file, ratings).unwrap();
    let mut command = compare(dir.path());
    command
        .args(["--metrics", "gender", "--human-dir"])
        .arg(&sheets)
        .arg("--human-ratings")
        .arg(&file)
        .arg("--html")
        .arg(dir.path().join("report.html"));
    let scores = scores(&mut command, dir.path());
    let human = &scores["human"];
    assert_eq!((at(human, "/raters"), at(human, "/tasks")), (2.0, 2.0));
    assert_eq!(at(human, "/questions/fairness/scored"), 1.0);
    assert_eq!(human["questions"]["fairness"]["alpha"], Value::Null);
    assert_eq!(at(human, "/questions/quality/tie"), 0.5);
    assert_eq!(at(human, "/questions/quality/alpha"), 1.0);
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("What people say") && page.contains("Krippendorff"));
}
