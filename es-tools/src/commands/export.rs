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
    /// The file, or `None` for standard output.
    path: Option<PathBuf>,
    /// Whether a temporary file is written, which replaces the file when it is complete.
    replaces: bool,
    to: BufWriter<Box<dyn Write + Send>>,
}

impl ExportWriter {
    /// Writes to `path` with the suffix `.part`, until the export is complete. A device or a named pipe is written
    /// directly.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let replaces = !is_special(path);
        let file = if path.is_dir() {
            Err(io::ErrorKind::IsADirectory.into())
        } else if replaces {
            File::create(part(&target(path)))
        } else {
            File::options().write(true).open(path)
        };
        let file = file.map_err(|error| Failure::at(path, &error))?;
        Ok(Self { path: Some(path.to_owned()), replaces, to: BufWriter::new(Box::new(file)) })
    }

    /// Writes to standard output.
    pub(super) fn stdout() -> Self {
        Self { path: None, replaces: false, to: BufWriter::new(Box::new(io::stdout())) }
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
        result.map_err(|error| match &self.path {
            Some(path) => Failure::at(path, &error),
            None => error.into(),
        })
    }

    /// Completes the export.
    pub(super) fn finish(mut self) -> Result {
        let flushed = self.to.flush();
        self.written(flushed)?;
        let Some(path) = self.path.filter(|_| self.replaces) else { return Ok(()) };
        let target = target(&path);
        let part = part(&target);
        let completed = File::open(&part).and_then(|file| file.sync_all());
        completed.and_then(|()| std::fs::rename(part, target)).map_err(|error| Failure::at(&path, &error))
    }
}

/// Returns the file to write: a symbolic link stays, and the file to which it points is replaced.
fn target(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns whether a path is a device or a named pipe, which must not be replaced by a file.
fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Returns the path of an incomplete export.
fn part(path: &Path) -> PathBuf {
    let mut part = path.to_owned().into_os_string();
    part.push(".part");
    part.into()
}

/// Returns what an interrupted export to `path` leaves behind.
pub(super) fn left_by_export(path: &Path) -> String {
    if is_special(path) {
        return format!("the export to {} is incomplete", path.display());
    }
    format!("{} is incomplete, and {} is unchanged", part(&target(path)).display(), path.display())
}
