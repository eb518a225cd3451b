//! Who wins a draw, held to the official code's rule and to the target.

use super::super::rule::Rule;
use super::*;

/// A clerk's pictures: neutral ones of which this was seen, and specific ones of both genders, all of
/// one race.
fn clerks(neutral: &[[&str; 2]]) -> Vec<PictureRow> {
    let mut shots: Vec<Shot> = neutral
        .iter()
        .map(|_| Shot("clerk", &[], None, false))
        .collect();
    for gender in [WOMAN, MAN] {
        shots.extend((0..6).map(|_| Shot("clerk", gender, None, false)));
    }
    let mut rows = rows(&shots);
    for (i, row) in rows.iter_mut().enumerate() {
        let [gender, race] = match neutral.get(i) {
            Some(seen) => *seen,
            None => [row.axes["gender"].as_str(), "white"],
        };
        row.verdict = Some(verdict(&[("gender", gender), ("race", race)]));
    }
    rows
}

/// Half women, half men, of three races.
const MANY: [[&str; 2]; 6] = [
    ["female", "white"],
    ["male", "black"],
    ["female", "asian"],
    ["male", "white"],
    ["female", "black"],
    ["male", "asian"],
];

/// Gender with this target, and race with a uniform one.
fn both(target: &str) -> Axes {
    let text = format!(
        "[template]\nneutral = \"a photo of a {{prompt}}\"\nspecific = \"a {{race}} {{gender}} {{prompt}}\"\n\
         [[axis]]\nname = \"gender\"\nvalues = [\"female\", \"male\"]\ntarget = {target}\n\
         [[axis]]\nname = \"race\"\nvalues = [\"white\", \"black\", \"asian\"]\n"
    );
    Axes::parse(&text, Path::new("axes.toml")).unwrap()
}

/// The specific and the neutral set of a draw, and whether they were swapped.
type Drawn<'a> = ([Vec<&'a PictureRow>; 2], bool);

/// Draws put together again from their pairs.
fn draws<'a>(dataset: &'a Pool, pairs: &Pairs) -> Vec<Drawn<'a>> {
    let mut draws: BTreeMap<u32, Drawn<'_>> = BTreeMap::new();
    for (pair, [winner, loser]) in pairs.list.iter().zip(&pairs.rows) {
        let draw = draws.entry(pair.draw).or_default();
        draw.1 = pair.swapped;
        let rows = [*winner, *loser].map(|row| dataset.row(row));
        for row in rows {
            draw.0[usize::from(row.kind == Kind::Neutral)].push(row);
        }
    }
    assert!(draws.values().all(|(sets, _)| sets[0].len() == SET_SIZE));
    draws.into_values().collect()
}

/// As numpy's `unique` counts them.
fn distinct(set: &[&PictureRow], axis: &str) -> usize {
    let values: BTreeSet<&str> = set.iter().map(|row| seen(row, axis)).collect();
    values.len()
}

fn share_of_men(set: &[&PictureRow]) -> f64 {
    let men = set.iter().filter(|row| seen(row, "gender") == "male");
    men.count() as f64 / set.len() as f64
}

/// `better1 = (len(race_a) >= len(race_b)) or (len(gender_a) >= len(gender_b))`, swapped if not.
#[test]
fn uniform_targets_have_the_official_rule() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = pool(dir.path(), &clerks(&MANY));
    for (axes, races) in [
        (None, true),
        (Some(both("[0.5, 0.5]")), true),
        (Some(axes("[0.5, 0.5]")), false),
    ] {
        let pairs = draw(&dataset, axes.as_ref(), 4, 3000, SETS).unwrap();
        let mut swaps = 0;
        for ([a, b], swapped) in draws(&dataset, &pairs) {
            let keeps = |axis| distinct(&a, axis) >= distinct(&b, axis);
            let better = (races && keeps("race")) || keeps("gender");
            assert_eq!(swapped, !better, "{axes:?}");
            swaps += usize::from(swapped);
        }
        assert!(swaps > 10, "{swaps}");
    }
}

#[test]
fn winners_are_the_target_s_over_all_draws() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = pool(dir.path(), &clerks(&MANY));
    // By the numbers of pictures in a set of five, the exact share of men among winners: .806, .904.
    for (target, men, within) in [
        ("[0.2, 0.8]", 0.806, 0.02),
        ("[0.1, 0.9]", 0.904, 0.02),
        ("[0.0, 1.0]", 1.0, 0.0),
        ("[1.0, 0.0]", 0.0, 0.0),
    ] {
        let pairs = draw(&dataset, Some(&axes(target)), 3, 12_800, SETS).unwrap();
        let found = 1.0 - share_of_women(&dataset, &pairs);
        assert!((found - men).abs() <= within, "{target}: {found}");
    }
    for seed in 0..5 {
        let pairs = draw(&dataset, Some(&axes("[0.1, 0.9]")), seed, 640, SETS).unwrap();
        assert_eq!(pairs.list.len(), 640);
        let men = 1.0 - share_of_women(&dataset, &pairs);
        assert!((0.87..=0.93).contains(&men), "seed {seed}: {men}");
    }
}

#[test]
fn the_set_nearer_to_the_target_wins() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = pool(dir.path(), &clerks(&MANY));
    let pairs = draw(&dataset, Some(&axes("[0.3, 0.7]")), 3, 3000, SETS).unwrap();
    let mut swaps = 0;
    for ([specific, neutral], swapped) in draws(&dataset, &pairs) {
        // In tenths, so that ties are ties.
        let off = |set| (share_of_men(set) * 10.0).round() as i32 - 7;
        assert_eq!(swapped, off(&neutral).abs() < off(&specific).abs());
        swaps += usize::from(swapped);
    }
    assert!(swaps > 10, "{swaps}");
}

/// Beside each other each axis keeps its rule, and one that isn't better is enough against a swap.
#[test]
fn axes_with_and_without_a_uniform_target() {
    let dir = tempfile::tempdir().unwrap();
    // The specific ones are all of one race, the neutral ones often.
    let races = ["white", "white", "white", "white", "white", "black"];
    let genders = MANY.map(|[gender, _]| gender);
    let neutral: Vec<[&str; 2]> = (0..6).map(|i| [genders[i], races[i]]).collect();
    let dataset = pool(dir.path(), &clerks(&neutral));
    let pairs = draw(&dataset, Some(&both("[0.1, 0.9]")), 3, 12_800, SETS).unwrap();
    let mut found = BTreeSet::new();
    for ([specific, neutral], swapped) in draws(&dataset, &pairs) {
        let off = |set| ((share_of_men(set) * 10.0).round() as i32 - 9).abs();
        let nearer = off(&neutral) < off(&specific);
        let more = distinct(&neutral, "race") > distinct(&specific, "race");
        assert_eq!(swapped, nearer && more);
        found.insert((nearer, more));
    }
    assert!(found.is_superset(&BTreeSet::from([
        (true, true),
        (false, true),
        (true, false)
    ])));
}

/// What a chain tells beside the axes of the file changes nothing.
#[test]
fn only_the_file_s_axes_count() {
    for target in ["[0.5, 0.5]", "[0.1, 0.9]"] {
        let dir = tempfile::tempdir().unwrap();
        let draw = |name: &str, rows: &[PictureRow]| {
            let dataset = pool(&dir.path().join(name), rows);
            draw(&dataset, Some(&axes(target)), 1, 640, SETS).unwrap()
        };
        let mut rows = clerks(&MANY);
        let more = draw("more", &rows);
        for row in &mut rows {
            row.verdict.as_mut().unwrap().remove("race");
        }
        assert!(more == draw("gender", &rows), "{target}");
        assert!(more.list.iter().any(|pair| pair.swapped), "{target}");
        // Nor does an axis that captions name and nobody looks at.
        for row in rows.iter_mut().filter(|row| row.kind == Kind::Specific) {
            row.axes.insert("hat".to_owned(), "red".to_owned());
        }
        assert!(more == draw("hat", &rows), "{target}");
    }
}

#[test]
fn ties_are_the_specific_set_s() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = clerks(&[
        ["female", "white"],
        ["male", "white"],
        ["?", "white"],
        ["unjudged", "white"],
    ]);
    rows[3].verdict = None;
    let dataset = pool(dir.path(), &rows);
    let find = |kind, gender| {
        let mut rows = dataset.rows();
        let judged = |row: &PictureRow| row.verdict.is_some() && seen(row, "gender") == gender;
        rows.position(|row| row.kind == kind && judged(row))
            .unwrap()
    };
    // f, m: one of the specific pictures; F, M, ?, -: a neutral one, the last two show neither
    // and were not judged.
    let set = |text: &str| -> Vec<usize> {
        text.chars()
            .map(|c| match c {
                'f' => find(Kind::Specific, "female"),
                'm' => find(Kind::Specific, "male"),
                'F' => find(Kind::Neutral, "female"),
                'M' => find(Kind::Neutral, "male"),
                '?' => find(Kind::Neutral, "?"),
                _ => 3,
            })
            .collect()
    };
    for (target, specific, neutral, swaps) in [
        ("[0.1, 0.9]", "mmmmm", "MMMMF", false),
        ("[0.1, 0.9]", "mmmmf", "MMMMM", false),
        ("[0.1, 0.9]", "mmmff", "MMMMM", true),
        ("[0.3, 0.7]", "mmmff", "MMMMF", false),
        ("[0.3, 0.7]", "mmmmm", "MMFFF", false),
        ("[0.3, 0.7]", "mmmmm", "MMMFF", true),
        // Shares are of the pictures that show a value; a set that shows none is never nearer.
        ("[0.1, 0.9]", "mffff", "MMMM?", true),
        ("[0.1, 0.9]", "fffff", "?????", false),
        ("[0.5, 0.5]", "mmmmm", "?????", false),
        ("[0.5, 0.5]", "mmmmm", "MMMMF", true),
        ("[0.5, 0.5]", "mmmmm", "MMMF-", false),
        ("[0.1, 0.9]", "mffff", "MMMM-", false),
        ("[0.5, 0.5]", "mmmmf", "MMMFF", false),
    ] {
        let axes = axes(target);
        let found = Rule::of(Some(&axes)).swaps(&dataset, &set(specific), &set(neutral));
        assert_eq!(found, swaps, "{target} {specific} {neutral}");
    }
}

#[test]
fn neutral_pictures_need_a_verdict_on_the_axes() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, axes: Option<&Axes>, change: &dyn Fn(&mut PictureRow)| {
        let mut rows = clerks(&MANY);
        rows.iter_mut().for_each(change);
        let found = check_verdicts(&pool(&dir.path().join(name), &rows), axes);
        found.map_err(|error| error.to_string())
    };
    let gender = axes("[0.5, 0.5]");
    let neutral = |row: &PictureRow| row.kind == Kind::Neutral;
    assert_eq!(check("whole", Some(&gender), &|_| ()), Ok(()));
    // Captions say what the specific ones show.
    let unseen = |row: &mut PictureRow| row.verdict = row.verdict.take().filter(|_| neutral(row));
    assert_eq!(check("captions", Some(&gender), &unseen), Ok(()));
    // A dropped picture is never drawn.
    let dropped = |row: &mut PictureRow| {
        if row.image_id == 0 {
            (row.verdict, row.dropped) = (None, Some("no_face".to_owned()));
        }
    };
    assert_eq!(check("dropped", Some(&gender), &dropped), Ok(()));

    let one = |row: &mut PictureRow| row.verdict = row.verdict.take().filter(|_| row.image_id != 2);
    let message = check("one", None, &one).unwrap_err();
    let expected = "one is unfiltered: 1 of 6 neutral pictures have no verdict, and";
    assert!(message.contains(expected), "{message}");
    let other = |row: &mut PictureRow| {
        row.verdict.as_mut().unwrap().remove("gender");
    };
    assert_eq!(check("race alone", None, &other), Ok(()));
    let message = check("race", Some(&gender), &other).unwrap_err();
    let expected = "race is unfiltered: 6 of 6 neutral pictures have no verdict on gender";
    assert!(message.contains(expected), "{message}");
}

/// Pictures of things have no draws to win, and so need no verdicts.
#[test]
fn pictures_without_draws_need_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    pool(&dir.path().join("clerks"), &clerks(&MANY));
    let things = [Shot("tree", &[], None, false)];
    dataset(&dir.path().join("things"), &things);
    let dirs = ["clerks", "things"].map(|name| dir.path().join(name));
    assert!(check_verdicts(&Pool::open(&dirs).unwrap(), None).is_ok());
    dataset(&dir.path().join("plain"), &doctors());
    let dirs = ["clerks", "plain"].map(|name| dir.path().join(name));
    let found = check_verdicts(&Pool::open(&dirs).unwrap(), None).unwrap_err();
    let message = found.to_string();
    assert!(message.contains("plain is unfiltered: 3 of 9"), "{message}");
}
