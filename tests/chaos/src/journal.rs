//! The journal of a process: its commands and loads, in a file that survives a kill.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Mutex;

use es_core::BoxError;
use serde::{Deserialize, Serialize};

use crate::domain::Summary;

/// One line of a journal.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Begun { number: u64, parts: Vec<Part> },
    Ended { number: u64, told: Told },
    Loaded(Load),
}

/// The events that a command records in one account if it is accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) account: String,
    pub(crate) notes: Vec<String>,
}

/// The outcome of a command, as returned to the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// The command is recorded in exactly these commits.
    Accepted(Vec<Recorded>),
    /// The command is not recorded.
    Refused,
    /// The outcome is unknown, or the process was killed.
    Unknown,
}

/// A commit of an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) account: String,
    pub(crate) commit: String,
    /// The version of its last event.
    pub(crate) last: u64,
}

/// A loaded state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) account: String,
    pub(crate) version: u64,
    pub(crate) state: Summary,
}

/// A command and its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Attempted {
    pub(crate) parts: Vec<Part>,
    pub(crate) told: Told,
}

/// The content of one or more journals.
#[derive(Debug, Default)]
pub(crate) struct Journals {
    pub(crate) attempted: Vec<Attempted>,
    pub(crate) loads: Vec<Load>,
}

/// A journal, open for appending.
pub(crate) struct Journal {
    file: Mutex<File>,
}

impl Journal {
    pub(crate) fn open(path: &Path) -> Result<Self, BoxError> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Records a command before it is sent.
    pub(crate) fn begin(&self, number: u64, parts: &[Part]) -> Result<(), BoxError> {
        self.write(&Line::Begun { number, parts: parts.to_vec() })
    }

    /// Records the outcome of a command.
    pub(crate) fn end(&self, number: u64, told: Told) -> Result<(), BoxError> {
        self.write(&Line::Ended { number, told })
    }

    pub(crate) fn loaded(&self, load: Load) -> Result<(), BoxError> {
        self.write(&Line::Loaded(load))
    }

    /// Writes a line with one system call: the kernel keeps it if the process is killed.
    fn write(&self, line: &Line) -> Result<(), BoxError> {
        let line = serde_json::to_string(line)? + "\n";
        self.file.lock().map_err(|_| "the journal is poisoned")?.write_all(line.as_bytes())?;
        Ok(())
    }
}

impl Journals {
    /// Adds the journal at `path`, which is empty if its process was killed at its start.
    pub(crate) fn read(&mut self, path: &Path) -> Result<(), BoxError> {
        let Ok(file) = File::open(path) else { return Ok(()) };
        let mut commands: BTreeMap<u64, Attempted> = BTreeMap::new();
        for line in BufReader::new(file).lines() {
            match serde_json::from_str(&line?)? {
                Line::Begun { number, parts } => {
                    commands.insert(number, Attempted { parts, told: Told::Unknown });
                }
                Line::Ended { number, told } => {
                    commands.get_mut(&number).ok_or("the end of a command that has not begun")?.told = told;
                }
                Line::Loaded(load) => self.loads.push(load),
            }
        }
        self.attempted.extend(commands.into_values());
        Ok(())
    }
}
