//! Drawing pairs.

use std::collections::{BTreeMap, HashMap};

use super::groups::{ByValues, Captioned, Group, Miss, Reason, raked};
use super::pair::{Error, Pair, Pairs, PictureId, Sets};
use super::rule::Rule;
use crate::data::dataset::{Kind, Shape};
use crate::data::pool::Pool;
use crate::judge::reading::Meanings;
use crate::prompts::Axes;
use crate::random::{Purpose, Stream, shuffle};

/// Draws whose pairs are shuffled among each other: a training batch should not be one subject.
const SHUFFLED_DRAWS: usize = 64;
/// Captions that a message names.
const MOST_NAMED: usize = 3;

/// What a subject offers to draws.
struct Subject<'a> {
    caption: &'a str,
    neutral: Vec<usize>,
    specific: Captioned,
}

impl<'a> Subject<'a> {
    fn aimed(self, dataset: &Pool, meanings: &Meanings) -> Aimed<'a> {
        let (groups, misses) = raked(dataset, self.specific, meanings);
        Aimed {
            caption: self.caption,
            neutral: self.neutral,
            groups,
            misses,
        }
    }
}

/// A subject whose specific pictures follow the target as far as they can.
struct Aimed<'a> {
    caption: &'a str,
    neutral: Vec<usize>,
    /// Specific pictures by how often they are drawn.
    groups: Vec<Group>,
    /// Where these can't follow the target.
    misses: Vec<Miss>,
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
    let meanings = Meanings::of(axes);
    let aimed = subjects.into_iter().map(|s| s.aimed(dataset, &meanings));
    let subjects: Vec<Aimed<'_>> = aimed.collect();
    let mut pairs = Pairs {
        list: Vec::new(),
        rows: Vec::new(),
        left_out,
        off_target: off_target(&subjects),
    };
    let world = World {
        dataset,
        rule: Rule::of(axes),
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

/// Checks that the neutral pictures of all subjects that can be drawn have what the rule of who wins
/// goes by: without verdicts no neutral set could ever win.
///
/// # Errors
/// [`Error::Unjudged`], of the first data set with pictures that lack it.
pub fn check_verdicts(dataset: &Pool, axes: Option<&Axes>) -> Result<(), Error> {
    let rule = Rule::of(axes);
    let (subjects, _) = subjects(dataset, axes);
    // By data set: neutral pictures without a verdict, and all.
    let mut counts = vec![[0, 0]; dataset.sets().len()];
    for &row in subjects.iter().flat_map(|subject| &subject.neutral) {
        let [unjudged, all] = &mut counts[dataset.place(row).0];
        *unjudged += usize::from(!rule.tells(dataset.row(row)));
        *all += 1;
    }
    let mut sets = dataset.sets().iter().zip(counts);
    match sets.find(|(_, [unjudged, _])| *unjudged > 0) {
        None => Ok(()),
        Some((set, [unjudged, neutral])) => Err(Error::Unjudged {
            dir: set.dir().to_path_buf(),
            unjudged,
            neutral,
            axes: axes.map(|axes| axes.axes().iter().map(|a| a.name.clone()).collect()),
        }),
    }
}

/// Subjects that can be drawn, in the data set's order, and why the others can't.
fn subjects<'a>(dataset: &'a Pool, axes: Option<&Axes>) -> (Vec<Subject<'a>>, Vec<String>) {
    type Sides<'a> = (Vec<usize>, ByValues<'a>);
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
        let specific = Captioned::new(by_values, axes);
        if neutral.is_empty() {
            left_out.push(format!(
                "no picture of \"{caption}\" is left for the losing side"
            ));
        } else if specific.is_empty() {
            left_out.push(format!(
                "no identity-specific picture for \"{caption}\" is left for the winning side"
            ));
        } else {
            usable.push(Subject {
                caption,
                neutral,
                specific,
            });
        }
    }
    (usable, left_out)
}

/// What of the target can't be met, in words: each axis and value once, with the subjects it misses.
fn off_target(subjects: &[Aimed<'_>]) -> Vec<String> {
    type Missed<'a> = Vec<(&'a str, &'a Miss)>;
    let mut found: BTreeMap<(&str, Option<&str>, Reason), Missed<'_>> = BTreeMap::new();
    for subject in subjects {
        for miss in &subject.misses {
            let key = (miss.axis.as_str(), miss.value.as_deref(), miss.reason);
            found.entry(key).or_default().push((subject.caption, miss));
        }
    }
    let of_all = subjects.len();
    let line = |((axis, value, reason), missed): ((_, Option<&str>, _), Missed<'_>)| {
        let names = missed.iter().map(|(caption, _)| format!("\"{caption}\""));
        let names: Vec<String> = names.take(MOST_NAMED).collect();
        let of = format!(
            "{} of {of_all} captions ({}",
            missed.len(),
            names.join(", ")
        );
        let of = of
            + if missed.len() > MOST_NAMED {
                ", …)"
            } else {
                ")"
            };
        let percent = |part: fn(&Miss) -> f64| {
            let sum: f64 = missed.iter().map(|(_, miss)| part(miss)).sum();
            100.0 * sum / missed.len() as f64
        };
        let (share, target) = (percent(|miss| miss.share), percent(|miss| miss.target));
        let value = value.unwrap_or_default();
        match reason {
            Reason::Unknown => format!(
                "axis {axis}: what {share:.0} % of the winners of {of} show is not known: neither \
                 caption nor verdict says it"
            ),
            Reason::Missing => format!(
                "axis {axis}: {value} should be {target:.0} % of the winners of {of}, but none of \
                 their identity-specific pictures shows it"
            ),
            Reason::Together => format!(
                "axis {axis}: {value} is {share:.0} % of the winners of {of} instead of \
                 {target:.0} %: their identity-specific pictures allow no nearer with the other axes"
            ),
        }
    };
    found.into_iter().map(line).collect()
}

/// What draws are made from.
struct World<'a> {
    dataset: &'a Pool,
    rule: Rule<'a>,
    subjects: Vec<Aimed<'a>>,
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
        dataset,
        rule,
        subjects,
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
    let swapped = rule.swaps(dataset, &specific, &neutral);
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

fn by_share<'a>(groups: &'a [Group], stream: &mut Stream) -> &'a [usize] {
    let total: f64 = groups.iter().map(|group| group.share).sum();
    let mut left = f64::from(stream.unit()) * total;
    for Group { share, rows } in groups {
        if left < *share {
            return rows;
        }
        left -= share;
    }
    // Rounding can leave a rest after the last group.
    &groups[groups.len() - 1].rows
}
