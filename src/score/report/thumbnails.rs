//! Which pictures the report shows, and their bytes within the page.

use std::collections::HashMap;
use std::fs;

use rayon::prelude::*;

use crate::score::gallery::Kind;
use crate::score::page::data_uri;
use crate::score::population::{Population, Prompt};
use crate::score::request::Scored;
use crate::score::{Error, Result};

/// Longer side of a thumbnail, in pixels: twice what a phone or a page gives it.
const SIDE: u32 = 160;

/// Most pictures of a prompt and side.
const OF_NEUTRAL: usize = 24;
const OF_SPECIFIC: usize = 1;
const OF_OTHER: usize = 8;

/// The pictures to show.
#[derive(Debug)]
pub(super) struct Thumbnails<'a> {
    population: &'a Population,
    uris: HashMap<usize, String>,
}

impl<'a> Thumbnails<'a> {
    /// Chooses slot by slot, the same number of each prompt of a kind, until `budget` bytes are
    /// full.
    pub(super) fn choose(scored: &'a Scored, budget: usize) -> Result<Self> {
        let population = &scored.population;
        let mut thumbnails = Self {
            population,
            uris: HashMap::new(),
        };
        let mut left = budget;
        for round in 0..OF_NEUTRAL {
            // A round is taken whole or not at all: every prompt shows as many.
            let shots: Vec<usize> = population
                .prompts
                .iter()
                .filter(|prompt| round < most(prompt.kind))
                .filter_map(|prompt| thumbnails.slots(prompt).nth(round))
                .flat_map(|slot| population.slots[slot].shots.into_iter().flatten())
                .collect();
            let made = shots.par_iter().map(|&shot| {
                let path = &population.shots[shot].path;
                // A picture that can't be read has been counted; it has no thumbnail.
                let bytes = fs::read(path).ok();
                let uri = bytes.and_then(|bytes| data_uri(&bytes, SIDE).transpose());
                uri.transpose()
                    .map(|uri| (shot, uri))
                    .map_err(|source| Error::Thumbnail {
                        path: path.clone(),
                        source,
                    })
            });
            let made: Vec<(usize, Option<String>)> = made.collect::<Result<_>>()?;
            let size: usize = made
                .iter()
                .filter_map(|(_, uri)| Some(uri.as_ref()?.len()))
                .sum();
            if size > left {
                break;
            }
            left -= size;
            let some = made
                .into_iter()
                .filter_map(|(shot, uri)| Some((shot, uri?)));
            thumbnails.uris.extend(some);
        }
        Ok(thumbnails)
    }

    /// The thumbnail of a picture.
    pub(super) fn uri(&self, shot: usize) -> Option<&str> {
        self.uris.get(&shot).map(String::as_str)
    }

    /// The slots of a prompt that are worth showing: those of both sides, where there are two.
    fn slots(&self, prompt: &'a Prompt) -> impl Iterator<Item = usize> {
        let full = |slot: &&usize| {
            let shots = self.population.slots[**slot].shots;
            !self.population.compared || shots.iter().all(Option::is_some)
        };
        let any = prompt.slots.iter().any(|slot| full(&slot));
        let slots = prompt.slots.iter().filter(move |slot| !any || full(slot));
        slots.copied()
    }

    /// The slots of a prompt that have thumbnails, in order.
    pub(super) fn shown(&self, prompt: &'a Prompt) -> Vec<usize> {
        let has = |slot: &usize| {
            let shots = self.population.slots[*slot].shots.into_iter().flatten();
            shots.into_iter().any(|shot| self.uris.contains_key(&shot))
        };
        self.slots(prompt).filter(has).collect()
    }
}

fn most(kind: Kind) -> usize {
    match kind {
        Kind::Neutral => OF_NEUTRAL,
        Kind::Specific => OF_SPECIFIC,
        Kind::Other => OF_OTHER,
    }
}
