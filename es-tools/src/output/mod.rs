//! What commands print: text for people, or JSON for programs.

mod grid;
mod interrupt;
mod printable;
mod progress;

use std::io::Write;

use serde::Serialize;

use crate::failure::Result;

pub(crate) use grid::{Grid, count, counted, seconds};
pub(crate) use interrupt::on_interrupt;
pub(crate) use printable::printable;
pub(crate) use progress::Progress;

/// Standard output, as text or as JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints the result of a command: as indented JSON, or the text.
    pub(crate) fn value(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result {
        match self.json {
            true => self.print(&serde_json::to_string_pretty(value)?),
            false => self.print(&printable(&text())),
        }
    }

    /// Prints one of many results as JSON on one line, and nothing if the output is text.
    pub(crate) fn json_line<T: Serialize>(self, value: impl FnOnce() -> T) -> Result {
        if self.json { self.print(&serde_json::to_string(&value())?) } else { Ok(()) }
    }

    /// Prints text, and nothing if the output is JSON.
    pub(crate) fn text(self, text: impl FnOnce() -> String) -> Result {
        if self.json { Ok(()) } else { self.print(&printable(&text())) }
    }

    /// Returns a progress bar on standard error, or none if it is not a terminal or the output is JSON.
    pub(crate) fn progress(self, total: u64, unit: &'static str) -> Progress {
        Progress::new(total, unit, self.json)
    }

    fn print(self, text: &str) -> Result {
        if text.is_empty() {
            return Ok(());
        }
        Ok(writeln!(std::io::stdout().lock(), "{}", text.trim_end())?)
    }
}
