//! The report: one file that loads nothing, says the numbers and can be read without eyes.

use std::fs;

use crate::process::stderr;
use crate::world::{before_and_after, compare, pa_score, portrait};

/// The values of an attribute in a page.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let marker = format!(" {name}=\"");
    let after = page.split(marker.as_str()).skip(1);
    after.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn the_report_is_whole_and_self_contained() {
    let dir = tempfile::tempdir().unwrap();
    before_and_after(dir.path());
    let log = |step: u32| {
        format!(
            "{{\"step\":{step},\"loss\":{},\"reward_accuracy\":0.75,\"margin\":0.1,\"mu\":0.0,\
             \"grad_norm\":1.0,\"lr\":0.001,\"samples_per_second\":9.0,\"seconds\":1.0}}\n",
            1.0 / f64::from(step)
        )
    };
    let lines: String = (1..=50).map(log).collect();
    fs::write(dir.path().join("log.jsonl"), lines).unwrap();
    let html = dir.path().join("report.html");
    let output = compare(dir.path())
        .arg("--html")
        .arg(&html)
        .arg("--training")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let page = fs::read_to_string(html).unwrap();

    for (tag, why) in [
        ("<script", "scripts"),
        ("<link", "style sheets"),
        ("<iframe", "frames"),
        ("http:", "addresses"),
        ("https:", "addresses"),
        ("url(", "addresses"),
        ("@import", "imports"),
    ] {
        assert!(!page.contains(tag), "the page has {why}: {tag}");
    }
    let sources = attributes(&page, "src");
    // 2 × (12 + 12 neutral, 12 specific, 2 things).
    assert_eq!(sources.len(), 76);
    assert!(
        sources
            .iter()
            .all(|s| s.starts_with("data:image/jpeg;base64,"))
    );
    let alts = attributes(&page, "alt");
    assert_eq!(alts.len(), sources.len());
    assert!(
        alts.contains(&"before, picture 1: male, light, young"),
        "{alts:?}"
    );
    assert!(
        alts.contains(&"after, picture 12: female, dark, old"),
        "{alts:?}"
    );
    assert!(page.contains("<html lang=\"en\">") && page.contains("name=\"viewport\""));
    assert_eq!(page.matches("<h1>").count(), 1);

    for part in [
        "The gender, skin and age gaps narrowed",
        "Over 2 identity-neutral prompts, the mean discrepancy of gender went from 0.71 to 0.00",
        "Recall of captions that name who to draw went from 100.0% to 91.7%",
        "Agreement with captions",
        "pixels differ by 0.0%",
        "Loss from",
        "Reward accuracy from 0.750 to 0.750",
        "it says nothing about real people",
        "No person",
        "chain sha256",
    ] {
        assert!(page.contains(part), "the page lacks: {part}");
    }
    // Every box that is opened is closed.
    for tag in ["section", "div", "details", "table", "figure", "span"] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn one_side_alone_and_names_with_marks_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("p");
    let folder = root.join("<b>bakers</b> & \"co\"");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(portrait("male-light-old"), folder.join("1.png")).unwrap();
    fs::write(folder.join("2.png"), "broken").unwrap();
    let html = dir.path().join("new/folder/report.html");
    let output = pa_score()
        .arg(&root)
        .arg("--html")
        .arg(&html)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let page = fs::read_to_string(html).unwrap();
    assert!(page.contains("&lt;b&gt;bakers&lt;/b&gt; &amp; &quot;co&quot;"));
    assert!(!page.contains("<b>bakers"));
    assert!(page.contains("Who is drawn") && !page.contains(">Before<"));
    assert!(page.contains("the mean discrepancy of gender is 0.71"));
    assert!(page.contains("Unreadable"));
}
