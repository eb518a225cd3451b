//! What a metric is: its facts, and which of a few shapes its numbers have.
//!
//! The shape says what a metric's formula is given and what it gives back. Intervals, differences,
//! kinds of prompts, `scores.json` and the report follow from the shape, so that a metric's file
//! holds its formula and its words only.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::judge::aesthetic::Aesthetic;
use crate::judge::clip::{Clip, Clips, Tower, cosine};
use crate::judge::reading::Standing;
use crate::score::look::{Likeness, Looks};
use crate::score::measure::OfShares;
use crate::score::population::Population;
use crate::score::reference::Bank;
use crate::score::{Error, Result};

/// A number that `pa-score` computes.
#[derive(Debug)]
pub struct Metric {
    /// Its key in `scores.json`, and its name in the lines of the terminal.
    pub key: &'static str,
    /// How `--metrics` asks for it.
    pub asked: Asked,
    /// What the report calls it.
    pub title: &'static str,
    /// What it is, in half a sentence.
    pub about: &'static str,
    /// What its number is.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// Decimals of its number.
    pub decimals: usize,
    /// What it can't be computed without.
    pub needs: &'static [Need],
    /// How it is measured, in a sentence for the report's end.
    pub method: Option<&'static str>,
    /// What it is made from, and its formula.
    pub shape: Shape,
}

/// How `--metrics` asks for a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It comes with every axis: the report's headline.
    Axis,
    /// It comes with every axis too, beside the headline.
    WithAxis,
    /// By this name; some metrics share one.
    Name(&'static str),
}

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number as it stands.
    Number,
    /// A share, shown in percent.
    Share,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// What a metric can't be computed without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A CLIP that embeds pictures and captions.
    Clip(Tower),
    /// A CLIP that embeds pictures.
    Pictures(Tower),
    /// LAION's aesthetic predictor.
    Aesthetic,
    /// A bank of reference pictures.
    Bank,
    /// Pictures to compare with.
    Against,
}

impl Need {
    /// What the user has to give.
    pub fn text(self) -> &'static str {
        match self {
            Self::Clip(tower) | Self::Pictures(tower) => tower.needed(),
            Self::Aesthetic => "--weights DIR with sac+logos+ava1-l14-linearMSE.pth",
            Self::Bank => "--model BUNDLE with reference.safetensors",
            Self::Against => "--against DIR",
        }
    }
}

/// What a metric is made from.
#[derive(Debug)]
pub enum Shape {
    /// The shares of an axis' values among the pictures of neutral prompts.
    Axes(Axes),
    /// Pictures whose captions name values.
    Named(Named),
    /// A number for each picture, in the order of the population; nothing for one that can't be
    /// read. Averaged over pictures.
    Pictures(fn(&mut Instruments<'_>) -> Result<Vec<Option<f64>>>),
    /// A number of many pictures' embeddings together. It has no interval.
    Embeddings(fn(&Bank, &[&[f32]]) -> Option<f64>),
    /// The two sides' pictures of one slot. Averaged over slots.
    Pairs(Pairs),
}

/// What a population that meets a target has on average, of the target's shares, the number of
/// pictures and the run's seed; nothing of no pictures.
pub type Floor = fn(&[f64], u32, u64) -> Option<f64>;

/// The lowest and the highest number that pictures could have, of the target's shares, how many
/// pictures show each value, and how many more could show any; nothing of no pictures.
pub type Bounds = fn(&[f64], &[f64], usize) -> Option<[f64; 2]>;

/// Which pictures the shares of a metric are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Those of each neutral prompt: the metric is the mean over prompts.
    Prompts,
    /// Those of all neutral prompts as one population.
    Pool,
}

impl Over {
    /// What is said beside the metric's name wherever it stands.
    pub fn words(self) -> &'static str {
        match self {
            Self::Prompts => "mean over prompts",
            Self::Pool => "pooled over prompts",
        }
    }
}

/// A metric of shares.
#[derive(Debug)]
pub struct Axes {
    /// The metric of some pictures: of their shares, and the target's.
    pub of: OfShares,
    /// Which pictures.
    pub over: Over,
    /// What a population that meets the target would have on average.
    pub floor: Option<Floor>,
    /// What it could be if the pictures that were left out counted.
    pub bounds: Option<Bounds>,
    /// One number of all axes.
    pub joined: Option<Joined>,
    /// What the report says of it before the charts.
    pub explained: &'static str,
}

/// One number of all axes, joint ones apart.
#[derive(Debug)]
pub struct Joined {
    /// Its key in `scores.json`.
    pub key: &'static str,
    /// What the report calls it.
    pub title: &'static str,
    /// Of the axes' numbers; there is at least one.
    pub of: fn(&[f64]) -> f64,
}

/// A metric of pictures whose captions name values.
#[derive(Debug)]
pub struct Named {
    /// From 0 to 1, how far a picture shows the value of this index. Where a caption names several
    /// values, "everything named" is their product.
    pub of: fn(&Standing, usize) -> f64,
    /// What a picture that was dropped counts as; nothing to leave it out.
    pub dropped: Option<f64>,
    /// The title of the report's section.
    pub heading: &'static str,
    /// The metric in a sentence: "(it) went from … to …".
    pub subject: &'static str,
    /// What the report says of it before the table; `{captions}` is how many there are, and one of
    /// them.
    pub explained: &'static str,
}

/// A metric of two pictures.
#[derive(Debug)]
pub struct Pairs {
    /// How alike the two are; nothing where that can't be said.
    pub of: fn(&Likeness) -> Option<f64>,
    /// The number in a sentence on pictures of things; `{}` is the number.
    pub things: &'static str,
    /// The number of each prompt, where it is to be given.
    pub each: Option<Each>,
}

/// A number of pairs that is given prompt by prompt too.
#[derive(Debug)]
pub struct Each {
    /// Beside the prompt; `{}` is the number.
    pub prompt: &'static str,
    /// That of neutral prompts, after the sentence on things.
    pub people: &'static str,
}

/// What pictures are measured with.
#[derive(Debug)]
pub struct Instruments<'a> {
    /// The pictures and their places.
    pub population: &'a Population,
    /// What was seen of them.
    pub looks: &'a Looks,
    /// The CLIPs that metrics need.
    pub clips: &'a mut Clips,
    /// The aesthetic predictor, where a metric needs it.
    pub aesthetic: Option<&'a Aesthetic>,
    /// The reference pictures, where a metric needs them.
    pub bank: Option<&'a Bank>,
}

impl Instruments<'_> {
    /// A CLIP, for a metric.
    ///
    /// # Errors
    /// [`Error::MetricNeeds`] where it was not opened.
    pub fn clip(&mut self, metric: &Metric, tower: Tower) -> Result<&mut Clip> {
        let clip = self.clips.get_mut(&tower);
        clip.ok_or_else(|| metric.missing(Need::Clip(tower)))
    }

    /// The cosine of every picture's and its caption's embeddings by a CLIP, in the order of the population.
    ///
    /// # Errors
    /// It was not opened, or can't run.
    pub fn agreement(&mut self, metric: &Metric, tower: Tower) -> Result<Vec<Option<f64>>> {
        let population = self.population;
        let texts: Vec<&str> = population.prompts.iter().map(|p| p.text.as_str()).collect();
        let captions = self.clip(metric, tower)?.captions(&texts)?;
        let pairs = self.embeddings(tower).zip(&population.shots);
        let agreement = pairs.map(|(embedding, shot)| {
            let caption = &captions[population.slots[shot.slot].prompt];
            Some(cosine(embedding?, caption))
        });
        Ok(agreement.collect())
    }

    /// The reference pictures, for a metric.
    ///
    /// # Errors
    /// [`Error::MetricNeeds`] where they were not opened.
    pub fn bank(&self, metric: &Metric) -> Result<&Bank> {
        self.bank.ok_or_else(|| metric.missing(Need::Bank))
    }

    /// The embedding of every picture by a CLIP, in the order of the population.
    pub fn embeddings(&self, tower: Tower) -> impl Iterator<Item = Option<&[f32]>> {
        let looks = self.looks.shots.iter();
        looks.map(move |look| look.embedding(tower))
    }
}

impl Metric {
    /// The name by which `--metrics` asks for it.
    pub fn name(&self) -> Option<&'static str> {
        match self.asked {
            Asked::Axis | Asked::WithAxis => None,
            Asked::Name(name) => Some(name),
        }
    }

    /// What its number is, with what it is taken over.
    pub fn meaning(&self) -> String {
        match &self.shape {
            Shape::Axes(axes) => format!("{}, {}", self.about, axes.over.words()),
            _ => self.about.to_owned(),
        }
    }

    /// The error that something it needs is not there.
    pub fn missing(&self, need: Need) -> Error {
        Error::MetricNeeds {
            name: self.name().unwrap_or(self.key).to_owned(),
            needs: need.text().to_owned(),
        }
    }

    /// Whether it is what the report is about.
    pub fn is_headline(&self) -> bool {
        self.asked == Asked::Axis
    }
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// What `scores.json` says of a metric of quality beside its numbers.
impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("metric", self.key)?;
        map.serialize_entry("about", self.about)?;
        map.serialize_entry("higher_is_better", &(self.better == Better::Higher))?;
        map.end()
    }
}
