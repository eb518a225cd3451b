use std::collections::BTreeMap;

use crate::data::dataset::{LatentsRef, PictureRow};
use crate::data::pairs::shown;
use crate::datagen::filter::*;
use crate::judge::chain::{Attributes, DropReason};
use crate::judge::scales::Scale;

/// Two axes: one is told by a table, one by the output of its name.
fn world() -> Axes {
    let text = r#"
        [template]
        neutral = "a {prompt}"
        specific = "a {age} {gender} {prompt}"
        [[axis]]
        name = "gender"
        values = ["male", "female"]
        classifier = { output = "sex", labels = { Woman = "female", Man = "male", Boy = "male" } }
        [[axis]]
        name = "age"
        values = ["young", "old"]
    "#;
    Axes::parse(text, Path::new("axes.toml")).unwrap()
}

fn seen(labels: &[(&str, f32)]) -> Verdict {
    let labels = labels.iter().map(|&(l, p)| (l.to_owned(), p)).collect();
    let hair = vec![("grey".to_owned(), 1.0)];
    let axes = BTreeMap::from([("sex".to_owned(), labels), ("hair".to_owned(), hair)]);
    Verdict::Kept(Attributes {
        axes,
        ..Attributes::default()
    })
}

fn judge(verdict: Verdict, kind: Kind, value: &str) -> Judgement {
    let axes = BTreeMap::from([("gender".to_owned(), value.to_owned())]);
    let picture = Picture {
        index: 0,
        subject: "cook",
        caption: "a cook",
        neutral: "a cook",
        kind,
        axes: &axes,
        image_id: 0,
    };
    judgement(verdict, &picture, &Meanings::of(Some(&world())))
}

#[test]
fn labels_are_added_up_into_values_and_held_to_the_caption() {
    let mixed = || seen(&[("Woman", 0.4), ("Man", 0.25), ("Boy", 0.35)]);
    let right = judge(mixed(), Kind::Specific, "male");
    assert_eq!(right.dropped, None);
    let verdict = right.verdict.unwrap();
    assert_eq!(
        verdict["gender"],
        BTreeMap::from([("female".to_owned(), 0.4), ("male".to_owned(), 0.6)])
    );
    assert_eq!(verdict["hair"]["grey"], 1.0);
    let wrong = judge(mixed(), Kind::Specific, "female");
    assert_eq!(wrong.dropped.as_deref(), Some("mismatch:gender"));
    assert!(wrong.verdict.is_some());
}

#[test]
fn a_label_without_a_meaning_is_no_value_of_the_caption() {
    let odd = seen(&[("Woman", 0.3), ("Man", 0.2), ("Statue", 0.5)]);
    let judged = judge(odd, Kind::Specific, "female");
    assert_eq!(judged.dropped.as_deref(), Some("mismatch:gender"));
    assert_eq!(judged.verdict.unwrap()["gender"]["Statue"], 0.5);
}

#[test]
fn neutral_pictures_can_not_mismatch_and_reasons_pass_through() {
    let verdict = seen(&[("Woman", 1.0)]);
    assert_eq!(judge(verdict, Kind::Neutral, "male").dropped, None);
    let none = Verdict::Dropped(DropReason::NoFace);
    let judged = judge(none, Kind::Neutral, "male");
    assert_eq!(judged.dropped.as_deref(), Some("no_face"));
    assert_eq!(judged.verdict, None);
}

/// What each reader makes of one answer about one axis: what the filter lets captions say, what
/// pairs count, what scores and validations count.
fn readers(output: &str, labels: &[(&str, f32)], axis: &str) -> [Option<String>; 3] {
    let axes = world();
    let meanings = Meanings::of(Some(&axes));
    let labels = labels.iter().map(|&(l, p)| (l.to_owned(), p)).collect();
    let attributes = Attributes {
        axes: BTreeMap::from([(output.to_owned(), labels)]),
        ..Attributes::default()
    };
    let verdict = || Verdict::Kept(attributes.clone());
    let asked = |value: &str| BTreeMap::from([(axis.to_owned(), value.to_owned())]);
    let judged = |axes: &BTreeMap<String, String>| {
        let picture = Picture {
            index: 0,
            subject: "cook",
            caption: "a cook",
            neutral: "a cook",
            kind: Kind::Specific,
            axes,
            image_id: 0,
        };
        judgement(verdict(), &picture, &meanings)
    };
    let axis = axes.axis(axis).unwrap();
    let passes: Vec<&String> = axis
        .values
        .iter()
        .filter(|value| judged(&asked(value)).dropped.is_none())
        .collect();
    assert!(passes.len() <= 1, "{passes:?}");
    let row = row(judged(&BTreeMap::new()).verdict);
    let counted = shown(&row, &meanings);
    assert!(counted.keys().all(|name| *name == axis.name), "{counted:?}");
    let scale = Scale::of(Meaning::of(axis), axis.target.clone());
    let scored = scale.read(&attributes).ok();
    [
        passes.first().map(|value| (*value).clone()),
        counted[axis.name.as_str()].map(ToOwned::to_owned),
        scored.map(|standing| axis.values[standing.dominant].clone()),
    ]
}

/// A neutral picture of which this was kept.
fn row(verdict: Option<Readings>) -> PictureRow {
    PictureRow {
        file_name: None,
        prompt: "a cook".into(),
        neutral_prompt: "a cook".into(),
        subject: "cook".into(),
        kind: Kind::Neutral,
        axes: BTreeMap::new(),
        seed: 0,
        prompt_id: 0,
        image_id: 0,
        identity: BTreeMap::new(),
        drawn_prompt: None,
        latents: LatentsRef {
            file: String::new(),
            index: 0,
        },
        sha256: None,
        verdict,
        dropped: None,
    }
}

#[test]
fn filter_pairs_and_scores_read_one_answer_alike() {
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, f32)], Option<&'a str>);
    let cases: [Case<'_>; 8] = [
        (
            "clear",
            "gender",
            &[("Woman", 0.9), ("Man", 0.1), ("Boy", 0.0)],
            Some("female"),
        ),
        (
            "two labels win together",
            "gender",
            &[("Woman", 0.4), ("Man", 0.3), ("Boy", 0.3)],
            Some("male"),
        ),
        // The axes file has male first, and so has the chain: the name decides.
        (
            "tie",
            "gender",
            &[("Man", 0.5), ("Woman", 0.5)],
            Some("female"),
        ),
        // 0.35 and 0.25 make 0.6 only after rounding to what is stored.
        (
            "tie by rounding",
            "gender",
            &[("Man", 0.25), ("Boy", 0.35), ("Woman", 0.6)],
            Some("female"),
        ),
        (
            "a label without a meaning loses",
            "gender",
            &[("Woman", 0.6), ("Statue", 0.4)],
            Some("female"),
        ),
        (
            "a label without a meaning wins",
            "gender",
            &[("Woman", 0.3), ("Man", 0.2), ("Statue", 0.5)],
            None,
        ),
        (
            "no classifier",
            "age",
            &[("young", 0.2), ("old", 0.8)],
            Some("old"),
        ),
        (
            "no classifier, no meaning",
            "age",
            &[("young", 0.2), ("old", 0.3), ("ageless", 0.5)],
            None,
        ),
    ];
    for (name, axis, labels, expected) in cases {
        let output = if axis == "gender" { "sex" } else { axis };
        let found = readers(output, labels, axis);
        let expected = expected.map(str::to_owned);
        assert_eq!(found, [(); 3].map(|()| expected.clone()), "{name}");
    }
}

#[test]
fn where_the_chain_saw_no_value_the_caption_does_not_stand_in() {
    let axes = world();
    let meanings = Meanings::of(Some(&axes));
    let value = |name: &str, p: f32| BTreeMap::from([(name.to_owned(), p)]);
    let mut row = row(Some(BTreeMap::from([
        ("gender".to_owned(), value("Statue", 1.0)),
        ("hair".to_owned(), value("grey", 1.0)),
    ])));
    row.axes = BTreeMap::from([
        ("gender".to_owned(), "female".to_owned()),
        ("age".to_owned(), "old".to_owned()),
    ]);
    // Nothing was asked about age: the caption's word counts.
    let expected = BTreeMap::from([
        ("age", Some("old")),
        ("gender", None),
        ("hair", Some("grey")),
    ]);
    assert_eq!(shown(&row, &meanings), expected);
}
