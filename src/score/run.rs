//! A whole scoring run: find, look, assess, write.
//!
//! Everything that can be refused is refused before the first picture is looked at, and nothing is
//! written before the last.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::assess::{Evidence, Qualities};
use super::facts;
use super::gallery::{Gallery, Kind};
use super::look::{Looks, look};
use super::measure::SIDES;
use super::metrics::metric::Instruments;
use super::population::Population;
use super::request::{Event, Request, Scored};
use super::scores::{ChainFacts, FORMAT, Scores, Sided};
use super::setup::Setup;
use super::{Error, Result};
use crate::base::{LeftOut, Stop};
use crate::runtime::Runtime;

/// Why rows of a table bring no picture: they name no file.
const NO_FILE: &str = "row_without_file";
/// Why pictures beside a table are no part of it: no row names them.
const UNLISTED: &str = "in_no_row";

/// Scores some folders of pictures. `observe` hears events; `stop` is looked at after every few
/// pictures, and ends the run before anything is written.
///
/// # Errors
/// See [`Error`].
pub fn run(request: &Request, stop: &Stop, observe: &mut dyn FnMut(Event<'_>)) -> Result<Scored> {
    let mut setup = Setup::new(request)?;
    let config = facts::config(request, &setup)?;
    let mut population = Population::new(&setup.galleries[0], &setup.galleries[1])?;
    let runtime = Runtime::load()?;
    let mut networks = setup.networks(&runtime, &request.session)?;
    observe(Event::Start {
        pictures: population.shots.len() as u64,
        prompts: population.prompts.len(),
        chain: &setup.manifest.name,
        metrics: &setup.metrics.names(),
    });
    for gallery in setup.galleries.iter().flatten() {
        gallery
            .notes
            .iter()
            .for_each(|note| observe(Event::Note(note)));
    }
    one_sided(&population, observe);
    setup
        .notes()
        .iter()
        .for_each(|note| observe(Event::Note(note)));
    let (chain, clips) = (&mut networks.chain, &mut networks.clips);
    let looks = look(&population, chain, clips, stop, &mut |count| {
        observe(Event::Looked(count));
    })?;
    reclassify(&mut population, &looks, observe);
    observe(Event::Assessing);
    if stop.asked() {
        return Err(Error::Interrupted);
    }
    let mut instruments = Instruments {
        population: &population,
        looks: &looks,
        clips: &mut networks.clips,
        aesthetic: setup.aesthetic.as_ref(),
        bank: networks.bank.as_ref(),
    };
    let evidence = Evidence {
        population: &population,
        looks: &looks,
        qualities: &Qualities::measure(&setup.metrics, &mut instruments)?,
        metrics: &setup.metrics,
        replicates: request.bootstrap,
        seed: request.seed,
    };
    let chain = ChainFacts {
        name: setup.manifest.name.clone(),
        about: setup.manifest.about.clone(),
        sha256: networks.chain.sha256().to_owned(),
    };
    let scores = scores(config, &setup, &runtime, chain, &evidence);
    something_left(&scores, &population, &looks)?;
    Ok(Scored {
        scores,
        metrics: setup.metrics,
        population,
        looks,
    })
}

/// Everything the evidence says.
fn scores(
    config: Map<String, Value>,
    setup: &Setup,
    runtime: &Runtime,
    chain: ChainFacts,
    evidence: &Evidence<'_>,
) -> Scores {
    let by_kind = evidence.kinds().into_iter();
    let by_kind = by_kind.map(|kind| (kind.name(), evidence.counts(evidence.kind(kind))));
    Scores {
        format: FORMAT,
        config,
        inputs: facts::inputs(setup, evidence.population, evidence.looks),
        versions: BTreeMap::from([
            ("popalign".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("onnxruntime".to_owned(), runtime.version()),
        ]),
        chain,
        pictures: evidence.counts(&evidence.population.prompts),
        left_out: left_out(&setup.galleries, evidence),
        pictures_by_kind: by_kind.collect(),
        metrics: (setup.metrics.list.iter())
            .map(|metric| (metric.key, metric.meaning()))
            .collect(),
        axes: evidence.axes(),
        over_axes: evidence.over_axes(),
        named: evidence.named(),
        quality: evidence.quality(),
        similarity: evidence.similarity(),
        prompts: evidence.prompts(),
        training: None,
        human: None,
        rows: evidence.pictures(),
    }
}

/// What is left out of the folders: files, rows without one, and files without a row.
fn left_out(galleries: &[Vec<Gallery>; SIDES], evidence: &Evidence<'_>) -> Sided<LeftOut> {
    let mut left_out = evidence.left_out();
    let sides = [&mut left_out.scored, &mut left_out.against];
    for (left, galleries) in sides.into_iter().zip(galleries) {
        let Some(left) = left else { continue };
        for gallery in galleries {
            left.of += gallery.without_files + gallery.unlisted.len();
            left.count(NO_FILE, gallery.without_files);
            for name in &gallery.unlisted {
                left.add(UNLISTED, gallery.dir.join(name).display().to_string());
            }
        }
    }
    left_out
}

/// A side of which nothing can be read, or on which no number was computed, is a failure: its report
/// would look like one on pictures.
fn something_left(scores: &Scores, population: &Population, looks: &Looks) -> Result<()> {
    let sides = if population.compared { SIDES } else { 1 };
    for side in 0..sides {
        let mut own = population.shots.iter().zip(&looks.shots);
        let readable = own.any(|(shot, look)| shot.side == side && look.problem.is_none());
        let mut figures = scores.figures().into_iter();
        let said = figures.any(|figure| figure.sided.side(side).is_some());
        // Likeness is of both sides.
        let alike = scores.similarity.iter().any(|kinds| !kinds.is_empty());
        if !readable || !(said || alike) {
            return Err(Error::NothingLeft {
                against: side == 1,
                left_out: scores.left_out.side(side).cloned().unwrap_or_default(),
            });
        }
    }
    Ok(())
}

/// Says which captions only one side has.
fn one_sided(population: &Population, observe: &mut dyn FnMut(Event<'_>)) {
    if !population.compared {
        return;
    }
    let has = |slots: &[usize], side: usize| {
        slots
            .iter()
            .any(|&s| population.slots[s].shots[side].is_some())
    };
    let alone = population
        .prompts
        .iter()
        .filter(|p| has(&p.slots, 0) != has(&p.slots, 1));
    let count = alone.count();
    if count > 0 {
        let note = format!("{count} captions are on one side only; they don't enter comparisons");
        observe(Event::Note(&note));
    }
}

/// Captions named in one note.
const NAMED: usize = 5;

/// A caption of which nothing said what it is, and most of whose pictures (before, where there are
/// two sides) show nobody, is no portrait.
fn reclassify(population: &mut Population, looks: &Looks, observe: &mut dyn FnMut(Event<'_>)) {
    let nobody: Vec<usize> = population
        .of_kind(Kind::Neutral)
        .filter(|(_, prompt)| !prompt.told && !looks.mostly_people(population, &prompt.slots))
        .map(|(index, _)| index)
        .collect();
    let mut names = Vec::new();
    for &index in &nobody {
        let prompt = &mut population.prompts[index];
        prompt.kind = Kind::Other;
        names.push(format!("\"{}\"", prompt.text));
    }
    if !names.is_empty() {
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let names = names.join(", ");
        let note = format!("{names}{more}: most pictures show nobody, taken for other things");
        observe(Event::Note(&note));
    }
}
