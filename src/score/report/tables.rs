//! Cells of tables.

use maud::{Markup, html};

use super::words::interval;
use crate::score::bootstrap::Estimate;

/// A number and its interval in a table.
pub(super) fn cell(estimate: Option<&Estimate>, show: impl Fn(f64) -> String) -> Markup {
    html! {
        td {
            @match estimate {
                None => "–",
                Some(estimate) => {
                    (show(estimate.value))
                    @if let Some(text) = interval(estimate, &show) { small { (text) } }
                }
            }
        }
    }
}
