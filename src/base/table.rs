//! Tables of delimited text, CSV and TSV, by pandas' rules of quoting.
//!
//! - A quote opens at the start of a cell and nowhere else; doubled, it stands for itself.
//! - CR, LF and CR LF end a row. Blank lines don't count, nor do spaces around cells.
//! - A row may have fewer cells than the first; the rest of them are empty. It can't have more.
//!
//! On one point it is stricter: what follows a quote that spans lines must be the next cell. Otherwise
//! a quote that somebody forgot to close would end at the next row's opening one, and the rows
//! between would be one cell. The `csv` crate, which writes tables here, takes a quote that is never
//! closed for a cell to the end of the file, without a word; so reading is our own.

use std::path::Path;

use serde_json::{Map, Value};

use super::text;

/// A table, its first row being the names of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// The columns' names.
    pub(crate) columns: Vec<String>,
    /// The rows below, each with as many cells as there are columns.
    pub(crate) rows: Vec<Row>,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The line on which it begins, from 1.
    pub(crate) line: usize,
    /// Its cells.
    pub(crate) cells: Vec<String>,
}

/// Why a text is no table.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct Malformed {
    /// The line, from 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) problem: String,
}

/// What parts the cells of a file: tabs by its name, otherwise commas.
pub(crate) fn delimiter(path: &Path) -> char {
    let extension = path.extension().unwrap_or_default();
    let tabs = ["tsv", "tab"];
    match tabs.iter().any(|tab| extension.eq_ignore_ascii_case(tab)) {
        true => '\t',
        false => ',',
    }
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// Names the line on which a quote opens that is not closed, or that has too many cells.
    pub(crate) fn parse(text: &str, delimiter: char) -> Result<Self, Malformed> {
        let mut scanner = Scanner {
            rest: text::without_bom(text),
            line: 1,
            delimiter,
        };
        let columns = scanner.row()?.map(|row| row.cells).unwrap_or_default();
        let mut rows = Vec::new();
        while let Some(mut row) = scanner.row()? {
            let (cells, expected) = (row.cells.len(), columns.len());
            if cells > expected {
                return Err(Malformed {
                    line: row.line,
                    problem: format!(
                        "{cells} cells where the first row has {expected}; a cell that holds a \
                         {delimiter:?} must stand in quotes"
                    ),
                });
            }
            row.cells.resize(expected, String::new());
            rows.push(row);
        }
        Ok(Self { columns, rows })
    }

    /// Each row, with its line, as an object. Of columns with one name the first counts.
    pub(crate) fn objects(self) -> Vec<(usize, Map<String, Value>)> {
        let columns = self.columns;
        let object = |row: Row| {
            let mut object = Map::new();
            for (name, cell) in columns.iter().zip(row.cells) {
                object.entry(name).or_insert(cell.into());
            }
            (row.line, object)
        };
        self.rows.into_iter().map(object).collect()
    }
}

/// Rows as CSV.
pub(crate) fn csv<'a>(rows: impl IntoIterator<Item = Vec<&'a str>>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        // Rows of one length into memory: nothing can fail.
        let _ = writer.write_record(row);
    }
    writer.into_inner().unwrap_or_default()
}

/// Where a reader is.
struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    delimiter: char,
}

impl<'a> Scanner<'a> {
    /// The next row that isn't blank.
    fn row(&mut self) -> Result<Option<Row>, Malformed> {
        self.skip_spaces();
        while self.end_line() {
            self.skip_spaces();
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let line = self.line;
        let mut cells = vec![self.cell()?];
        while let Some(rest) = self.rest.strip_prefix(self.delimiter) {
            self.rest = rest;
            cells.push(self.cell()?);
        }
        self.end_line();
        Ok(Some(Row { line, cells }))
    }

    fn cell(&mut self) -> Result<String, Malformed> {
        self.skip_spaces();
        let Some(rest) = self.rest.strip_prefix('"') else {
            return Ok(self.unquoted().trim().to_owned());
        };
        self.rest = rest;
        let opens = self.line;
        let not_closed = |problem: &str| Malformed {
            line: opens,
            problem: format!("the quote that opens here {problem}"),
        };
        let mut cell = String::new();
        loop {
            let (part, rest) =
                (self.rest.split_once('"')).ok_or_else(|| not_closed("is never closed"))?;
            cell += part;
            self.line += text::line_ends(part);
            self.rest = rest;
            match rest.strip_prefix('"') {
                Some(rest) => self.rest = rest,
                None => break,
            }
            cell.push('"');
        }
        let closes = self.line;
        let after = self.unquoted();
        if closes > opens && !after.trim().is_empty() {
            let problem = format!("isn't closed before line {closes}, where more text follows");
            return Err(not_closed(&problem));
        }
        Ok((cell + after).trim().to_owned())
    }

    /// Everything up to the end of the cell.
    fn unquoted(&mut self) -> &'a str {
        let ends = [self.delimiter, '\r', '\n'];
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (cell, rest) = self.rest.split_at(end);
        self.rest = rest;
        cell
    }

    fn skip_spaces(&mut self) {
        let delimiter = self.delimiter;
        let space = |c: char| c != delimiter && matches!(c, ' ' | '\t');
        self.rest = self.rest.trim_start_matches(space);
    }

    /// Steps over a line's end, if it is here.
    fn end_line(&mut self) -> bool {
        let ends = ["\r\n", "\n", "\r"];
        let rest = ends.iter().find_map(|end| self.rest.strip_prefix(end));
        self.rest = rest.unwrap_or(self.rest);
        self.line += usize::from(rest.is_some());
        rest.is_some()
    }
}

#[cfg(test)]
mod tests;
