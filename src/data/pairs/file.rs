//! Files of pairs.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::pair::{Error, Pair, Pairs, PictureId, Sets};
use crate::base::{fsio, text};
use crate::data::pool::Pool;

/// Reads pairs from a file of JSON lines and finds their pictures in the data set.
///
/// # Errors
/// Names the line that is no pair, or whose pictures or caption the data set lacks; where sets stay
/// together, the one that breaks a set.
pub fn read(path: &Path, dataset: &Pool, sets: Sets) -> Result<Pairs, Error> {
    let known = Known::of(dataset);
    let mut pairs = Pairs {
        list: Vec::new(),
        rows: Vec::new(),
        left_out: Vec::new(),
        off_target: Vec::new(),
    };
    let text = fsio::read_to_string(path)?;
    let text = text::unix_lines(text::without_bom(&text));
    let bad = |line, problem| Error::Line {
        path: path.to_path_buf(),
        line,
        problem,
    };
    let lines = (1..).zip(text.lines());
    for (line, row) in lines.filter(|(_, row)| !row.trim().is_empty()) {
        let pair: Pair = serde_json::from_str(row).map_err(|source| Error::Json {
            path: path.to_path_buf(),
            line,
            source,
        })?;
        let rows = known.rows(&pair).map_err(|problem| bad(line, problem))?;
        if let Some(problem) = breaks_set(&pairs.list, &pair, sets) {
            return Err(bad(line, problem));
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
        let problem = format!("the last set has fewer than {} pairs", sets.size);
        return Err(bad(text.lines().count(), problem));
    }
    Ok(pairs)
}

/// What a pair can name.
struct Known<'a> {
    dataset: &'a Pool,
    kept: HashMap<PictureId, usize>,
    captions: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    fn of(dataset: &'a Pool) -> Self {
        let kept = dataset.kept();
        let captions = dataset.rows();
        Self {
            dataset,
            kept: kept.map(|(i, _)| (PictureId::of(dataset, i), i)).collect(),
            captions: captions
                .flat_map(|row| [row.prompt.as_str(), row.neutral_prompt.as_str()])
                .collect(),
        }
    }

    /// The rows of a pair's winner and loser, or what is wrong with the pair.
    fn rows(&self, pair: &Pair) -> Result<[usize; 2], String> {
        let row = |side: &str, picture: &PictureId| {
            self.kept.get(picture).copied().ok_or_else(|| {
                format!(
                    "the data set has kept no picture {} of caption {:08x} (the {side})",
                    picture.image_id, picture.prompt_id
                )
            })
        };
        let rows = [row("winner", &pair.winner)?, row("loser", &pair.loser)?];
        if !self.captions.contains(pair.caption.as_str()) {
            let caption = &pair.caption;
            return Err(format!("the data set has no embeddings of \"{caption}\""));
        }
        if self.dataset.shape(rows[0]) != self.dataset.shape(rows[1]) {
            return Err("its pictures have different sizes".to_owned());
        }
        match pair.weight >= 0.0 && pair.weight.is_finite() {
            true => Ok(rows),
            false => Err("expected a `weight` from 0".to_owned()),
        }
    }
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
