mod families;
mod rule;

use serde_json::Map;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;
use crate::base::fsio;
use crate::data::dataset::LatentsRef;
use crate::data::dataset::{Kind, PictureRow};
use crate::data::manifest::{DatasetManifest, Layout};
use crate::data::pool::Pool;
use crate::data::writer::{DatasetWriter, Finish, latents_name};
use crate::judge::reading::{Meanings, Readings};
use crate::prompts::{Axes, caption_id};
use crate::store::Store;

/// A picture of the test's data set: subject, named values, classifier's gender, dropped.
struct Shot(
    &'static str,
    &'static [(&'static str, &'static str)],
    Option<&'static str>,
    bool,
);

fn dataset(dir: &Path, shots: &[Shot]) -> Pool {
    pool(dir, &rows(shots))
}

fn rows(shots: &[Shot]) -> Vec<PictureRow> {
    shots
        .iter()
        .zip(0u32..)
        .map(|(Shot(subject, axes, verdict, dropped), i)| {
            let neutral = format!("a photo of a {subject}");
            let named: Vec<&str> = axes.iter().map(|a| a.1).collect();
            let prompt = if axes.is_empty() {
                neutral.clone()
            } else {
                format!("a photo of a {} {subject}", named.join(" "))
            };
            let verdict = verdict.map(|v| {
                let shares = BTreeMap::from([(v.to_owned(), 0.9f32), ("other".to_owned(), 0.1)]);
                BTreeMap::from([("gender".to_owned(), shares)])
            });
            PictureRow {
                file_name: None,
                prompt_id: caption_id(&prompt),
                prompt,
                neutral_prompt: neutral,
                subject: (*subject).to_owned(),
                kind: if axes.is_empty() {
                    Kind::Neutral
                } else {
                    Kind::Specific
                },
                axes: axes
                    .iter()
                    .map(|(a, v)| ((*a).to_owned(), (*v).to_owned()))
                    .collect(),
                seed: 0,
                image_id: i,
                identity: BTreeMap::new(),
                drawn_prompt: None,
                latents: LatentsRef {
                    file: latents_name(0),
                    index: i as usize,
                },
                sha256: None,
                verdict,
                dropped: dropped.then(|| "ambiguous".to_owned()),
            }
        })
        .collect()
}

fn pool(dir: &Path, rows: &[PictureRow]) -> Pool {
    let ids: BTreeSet<u32> = rows
        .iter()
        .flat_map(|r| [r.prompt_id, caption_id(&r.neutral_prompt)])
        .collect();
    let layout = Layout {
        width: 8,
        height: 8,
        latent: [1, 1, 1],
        prompt_embeds: [1, 1],
        pooled: None,
        captions: ids.len(),
        images: rows.len(),
        unit_images: rows.len(),
        size_conditions: None,
        ragged: false,
    };
    let writer = DatasetWriter::open(
        Store::Folder(dir.to_path_buf()),
        DatasetManifest::new(Map::new(), BTreeMap::new(), layout),
    )
    .unwrap();
    let ids: Vec<u32> = ids.into_iter().collect();
    writer
        .write_text(&ids, |_| {
            Ok::<_, crate::data::dataset::Error>((vec![0.0], None))
        })
        .unwrap();
    writer.write_unit(0, rows, &vec![0.0; rows.len()]).unwrap();
    assert!(matches!(writer.finish().unwrap(), Finish::Complete(_)));
    Pool::open(&[dir.to_path_buf()]).unwrap()
}

const WOMAN: &[(&str, &str)] = &[("gender", "female")];
const MAN: &[(&str, &str)] = &[("gender", "male")];

/// As the official code.
const SETS: Sets = Sets {
    size: SET_SIZE,
    together: false,
};

fn doctors() -> Vec<Shot> {
    let mut shots: Vec<Shot> = (0..6)
        .map(|_| Shot("doctor", &[], Some("male"), false))
        .collect();
    // The filter dropped most women, who must still be half of the winners.
    shots.push(Shot("doctor", WOMAN, Some("female"), false));
    shots.extend((0..4).map(|_| Shot("doctor", WOMAN, Some("male"), true)));
    shots.extend((0..5).map(|_| Shot("doctor", MAN, Some("male"), false)));
    shots.extend((0..3).map(|_| Shot("nurse", &[], None, false)));
    shots.extend([
        Shot("nurse", WOMAN, None, false),
        Shot("nurse", MAN, None, false),
    ]);
    shots.push(Shot("tree", &[], None, false));
    shots
}

/// A verdict: a value of each axis, told with confidence.
fn verdict(values: &[(&str, &str)]) -> Readings {
    let sure =
        |value: &str| BTreeMap::from([(value.to_owned(), 0.9f32), ("unsure".to_owned(), 0.1)]);
    let values = values.iter();
    values
        .map(|(axis, value)| ((*axis).to_owned(), sure(value)))
        .collect()
}

/// The best value of each axis of a picture's verdict, without the code under test.
fn seen<'a>(row: &'a PictureRow, axis: &str) -> &'a str {
    let shares = &row.verdict.as_ref().unwrap()[axis];
    shares.iter().find(|(_, p)| **p > 0.5).unwrap().0
}

fn axes(target: &str) -> Axes {
    let text = format!(
        "[template]\nneutral = \"a photo of a {{prompt}}\"\nspecific = \"a {{gender}} {{prompt}}\"\n\
         [[axis]]\nname = \"gender\"\nvalues = [\"female\", \"male\"]\ntarget = {target}\n"
    );
    Axes::parse(&text, Path::new("axes.toml")).unwrap()
}

/// Of all winners, whoever drew them.
fn share_of_women(dataset: &Pool, pairs: &Pairs) -> f64 {
    let meanings = Meanings::default();
    let winners = pairs.rows.iter().map(|[winner, _]| dataset.row(*winner));
    let women = winners.filter(|row| shown(row, &meanings)["gender"] == Some("female"));
    women.count() as f64 / pairs.rows.len() as f64
}

#[test]
fn winners_follow_the_target_and_losers_are_neutral() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = dataset(dir.path(), &doctors());
    for (axes, expected) in [
        (None, 0.5),
        (Some(axes("[0.5, 0.5]")), 0.5),
        (Some(axes("[0.2, 0.8]")), 0.2),
        (Some(axes("[1.0, 0.0]")), 1.0),
    ] {
        let pairs = draw(&dataset, axes.as_ref(), 3, 3000, SETS).unwrap();
        assert!(pairs.list.len() >= 3000);
        let share = share_of_women(&dataset, &pairs);
        // 3,000 draws of a share: five standard errors are below 0.05.
        assert!(
            (share - expected).abs() < 0.05,
            "{share} instead of {expected}"
        );
        for (pair, [winner, loser]) in pairs.list.iter().zip(&pairs.rows) {
            let (winner, loser) = (dataset.row(*winner), dataset.row(*loser));
            assert!(winner.dropped.is_none() && loser.dropped.is_none());
            assert_eq!(
                (&winner.neutral_prompt, &loser.neutral_prompt),
                (&pair.caption, &pair.caption)
            );
            let kinds = (winner.kind, loser.kind);
            let expected = (Kind::Specific, Kind::Neutral);
            assert_eq!(
                kinds,
                if pair.swapped {
                    (expected.1, expected.0)
                } else {
                    expected
                }
            );
        }
        assert!(pairs.left_out.len() == 1 && pairs.left_out[0].contains("tree"));
    }
}

#[test]
fn a_longer_list_starts_with_the_shorter_and_seeds_differ() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = dataset(dir.path(), &doctors());
    let short = draw(&dataset, None, 1, 100, SETS).unwrap();
    let long = draw(&dataset, None, 1, 1500, SETS).unwrap();
    assert_eq!(short.list, long.list[..short.list.len()]);
    assert_ne!(short.list, draw(&dataset, None, 2, 100, SETS).unwrap().list);
    // Neighbours come from different draws: a batch is not five pairs of one subject.
    let runs = short
        .list
        .windows(2)
        .filter(|w| w[0].draw == w[1].draw)
        .count();
    assert!(runs < short.list.len() / 10, "{runs}");
}

#[test]
fn the_more_diverse_set_wins() {
    let dir = tempfile::tempdir().unwrap();
    // Neutral pictures of both kinds, specific ones of one: the neutral set often wins.
    let mut shots = Vec::new();
    for verdict in ["male", "female", "male", "female"] {
        shots.push(Shot("clerk", &[], Some(verdict), false));
    }
    shots.push(Shot("clerk", MAN, Some("male"), false));
    let dataset = dataset(dir.path(), &shots);
    let pairs = draw(&dataset, None, 0, 640, SETS).unwrap();
    let swapped = pairs.list.iter().filter(|p| p.swapped).count() as f64 / pairs.list.len() as f64;
    // A set of five shows both unless all are alike: 1 - 2 / 32.
    assert!((swapped - 0.9375).abs() < 0.12, "{swapped}");
}

#[test]
fn a_file_of_pairs_is_read_back_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = dataset(dir.path(), &doctors());
    let pairs = draw(&dataset, None, 1, 10, SETS).unwrap();
    let path = dir.path().join("pairs.jsonl");
    fsio::write(&path, pairs.to_jsonl()).unwrap();
    let again = read(&path, &dataset, SETS).unwrap();
    assert_eq!((&again.list, &again.rows), (&pairs.list, &pairs.rows));
    let line = pairs.to_jsonl().lines().next().unwrap().to_owned();
    for (text, expected) in [
        (
            line.replace("\"image_id\":", "\"image_id\":9"),
            ":1: the data set has kept no picture",
        ),
        (line.replace("photo", "phot"), "no embeddings of"),
        (format!("{line}\n{{}}"), ":2: not a pair"),
        (String::new(), "holds no pairs"),
    ] {
        fsio::write(&path, text).unwrap();
        let error = read(&path, &dataset, SETS).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_data_set_without_winners_or_losers_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let shots = [
        Shot("doctor", &[], None, false),
        Shot("doctor", WOMAN, None, true),
    ];
    let dataset = dataset(dir.path(), &shots);
    let error = draw(&dataset, None, 0, 10, SETS).unwrap_err().to_string();
    assert!(
        error.contains("no identity-specific picture for \"a photo of a doctor\""),
        "{error}"
    );
}

#[test]
fn sets_of_any_size_can_stay_together() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = dataset(dir.path(), &doctors());
    let sets = Sets {
        size: 3,
        together: true,
    };
    let pairs = draw(&dataset, None, 1, 500, sets).unwrap();
    for set in pairs.list.chunks(3) {
        assert!(
            set.iter()
                .all(|p| p.draw == set[0].draw && p.caption == set[0].caption)
        );
    }
    let mut order: Vec<u32> = pairs.list.chunks(3).map(|set| set[0].draw).collect();
    assert!(!order.is_sorted(), "draws are shuffled");
    order.sort_unstable();
    order.dedup();
    assert_eq!(order.len() * 3, pairs.list.len(), "each draw once");
    // The same draws as where they are mixed.
    let mixed = Sets {
        together: false,
        ..sets
    };
    let mut mixed = draw(&dataset, None, 1, 500, mixed).unwrap().list;
    let mut whole = pairs.list.clone();
    for list in [&mut mixed, &mut whole] {
        list.sort_by_key(|p| {
            (
                p.draw,
                p.winner.prompt_id,
                p.winner.image_id,
                p.loser.image_id,
            )
        });
    }
    assert_eq!(mixed, whole);

    let path = dir.path().join("pairs.jsonl");
    let text = pairs.to_jsonl();
    fsio::write(&path, &text).unwrap();
    assert_eq!(
        read(&path, &dataset, sets).unwrap(),
        Pairs {
            left_out: vec![],
            off_target: vec![],
            ..pairs.clone()
        }
    );
    let lines: Vec<&str> = text.lines().collect();
    let weighted = lines[1].replacen('{', "{\"weight\":2.0,", 1);
    for (text, expected) in [
        (
            lines[..4].join("\n"),
            ":4: the last set has fewer than 3 pairs",
        ),
        (
            lines[1..4].join("\n"),
            ":3: another draw within a set of 3 pairs",
        ),
        (
            [lines[0], &weighted, lines[2]].join("\n"),
            ":2: another weight within a set of 3 pairs",
        ),
    ] {
        fsio::write(&path, text).unwrap();
        let error = read(&path, &dataset, sets).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // Elsewhere pairs may have weights of their own.
    fsio::write(&path, &weighted).unwrap();
    let read_back = read(&path, &dataset, SETS).unwrap();
    assert_eq!(read_back.list[0].weight, 2.0);
    assert!(read_back.to_jsonl().contains("\"weight\":2.0"));
    fsio::write(&path, weighted.replace("2.0", "-1")).unwrap();
    let error = read(&path, &dataset, SETS).unwrap_err().to_string();
    assert!(error.contains(":1: expected a `weight` from 0"), "{error}");
}
