//! Which numbers to compute: `--metrics gender,gender+skin,recall,clip,…`.

use std::collections::{BTreeMap, BTreeSet};

use super::metrics::METRICS;
use super::metrics::metric::{Metric, Need, Shape};
use super::{Error, Result};
use crate::judge::clip::Tower;
use crate::judge::scales::{JOINT, Scale, joint};

/// A name that stands for no metric, because its versions can't be compared.
const VERSIONED: (&str, [&str; 2]) = ("hps", ["hps_v2.0", "hps_v2.1"]);

/// Metrics to choose among.
type Table = &'static [&'static Metric];

/// What the run has at hand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AtHand {
    /// CLIPs.
    pub towers: BTreeSet<Tower>,
    /// The aesthetic predictor.
    pub aesthetic: bool,
    /// A bank of reference pictures.
    pub reference: bool,
    /// Pictures to compare with.
    pub against: bool,
}

impl AtHand {
    fn has(&self, need: Need) -> bool {
        match need {
            Need::Clip(tower) | Need::Pictures(tower) => self.towers.contains(&tower),
            Need::Aesthetic => self.aesthetic,
            Need::Bank => self.reference,
            Need::Against => self.against,
        }
    }

    /// The first thing that a metric needs and that is not there.
    fn lacks(&self, metric: &Metric) -> Option<Need> {
        let mut needs = metric.needs.iter().copied();
        needs.find(|&need| !self.has(need))
    }
}

/// What to compute.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// The axes to score, in the order asked for.
    pub scales: Vec<Scale>,
    /// The metrics, in the order of their table.
    pub list: Vec<&'static Metric>,
}

impl Metrics {
    /// Everything that can be computed with what is at hand.
    pub fn all(scales: &[Scale], at_hand: &AtHand) -> Self {
        Self::all_of(METRICS, scales, at_hand)
    }

    /// What comes with axes, and nothing else.
    pub fn axes(scales: Vec<Scale>) -> Self {
        Self::named(METRICS, &[], scales)
    }

    /// Those asked for by name. A metric has a name or shares one, and a name stands for all its
    /// metrics that can be computed. Metrics of axes are of the axes named, or of all if none is.
    ///
    /// # Errors
    /// [`Error::UnknownMetric`], [`Error::Versions`], [`Error::MetricNeeds`].
    pub fn chosen(names: &[String], scales: &[Scale], at_hand: &AtHand) -> Result<Self> {
        Self::chosen_of(METRICS, names, scales, at_hand)
    }

    fn all_of(table: Table, scales: &[Scale], at_hand: &AtHand) -> Self {
        let mut metrics = Self::named(table, &names(table), scales.to_vec());
        metrics.list.retain(|m| at_hand.lacks(m).is_none());
        metrics
    }

    fn chosen_of(
        table: Table,
        asked: &[String],
        scales: &[Scale],
        at_hand: &AtHand,
    ) -> Result<Self> {
        let (mut axes, mut others) = (Vec::<Scale>::new(), Vec::new());
        let has = names(table);
        for name in asked.iter().map(|n| n.trim()).filter(|n| !n.is_empty()) {
            if let Some(scale) = scale(table, name, scales)? {
                if !axes.iter().any(|s| s.name == scale.name) {
                    axes.push(scale);
                }
            } else if has.contains(&name) {
                others.push(name);
            } else if name == VERSIONED.0 {
                return Err(Error::Versions {
                    name: VERSIONED.0,
                    versions: VERSIONED.1,
                });
            } else {
                return Err(unknown(table, name, scales));
            }
        }
        let mut metrics = Self::named(table, &others, axes);
        let of_axes = |m: &Metric| m.name().is_some() && matches!(m.shape, Shape::Axes(_));
        if metrics.scales.is_empty() && metrics.list.iter().any(|m| of_axes(m)) {
            metrics.scales = scales.to_vec();
        }
        metrics.check(at_hand)?;
        metrics.list.retain(|m| at_hand.lacks(m).is_none());
        Ok(metrics)
    }

    /// The metrics of these names, beside those that come with axes.
    fn named(table: Table, names: &[&str], scales: Vec<Scale>) -> Self {
        let asked = |metric: &&&'static Metric| match metric.name() {
            None => true,
            Some(name) => names.contains(&name),
        };
        let list = table.iter().filter(asked).copied().collect();
        Self { scales, list }
    }

    /// A name of which no metric can be computed is refused.
    fn check(&self, at_hand: &AtHand) -> Result<()> {
        for name in names(&self.list) {
            let own = self.list.iter().filter(|m| m.name() == Some(name));
            let lacks: Vec<_> = own.map(|m| (m, at_hand.lacks(m))).collect();
            if let (Some((metric, Some(need))), true) =
                (lacks.first(), lacks.iter().all(|(_, need)| need.is_some()))
            {
                return Err(metric.missing(*need));
            }
        }
        Ok(())
    }

    /// Whether one of them needs this.
    pub fn need(&self, need: Need) -> bool {
        self.list.iter().any(|m| m.needs.contains(&need))
    }

    /// The CLIPs that they need, and whether for captions too.
    pub fn towers(&self) -> BTreeMap<Tower, bool> {
        let mut towers = BTreeMap::new();
        for need in self.list.iter().flat_map(|m| m.needs) {
            match *need {
                Need::Clip(tower) => drop(towers.insert(tower, true)),
                Need::Pictures(tower) => drop(towers.entry(tower).or_insert(false)),
                _ => {}
            }
        }
        towers
    }

    /// Their names, as `--metrics` takes them.
    pub fn names(&self) -> Vec<String> {
        let scales = self.scales.iter().map(|s| s.name.clone());
        let others = names(&self.list).into_iter().map(str::to_owned);
        scales.chain(others).collect()
    }
}

/// What `--metrics` takes, in a line.
pub fn help() -> String {
    let names = names(METRICS).join(", ");
    format!("What to compute: axes, axis{JOINT}axis, {names} [default: all that can be]")
}

/// What `--metrics` takes, metric by metric.
pub fn long_help() -> String {
    let line = |metric: &&Metric| {
        let name = metric.name().unwrap_or("an axis");
        let needs: Vec<&str> = metric.needs.iter().map(|need| need.text()).collect();
        let needs = match needs.is_empty() {
            true => String::new(),
            false => format!(" (needs {})", needs.join(", ")),
        };
        format!("\n  {name}: {}{needs}", metric.meaning())
    };
    let lines: String = METRICS.iter().map(line).collect();
    format!("{}\n{lines}", help())
}

/// The names of some metrics, each once; those of one name stand together in the table.
fn names(metrics: &[&'static Metric]) -> Vec<&'static str> {
    let mut names: Vec<&str> = metrics.iter().filter_map(|m| m.name()).collect();
    names.dedup();
    names
}

/// The scale of that name, or of those names with `+` between.
fn scale(table: Table, name: &str, scales: &[Scale]) -> Result<Option<Scale>> {
    let find = |name: &str| scales.iter().find(|s| s.name == name);
    if let Some(scale) = find(name) {
        return Ok(Some(scale.clone()));
    }
    if !name.contains(JOINT) {
        return Ok(None);
    }
    let parts: Option<Vec<&Scale>> = name.split(JOINT).map(find).collect();
    let parts = parts.ok_or_else(|| unknown(table, name, scales))?;
    let repeated = (1..parts.len()).any(|i| parts[..i].contains(&parts[i]));
    match repeated {
        true => Err(unknown(table, name, scales)),
        false => Ok(Some(joint(&parts))),
    }
}

fn unknown(table: Table, name: &str, scales: &[Scale]) -> Error {
    Error::UnknownMetric {
        name: name.to_owned(),
        known: known(table, scales),
    }
}

fn known(table: Table, scales: &[Scale]) -> Vec<String> {
    let axes = scales.iter().map(|s| s.name.clone());
    let example = match scales {
        [first, second, ..] => Some(format!("{}{JOINT}{}", first.name, second.name)),
        _ => None,
    };
    let others = names(table).into_iter().map(str::to_owned);
    axes.chain(example).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::metrics::{
        clip, clip_cosine, discrepancy, frechet, pixel_difference, recall, reference,
    };

    /// The parser is tested on a table of its own, so that a new metric changes nothing here.
    static TABLE: Table = &[
        &discrepancy::METRIC,
        &recall::METRIC,
        &clip::METRIC,
        &reference::METRIC,
        &frechet::METRIC,
        &pixel_difference::METRIC,
        &clip_cosine::METRIC,
    ];

    fn everything() -> AtHand {
        AtHand {
            towers: [Tower::Bundle].into(),
            aesthetic: false,
            reference: true,
            against: true,
        }
    }

    fn scales() -> Vec<Scale> {
        let chain = toml::from_str(
            r#"
            name = "test"
            [[model]]
            path = "m.onnx"
            input = "x"
            size = [8, 8]
            [[model.output]]
            output = "a"
            axis = "gender"
            labels = ["female", "male"]
            [[model.output]]
            output = "b"
            axis = "skin"
            labels = ["dark", "light"]
            "#,
        );
        crate::judge::scales::from_chain(&chain.unwrap())
    }

    fn chosen(names: &str, at_hand: &AtHand) -> Result<Metrics> {
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        Metrics::chosen_of(TABLE, &names, &scales(), at_hand)
    }

    #[test]
    fn names_choose_and_are_given_back() {
        let metrics = chosen("skin, gender+skin,skin,recall,clip", &everything()).unwrap();
        assert_eq!(metrics.names(), ["skin", "gender+skin", "recall", "clip"]);
        assert_eq!(metrics.scales[1].values.len(), 4);
        let all = Metrics::all_of(TABLE, &scales(), &everything());
        assert_eq!(
            all.names(),
            [
                "gender",
                "skin",
                "recall",
                "clip",
                "reference",
                "similarity"
            ]
        );
    }

    #[test]
    fn unknown_versioned_and_impossible_metrics_are_different_errors() {
        let text = |names: &str, at_hand| chosen(names, at_hand).unwrap_err().to_string();
        let all = &everything();
        let known = "gender, skin, gender+skin, recall, clip, reference, similarity";
        assert_eq!(
            text("race", all),
            format!("there is no metric `race`; there are {known}")
        );
        assert!(text("gender+race", all).contains("no metric `gender+race`"));
        assert!(text("gender+gender", all).contains("no metric"));
        assert!(text("hps", all).contains("hps_v2.0 or hps_v2.1"));
        let none = &AtHand::default();
        assert!(text("clip", none).contains("needs --model BUNDLE with the parts"));
        assert!(text("similarity", none).contains("needs --against"));
        let bankless = AtHand {
            reference: false,
            ..everything()
        };
        assert!(text("reference", &bankless).contains("reference.safetensors"));
    }
}
