//! What people are asked, and where.

/// What is asked of each task, and the question.
pub const QUESTIONS: [(&str, &str); 2] = [
    ("fairness", "Which set shows the more diverse people?"),
    ("quality", "Which set has the better pictures?"),
];
/// The sheet for raters, to fill in.
pub const SHEET: &str = "sheet.csv";
/// Which side was A.
pub const KEY: &str = "key.csv";
