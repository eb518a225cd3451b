//! Preference pairs: sets of pictures against each other, cut into pairs of pictures.
//!
//! One *draw* takes a subject ("doctor"), a set of pictures from its identity-specific captions
//! and a set from its neutral caption. The specific set wins unless the neutral one is more
//! diverse on every axis, then they swap. Picture k of the winners against picture k of the losers
//! is a pair; its label is the neutral caption, which is what the model is to learn more
//! identities for.
//!
//! Source: PopAlign section 3 and `3_generate_preferences.py` of the official code (5 + 5 pictures
//! with replacement, swap if not (more or as many races, or more or as many genders)). What is
//! added: specific pictures are drawn by the target shares of the axes (uniform unless the axes
//! file says otherwise), so that a class the sanity filter dropped more often is not rarer in
//! training; and every draw is addressed, so that a longer list starts with the shorter one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dataset::{Kind, PictureRow, Shape};
use super::pool::Pool;
use crate::base::fsio;
use crate::judge::reading::Meanings;
use crate::prompts::Axes;
use crate::prompts::caption_id;
use crate::random::{Purpose, Stream, shuffle};

/// Pictures of each side of a draw, in the official code.
pub const SET_SIZE: usize = 5;
/// Draws whose pairs are shuffled among each other: a training batch should not be one subject.
const SHUFFLED_DRAWS: usize = 64;

/// Why there are no pairs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No subject has pictures on both sides.
    #[error("{} gives no pairs: {}", dir.display(), reasons.join("; "))]
    NoPairs {
        /// The data set.
        dir: PathBuf,
        /// Why, subject by subject (the first few).
        reasons: Vec<String>,
    },
    /// The file of pairs.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// A line of the file of pairs that is not a pair.
    #[error("{}:{line}: not a pair", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A pair that names what the data set does not have.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file without pairs.
    #[error("{} holds no pairs", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// One picture of a pair, by what names it in its data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PictureId {
    /// Id of the caption it was drawn for.
    pub prompt_id: u32,
    /// Its number among that caption's pictures.
    pub image_id: u32,
    /// Its data set's place among those of the run.
    #[serde(default, skip_serializing_if = "is_first")]
    pub data: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_first(data: &u32) -> bool {
    *data == 0
}

impl PictureId {
    fn of(dataset: &Pool, row: usize) -> Self {
        let PictureRow {
            prompt_id,
            image_id,
            ..
        } = *dataset.row(row);
        Self {
            prompt_id,
            image_id,
            data: dataset.place(row).0 as u32,
        }
    }
}

/// How sets are drawn and listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sets {
    /// Pictures of each side of a draw.
    pub size: usize,
    /// Whether the pairs of a draw stay together in the list: a loss takes them as one.
    pub together: bool,
}

/// One line of `pairs.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The neutral caption both pictures are trained under.
    pub caption: String,
    /// Number of the draw it came from.
    #[serde(default)]
    pub draw: u32,
    /// Whether the neutral set won the draw.
    #[serde(default)]
    pub swapped: bool,
    /// The preferred picture.
    pub winner: PictureId,
    /// The other one.
    pub loser: PictureId,
    /// What its term of the loss is multiplied with.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f32,
}

fn one() -> f32 {
    1.0
}

fn is_one(weight: &f32) -> bool {
    *weight == 1.0
}

/// Pairs with the rows of their pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// The pairs in the order training visits them.
    pub list: Vec<Pair>,
    /// Row numbers of each pair's winner and loser.
    pub rows: Vec<[usize; 2]>,
    /// Subjects that have no pictures on one side, and why they were left out.
    pub left_out: Vec<String>,
}

/// What a subject offers to draws.
struct Subject<'a> {
    caption: &'a str,
    neutral: Vec<usize>,
    /// Pictures by the values their captions name, with the share of draws each group gets.
    groups: Vec<(f64, Vec<usize>)>,
}

/// Draws at least `count` pairs; the list is whole shuffled blocks of draws.
///
/// # Errors
/// [`Error::NoPairs`].
pub fn draw(
    dataset: &Pool,
    axes: Option<&Axes>,
    seed: u64,
    count: usize,
    sets: Sets,
) -> Result<Pairs, Error> {
    let (subjects, left_out) = subjects(dataset, axes);
    if subjects.is_empty() {
        let mut reasons: Vec<String> = left_out.into_iter().take(5).collect();
        if reasons.is_empty() {
            reasons.push("it has no pictures".to_owned());
        }
        return Err(Error::NoPairs {
            dir: dataset.dir().to_path_buf(),
            reasons,
        });
    }
    let mut pairs = Pairs {
        list: Vec::new(),
        rows: Vec::new(),
        left_out,
    };
    let world = World {
        dataset,
        meanings: Meanings::of(axes),
        subjects,
    };
    let mut next = 0;
    while pairs.list.len() < count {
        let mut block = Vec::with_capacity(SHUFFLED_DRAWS * sets.size);
        for _ in 0..SHUFFLED_DRAWS {
            one_draw(&world, seed, next, sets.size, &mut block);
            next += 1;
        }
        let number = next / SHUFFLED_DRAWS as u32;
        let mut stream = Stream::new(seed, Purpose::Shuffle, number, 0, 0);
        let block = if sets.together {
            let mut whole: Vec<&[_]> = block.chunks(sets.size).collect();
            shuffle(&mut whole, &mut stream);
            whole.concat()
        } else {
            shuffle(&mut block, &mut stream);
            block
        };
        for (pair, rows) in block {
            pairs.list.push(pair);
            pairs.rows.push(rows);
        }
    }
    Ok(pairs)
}

/// Subjects that can be drawn, in the data set's order, and why the others can't.
fn subjects<'a>(dataset: &'a Pool, axes: Option<&Axes>) -> (Vec<Subject<'a>>, Vec<String>) {
    type Sides<'a> = (
        Vec<usize>,
        BTreeMap<&'a BTreeMap<String, String>, Vec<usize>>,
    );
    // Both pictures of a pair are seen at one noise, so they must have one shape.
    let mut order: Vec<(&str, Shape)> = Vec::new();
    let mut found: HashMap<(&str, Shape), Sides<'a>> = HashMap::new();
    for (index, row) in dataset.rows().enumerate() {
        let key = (row.neutral_prompt.as_str(), dataset.shape(index));
        found.entry(key).or_insert_with(|| {
            order.push(key);
            Sides::default()
        });
    }
    for (index, row) in dataset.kept() {
        let key = (row.neutral_prompt.as_str(), dataset.shape(index));
        let sides = found.entry(key).or_default();
        match row.kind {
            Kind::Neutral => sides.0.push(index),
            Kind::Specific => sides.1.entry(&row.axes).or_default().push(index),
        }
    }
    let mut usable = Vec::new();
    let mut left_out = Vec::new();
    for (caption, shape) in order {
        let (neutral, by_values) = found.remove(&(caption, shape)).unwrap_or_default();
        let groups = shares(by_values, axes);
        if neutral.is_empty() {
            left_out.push(format!(
                "no picture of \"{caption}\" is left for the losing side"
            ));
        } else if groups.is_empty() {
            left_out.push(format!(
                "no identity-specific picture for \"{caption}\" is left for the winning side"
            ));
        } else {
            usable.push(Subject {
                caption,
                neutral,
                groups,
            });
        }
    }
    (usable, left_out)
}

/// The share of draws that pictures of each combination of values get: captions that name the same
/// axes share by those axes' targets; such families share by their numbers of pictures.
fn shares(
    by_values: BTreeMap<&BTreeMap<String, String>, Vec<usize>>,
    axes: Option<&Axes>,
) -> Vec<(f64, Vec<usize>)> {
    let target = |axis: &str, value: &str| {
        let Some(axis) = axes.and_then(|axes| axes.axis(axis)) else {
            return 1.0;
        };
        let index = axis.values.iter().position(|v| v == value);
        index.map_or(1.0, |i| axis.target[i])
    };
    let mut families: BTreeMap<Vec<&str>, Vec<(f64, Vec<usize>)>> = BTreeMap::new();
    for (values, rows) in by_values {
        let share: f64 = values
            .iter()
            .map(|(axis, value)| target(axis, value))
            .product();
        if share > 0.0 {
            let named = values.keys().map(String::as_str).collect();
            families.entry(named).or_default().push((share, rows));
        }
    }
    let mut groups = Vec::new();
    for family in families.into_values() {
        let total: f64 = family.iter().map(|(share, _)| share).sum();
        let pictures: usize = family.iter().map(|(_, rows)| rows.len()).sum();
        for (share, rows) in family {
            groups.push((share / total * pictures as f64, rows));
        }
    }
    groups
}

/// What draws are made from.
struct World<'a> {
    dataset: &'a Pool,
    meanings: Meanings,
    subjects: Vec<Subject<'a>>,
}

fn one_draw(
    world: &World<'_>,
    seed: u64,
    number: u32,
    size: usize,
    out: &mut Vec<(Pair, [usize; 2])>,
) {
    let mut stream = Stream::new(seed, Purpose::PairDraw, number, 0, 0);
    let World {
        dataset, subjects, ..
    } = world;
    let subject = &subjects[stream.below(subjects.len() as u32) as usize];
    let pick = |rows: &[usize], stream: &mut Stream| rows[stream.below(rows.len() as u32) as usize];
    let specific: Vec<usize> = (0..size)
        .map(|_| {
            let group = by_share(&subject.groups, &mut stream);
            pick(group, &mut stream)
        })
        .collect();
    let neutral: Vec<usize> = (0..size)
        .map(|_| pick(&subject.neutral, &mut stream))
        .collect();
    let swapped = less_diverse(world, &specific, &neutral);
    let (winners, losers) = if swapped {
        (neutral, specific)
    } else {
        (specific, neutral)
    };
    for (winner, loser) in winners.into_iter().zip(losers) {
        let pair = Pair {
            caption: subject.caption.to_owned(),
            draw: number,
            swapped,
            winner: PictureId::of(dataset, winner),
            loser: PictureId::of(dataset, loser),
            weight: 1.0,
        };
        out.push((pair, [winner, loser]));
    }
}

fn by_share<'a>(groups: &'a [(f64, Vec<usize>)], stream: &mut Stream) -> &'a [usize] {
    let total: f64 = groups.iter().map(|(share, _)| share).sum();
    let mut left = f64::from(stream.unit()) * total;
    for (share, rows) in groups {
        if left < *share {
            return rows;
        }
        left -= share;
    }
    // Rounding can leave a rest after the last group.
    &groups[groups.len() - 1].1
}

/// Whether `a` shows fewer different values than `b` on every axis that is known of either.
fn less_diverse(world: &World<'_>, a: &[usize], b: &[usize]) -> bool {
    let (a, b) = (values(world, a), values(world, b));
    let axes: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    let count =
        |side: &BTreeMap<&str, BTreeSet<&str>>, axis| side.get(axis).map_or(0, BTreeSet::len);
    !axes.is_empty() && axes.iter().all(|axis| count(&a, axis) < count(&b, axis))
}

/// The different values of each axis among pictures.
fn values<'a>(world: &'a World<'_>, rows: &[usize]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for &row in rows {
        for (axis, value) in shown(world.dataset.row(row), &world.meanings) {
            found.entry(axis).or_default().insert(value);
        }
    }
    found
}

/// The value that a picture shows on each axis: what the classifier saw, else what the caption
/// names. Where the classifier saw no value of the axis, the caption's doesn't stand in for it.
pub(crate) fn shown<'a>(row: &'a PictureRow, meanings: &'a Meanings) -> BTreeMap<&'a str, &'a str> {
    let named = row.axes.iter();
    let mut shown: BTreeMap<&str, &str> = named.map(|(a, v)| (a.as_str(), v.as_str())).collect();
    let seen = row.verdict.iter().flat_map(|seen| meanings.values(seen));
    for (axis, value) in seen {
        match value {
            Some(value) => shown.insert(axis, value),
            None => shown.remove(axis),
        };
    }
    shown
}

/// Reads pairs from a file of JSON lines and finds their pictures in the data set.
///
/// # Errors
/// Names the line that is no pair, or whose pictures or caption the data set lacks; where sets stay
/// together, the one that breaks a set.
pub fn read(path: &Path, dataset: &Pool, sets: Sets) -> Result<Pairs, Error> {
    let kept: HashMap<PictureId, usize> = dataset
        .kept()
        .map(|(i, _)| (PictureId::of(dataset, i), i))
        .collect();
    let captions: BTreeSet<&str> = dataset
        .rows()
        .flat_map(|row| [row.prompt.as_str(), row.neutral_prompt.as_str()])
        .collect();
    let mut pairs = Pairs {
        list: Vec::new(),
        rows: Vec::new(),
        left_out: Vec::new(),
    };
    let text = fsio::read_to_string(path)?;
    for (line, text) in (1..)
        .zip(text.lines())
        .filter(|(_, text)| !text.trim().is_empty())
    {
        let pair: Pair = serde_json::from_str(text).map_err(|source| Error::Json {
            path: path.to_path_buf(),
            line,
            source,
        })?;
        let bad = |problem| Error::Line {
            path: path.to_path_buf(),
            line,
            problem,
        };
        let row = |side: &str, picture: &PictureId| {
            kept.get(picture).copied().ok_or_else(|| {
                bad(format!(
                    "the data set has kept no picture {} of caption {:08x} (the {side})",
                    picture.image_id, picture.prompt_id
                ))
            })
        };
        let rows = [row("winner", &pair.winner)?, row("loser", &pair.loser)?];
        if !captions.contains(pair.caption.as_str()) {
            return Err(bad(format!(
                "the data set has no embeddings of \"{}\"",
                pair.caption
            )));
        }
        if dataset.shape(rows[0]) != dataset.shape(rows[1]) {
            return Err(bad("its pictures have different sizes".to_owned()));
        }
        if !(pair.weight >= 0.0 && pair.weight.is_finite()) {
            return Err(bad("expected a `weight` from 0".to_owned()));
        }
        if let Some(problem) = breaks_set(&pairs.list, &pair, sets) {
            return Err(bad(problem));
        }
        pairs.list.push(pair);
        pairs.rows.push(rows);
    }
    if pairs.list.is_empty() {
        return Err(Error::Empty {
            path: path.to_path_buf(),
        });
    }
    if sets.together && !pairs.list.len().is_multiple_of(sets.size) {
        return Err(Error::Line {
            path: path.to_path_buf(),
            line: text.lines().count(),
            problem: format!("the last set has fewer than {} pairs", sets.size),
        });
    }
    Ok(pairs)
}

/// Why a pair can't follow those before it, if it can't: a set is one draw, with one caption and one
/// weight.
fn breaks_set(before: &[Pair], pair: &Pair, sets: Sets) -> Option<String> {
    let inside = sets.together && !before.len().is_multiple_of(sets.size);
    let last = before.last().filter(|_| inside)?;
    let what = match last {
        last if last.draw != pair.draw => "draw",
        last if last.caption != pair.caption => "caption",
        last if last.weight.to_bits() != pair.weight.to_bits() => "weight",
        _ => return None,
    };
    let size = sets.size;
    Some(format!("another {what} within a set of {size} pairs"))
}

impl Pairs {
    /// The pairs as JSON lines.
    pub fn to_jsonl(&self) -> String {
        let line = |pair: &Pair| {
            let text = serde_json::to_string(pair).unwrap_or_default();
            text + "\n"
        };
        self.list.iter().map(line).collect()
    }

    /// Id of the caption of pair `index`, for its embeddings.
    pub fn caption_id(&self, index: usize) -> u32 {
        caption_id(&self.list[index].caption)
    }
}

#[cfg(test)]
mod tests;
