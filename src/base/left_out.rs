//! Pictures that were left out, by reason and by name: a part of a population must not pass for all
//! of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Files named for each reason.
const NAMED: usize = 5;

/// What numbers, or a training run, leave out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// How many pictures.
    pub pictures: usize,
    /// Of how many.
    pub of: usize,
    /// Why.
    pub reasons: BTreeMap<String, Left>,
}

/// Pictures left out for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Left {
    /// How many.
    pub pictures: usize,
    /// The first of them, as folder and file.
    pub files: Vec<String>,
}

impl LeftOut {
    /// Counts a picture that is left out for this reason.
    pub fn add(&mut self, reason: &str, file: String) {
        self.count(reason, 1);
        let left = self.reasons.get_mut(&key(reason));
        if let Some(left) = left.filter(|left| left.files.len() < NAMED) {
            left.files.push(file);
        }
    }

    /// Counts pictures of which no files are known.
    pub fn count(&mut self, reason: &str, pictures: usize) {
        if pictures > 0 {
            self.pictures += pictures;
            self.reasons.entry(key(reason)).or_default().pictures += pictures;
        }
    }
}

/// A reason as `scores.json` writes those of classifiers.
fn key(reason: &str) -> String {
    reason.replace(' ', "_")
}

impl fmt::Display for LeftOut {
    /// "3 of 8 pictures left out: 1 truncated PNG (a/1.png), 2 no face (a/2.png, a/3.png)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pictures left out", self.pictures, self.of)?;
        let mut before = ": ";
        for (reason, Left { pictures, files }) in &self.reasons {
            write!(f, "{before}{pictures} {}", reason.replace('_', " "))?;
            if !files.is_empty() {
                let more = if files.len() < *pictures { ", …" } else { "" };
                write!(f, " ({}{more})", files.join(", "))?;
            }
            before = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_the_first_files_named() {
        let mut left = LeftOut {
            of: 9,
            ..LeftOut::default()
        };
        assert_eq!(left.to_string(), "0 of 9 pictures left out");
        for n in 0..6 {
            left.add("unsupported format AVIF", format!("a/{n}.avif"));
        }
        left.add("no_face", "b/1.png".to_owned());
        left.count("row_without_file", 0);
        left.count("row_without_file", 2);
        assert_eq!(
            left.to_string(),
            "9 of 9 pictures left out: 1 no face (b/1.png), 2 row without file, 6 unsupported format \
             AVIF (a/0.avif, a/1.avif, a/2.avif, a/3.avif, a/4.avif, …)"
        );
        assert_eq!(left.reasons["unsupported_format_AVIF"].files.len(), NAMED);
    }
}
