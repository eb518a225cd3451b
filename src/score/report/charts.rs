//! Bars, dots and stacked shares, as HTML boxes whose places are in percent.

use maud::{Markup, html};

use super::words::{interval, percent, shown};
use crate::score::bootstrap::Estimate;
use crate::score::metrics::metric::Unit;

/// How many colours values have; more share them.
const COLOURS: usize = 8;
/// The least share of a stacked bar that has room for its name.
const NAMED_SHARE: f64 = 0.2;

/// One bar of a chart.
pub(super) struct Bar<'a> {
    /// "before" or "after".
    pub(super) side: &'a str,
    /// What it shows.
    pub(super) estimate: &'a Estimate,
    /// A mark, as the floor of a discrepancy.
    pub(super) mark: Option<f64>,
    /// What its number is.
    pub(super) unit: Unit,
    /// Decimals of its number.
    pub(super) decimals: usize,
}

/// The largest number that a bar shows.
pub(super) fn highest(estimate: &Estimate) -> f64 {
    estimate.high.unwrap_or(estimate.value).max(estimate.value)
}

/// The next round number above: 1, 2 or 5 times a power of ten.
pub(super) fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let fitting = steps.into_iter().find(|s| s * power >= value - 1e-12);
    fitting.unwrap_or(10.0) * power
}

/// A place on a scale from 0 to `most`, in percent.
fn place(value: f64, most: f64) -> String {
    format!("{:.2}%", (100.0 * value / most).clamp(0.0, 100.0))
}

/// A horizontal bar with its interval and number.
pub(super) fn bar(bar: &Bar<'_>, most: f64) -> Markup {
    let show = |v: f64| shown(v, bar.unit, bar.decimals);
    let value = bar.estimate.value;
    html! {
        div.bar.(bar.side) {
            span.side { (bar.side) }
            span.track {
                span.fill style={ "width:" (place(value, most)) } {}
                @if let Some((low, high)) = bar.estimate.interval() {
                    span.whisker style={
                        "left:" (place(low, most)) ";width:" (place(high - low, most))
                    } {}
                }
                @if let Some(mark) = bar.mark {
                    span.mark style={ "left:" (place(mark, most)) } {}
                }
            }
            span.number {
                b { (show(value)) }
                @if let Some(text) = interval(bar.estimate, show) { small { (text) } }
            }
        }
    }
}

/// The labels under bars: 0, the middle and the end of their scale.
pub(super) fn ruler(most: f64, unit: Unit) -> Markup {
    let decimals = match unit {
        Unit::Share => 0,
        Unit::Number if most < 0.2 => 3,
        Unit::Number => 2,
    };
    html! {
        div.ruler aria-hidden="true" {
            span.side {}
            span.track {
                @for part in [0.0, 0.5, 1.0] {
                    span { (shown(most * part, unit, decimals)) }
                }
            }
            span.number {}
        }
    }
}

/// A line from one dot to another: where a prompt was, and where it is.
pub(super) fn dumbbell(
    label: &str,
    points: &[(&str, f64)],
    mark: Option<f64>,
    most: f64,
    show: impl Fn(f64) -> String,
) -> Markup {
    let values = || points.iter().map(|(_, v)| *v);
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(0.0, f64::max);
    let spoken: Vec<String> = points
        .iter()
        .map(|(s, v)| format!("{s} {}", show(*v)))
        .collect();
    html! {
        div.dumbbell {
            span.label { (label) }
            span.track role="img" aria-label={ (label) ": " (spoken.join(", ")) } {
                @if high >= low {
                    span.line style={ "left:" (place(low, most)) ";width:" (place(high - low, most)) } {}
                }
                @if let Some(mark) = mark {
                    span.mark style={ "left:" (place(mark, most)) } {}
                }
                @for (side, value) in points {
                    span.dot.(*side) style={ "left:" (place(*value, most)) } {}
                }
            }
        }
    }
}

/// Shares of a population, side by side in one bar.
///
/// `colour` is that of the first value: axes that are shown together don't share colours.
pub(super) fn stacked(axis: &str, colour: usize, values: &[String], shares: &[f64]) -> Markup {
    let spoken: Vec<String> = values
        .iter()
        .zip(shares)
        .map(|(value, share)| format!("{value} {}", percent(*share, 0)))
        .collect();
    html! {
        div.stacked role="img" aria-label={ (axis) ": " (spoken.join(", ")) } title=(spoken.join(", ")) {
            @for (index, (value, share)) in values.iter().zip(shares).enumerate() {
                @if *share > 0.0 {
                    span.{ "v" ((colour + index) % COLOURS) } style={ "width:" (place(*share, 1.0)) } {
                        @if *share >= NAMED_SHARE { (value) }
                    }
                }
            }
        }
    }
}

/// What the colours of stacked bars mean.
pub(super) fn legend(axis: &str, colour: usize, values: &[String]) -> Markup {
    html! {
        span.legend {
            b { (axis) }
            @for (index, value) in values.iter().enumerate() {
                span { i.{ "v" ((colour + index) % COLOURS) } {} (value) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        for (value, expected) in [
            (0.61, 0.8),
            (0.8, 0.8),
            (28.3, 30.0),
            (0.043, 0.05),
            (0.0, 1.0),
        ] {
            assert!((round_up(value) - expected).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn boxes_stay_inside_their_track() {
        let estimate = Estimate {
            value: 0.25,
            low: Some(0.2),
            high: Some(2.0),
        };
        let bar = Bar {
            side: "after",
            estimate: &estimate,
            mark: Some(0.1),
            unit: Unit::Number,
            decimals: 2,
        };
        let text = super::bar(&bar, 0.5).into_string();
        assert!(text.contains("width:50.00%"), "{text}");
        assert!(text.contains("left:40.00%;width:100.00%"), "{text}");
        assert!(text.contains("0.20 to 2.00"), "{text}");
        let text =
            stacked("gender", 0, &["<b>".into(), "male".into()], &[0.25, 0.75]).into_string();
        assert!(text.contains("&lt;b&gt; 25%, male 75%"), "{text}");
    }
}
