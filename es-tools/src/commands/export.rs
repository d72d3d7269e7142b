//! Writing exports: to standard output, or to a file that appears when it is complete.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use es_core::StreamId;
use es_core::store::{Commit, CommitLine, StoredKey};
use serde::Serialize;

use super::lines::KeyLine;
use crate::failure::{Failure, Result};

/// Writes the lines of an export.
pub(super) struct ExportWriter {
    /// The file that the written one replaces when it is complete.
    replaced: Option<PathBuf>,
    to: BufWriter<Box<dyn Write + Send>>,
}

impl ExportWriter {
    /// Writes to `path` with the suffix `.part`, until the export is complete.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(part(path)).map_err(|error| Failure::at(path, &error))?;
        Ok(Self { replaced: Some(path.to_owned()), to: BufWriter::new(Box::new(file)) })
    }

    /// Writes to standard output.
    pub(super) fn stdout() -> Self {
        Self { replaced: None, to: BufWriter::new(Box::new(io::stdout())) }
    }

    pub(super) fn commit(&mut self, stream: &StreamId, commit: &Commit) -> Result {
        self.line(&CommitLine::of(stream, commit))
    }

    pub(super) fn key(&mut self, key: &StoredKey) -> Result {
        KeyLine::of(key).map_or(Ok(()), |line| self.line(&line))
    }

    fn line(&mut self, line: &impl Serialize) -> Result {
        let mut line = serde_json::to_string(line)?;
        line.push('\n');
        let written = self.to.write_all(line.as_bytes());
        self.written(written)
    }

    /// Returns the result of a write. An error names the file.
    fn written(&self, result: io::Result<()>) -> Result {
        result.map_err(|error| match &self.replaced {
            Some(path) => Failure::at(path, &error),
            None => error.into(),
        })
    }

    /// Completes the export.
    pub(super) fn finish(mut self) -> Result {
        let flushed = self.to.flush();
        self.written(flushed)?;
        let Some(path) = self.replaced else { return Ok(()) };
        let part = part(&path);
        let completed = File::open(&part).and_then(|file| file.sync_all());
        completed.and_then(|()| std::fs::rename(part, &path)).map_err(|error| Failure::at(&path, &error))
    }
}

/// Returns the path of an incomplete export.
fn part(path: &Path) -> PathBuf {
    let mut part = path.to_owned().into_os_string();
    part.push(".part");
    part.into()
}

/// Returns what an interrupted export to `path` leaves behind.
pub(super) fn left_by_export(path: &Path) -> String {
    format!("{} is incomplete, and {} is unchanged", part(path).display(), path.display())
}
