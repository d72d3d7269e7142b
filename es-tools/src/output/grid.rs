//! Tables of text with aligned columns.

use std::fmt;
use std::time::Duration;

use indicatif::HumanCount;

use super::printable::cell;

/// A table of text.
#[derive(Debug)]
pub(crate) struct Grid {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Grid {
    /// Creates a table with these titles. The columns of titles that start with `>` are aligned to the right.
    pub(crate) fn new<const N: usize>(titles: [&str; N]) -> Self {
        let right = titles.iter().map(|title| title.starts_with('>')).collect();
        let titles = titles.map(|title| title.trim_start_matches('>').to_uppercase());
        Self { rows: vec![titles.to_vec()], right }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.right.len(), "every row has a cell for each title");
        self.rows.push(cells.iter().map(|text| cell(text).into_owned()).collect());
    }

    /// Returns whether there are only titles.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let padding = " ".repeat(width - cell.chars().count());
                let (before, after) = if *right { (&*padding, "") } else { ("", &*padding) };
                line.push_str(before);
                line.push_str(cell);
                line.push_str(after);
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Returns a number with separators between thousands.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Returns a number of things: `1 event`, `2,000 events`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", HumanCount(number))
}

/// Returns a duration in seconds, with one decimal.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut grid = Grid::new(["name", ">events", "state"]);
        assert!(grid.is_empty());
        grid.row(["übersicht".into(), count(1_234), "running".into()]);
        grid.row(["a".into(), "5".into(), String::new()]);
        assert!(!grid.is_empty());
        assert_eq!(
            grid.to_string(),
            "NAME       EVENTS  STATE\nübersicht   1,234  running\na               5\n"
        );
    }
}
