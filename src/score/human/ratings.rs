//! Reading what raters filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::alpha::krippendorff_nominal;
use super::questions::QUESTIONS;
use crate::base::fsio;
use crate::base::table::{self, Row, Table};
use crate::score::{Error, Result};

/// What raters said, and how far they agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// How many people rated.
    pub raters: usize,
    /// How many tasks have answers.
    pub tasks: usize,
    /// How many tasks of the key have none.
    pub tasks_left_out: usize,
    /// How many questions of the sheets' rows have no answer.
    pub unanswered: usize,
    /// By question.
    pub questions: BTreeMap<String, Answer>,
}

/// The answers to one question.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Answer {
    /// How many answers there are.
    pub answers: usize,
    /// The share that prefers the scored side.
    pub scored: f64,
    /// The share that prefers the side of `--against`.
    pub against: f64,
    /// The share that prefers neither.
    pub tie: f64,
    /// Krippendorff's alpha for named values; nothing where it is not defined.
    pub alpha: Option<f64>,
}

/// What was preferred, as a value for alpha.
const SCORED: usize = 0;
const AGAINST: usize = 1;
const TIE: usize = 2;

/// A table and where it stands.
struct Sheet<'a> {
    path: &'a Path,
    table: Table,
}

/// Reads filled-in sheets, joined into one table, and the key that says which side was A.
///
/// # Errors
/// [`Error::Ratings`] naming the line.
pub fn read_ratings(ratings: &Path, key: &Path) -> Result<Agreement> {
    let sides = read_key(key)?;
    let sheet = Sheet::read(ratings)?;
    let task = sheet.column("task")?;
    let rater = sheet.column("rater")?;
    let mut raters = BTreeSet::new();
    let mut tasks = BTreeSet::new();
    let mut unanswered = 0;
    let mut questions = BTreeMap::new();
    for (question, _) in QUESTIONS {
        let column = sheet.column(question)?;
        let mut units: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for Row { line, cells } in &sheet.table.rows {
            let (task, rater, cell) = (&cells[task], &cells[rater], &cells[column]);
            if cell.is_empty() {
                unanswered += 1;
                continue;
            }
            let a = *sides.get(task).ok_or_else(|| {
                sheet.bad(*line, format!("task `{task}` is not in {}", key.display()))
            })?;
            let value = match cell.to_ascii_lowercase().as_str() {
                "a" => a,
                "b" => 1 - a,
                "tie" => TIE,
                _ => {
                    let problem = format!("{question}: expected A, B or tie, got `{cell}`");
                    return Err(sheet.bad(*line, problem));
                }
            };
            if rater.is_empty() {
                return Err(sheet.bad(*line, "rater: expected a name".into()));
            }
            if !seen.insert((task, rater)) {
                let problem = format!("`{rater}` rated task `{task}` twice");
                return Err(sheet.bad(*line, problem));
            }
            raters.insert(rater.clone());
            tasks.insert(task.clone());
            units.entry(task).or_default().push(value);
        }
        let units: Vec<Vec<usize>> = units.into_values().collect();
        questions.insert(question.to_owned(), answer(&units));
    }
    if raters.is_empty() {
        return Err(sheet.bad(1, "no row has an answer".into()));
    }
    Ok(Agreement {
        raters: raters.len(),
        tasks: tasks.len(),
        tasks_left_out: sides.len() - tasks.len(),
        unanswered,
        questions,
    })
}

fn answer(units: &[Vec<usize>]) -> Answer {
    let answers = units.iter().map(Vec::len).sum::<usize>();
    let share = |value: usize| {
        let given = units.iter().flatten().filter(|v| **v == value).count();
        given as f64 / answers.max(1) as f64
    };
    Answer {
        answers,
        scored: share(SCORED),
        against: share(AGAINST),
        tie: share(TIE),
        alpha: krippendorff_nominal(units),
    }
}

/// The side that was A, by task.
fn read_key(path: &Path) -> Result<BTreeMap<String, usize>> {
    let sheet = Sheet::read(path)?;
    let (task, a) = (sheet.column("task")?, sheet.column("a")?);
    let side = |Row { line, cells }: &Row| {
        let names = crate::score::assess::SIDE_NAMES;
        let side = names.iter().position(|name| *name == cells[a]);
        let side = side.ok_or_else(|| {
            let problem = format!("a: expected {}, got `{}`", names.join(" or "), cells[a]);
            sheet.bad(*line, problem)
        })?;
        Ok((cells[task].clone(), side))
    };
    sheet.table.rows.iter().map(side).collect()
}

impl<'a> Sheet<'a> {
    fn read(path: &'a Path) -> Result<Self> {
        let text = fsio::read_to_string(path)?;
        let table = Table::parse(&text, table::delimiter(path)).map_err(|e| Error::Ratings {
            path: path.to_path_buf(),
            line: e.line,
            problem: e.problem,
        })?;
        Ok(Self { path, table })
    }

    fn column(&self, name: &str) -> Result<usize> {
        let columns = &self.table.columns;
        columns.iter().position(|c| c == name).ok_or_else(|| {
            let has = columns.join(", ");
            self.bad(1, format!("no column `{name}` among {has}"))
        })
    }

    fn bad(&self, line: usize, problem: String) -> Error {
        Error::Ratings {
            path: self.path.to_path_buf(),
            line,
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ratings: &str) -> Result<Agreement> {
        let dir = tempfile::tempdir().unwrap();
        let [sheet, key] = ["r.csv", "key.csv"].map(|name| dir.path().join(name));
        fsio::write(&sheet, ratings).unwrap();
        fsio::write(&key, "task,a,prompt\n1,scored,x\n2,against,\"a, b\"\n").unwrap();
        read_ratings(&sheet, &key)
    }

    #[test]
    fn answers_are_decoded_by_the_key() {
        let agreement =
            read("task,rater,fairness,quality\n1,ann,A,tie\n2,ann,b,A\n1,bob,A,Tie\n2,bob,B,\n")
                .unwrap();
        assert_eq!((agreement.raters, agreement.tasks), (2, 2));
        assert_eq!((agreement.tasks_left_out, agreement.unanswered), (0, 1));
        let fairness = agreement.questions["fairness"];
        assert_eq!(
            (fairness.answers, fairness.scored, fairness.against),
            (4, 1.0, 0.0)
        );
        // All the same: nothing to compare with.
        assert_eq!(fairness.alpha, None);
        let quality = agreement.questions["quality"];
        assert_eq!(quality.answers, 3);
        assert!((quality.tie - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn sheets_are_read_with_a_mark_in_front_and_any_line_ends() {
        let sheet = "\u{feff}task,rater,fairness,quality\r1,ann,A,tie\r\r2,ann,b,\r";
        let agreement = read(sheet).unwrap();
        assert_eq!(agreement.tasks, 2);
        assert_eq!(agreement.questions["fairness"].scored, 1.0);
    }

    #[test]
    fn bad_tables_name_the_line() {
        for (text, expected) in [
            (
                "task,rater,fairness\n",
                "no column `quality` among task, rater, fairness",
            ),
            (
                "task,rater,fairness,quality\n1,ann,C,A\n",
                ":2: fairness: expected A, B or tie",
            ),
            (
                "task,rater,fairness,quality\n9,ann,A,A\n",
                ":2: task `9` is not in",
            ),
            (
                "task,rater,fairness,quality\n1,,A,A\n",
                ":2: rater: expected a name",
            ),
            (
                "task,rater,fairness,quality\n1,x,A,A\n1,x,B,A\n",
                ":3: `x` rated task `1` twice",
            ),
            (
                "task,rater,fairness,quality\n1,ann,,\n",
                "no row has an answer",
            ),
            (
                "task,rater,fairness,quality\r\"1,ann,A,A\r2,ann,A,B\r",
                "r.csv:2: the quote that opens here is never closed",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
