//! The report's section on what people say.

use maud::{Markup, html};

use super::context::Context;
use super::words::{capital, count, number, percent};

impl Context<'_> {
    /// What people said, where they were asked.
    pub(super) fn people(&self) -> Markup {
        let Some(human) = self.human else {
            return html! {};
        };
        html! {
            section #people {
                h2 { "What people say" }
                p { (count(human.raters, "person")) " compared sets of pictures without knowing "
                    "which side they are of. Krippendorff's alpha says how far they agree: 1 is "
                    "always, 0 is as chance would. "
                    (count(human.tasks_left_out, "task")) " and " (count(human.unanswered, "question"))
                    " are without an answer." }
                div.scroll { table {
                    thead { tr { th { "Question" } th { "Prefer after" } th { "Prefer before" }
                        th { "Tie" } th { "Alpha" } } }
                    tbody { @for (question, answer) in &human.questions { tr {
                        th { (capital(question)) }
                        td { (percent(answer.scored, 0)) }
                        td { (percent(answer.against, 0)) }
                        td { (percent(answer.tie, 0)) }
                        td { @match answer.alpha {
                            Some(alpha) => (number(alpha, 2)),
                            None => "–",
                        } }
                    } } }
                } }
            }
        }
    }
}
