//! Looking at every picture once: is it readable, who is in it, what do CLIPs make of it.
//!
//! Pictures are read, looked at and forgotten a few slots at a time, so that a folder of any size
//! takes little memory; the two pictures of a slot are read together, to be compared.

use std::collections::BTreeMap;
use std::fs;

use image::RgbImage;
use rayon::prelude::*;

use super::measure::SIDES;
use super::population::Population;
use super::{Error, Result};
use crate::base::{Stop, fsio};
use crate::judge::chain::{Attributes, Chain, DropReason, Verdict};
use crate::judge::clip::{Clips, Tower, cosine};
use crate::picture::{Problem, decode};

/// Slots looked at together.
const TOGETHER: usize = 8;

/// What was seen of one picture.
#[derive(Debug, Clone)]
pub struct Look {
    /// SHA-256 of its file; nothing if there is no such file.
    pub sha256: Option<String>,
    /// Why it can't be read, if it can't.
    pub problem: Option<Problem>,
    /// Who is in it, or why it doesn't count.
    pub verdict: Verdict,
    /// What CLIPs make of it, if it can be read.
    pub embeddings: BTreeMap<Tower, Vec<f32>>,
}

/// How alike the two pictures of a slot are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeness {
    /// Mean absolute difference of pixels as a share of their range; nothing for different sizes.
    pub pixels: Option<f64>,
    /// Cosine of the embeddings by the bundle's CLIP.
    pub embeddings: Option<f64>,
}

/// Everything seen.
#[derive(Debug, Clone)]
pub struct Looks {
    /// By picture.
    pub shots: Vec<Look>,
    /// By slot; nothing where one side has no readable picture.
    pub slots: Vec<Option<Likeness>>,
}

/// Looks at every picture of a population. `progress` hears how many were looked at since last
/// time; then `stop` is looked at.
///
/// # Errors
/// The chain or CLIP fails; [`Error::Interrupted`]. A picture that can't be read is no error.
pub fn look(
    population: &Population,
    chain: &mut Chain,
    clips: &mut Clips,
    stop: &Stop,
    progress: &mut dyn FnMut(u64),
) -> Result<Looks> {
    let mut looker = Looker {
        population,
        chain,
        clips,
        shots: vec![None; population.shots.len()],
        slots: Vec::with_capacity(population.slots.len()),
    };
    let numbers: Vec<usize> = (0..population.slots.len()).collect();
    for slots in numbers.chunks(TOGETHER) {
        let seen = looker.slots(slots)?;
        progress(seen as u64);
        if stop.asked() {
            return Err(Error::Interrupted);
        }
    }
    // Every picture has a slot, so all were seen.
    let shots = looker.shots.into_iter().flatten().collect();
    Ok(Looks {
        shots,
        slots: looker.slots,
    })
}

struct Looker<'a> {
    population: &'a Population,
    chain: &'a mut Chain,
    clips: &'a mut Clips,
    shots: Vec<Option<Look>>,
    slots: Vec<Option<Likeness>>,
}

/// A picture that was read.
struct Read {
    shot: usize,
    sha256: Option<String>,
    picture: std::result::Result<RgbImage, Problem>,
}

impl Looker<'_> {
    fn slots(&mut self, slots: &[usize]) -> Result<usize> {
        let population = self.population;
        let shots: Vec<usize> = slots
            .iter()
            .flat_map(|&slot| population.slots[slot].shots.into_iter().flatten())
            .collect();
        let read: Vec<Read> = shots.par_iter().map(|&shot| self.read(shot)).collect();
        let (mut pictures, mut readable) = (Vec::new(), Vec::new());
        for read in read {
            let problem = match read.picture {
                Err(problem) => Some(problem),
                Ok(picture) => {
                    pictures.push(picture);
                    readable.push(read.shot);
                    None
                }
            };
            self.shots[read.shot] = Some(Look {
                sha256: read.sha256,
                problem,
                verdict: Verdict::Dropped(DropReason::Unreadable),
                embeddings: BTreeMap::new(),
            });
        }
        let verdicts = self.chain.classify(&pictures)?;
        for (&shot, verdict) in readable.iter().zip(verdicts) {
            if let Some(look) = &mut self.shots[shot] {
                look.verdict = verdict;
            }
        }
        let seen: Vec<&RgbImage> = pictures.iter().collect();
        for (&tower, clip) in &mut *self.clips {
            for (&shot, embedding) in readable.iter().zip(clip.pictures(&seen)?) {
                if let Some(look) = &mut self.shots[shot] {
                    look.embeddings.insert(tower, embedding);
                }
            }
        }
        for &slot in slots {
            let find = |side: usize| {
                let shot = population.slots[slot].shots[side]?;
                let index = readable.iter().position(|&r| r == shot)?;
                Some((&pictures[index], self.shots[shot].as_ref()?))
            };
            let alike = find(0).zip(find(1)).map(|((a, la), (b, lb))| Likeness {
                pixels: difference(a, b),
                embeddings: la
                    .embedding(Tower::Bundle)
                    .zip(lb.embedding(Tower::Bundle))
                    .map(|(a, b)| cosine(a, b)),
            });
            self.slots.push(alike);
        }
        Ok(shots.len())
    }

    fn read(&self, shot: usize) -> Read {
        // A file that can't be read is counted, not an error: the others still say something.
        let path = &self.population.shots[shot].path;
        let bytes = fs::read(path);
        Read {
            shot,
            sha256: bytes.as_deref().ok().map(fsio::sha256_bytes),
            picture: bytes
                .map_err(|error| Problem::of_file(&error))
                .and_then(|bytes| decode(&bytes).map_err(|problem| problem.of_name(path))),
        }
    }
}

impl Look {
    /// What a CLIP makes of it.
    pub fn embedding(&self, tower: Tower) -> Option<&[f32]> {
        self.embeddings.get(&tower).map(Vec::as_slice)
    }
}

impl Looks {
    /// The attributes of a picture that counts.
    pub fn attributes(&self, shot: usize) -> Option<&Attributes> {
        match &self.shots[shot].verdict {
            Verdict::Kept(attributes) => Some(attributes),
            Verdict::Dropped(_) => None,
        }
    }

    /// Why a picture doesn't count.
    pub fn dropped(&self, shot: usize) -> Option<&DropReason> {
        match &self.shots[shot].verdict {
            Verdict::Kept(_) => None,
            Verdict::Dropped(reason) => Some(reason),
        }
    }

    /// Whether at least half of the pictures in these slots show a person, clear or not.
    ///
    /// Of two sides only that of `--against` is asked, where it has pictures: an alignment that
    /// puts people into pictures of mountains doesn't make "mountain" a caption about people.
    pub fn mostly_people(&self, population: &Population, slots: &[usize]) -> bool {
        let of = |side: usize| -> Vec<usize> {
            let shots = slots.iter().map(|&slot| population.slots[slot].shots[side]);
            shots.flatten().collect()
        };
        let before = of(1);
        let shots = if before.is_empty() { of(0) } else { before };
        let nobody = |why: &DropReason| matches!(why, DropReason::Gate(_) | DropReason::NoFace);
        let people = shots
            .iter()
            .filter(|&&shot| !self.dropped(shot).is_some_and(nobody));
        2 * people.count() >= shots.len()
    }
}

/// The mean absolute difference of two pictures' pixels as a share of the whole range; nothing if
/// they differ in size.
fn difference(a: &RgbImage, b: &RgbImage) -> Option<f64> {
    if a.dimensions() != b.dimensions() || a.is_empty() {
        return None;
    }
    let pairs = a.as_raw().iter().zip(b.as_raw());
    let sum: u64 = pairs.map(|(x, y)| u64::from(x.abs_diff(*y))).sum();
    Some(sum as f64 / a.as_raw().len() as f64 / 255.0)
}

/// The sides, for those who go through them.
pub const BOTH: [usize; SIDES] = [0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shares_of_the_range() {
        let black = RgbImage::new(4, 4);
        let white = RgbImage::from_pixel(4, 4, image::Rgb([255; 3]));
        assert_eq!(difference(&black, &white), Some(1.0));
        assert_eq!(difference(&black, &black), Some(0.0));
        assert_eq!(difference(&black, &RgbImage::new(4, 5)), None);
    }
}
