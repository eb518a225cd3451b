//! Winners follow the target on every axis, also on those that their captions don't name.

use super::*;

const RACES: [&str; 5] = ["white", "black", "asian", "indian", "other"];

/// What of `every` pictures in turn the first `some` are.
fn first<'a>(i: usize, some: usize, every: usize, yes: &'a str, no: &'a str) -> &'a str {
    if i % every < some { yes } else { no }
}

/// A race as the model draws it where the caption names none: 16 of 20 are white.
fn biased_race(i: usize) -> &'static str {
    RACES[(i % 20).saturating_sub(15)]
}

/// A smith's pictures, for captions like those of `models/faces/axes.toml`. The model draws 94 % men,
/// 80 % white people and 90 % young ones wherever the caption doesn't say.
fn smiths(aged: usize) -> Vec<PictureRow> {
    // Interleaved by prime-ish strides, so that axes don't go together.
    let man = |i: usize| first(i * 7, 47, 50, "male", "female");
    let young = |i: usize| first(i * 3, 9, 10, "young", "old");
    let mut shots = Vec::new();
    let mut verdicts = Vec::new();
    for i in 0..100 {
        shots.push(Shot("smith", &[], None, false));
        verdicts.push([biased_race(i * 11), man(i), young(i)]);
    }
    for race in RACES {
        for gender in ["female", "male"] {
            for i in 0..10 {
                shots.push(Shot("smith", &[], None, false));
                verdicts.push([race, gender, young(i)]);
            }
        }
    }
    for age in ["young", "old"] {
        for i in 0..aged {
            shots.push(Shot("smith", &[], None, false));
            verdicts.push([biased_race(i * 11), man(i), age]);
        }
    }
    let mut rows = rows(&shots);
    for (i, (row, [race, gender, age])) in rows.iter_mut().zip(verdicts).enumerate() {
        let named: &[(&str, &str)] = match i {
            0..100 => &[],
            100..200 => &[("race", race), ("gender", gender)],
            _ => &[("age", age)],
        };
        if !named.is_empty() {
            let words: Vec<&str> = named.iter().map(|(_, value)| *value).collect();
            row.kind = Kind::Specific;
            row.prompt = format!("a photo of a {} smith", words.join(" "));
            row.prompt_id = caption_id(&row.prompt);
        }
        let named = named.iter();
        row.axes = named
            .map(|(a, v)| ((*a).to_owned(), (*v).to_owned()))
            .collect();
        row.verdict = Some(verdict(&[("race", race), ("gender", gender), ("age", age)]));
    }
    rows
}

fn faces() -> Axes {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Axes::load(&root.join("models/faces/axes.toml")).unwrap()
}

/// The share of a value among pictures, by their verdicts alone.
fn share(
    dataset: &Pool,
    rows: impl Iterator<Item = usize> + Clone,
    axis: &str,
    value: &str,
) -> f64 {
    let shown = rows
        .clone()
        .filter(|row| seen(dataset.row(*row), axis) == value);
    shown.count() as f64 / rows.count() as f64
}

#[test]
fn winners_follow_every_axis_whatever_captions_name() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = pool(dir.path(), &smiths(50));
    let neutral = (0..dataset.rows().count()).filter(|i| dataset.row(*i).kind == Kind::Neutral);
    assert!((share(&dataset, neutral, "gender", "male") - 0.94).abs() < 1e-9);
    let axes = faces();
    // Before they were raked 28 % of the winners were women, 70 % young, 50 % white.
    for seed in 0..5 {
        let pairs = draw(&dataset, Some(&axes), seed, 12_800, SETS).unwrap();
        assert_eq!(pairs.off_target, [""; 0]);
        let winners = pairs.rows.iter().map(|[winner, _]| *winner);
        for axis in axes.axes() {
            for (value, target) in axis.values.iter().zip(&axis.target) {
                let found = share(&dataset, winners.clone(), &axis.name, value);
                assert!((found - target).abs() <= 0.02, "{value}: {found}");
            }
        }
    }
}

/// What no picture shows can't win: said once for an axis and value, with the captions.
#[test]
fn what_cannot_be_met_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let drawn = |name: &str, change: &dyn Fn(&mut PictureRow)| {
        let mut rows = smiths(50);
        rows.iter_mut().for_each(change);
        let dataset = pool(&dir.path().join(name), &rows);
        draw(&dataset, Some(&faces()), 0, 640, SETS)
            .unwrap()
            .off_target
    };
    let drop = |row: &mut PictureRow| row.dropped = Some("ambiguous".to_owned());
    let lines = drawn("young", &|row| {
        if seen(row, "age") == "old" && row.kind == Kind::Specific {
            drop(row);
        }
    });
    assert_eq!(
        lines,
        [
            "axis age: old should be 50 % of the winners of 1 of 1 captions (\"a photo of a smith\"), \
          but none of their identity-specific pictures shows it"
        ]
    );
    // Every woman is white, so that women and the races can't both have their targets.
    let lines = drawn("together", &|row| {
        if seen(row, "gender") == "female" && seen(row, "race") != "white" {
            drop(row);
        }
    });
    assert!(
        lines
            .iter()
            .any(|line| line.contains("allow no nearer with the other axes")),
        "{lines:?}"
    );
    let lines = drawn("unknown", &|row| {
        row.verdict.as_mut().unwrap().remove("age");
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("axis age: what 72 % of the winners"),
        "{lines:?}"
    );
}
