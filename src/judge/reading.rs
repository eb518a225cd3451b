//! What a chain's answer about a picture means on an axis: the one place that says so.
//!
//! `pa-datagen`'s filter holds pictures to their captions, preference pairs count how many values a
//! set of pictures shows, and the scorer and validations measure shares. All of them read answers
//! here, fresh from the chain ([`Attributes`]) or as `metadata.jsonl` keeps them ([`Readings`]).
//! Each used to decide for itself; where they differed, this is the rule now:
//!
//! | case | filter | pairs | scorer | rule |
//! | --- | --- | --- | --- | --- |
//! | an axis without `classifier` | not held to captions | the output of its name | the output of its name | the output of its name: the same word for the same thing needs no table |
//! | two labels of one value | added, in fp32 | whatever was stored | added, in fp64 | added in fp64: together they are as probable as the value |
//! | a label that no table lists | its own name, a value by chance | a value like others | no answer at all | the value of its name if there is one, else no value; the label still contends, since the chain says "something else" |
//! | such a label wins | a mismatch | counted | no answer | no value ([`Silence::Meaningless`]), neither the caption's nor the runner-up |
//! | equal probabilities | first by name | last by name | first of the axes file | first by name: the one order that an axes file, a manifest and a stored answer share |
//! | equal after rounding | equal (fp32) | equal (fp32) | not equal (fp64) | equal: probabilities contend as fp32, which is what is stored |
//! | the output is missing | skipped | the caption's value | no answer | no value ([`Silence::Unmeasured`]); pairs take the caption's word |
//! | below the chain's minimum | dropped by the chain | dropped | dropped | dropped by the chain ([`super::chain::DropReason`]), so never read |
//! | a table names a label or an output that the chain lacks | refused | not known | labels ignored | refused before the first picture: a typing error |
//! | a value of the axis that no label means | not seen | not seen | refused only with other labels | refused: all its pictures would mismatch, its share would be 0 |
//!
//! One difference stays, in what is refused at the start: the scorer wants every axis measured and
//! every label meant ([`super::scales`]), because shares that don't add up to 1 have no discrepancy;
//! the filter doesn't, because leaving pictures out is its purpose.

use std::collections::BTreeMap;
use std::fmt;

use super::chain::{Attributes, ChainManifest, winner};
use crate::prompts::Axes;
use crate::prompts::axes::Axis;

/// Answers as `metadata.jsonl` keeps them: axis → value → probability. What no axis stands for is
/// kept under the chain's names.
pub type Readings = BTreeMap<String, BTreeMap<String, f32>>;

/// Where a picture stands on an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The index of the most probable value.
    pub dominant: usize,
    /// The probability of each value.
    pub shares: Vec<f64>,
}

/// Why an answer means no value of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// Nothing was asked about the axis.
    Unmeasured,
    /// The most probable label, which is none of its values.
    Meaningless(String),
}

/// What an axes file says of a chain that is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The axis.
    pub axis: String,
    /// The key of its `classifier` that is wrong or missing.
    pub key: &'static str,
    /// What the chain has.
    pub problem: String,
}

impl fmt::Display for Misfit {
    /// The key, as in `axis.age.classifier.output`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "axis.{}.classifier.{}", self.axis, self.key)
    }
}

/// An axis, and what a chain's labels mean on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning {
    axis: String,
    output: String,
    values: Vec<String>,
    /// What the axes file says that labels mean; others mean the value of their name.
    table: BTreeMap<String, String>,
    /// Whether the axes file names the output.
    told: bool,
}

/// A chain's answers, wherever they are kept.
pub trait Answers {
    /// Each value's probability on an axis; labels without a meaning stand under their own names.
    /// Nothing if nothing was asked about the axis.
    fn of<'a>(&'a self, meaning: &'a Meaning) -> Option<BTreeMap<&'a str, f64>>;
}

impl Answers for Attributes {
    fn of<'a>(&'a self, meaning: &'a Meaning) -> Option<BTreeMap<&'a str, f64>> {
        let labels = self.axes.get(&meaning.output)?;
        Some(meaning.translate(labels.iter().map(|(label, p)| (label, *p))))
    }
}

impl Answers for Readings {
    fn of<'a>(&'a self, meaning: &'a Meaning) -> Option<BTreeMap<&'a str, f64>> {
        let other = meaning.output != meaning.axis;
        let raw = self.get(&meaning.output).filter(|_| other);
        // A filter without the axes file kept the chain's labels, one with it kept values.
        let (answer, raw) = match raw {
            Some(labels) => (labels, true),
            None => {
                let answer = self.get(&meaning.axis)?;
                (answer, answer.keys().any(|label| meaning.is_foreign(label)))
            }
        };
        let labels = answer.iter().map(|(label, p)| (label, *p));
        Some(match raw {
            true => meaning.translate(labels),
            false => labels.map(|(l, p)| (l.as_str(), p.into())).collect(),
        })
    }
}

impl Meaning {
    /// What an axes file says of an axis.
    pub fn of(axis: &Axis) -> Self {
        let told = axis.classifier.as_ref();
        Self {
            axis: axis.name.clone(),
            output: told.map_or(&axis.name, |c| &c.output).clone(),
            values: axis.values.clone(),
            table: told.map(|c| c.labels.clone()).unwrap_or_default(),
            told: told.is_some(),
        }
    }

    /// An axis that is an output of a chain, its values the output's labels.
    pub fn own(output: String, labels: Vec<String>) -> Self {
        Self {
            axis: output.clone(),
            output,
            values: labels,
            table: BTreeMap::new(),
            told: false,
        }
    }

    /// The axis' name.
    pub fn axis(&self) -> &str {
        &self.axis
    }

    /// The output of the chain that tells it.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// The axis' values.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// The index of the value that a label of the chain means.
    pub fn value(&self, label: &str) -> Option<usize> {
        self.index(self.name(label))
    }

    /// Where the answers put a picture.
    ///
    /// # Errors
    /// Why they mean no value.
    pub fn read(&self, answers: &impl Answers) -> Result<Standing, Silence> {
        let answer = answers.of(self).ok_or(Silence::Unmeasured)?;
        let contend = answer.iter().map(|(name, p)| (*name, *p as f32));
        let (name, _) = winner(contend).ok_or(Silence::Unmeasured)?;
        let dominant = self.index(name);
        let share = |value: &String| answer.get(value.as_str()).copied().unwrap_or(0.0);
        Ok(Standing {
            dominant: dominant.ok_or_else(|| Silence::Meaningless(name.to_owned()))?,
            shares: self.values.iter().map(share).collect(),
        })
    }

    /// Checks that a chain answers as the axes file says.
    ///
    /// # Errors
    /// An output or a label that the chain lacks, a value that no label means. An axis that the file
    /// has no `classifier` for may be unmeasured.
    pub fn check(&self, chain: &ChainManifest) -> Result<(), Misfit> {
        let measured = chain.axes();
        let bad = |key, problem| {
            let axis = self.axis.clone();
            Err(Misfit { axis, key, problem })
        };
        let Some(labels) = measured.get(&self.output) else {
            let has: Vec<&str> = measured.keys().map(String::as_str).collect();
            return match self.told {
                true => bad(
                    "output",
                    format!("it measures no `{}`, only {}", self.output, has.join(", ")),
                ),
                false => Ok(()),
            };
        };
        let has = labels.join(", ");
        if let Some(label) = self.table.keys().find(|l| !labels.contains(l)) {
            return bad("labels", format!("it has no label `{label}`, only {has}"));
        }
        let meant: Vec<&str> = labels.iter().map(|label| self.name(label)).collect();
        match self.values.iter().find(|v| !meant.contains(&v.as_str())) {
            Some(value) => bad(
                "labels",
                format!("it has no label for `{value}`, only {has}"),
            ),
            None => Ok(()),
        }
    }

    /// Labels' probabilities as those of the values that they mean.
    fn translate<'a>(
        &'a self,
        labels: impl Iterator<Item = (&'a String, f32)>,
    ) -> BTreeMap<&'a str, f64> {
        let mut answer = BTreeMap::new();
        for (label, p) in labels {
            *answer.entry(self.name(label)).or_insert(0.0) += f64::from(p);
        }
        answer
    }

    /// The name of what a label means.
    fn name<'a>(&'a self, label: &'a str) -> &'a str {
        self.table.get(label).map_or(label, String::as_str)
    }

    fn index(&self, value: &str) -> Option<usize> {
        self.values.iter().position(|v| v == value)
    }

    /// Whether a name can only be a label of the chain.
    fn is_foreign(&self, name: &String) -> bool {
        self.table.contains_key(name) && !self.values.contains(name)
    }
}

/// What a chain's labels mean on all axes of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meanings(Vec<Meaning>);

impl Meanings {
    /// Those of an axes file; none without one, and the chain's names are then taken as they are.
    pub fn of(axes: Option<&Axes>) -> Self {
        let axes = axes.iter().flat_map(|axes| axes.axes());
        Self(axes.map(Meaning::of).collect())
    }

    /// Checks that a chain answers as the axes file says: see [`Meaning::check`].
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, chain: &ChainManifest) -> Result<(), Misfit> {
        self.0.iter().try_for_each(|meaning| meaning.check(chain))
    }

    /// Each axis' meaning, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Meaning> {
        self.0.iter()
    }

    /// A chain's answers as `metadata.jsonl` keeps them: in the axes' values where an axis stands
    /// for an output, else as the chain says them.
    pub fn keep(&self, attributes: &Attributes) -> Readings {
        let mut kept = Readings::new();
        for meaning in &self.0 {
            if let Some(answer) = attributes.of(meaning) {
                let shares = answer
                    .iter()
                    .map(|(name, p)| ((*name).to_owned(), *p as f32));
                kept.insert(meaning.axis.clone(), shares.collect());
            }
        }
        for (output, labels) in &attributes.axes {
            if !self.stands_for(output) && !kept.contains_key(output) {
                kept.insert(output.clone(), labels.iter().cloned().collect());
            }
        }
        kept
    }

    /// What the answers show on every axis and on what no axis stands for: a value, or nothing
    /// where they mean none. An axis that nothing was asked about is absent.
    pub fn values<'a>(&'a self, readings: &'a Readings) -> BTreeMap<&'a str, Option<&'a str>> {
        let mut found = BTreeMap::new();
        for meaning in &self.0 {
            let value = match meaning.read(readings) {
                Ok(standing) => Some(meaning.values[standing.dominant].as_str()),
                Err(Silence::Meaningless(_)) => None,
                Err(Silence::Unmeasured) => continue,
            };
            found.insert(meaning.axis(), value);
        }
        for (output, labels) in readings {
            if !self.stands_for(output) && !found.contains_key(output.as_str()) {
                let best = winner(labels.iter().map(|(label, p)| (label.as_str(), *p)));
                found.insert(output, best.map(|(label, _)| label));
            }
        }
        found
    }

    fn stands_for(&self, output: &str) -> bool {
        self.0.iter().any(|meaning| meaning.output == output)
    }
}

#[cfg(test)]
mod tests;
