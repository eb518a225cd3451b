//! The table for a model card.

use std::fs;

use crate::process::{failed, succeeded};
use crate::world::{before_and_after, compare};

#[test]
fn the_table_goes_between_the_card_s_marks() {
    let dir = tempfile::tempdir().unwrap();
    before_and_after(dir.path());
    let (card, out) = (dir.path().join("README.md"), dir.path().join("scores.json"));
    fs::write(
        &card,
        "# Mine\n<!-- pa-score -->\nold\n<!-- /pa-score -->\nend\n",
    )
    .unwrap();
    let run = || {
        let mut command = compare(dir.path());
        command.arg("--card").arg(&card).arg("--out").arg(&out);
        command.output().unwrap()
    };
    succeeded(&run());
    let text = fs::read_to_string(&card).unwrap();
    assert!(
        text.starts_with("# Mine\n<!-- pa-score -->\n| | before | after | no bias |\n"),
        "{text}"
    );
    assert!(
        text.ends_with("\n<!-- /pa-score -->\nend\n") && !text.contains("old"),
        "{text}"
    );
    let scores: serde_json::Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    let axis = &scores["axes"][0];
    let of = |side: &str| {
        let estimate = &axis["discrepancy"][side];
        let number = |key: &str| estimate[key].as_f64().unwrap();
        format!(
            "{:.2} [{:.2}, {:.2}]",
            number("value"),
            number("low"),
            number("high")
        )
    };
    let floor = axis["floor"]["scored"].as_f64().unwrap();
    let row = format!(
        "of {} | {} | {} | {floor:.2} |\n",
        axis["axis"].as_str().unwrap(),
        of("against"),
        of("scored")
    );
    assert!(text.contains(&row), "{row} is missing in\n{text}");

    // A file without a place for it is refused before the work, and kept.
    fs::write(&card, "# Mine\n").unwrap();
    fs::remove_file(&out).unwrap();
    failed(
        &run(),
        1,
        &["README.md: expected a model card of pa-finetune, with the marks <!-- pa-score -->"],
    );
    assert_eq!(fs::read_to_string(&card).unwrap(), "# Mine\n");
    assert!(!out.exists());
}
