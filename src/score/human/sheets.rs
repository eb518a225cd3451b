//! The sheets: sets of pictures of which nobody can tell the side.

use std::path::{Path, PathBuf};

use maud::{Markup, html};

use super::questions::{KEY, QUESTIONS, SHEET};
use crate::base::{fsio, table};
use crate::random::{Purpose, Stream, shuffle};
use crate::score::assess::SIDE_NAMES;
use crate::score::gallery::Kind;
use crate::score::page::{data_uri, page};
use crate::score::population::{Population, Prompt};
use crate::score::request::Scored;
use crate::score::{Error, Result};

/// Pictures of a set, as in the paper.
const SET: usize = 5;
/// Longer side of a picture on the sheet.
const SIDE: u32 = 256;
/// Addresses the sheets' randomness apart from resamples.
const TAG: u32 = 0x00e7_0000;

/// One comparison.
struct Task<'a> {
    prompt: &'a Prompt,
    /// The side that is shown as A.
    a: usize,
    /// Pictures, by letter.
    sets: [Vec<usize>; 2],
}

/// Writes `tasks` comparisons into `dir`: `sheet.html` to look at, `sheet.csv` to fill in and
/// `key.csv`. Returns how many there are: no more than there are prompts with readable pictures of
/// both sides.
///
/// # Errors
/// [`Error::MetricNeeds`] without a second side; a file can't be written.
pub fn write_sheets(scored: &Scored, tasks: usize, seed: u64, dir: &Path) -> Result<usize> {
    let population = &scored.population;
    if !population.compared {
        return Err(Error::MetricNeeds {
            name: "--human-eval".into(),
            needs: "--against DIR".into(),
        });
    }
    let tasks = draw(scored, tasks, seed);
    fsio::create_dir_all(dir)?;
    fsio::write(
        dir.join("sheet.html"),
        sheet(population, &tasks)?.into_string(),
    )?;
    let questions = QUESTIONS.map(|(name, _)| name);
    let mut answers = vec![[&["task", "rater"][..], &questions].concat()];
    let mut key = vec![["task", "a", "prompt"].to_vec()];
    let numbers: Vec<String> = (1..=tasks.len()).map(|n| n.to_string()).collect();
    for (number, task) in numbers.iter().zip(&tasks) {
        answers.push([&[number.as_str(), ""][..], &[""; QUESTIONS.len()]].concat());
        key.push(vec![number, SIDE_NAMES[task.a], &task.prompt.text]);
    }
    fsio::write(dir.join(SHEET), table::csv(answers))?;
    fsio::write(dir.join(KEY), table::csv(key))?;
    Ok(tasks.len())
}

fn draw(scored: &Scored, tasks: usize, seed: u64) -> Vec<Task<'_>> {
    let population = &scored.population;
    // Nobody can judge a picture that can't be read.
    let readable = |shot: &usize| scored.looks.shots[*shot].problem.is_none();
    let shots = |prompt: &Prompt, side: usize| -> Vec<usize> {
        let slots = prompt.slots.iter();
        let shots = slots.filter_map(|&s| population.slots[s].shots[side]);
        shots.filter(readable).collect()
    };
    let mut prompts: Vec<&Prompt> = population
        .of_kind(Kind::Neutral)
        .map(|(_, prompt)| prompt)
        .filter(|p| (0..2).all(|side| !shots(p, side).is_empty()))
        .collect();
    let mut stream = Stream::new(seed, Purpose::Bootstrap, 0, 0, TAG);
    shuffle(&mut prompts, &mut stream);
    prompts.truncate(tasks);
    let task = |prompt| {
        let a = usize::from(stream.below(2) == 1);
        let sets = [a, 1 - a].map(|side| {
            let mut all = shots(prompt, side);
            shuffle(&mut all, &mut stream);
            all.truncate(SET);
            all
        });
        Task { prompt, a, sets }
    };
    prompts.into_iter().map(task).collect()
}

fn sheet(population: &Population, tasks: &[Task<'_>]) -> Result<Markup> {
    let mut shown = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let mut sets = Vec::new();
        for (letter, shots) in ["A", "B"].into_iter().zip(&task.sets) {
            let uris: Vec<Option<String>> = shots
                .iter()
                .map(|&shot| picture(&population.shots[shot].path))
                .collect::<Result<_>>()?;
            sets.push((letter, uris));
        }
        shown.push((index + 1, task, sets));
    }
    let body = html! {
        header {
            p.kicker { "Human evaluation" }
            h1 { "Compare sets of pictures" }
            p {
                "Each task shows two sets of pictures for one description. For each question "
                "write A, B or tie into your copy of " (SHEET) ", in the row of the task, and your "
                "name into its column “rater”. Look only at this page while you decide."
            }
            ul { @for (name, question) in QUESTIONS { li { b { (name) } ": " (question) } } }
        }
        main {
            @for (number, task, sets) in &shown {
                section {
                    h2 { "Task " (number) }
                    p { "“" (task.prompt.text) "”" }
                    div.sides {
                        @for (letter, uris) in sets {
                            div { p.side { "Set " (letter) } div.grid.large {
                                @for (nth, uri) in uris.iter().enumerate() {
                                    @match uri {
                                        Some(uri) => { img src=(uri) alt={ "set " (letter) ", picture " (nth + 1) }; },
                                        None => { span.missing {} },
                                    }
                                }
                            } }
                        }
                    }
                }
            }
        }
    };
    Ok(page("Compare sets of pictures", &body))
}

fn picture(path: &PathBuf) -> Result<Option<String>> {
    let Ok(bytes) = std::fs::read(path) else {
        return Ok(None);
    };
    data_uri(&bytes, SIDE).map_err(|source| Error::Thumbnail {
        path: path.clone(),
        source,
    })
}
