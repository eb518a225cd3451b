//! Curves of a training run: loss, and how often the winner has the higher implied reward.

use std::fmt::Write;

use maud::{Markup, html};

use super::context::Context;
use super::words::number;
use crate::align::log::Line;

/// Width and height of a curve's own units; the page stretches them.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 160.0;
/// A curve is smoothed over this share of the steps.
const WINDOW: usize = 25;
/// Points of a curve; a longer log is thinned out.
const POINTS: usize = 600;

impl Context<'_> {
    /// The training run, where its log was given.
    pub(super) fn training(&self) -> Markup {
        let Some(lines) = self.training.filter(|lines| lines.len() > 1) else {
            return html! {};
        };
        html! {
            section #training {
                h2 { "Training" }
                p { "Each update's value is pale, the mean of " (window(lines)) " updates around it strong." }
                div.curves {
                    (curve("Loss", lines, |l| Some(l.loss), None))
                    (curve("Reward accuracy", lines, |l| l.reward_accuracy, Some((0.0, 1.0))))
                }
            }
        }
    }
}

fn window(lines: &[Line]) -> usize {
    (lines.len() / WINDOW).max(1)
}

/// A curve, if the log has its values.
fn curve(
    name: &str,
    lines: &[Line],
    of: fn(&Line) -> Option<f64>,
    range: Option<(f64, f64)>,
) -> Markup {
    let Some(values) = lines.iter().map(of).collect::<Option<Vec<f64>>>() else {
        return html! {};
    };
    let smooth = smoothed(&values, window(lines));
    let (low, high) = range.unwrap_or_else(|| extent(&values));
    let (first, last) = (smooth.first(), smooth.last());
    let ends = first.zip(last).map(|(a, b)| (number(*a, 3), number(*b, 3)));
    let label = ends.map_or(name.to_owned(), |(a, b)| format!("{name} from {a} to {b}"));
    html! {
        figure.curve {
            figcaption { (label) }
            div.plot {
                span.top { (number(high, 2)) }
                span.bottom { (number(low, 2)) }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                    @if range.is_some() {
                        path.guide d=(format!("M0 {0} H{WIDTH}", HEIGHT / 2.0)) {}
                    }
                    path.pale d=(path(&values, low, high)) {}
                    path.strong d=(path(&smooth, low, high)) {}
                }
            }
            div.steps {
                span { "step " (lines[0].step) }
                span { (lines[lines.len() - 1].step) }
            }
        }
    }
}

/// The means of `window` values around each.
fn smoothed(values: &[f64], window: usize) -> Vec<f64> {
    let around = |i: usize| {
        let from = i.saturating_sub(window / 2);
        let to = (from + window).min(values.len());
        let some = &values[from..to];
        some.iter().sum::<f64>() / some.len() as f64
    };
    (0..values.len()).map(around).collect()
}

/// The range of the values, widened where it has no width.
fn extent(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low < high {
        (low, high)
    } else {
        (low - 0.5, low + 0.5)
    }
}

fn path(values: &[f64], low: f64, high: f64) -> String {
    let step = values.len().div_ceil(POINTS).max(1);
    let last = (values.len() - 1).max(1) as f64;
    let mut path = String::new();
    for (index, value) in values.iter().enumerate().step_by(step) {
        let x = WIDTH * index as f64 / last;
        let y = HEIGHT * (1.0 - (value - low) / (high - low));
        let command = if index == 0 { 'M' } else { 'L' };
        // Writing to a string can't fail.
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_fill_their_box() {
        assert_eq!(path(&[0.0, 1.0], 0.0, 1.0), "M0.0 160.0L600.0 0.0");
        assert_eq!(extent(&[2.0, 2.0]), (1.5, 2.5));
        assert_eq!(smoothed(&[0.0, 3.0, 6.0], 3), [3.0, 3.0, 4.5]);
        let long = vec![1.0; 5000];
        assert!(path(&long, 0.0, 2.0).matches('L').count() < POINTS);
    }
}
