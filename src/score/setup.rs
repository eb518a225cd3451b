//! What a run needs before the first picture is looked at; here it is refused, if it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Result;
use super::choice::{AtHand, Metrics};
use super::gallery::Gallery;
use super::measure::SIDES;
use super::metrics::metric::Need;
use super::overlap;
use super::reference::{self, Bank};
use super::request::Request;
use crate::bundle::Bundle;
use crate::data::noise::Drawn;
use crate::judge::aesthetic::{self, Aesthetic};
use crate::judge::chain::{self, Chain, ChainManifest};
use crate::judge::clip::{Clip, Clips, Source, Tower};
use crate::judge::published::Places;
use crate::judge::scales;
use crate::prompts::Axes;
use crate::runtime::{Runtime, SessionOptions};

/// Everything that was asked for, found and read; no network is open yet.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) bundle: Option<Bundle>,
    pub(super) chain_path: PathBuf,
    pub(super) manifest: ChainManifest,
    pub(super) axes_path: Option<PathBuf>,
    /// The bundle's bank of references.
    pub(super) bank_path: Option<PathBuf>,
    pub(super) metrics: Metrics,
    /// The published CLIPs that metrics need.
    pub(super) sources: BTreeMap<Tower, Source>,
    /// Where a metric needs it.
    pub(super) aesthetic: Option<Aesthetic>,
    /// By side.
    pub(super) galleries: [Vec<Gallery>; SIDES],
    /// How many pictures of each share their noise with those that were trained on, where that is known.
    pub(super) shared: [Vec<Option<usize>>; SIDES],
}

/// What looks at pictures.
#[derive(Debug)]
pub(super) struct Networks {
    pub(super) chain: Chain,
    /// Those that metrics need.
    pub(super) clips: Clips,
    /// Where a metric needs it.
    pub(super) bank: Option<Bank>,
}

impl Setup {
    /// # Errors
    /// A file can't be read or says what can't be; a metric can't be computed.
    pub(super) fn new(request: &Request) -> Result<Self> {
        let bundle = request.model.as_deref().map(Bundle::open).transpose()?;
        let chain_path = chain::choose(request.chain.as_deref(), bundle.as_ref())?;
        // A chain is of no use without the meaning of its labels, so that may lie beside it; for
        // the bundle's own chain that is the bundle's axes file.
        let beside = chain_path.with_file_name("axes.toml");
        let beside = Some(beside).filter(|path| path.is_file());
        let axes_path = request.axes.clone().or(beside);
        let axes = axes_path.as_deref().map(Axes::load).transpose()?;
        let manifest = ChainManifest::read(&chain_path)?;
        let mut scales = match &axes {
            Some(axes) => scales::from_axes(axes, &manifest)?,
            None => scales::from_chain(&manifest),
        };
        if let Some(target) = &request.target {
            scales::apply_targets(&mut scales, target)?;
        }
        let bank_path = bundle.as_ref().and_then(|b| b.file(reference::FILE));
        // What was not asked for by name is looked for only where the user points.
        let places = Places::new(request.weights.as_deref(), request.metrics.is_some());
        let has = |tower: &Tower| match tower.published() {
            None => bundle.as_ref().is_some_and(Clip::is_in),
            Some(published) => places.find(&published).is_some(),
        };
        let towers = [Tower::Bundle].into_iter().chain(Tower::PUBLISHED);
        let at_hand = AtHand {
            towers: towers.filter(has).collect(),
            aesthetic: places.find(&aesthetic::PUBLISHED).is_some(),
            reference: bank_path.is_some(),
            against: !request.against.is_empty(),
        };
        let metrics = match &request.metrics {
            None => Metrics::all(&scales, &at_hand),
            Some(names) => Metrics::chosen(names, &scales, &at_hand)?,
        };
        let tokenizer = bundle.as_ref().map(|b| b.dir().join("tokenizer"));
        let sources = sources(&metrics, &places, tokenizer.as_slice())?;
        let aesthetic = match metrics.need(Need::Aesthetic) {
            true => places.find(&aesthetic::PUBLISHED),
            false => None,
        };
        let [scored, against] =
            [&request.dirs, &request.against].map(|dirs| open(dirs, axes.as_ref()));
        let galleries = [scored?, against?];
        let trained = request.training.as_deref().map(Drawn::of_run);
        let trained = trained.transpose()?.flatten();
        let shared = |galleries: &[Gallery]| -> Result<Vec<_>> {
            let of = |gallery| overlap::of(gallery, trained.as_ref());
            galleries.iter().map(of).collect()
        };
        Ok(Self {
            bundle,
            chain_path,
            manifest,
            axes_path,
            bank_path: bank_path.filter(|_| metrics.need(Need::Bank)),
            metrics,
            sources,
            aesthetic: aesthetic.as_deref().map(Aesthetic::open).transpose()?,
            shared: [shared(&galleries[0])?, shared(&galleries[1])?],
            galleries,
        })
    }

    /// What the user should know of the folders.
    pub(super) fn notes(&self) -> Vec<String> {
        let galleries = self.galleries.iter().flatten();
        let shared = self.shared.iter().flatten();
        let notes = galleries.zip(shared);
        notes
            .filter_map(|(gallery, shared)| overlap::note(gallery, *shared))
            .collect()
    }

    /// Opens the networks that the metrics need.
    ///
    /// # Errors
    /// One can't be opened.
    pub(super) fn networks(
        &mut self,
        runtime: &Runtime,
        session: &SessionOptions,
    ) -> Result<Networks> {
        let chain = Chain::open(runtime, &self.chain_path, session)?;
        let mut clips = Clips::new();
        for (tower, source) in std::mem::take(&mut self.sources) {
            clips.insert(tower, Clip::build(runtime, source, session)?);
        }
        if let (Some(aesthetic), Some(clip)) = (&self.aesthetic, clips.get(&Tower::ClipL14)) {
            aesthetic.check(clip.width())?;
        }
        let needed = self.metrics.towers().contains_key(&Tower::Bundle);
        if let Some(bundle) = self.bundle.as_ref().filter(|_| needed) {
            clips.insert(Tower::Bundle, Clip::open(runtime, bundle, session)?);
        }
        let bank = match (&self.bank_path, clips.get(&Tower::Bundle)) {
            (Some(path), Some(clip)) => Some(Bank::open(path, clip.width())?),
            _ => None,
        };
        Ok(Networks { chain, clips, bank })
    }
}

/// The published CLIPs that metrics need, found and read.
fn sources(
    metrics: &Metrics,
    places: &Places,
    tokenizers: &[PathBuf],
) -> Result<BTreeMap<Tower, Source>> {
    let mut sources = BTreeMap::new();
    for (tower, captions) in metrics.towers() {
        if let Some(source) = Source::find(tower, places, captions, tokenizers)? {
            sources.insert(tower, source);
        }
    }
    Ok(sources)
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
