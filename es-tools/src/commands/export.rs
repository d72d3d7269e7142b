//! Writing exports: to standard output, or to a file that appears when it is complete.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use es_core::StreamId;
use es_core::store::{Commit, CommitLine, StoredKey};

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
        Self { replaced: None, to: BufWriter::new(Box::new(std::io::stdout())) }
    }

    pub(super) fn commit(&mut self, stream: &StreamId, commit: &Commit) -> Result {
        serde_json::to_writer(&mut self.to, &CommitLine::of(stream, commit))?;
        Ok(self.to.write_all(b"\n")?)
    }

    pub(super) fn key(&mut self, key: &StoredKey) -> Result {
        if let Some(line) = KeyLine::of(key) {
            serde_json::to_writer(&mut self.to, &line)?;
            self.to.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Completes the export.
    pub(super) fn finish(mut self) -> Result {
        self.to.flush()?;
        let Some(path) = self.replaced else { return Ok(()) };
        let part = part(&path);
        File::open(&part)?.sync_all()?;
        Ok(std::fs::rename(part, path)?)
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
