//! A whole scoring run: find, look, assess, write.
//!
//! Everything that can be refused is refused before the first picture is looked at, and nothing is
//! written before the last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::assess::{Evidence, Qualities};
use super::gallery::{Gallery, Kind};
use super::look::{BOTH, Look, Looks, look};
use super::measure::SIDES;
use super::metrics::{AtHand, Metrics};
use super::population::Population;
use super::reference::{self, Bank, NEIGHBOURS};
use super::scores::{ChainFacts, FORMAT, Input, Scores, Sided};
use super::{Error, Result};
use crate::base::fsio;
use crate::bundle::{Bundle, Part};
use crate::judge::chain;
use crate::judge::chain::Chain;
use crate::judge::clip::{CONVENTION, Clip, cosine};
use crate::judge::scales;
use crate::judge::scales::Scale;
use crate::prompts::Axes;
use crate::runtime::{Runtime, SessionOptions};

/// What to score, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The folders to score.
    pub dirs: Vec<PathBuf>,
    /// The folders to compare with, each with the folder of the same place.
    pub against: Vec<PathBuf>,
    /// The bundle that brings CLIP, references, axes and chain.
    pub model: Option<PathBuf>,
    /// Axes file [default: that beside the chain, then what the chain measures].
    pub axes: Option<PathBuf>,
    /// Classifier chain [default: the bundle's, then `faces`].
    pub chain: Option<String>,
    /// Target shares instead of the axes file's.
    pub target: Option<PathBuf>,
    /// Metrics by name [default: all that can be computed].
    pub metrics: Option<Vec<String>>,
    /// Resamples for an interval; 0 for none.
    pub bootstrap: u32,
    /// Seed of the resamples.
    pub seed: u64,
    /// How graphs are run.
    pub session: SessionOptions,
}

/// What a run reports.
#[derive(Debug)]
pub enum Event<'a> {
    /// The pictures are found; now they are looked at.
    Start {
        /// How many there are.
        pictures: u64,
        /// Of how many captions.
        prompts: usize,
        /// The chain's name.
        chain: &'a str,
        /// The metrics' names.
        metrics: &'a [String],
    },
    /// Something the user should know.
    Note(&'a str),
    /// So many more pictures were looked at.
    Looked(u64),
    /// All were looked at; now the intervals are computed.
    Assessing,
}

/// The result of a run: the scores, and what a report shows beside them.
#[derive(Debug)]
pub struct Scored {
    /// The scores.
    pub scores: Scores,
    /// The pictures and their places.
    pub population: Population,
    /// What was seen of them.
    pub looks: Looks,
    /// The axes that were scored.
    pub scales: Vec<Scale>,
}

/// Scores some folders of pictures. `observe` hears events and says whether to go on.
///
/// # Errors
/// See [`Error`].
pub fn run(request: &Request, observe: &mut dyn FnMut(Event<'_>) -> bool) -> Result<Scored> {
    let bundle = request.model.as_deref().map(Bundle::open).transpose()?;
    let chain_path = chain::choose(request.chain.as_deref(), bundle.as_ref())?;
    // A chain is of no use without the meaning of its labels, so that may lie beside it; for the
    // bundle's own chain that is the bundle's axes file.
    let beside = chain_path.with_file_name("axes.toml");
    let beside = Some(beside).filter(|path| path.is_file());
    let axes_path = request.axes.clone().or(beside);
    let axes = axes_path.as_deref().map(Axes::load).transpose()?;
    let manifest = chain::ChainManifest::read(&chain_path)?;
    let mut all_scales = match &axes {
        Some(axes) => scales::from_axes(axes, &manifest)?,
        None => scales::from_chain(&manifest),
    };
    if let Some(target) = &request.target {
        scales::apply_targets(&mut all_scales, target)?;
    }
    let bank_path = bundle.as_ref().and_then(|b| b.file(reference::FILE));
    let at_hand = AtHand {
        clip: bundle.as_ref().is_some_and(Clip::is_in),
        reference: bank_path.is_some(),
        against: !request.against.is_empty(),
    };
    let metrics = match &request.metrics {
        None => Metrics::all(&all_scales, at_hand),
        Some(names) => Metrics::chosen(names, &all_scales, at_hand)?,
    };
    let galleries = [&request.dirs, &request.against].map(|dirs| open(dirs, axes.as_ref()));
    let [scored, against] = galleries;
    let galleries = [scored?, against?];
    let mut population = Population::new(&galleries[0], &galleries[1])?;

    let runtime = Runtime::load()?;
    let mut chain = Chain::open(&runtime, &chain_path, &request.session)?;
    let mut clip = match (
        &bundle,
        metrics.clip || metrics.reference || at_hand.clip && metrics.similarity,
    ) {
        (Some(bundle), true) => Some(Clip::open(&runtime, bundle, &request.session)?),
        _ => None,
    };
    let bank = match (&bank_path, &clip, metrics.reference) {
        (Some(path), Some(clip), true) => Some(Bank::open(path, clip.width())?),
        _ => None,
    };
    observe(Event::Start {
        pictures: population.shots.len() as u64,
        prompts: population.prompts.len(),
        chain: &manifest.name,
        metrics: &metrics.names(),
    });
    one_sided(&population, observe);
    let looks = look(&population, &mut chain, clip.as_mut(), &mut |count| {
        observe(Event::Looked(count))
    })?;
    reclassify(&mut population, &looks, observe);
    if !observe(Event::Assessing) {
        return Err(Error::Interrupted);
    }
    let qualities = qualities(&population, &looks, &metrics, clip.as_mut(), bank.as_ref())?;
    let evidence = Evidence {
        population: &population,
        looks: &looks,
        qualities: &qualities,
        metrics: &metrics,
        replicates: request.bootstrap,
        seed: request.seed,
    };
    let facts = Facts {
        request,
        bundle: bundle.as_ref(),
        axes: axes_path.as_deref(),
        bank: bank.as_ref().and(bank_path.as_deref()),
        metrics: &metrics,
    };
    let scores = Scores {
        format: FORMAT,
        config: facts.config()?,
        inputs: inputs(&galleries, &population, &looks),
        versions: BTreeMap::from([
            ("popalign".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("onnxruntime".to_owned(), runtime.version()),
        ]),
        chain: ChainFacts {
            name: manifest.name.clone(),
            about: manifest.about.clone(),
            sha256: chain.sha256().to_owned(),
        },
        pictures: evidence.counts(&population.prompts),
        pictures_by_kind: evidence
            .kinds()
            .into_iter()
            .map(|kind| (kind.name(), evidence.counts(evidence.kind(kind))))
            .collect(),
        axes: evidence.axes(),
        recall: evidence.recall(),
        quality: evidence.quality(),
        similarity: evidence.similarity(),
        prompts: evidence.prompts(),
        training: None,
        human: None,
        rows: evidence.rows(),
    };
    Ok(Scored {
        scores,
        scales: metrics.scales,
        population,
        looks,
    })
}

/// The folders, with their captions recognised.
fn open(dirs: &[PathBuf], axes: Option<&Axes>) -> Result<Vec<Gallery>> {
    let one = |dir: &PathBuf| {
        let mut gallery = Gallery::open(dir)?;
        if let Some(axes) = axes {
            gallery.recognise(axes);
        }
        Ok(gallery)
    };
    dirs.iter().map(one).collect()
}

/// Says which captions only one side has.
fn one_sided(population: &Population, observe: &mut dyn FnMut(Event<'_>) -> bool) {
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
fn reclassify(
    population: &mut Population,
    looks: &Looks,
    observe: &mut dyn FnMut(Event<'_>) -> bool,
) {
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

/// Agreement with captions and similarity to references.
fn qualities(
    population: &Population,
    looks: &Looks,
    metrics: &Metrics,
    clip: Option<&mut Clip>,
    bank: Option<&Bank>,
) -> Result<Qualities> {
    let mut qualities = Qualities::default();
    let embeddings = || looks.shots.iter().map(|look| look.embedding.as_deref());
    if let (true, Some(clip)) = (metrics.clip, clip) {
        let texts: Vec<&str> = population.prompts.iter().map(|p| p.text.as_str()).collect();
        let captions = clip.captions(&texts)?;
        let agreement = embeddings()
            .zip(&population.shots)
            .map(|(embedding, shot)| {
                let caption = &captions[population.slots[shot.slot].prompt];
                Some(CONVENTION * cosine(embedding?, caption))
            });
        qualities.clip = Some(agreement.collect());
    }
    if let Some(bank) = bank {
        let similarity = embeddings().map(|embedding| Some(bank.similarity(embedding?)));
        qualities.reference = Some(similarity.collect());
        let frechet = |neutral_only: bool, side: usize| {
            let shots = population.shots.iter().zip(embeddings());
            let some = shots.filter_map(|(shot, embedding)| {
                let prompt = &population.prompts[population.slots[shot.slot].prompt];
                let wanted = !neutral_only || prompt.kind == Kind::Neutral;
                embedding.filter(|_| wanted && shot.side == side)
            });
            bank.frechet(&some.collect::<Vec<_>>())
        };
        qualities.frechet = Some([true, false].map(|only| BOTH.map(|side| frechet(only, side))));
    }
    Ok(qualities)
}

/// The folders with the hashes of their pictures.
fn inputs(
    galleries: &[Vec<Gallery>; SIDES],
    population: &Population,
    looks: &Looks,
) -> Sided<Vec<Input>> {
    let mut lists: [Vec<String>; SIDES] =
        [0, 1].map(|side| vec![String::new(); galleries[side].len()]);
    for (shot, Look { sha256, .. }) in population.shots.iter().zip(&looks.shots) {
        let sha256 = sha256.as_deref().unwrap_or("missing");
        lists[shot.side][shot.folder] += &format!("{sha256}  {}\n", shot.name);
    }
    let of = |side: usize| {
        let folders = galleries[side].iter().zip(&lists[side]);
        folders
            .map(|(gallery, list)| Input {
                dir: gallery.dir.display().to_string(),
                layout: gallery.layout,
                pictures: gallery.pictures.len(),
                without_files: gallery.without_files,
                sha256: fsio::sha256_bytes(list.as_bytes()),
            })
            .collect::<Vec<_>>()
    };
    Sided::new([Some(of(0)), population.compared.then(|| of(1))])
}

/// What the numbers depend on.
struct Facts<'a> {
    request: &'a Request,
    bundle: Option<&'a Bundle>,
    axes: Option<&'a Path>,
    bank: Option<&'a Path>,
    metrics: &'a Metrics,
}

impl Facts<'_> {
    fn config(&self) -> Result<Map<String, Value>> {
        let hash = |path: Option<&Path>| path.map(fsio::sha256).transpose();
        let targets: Map<String, Value> = self
            .metrics
            .scales
            .iter()
            .map(|scale| {
                let shares = scale.values.iter().zip(&scale.target);
                let shares: Map<String, Value> = shares
                    .map(|(value, share)| (value.clone(), json!(share)))
                    .collect();
                (scale.name.clone(), shares.into())
            })
            .collect();
        let clip = self.bundle.filter(|b| Clip::is_in(b));
        let clip = match clip {
            Some(bundle) => {
                let part = |part| bundle.part(part).map(|info| info.sha256.clone());
                json!({"text": part(Part::ClipText)?, "vision": part(Part::ClipVision)?})
            }
            None => Value::Null,
        };
        let config = json!({
            "metrics": self.metrics.names(),
            "bootstrap": self.request.bootstrap,
            "seed": self.request.seed,
            "targets": targets,
            "axes_sha256": hash(self.axes)?,
            "target_sha256": hash(self.request.target.as_deref())?,
            "clip_sha256": clip,
            "reference_sha256": hash(self.bank)?,
            "reference_neighbours": NEIGHBOURS,
        });
        match config {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }
}
