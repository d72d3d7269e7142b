//! Changes that wait for the checkpoint.

use futures_core::future::BoxFuture;

use super::BoxError;
use crate::documents::DocumentChange;

/// Something whose changes are written together with a projection's checkpoint: all, or none.
///
/// A [`ReadModel`](crate::ReadModel) is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a read model",
    label = "not a read model",
    note = "write `#[read_model]` only above fields of the type `ReadModel<…>`, whose rows have `#[derive(Row)]`"
)]
pub trait Stage: Send {
    /// The name under which its changes are stored.
    fn name(&self) -> &str;

    /// Says for which projection it is, and for which of its builds.
    fn bind(&mut self, projection: &str, build: u32);

    /// Keeps the changes of the event that was just handled.
    fn keep(&mut self);

    /// Undoes the changes of the event that was just handled.
    fn undo(&mut self);

    /// The most documents that may have to be changed, for the event that was just handled included.
    fn most_changes(&self) -> usize;

    /// The most bytes that may have to be written for them.
    fn most_bytes(&self) -> u64;

    /// The documents to change for all that was kept; asked for again until it was written.
    fn changes(&mut self) -> BoxFuture<'_, Result<Vec<DocumentChange>, BoxError>>;

    /// Deletes all that is stored of a build.
    fn delete<'a>(&'a self, projection: &'a str, build: u32) -> BoxFuture<'a, Result<(), BoxError>>;

    /// Forgets all changes: they are written, or will be made again.
    fn forget(&mut self);
}
