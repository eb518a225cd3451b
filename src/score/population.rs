//! Both sides' pictures as one population: prompts, their slots, and which pictures fill a slot.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::bootstrap::{Population as Resampled, Strata};
use super::gallery::{Gallery, Kind};
use super::measure::SIDES;
use super::{Error, Result};

/// One picture and where it belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot {
    /// 0 for what is scored, 1 for what it is held against.
    pub side: usize,
    /// The number of its folder among the folders of its side.
    pub folder: usize,
    /// Its file, relative to the folder.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Its place in the population.
    pub slot: usize,
    /// What pairs it: seed and number, or its name.
    pub key: String,
}

/// A place in the population: at most one picture of each side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Index of its prompt.
    pub prompt: usize,
    /// Indices of its pictures, by side.
    pub shots: [Option<usize>; SIDES],
}

/// A caption and its slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The caption.
    pub text: String,
    /// What its pictures are evidence of.
    pub kind: Kind,
    /// Whether the folder, or a template, said so.
    pub told: bool,
    /// The values it names.
    pub axes: BTreeMap<String, String>,
    /// The caption that names no value, for the same subject.
    pub neutral: Option<String>,
    /// Indices of its slots.
    pub slots: Vec<usize>,
}

/// All pictures of both sides.
#[derive(Debug, Clone, Default)]
pub struct Population {
    /// The captions, in order of first appearance.
    pub prompts: Vec<Prompt>,
    /// The places.
    pub slots: Vec<Slot>,
    /// The pictures: those of the first side, then those of the second.
    pub shots: Vec<Shot>,
    /// Whether there is a second side.
    pub compared: bool,
}

impl Population {
    /// Puts the pictures of both sides together; folders of the same number belong together.
    ///
    /// # Errors
    /// [`Error::Unequal`], [`Error::NothingInCommon`].
    pub fn new(scored: &[Gallery], against: &[Gallery]) -> Result<Self> {
        if !against.is_empty() && against.len() != scored.len() {
            return Err(Error::Unequal {
                scored: scored.len(),
                against: against.len(),
            });
        }
        let mut builder = Builder::default();
        for (side, galleries) in [scored, against].into_iter().enumerate() {
            for (folder, gallery) in galleries.iter().enumerate() {
                builder.add(side, folder, gallery);
            }
        }
        let mut population = builder.population;
        population.compared = !against.is_empty();
        let both = |slots: &[usize]| {
            let has = |side: usize| {
                slots
                    .iter()
                    .any(|&s| population.slots[s].shots[side].is_some())
            };
            has(0) && has(1)
        };
        if population.compared && !population.prompts.iter().any(|p| both(&p.slots)) {
            return Err(Error::NothingInCommon {
                scored: scored[0].dir.clone(),
                against: against[0].dir.clone(),
            });
        }
        Ok(population)
    }

    /// The prompts of a kind, with their indices.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (usize, &Prompt)> {
        let all = self.prompts.iter().enumerate();
        all.filter(move |(_, prompt)| prompt.kind == kind)
    }

    /// The prompts' slots, to be resampled.
    pub fn resampled<'a>(
        &self,
        prompts: impl Iterator<Item = &'a Prompt>,
        tag: u32,
        seed: u64,
    ) -> Resampled {
        Resampled {
            prompts: prompts.map(|prompt| self.strata(prompt)).collect(),
            tag,
            seed,
        }
    }

    /// A prompt's slots as numbers that measures take.
    pub fn slot_numbers(prompt: &Prompt) -> Vec<u32> {
        prompt.slots.iter().map(|&slot| number(slot)).collect()
    }

    fn strata(&self, prompt: &Prompt) -> Strata {
        let mut strata = Strata::default();
        for &slot in &prompt.slots {
            let stratum = match self.slots[slot].shots {
                [Some(_), Some(_)] => 0,
                [Some(_), None] => 1,
                _ => 2,
            };
            strata.slots[stratum].push(number(slot));
        }
        strata
    }
}

/// A slot as the bootstrap names it.
fn number(slot: usize) -> u32 {
    u32::try_from(slot).expect("fewer than 2^32 pictures")
}

#[derive(Default)]
struct Builder {
    population: Population,
    prompts: HashMap<String, usize>,
    /// By folder, prompt and key; several where a folder repeats a key.
    slots: HashMap<(usize, usize, String), Vec<usize>>,
}

impl Builder {
    fn add(&mut self, side: usize, folder: usize, gallery: &Gallery) {
        for picture in &gallery.pictures {
            let prompt = self.prompt(picture);
            let slot = self.slot(side, folder, prompt, &picture.key);
            let shots = &mut self.population.shots;
            self.population.slots[slot].shots[side] = Some(shots.len());
            shots.push(Shot {
                side,
                folder,
                name: picture.name.clone(),
                path: gallery.dir.join(&picture.name),
                slot,
                key: picture.key.clone(),
            });
        }
    }

    fn prompt(&mut self, picture: &super::gallery::Picture) -> usize {
        let prompts = &mut self.population.prompts;
        let index = *self
            .prompts
            .entry(picture.prompt.clone())
            .or_insert(prompts.len());
        if index == prompts.len() {
            prompts.push(Prompt {
                text: picture.prompt.clone(),
                kind: Kind::Neutral,
                told: false,
                axes: BTreeMap::new(),
                neutral: None,
                slots: Vec::new(),
            });
        }
        let prompt = &mut prompts[index];
        // The first picture that says something says it for the caption.
        if let (false, Some(kind)) = (prompt.told, picture.kind) {
            prompt.told = true;
            prompt.kind = kind;
            prompt.axes.clone_from(&picture.axes);
            prompt.neutral.clone_from(&picture.neutral);
        }
        index
    }

    /// The slot that a picture belongs to: the other side's of its key, if that is free.
    fn slot(&mut self, side: usize, folder: usize, prompt: usize, key: &str) -> usize {
        let slots = &mut self.population.slots;
        let same = self.slots.entry((folder, prompt, key.to_owned()));
        let same = same.or_default();
        if let Some(&free) = same.iter().find(|&&s| slots[s].shots[side].is_none()) {
            return free;
        }
        let slot = slots.len();
        slots.push(Slot {
            prompt,
            shots: [None; SIDES],
        });
        self.population.prompts[prompt].slots.push(slot);
        same.push(slot);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::gallery::{Layout, Picture};
    use std::path::Path;

    fn gallery(pictures: &[(&str, &str)]) -> Gallery {
        let picture = |(prompt, key): &(&str, &str)| Picture {
            name: format!("{prompt}/{key}.png"),
            prompt: (*prompt).into(),
            kind: None,
            axes: BTreeMap::new(),
            neutral: None,
            key: (*key).into(),
        };
        Gallery {
            dir: "x".into(),
            layout: Layout::Folders,
            pictures: pictures.iter().map(picture).collect(),
            without_files: 0,
            unlisted: Vec::new(),
            notes: Vec::new(),
            config: None,
        }
    }

    #[test]
    fn pictures_of_one_key_share_a_slot() {
        let scored = gallery(&[("a", "1"), ("a", "2"), ("b", "1")]);
        let against = gallery(&[("a", "2"), ("a", "3"), ("c", "1")]);
        let population = Population::new(&[scored], &[against]).unwrap();
        let shots: Vec<_> = population.slots.iter().map(|s| s.shots).collect();
        assert_eq!(
            shots,
            [
                [Some(0), None],
                [Some(1), Some(3)],
                [Some(2), None],
                [None, Some(4)],
                [None, Some(5)],
            ]
        );
        let resampled = population.resampled(population.prompts.iter(), 0, 0);
        assert_eq!(resampled.prompts[0].slots, [vec![1], vec![0], vec![3]]);
        assert_eq!(population.shots[3].path, Path::new("x/a/2.png"));
    }

    #[test]
    fn equal_keys_in_two_folders_are_different_places() {
        let one = || gallery(&[("a", "1"), ("a", "1")]);
        let population = Population::new(&[one(), one()], &[one(), one()]).unwrap();
        // The second picture of the same key has a place of its own.
        assert_eq!(population.slots.len(), 4);
        assert!(
            population
                .slots
                .iter()
                .all(|s| s.shots.iter().all(Option::is_some))
        );
    }

    #[test]
    fn sides_must_have_something_to_do_with_each_other() {
        let (a, b) = (gallery(&[("a", "1")]), gallery(&[("b", "1")]));
        let unequal = Population::new(&[a.clone(), a.clone()], std::slice::from_ref(&b));
        assert!(matches!(unequal, Err(Error::Unequal { .. })));
        let strangers = Population::new(&[a], &[b]);
        assert!(matches!(strangers, Err(Error::NothingInCommon { .. })));
    }
}
