//! The payload store in a directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::spawn_blocking;

use super::{PayloadError, PayloadName, PayloadPrefix, PayloadStore, StoredPayload};
use crate::ids::{IdSource, RandomIds};

/// The folder of unfinished files. No prefix starts with a period.
const UNFINISHED: &str = ".unfinished";

/// A payload store in a directory: one file per object, in a folder for each prefix.
///
/// A file is written completely before it gets its name, so a crash never leaves a part of an object. It may leave a
/// file in the folder `.unfinished`, which may be deleted while no process uses the directory. The file system must
/// support hard links. Several processes may share a directory. The methods must be called in a Tokio runtime.
///
/// ```
/// use es_core::payloads::DirectoryPayloads;
///
/// let payloads = DirectoryPayloads::new("/var/lib/orders");
/// ```
#[derive(Clone, Debug)]
pub struct DirectoryPayloads {
    root: Arc<Path>,
}

impl DirectoryPayloads {
    /// Returns a store in the directory `root`. The directory is created when the first object is stored.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into().into() }
    }

    /// Returns the folder of a prefix.
    fn folder(&self, prefix: &PayloadPrefix) -> PathBuf {
        self.root.join(prefix.as_str())
    }

    fn path(&self, name: &PayloadName) -> PathBuf {
        self.folder(name.prefix()).join(name.file_name())
    }

    /// Executes `work` on a thread for blocking work.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, PayloadError> + Send + 'static,
    ) -> Result<T, PayloadError> {
        let this = self.clone();
        spawn_blocking(move || work(&this)).await.map_err(PayloadError::unavailable)?
    }

    /// Returns the error of an operation on a file.
    fn failed(&self, error: io::Error) -> PayloadError {
        match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::Unsupported => PayloadError::setup(
                format!(
                    "the directory `{}` cannot be used: check that it can be written, has space, and supports hard links",
                    self.root.display()
                ),
                Some(error.into()),
            ),
            _ => PayloadError::unavailable(error),
        }
    }

    fn write(&self, name: &PayloadName, content: &[u8]) -> Result<(), PayloadError> {
        let (folder, path) = (self.folder(name.prefix()), self.path(name));
        let unfinished = self.root.join(UNFINISHED);
        let temporary = unfinished.join(RandomIds.new_id().to_string());
        let write = || -> io::Result<()> {
            create_folder(&unfinished)?;
            create_folder(&folder)?;
            let mut file = File::create_new(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            // Unlike renaming, linking does not replace an existing file.
            fs::hard_link(&temporary, &path)?;
            sync_folder(&folder)
        };
        let written = write();
        // If this fails, the file is only superfluous.
        let _ = fs::remove_file(&temporary);
        match written {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                name.verified(self.read(name)?)?;
                // The other writer may not have done this yet.
                sync_folder(&folder).map_err(|error| self.failed(error))
            }
            written => written.map_err(|error| self.failed(error)),
        }
    }

    fn read(&self, name: &PayloadName) -> Result<Bytes, PayloadError> {
        match fs::read(self.path(name)) {
            Ok(content) => Ok(content.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(PayloadError::missing(name)),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn remove(&self, name: &PayloadName) -> Result<(), PayloadError> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn listed(&self, prefix: &PayloadPrefix) -> Result<Vec<StoredPayload>, PayloadError> {
        let entries = match fs::read_dir(self.folder(prefix)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| self.failed(error))?,
        };
        let mut listed = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.failed(error))?;
            let name = entry.file_name().into_string().ok();
            let name = name.and_then(|name| PayloadName::from_file_name(prefix.clone(), &name).ok());
            let Some(name) = name else { continue };
            match entry.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?))) {
                Ok((length, modified)) => {
                    listed.push(StoredPayload::new(name, length, DateTime::<Utc>::from(modified)));
                }
                // It has been deleted since.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(listed)
    }
}

/// Creates a folder, durably.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    folder.ancestors().skip(1).filter(|folder| folder.is_dir()).try_for_each(sync_folder)
}

/// Makes the entries of a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only on Unix can a folder be opened and synchronized like a file.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[async_trait]
impl PayloadStore for DirectoryPayloads {
    async fn put(&self, name: &PayloadName, content: Bytes) -> Result<(), PayloadError> {
        let name = name.clone();
        self.blocking(move |this| this.write(&name, &name.verified(content)?)).await
    }

    async fn get(&self, name: &PayloadName) -> Result<Bytes, PayloadError> {
        let name = name.clone();
        self.blocking(move |this| this.read(&name)).await
    }

    async fn delete(&self, name: &PayloadName) -> Result<(), PayloadError> {
        let name = name.clone();
        self.blocking(move |this| this.remove(&name)).await
    }

    fn list(&self, prefix: &PayloadPrefix) -> BoxStream<'_, Result<StoredPayload, PayloadError>> {
        let prefix = prefix.clone();
        let listed = self.blocking(move |this| this.listed(&prefix));
        stream::once(listed).map_ok(|listed| stream::iter(listed.into_iter().map(Ok))).try_flatten().boxed()
    }
}
