//! Changing documents: one statement for one document, a transaction for several.

use es_core::StoreError;
use es_core::documents::{
    ChangeError, ChangeSet, Document, DocumentChange, DocumentCondition, DocumentKey, ExpectedDocument,
    Revision,
};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use uuid::Uuid;

use crate::database::{Database, Failed, Session};
use crate::sql_read_model::OpenTransaction;
use crate::statement;

/// How often a set is tried if others create its documents at the same time.
const MAX_ATTEMPTS: u32 = 10;

const PUT: &str = "INSERT INTO {schema}.documents (collection, name, revision, body) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (collection, name) DO UPDATE SET revision = excluded.revision, body = excluded.body";

const CREATE: &str = "INSERT INTO {schema}.documents (collection, name, revision, body) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (collection, name) DO NOTHING";

const REPLACE: &str = "UPDATE {schema}.documents SET revision = $3, body = $4 \
     WHERE collection = $1 AND name = $2 AND revision = $5";

const DELETE: &str = "DELETE FROM {schema}.documents WHERE collection = $1 AND name = $2";

const DELETE_REVISION: &str =
    "DELETE FROM {schema}.documents WHERE collection = $1 AND name = $2 AND revision = $3";

/// Locks the documents of a set that exist, in the same order in all transactions.
const LOCK: &str = "SELECT place, revision \
     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (wanted_collection, wanted_name, place) \
     JOIN {schema}.documents ON collection = wanted_collection AND name = wanted_name \
     ORDER BY collection, name FOR UPDATE OF documents";

/// Replaces and deletes documents that are locked, and creates others. Counts those that were created.
const APPLY: &str = "WITH replaced AS ( \
         UPDATE {schema}.documents SET revision = $1, body = new_body \
         FROM unnest($2::text[], $3::text[], $4::text[]) AS new (new_collection, new_name, new_body) \
         WHERE collection = new_collection AND name = new_name \
     ), deleted AS ( \
         DELETE FROM {schema}.documents USING unnest($5::text[], $6::text[]) AS old (old_collection, old_name) \
         WHERE collection = old_collection AND name = old_name \
     ) \
     INSERT INTO {schema}.documents (collection, name, revision, body) \
     SELECT collection, name, $1, body FROM unnest($7::text[], $8::text[], $9::text[]) AS new (collection, name, body) \
     ORDER BY collection COLLATE \"C\", name COLLATE \"C\" ON CONFLICT (collection, name) DO NOTHING";

/// Locks a document with a revision, so that no other transaction changes it before this one ends.
const HOLD: &str =
    "SELECT 1 FROM {schema}.documents WHERE collection = $1 AND name = $2 AND revision = $3 FOR SHARE";

/// The result of a transaction.
enum Attempt {
    Committed,
    /// The set was applied before.
    Repeated,
    Outdated(usize),
    Refused,
    /// Another transaction has created one of the documents.
    Raced,
}

impl Database {
    pub(crate) async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        set.additional_writes().iter().try_for_each(statement::check_kind)?;
        if let Some(open) = OpenTransaction::among(set.additional_writes()) {
            return self.change_within(open, set).await;
        }
        let mut session = self.connect().await?;
        if let ([change], []) = (set.changes(), set.additional_writes())
            && let Some(statement) = self.single(change, set.revision())
        {
            let changed = self.execute_single(session.connection(), statement).await;
            let changed = changed.map_err(|failed| failed.of_write(self))?;
            session.release();
            let is_applied = changed > 0 || self.is_applied(change, set.revision()).await?;
            return if is_applied { Ok(()) } else { Err(ChangeError::outdated(&change.key)) };
        }
        for _ in 0..MAX_ATTEMPTS {
            match self.change_all(&mut session, set).await? {
                Attempt::Raced => continue,
                Attempt::Committed | Attempt::Repeated => {}
                Attempt::Outdated(index) => {
                    session.release();
                    return Err(ChangeError::outdated(&set.changes()[index].key));
                }
                Attempt::Refused => {
                    session.release();
                    return Err(ChangeError::Refused);
                }
            }
            session.release();
            return Ok(());
        }
        Err(StoreError::Throttled("other transactions create and delete the same documents".into()).into())
    }

    /// Returns the statement that changes one document if its condition holds. Deletions of documents that must be
    /// absent have none.
    fn single(
        &self,
        change: &DocumentChange,
        revision: Revision,
    ) -> Option<Query<'static, Postgres, PgArguments>> {
        let begin =
            |sql| sqlx::query(self.single_sql(sql)).bind(change.key.collection()).bind(change.key.name());
        let revision = revision.as_uuid();
        Some(match (&change.body, change.expected) {
            (Some(body), ExpectedDocument::Any) => begin(PUT).bind(revision).bind(&**body),
            (Some(body), ExpectedDocument::Absent) => begin(CREATE).bind(revision).bind(&**body),
            (Some(body), ExpectedDocument::At(at)) => {
                begin(REPLACE).bind(revision).bind(&**body).bind(at.as_uuid())
            }
            (None, ExpectedDocument::Any) => begin(DELETE),
            (None, ExpectedDocument::At(at)) => begin(DELETE_REVISION).bind(at.as_uuid()),
            (None, ExpectedDocument::Absent) => return None,
        })
    }

    /// Returns whether a change that has affected no row is in effect: it was applied before, or deletes a document
    /// unconditionally that does not exist.
    async fn is_applied(&self, change: &DocumentChange, revision: Revision) -> Result<bool, StoreError> {
        if change.body.is_none() {
            return Ok(change.expected == ExpectedDocument::Any);
        }
        let found = self.document(&change.key).await?;
        Ok(found.is_some_and(|document| document.revision == revision))
    }

    /// Applies a set in one transaction, which is rolled back unless all of it succeeds.
    async fn change_all(&self, session: &mut Session, set: &ChangeSet) -> Result<Attempt, StoreError> {
        let begun = self.within(session.begin()).await;
        let mut transaction = begun.map_err(|failed| failed.of_read(self))?;
        let attempt = self.apply(&mut transaction, set).await;
        let attempt = attempt.map_err(|failed| failed.of_read(self))?;
        match attempt {
            Attempt::Committed => {
                let committed = self.within(transaction.commit()).await;
                committed.map_err(|failed| failed.of_write(self))?;
            }
            _ => {
                let back = self.within(transaction.rollback()).await;
                back.map_err(|failed| failed.of_read(self))?;
            }
        }
        Ok(attempt)
    }

    /// Applies a set in the open transaction of a projection's handlers, and commits it.
    async fn change_within(&self, open: &OpenTransaction, set: &ChangeSet) -> Result<(), ChangeError> {
        let Some(mut transaction) = open.take(self)? else { return self.find_committed(set).await };
        let attempt = self.apply(&mut transaction, set).await;
        let attempt = attempt.map_err(|failed| failed.of_handlers(self))?;
        if let Attempt::Committed = attempt {
            transaction.commit().await.map_err(|failed| failed.of_write(self))?;
            return Ok(());
        }
        transaction.rollback().await.map_err(|failed| failed.of_read(self))?;
        match attempt {
            Attempt::Outdated(index) => Err(ChangeError::outdated(&set.changes()[index].key)),
            // The effects of the handlers are rolled back, so the set alone must not be applied.
            _ => Err(ChangeError::Refused),
        }
    }

    /// Finds out whether an earlier attempt, whose response was lost, has committed a set with the transaction of a
    /// projection's handlers. Waits until that transaction has ended.
    async fn find_committed(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        let mut session = self.connect().await?;
        let begun = self.within(session.begin()).await;
        let mut transaction = begun.map_err(|failed| failed.of_read(self))?;
        let found = self.lock(&mut transaction, set.changes()).await;
        let found = found.map_err(|failed| failed.of_read(self))?;
        let back = self.within(transaction.rollback()).await;
        back.map_err(|failed| failed.of_read(self))?;
        session.release();
        match found.contains(&Some(set.revision())) {
            true => Ok(()),
            false => Err(ChangeError::Refused),
        }
    }

    /// Sends everything but the `COMMIT`, which the result says whether to send.
    async fn apply(&self, connection: &mut PgConnection, set: &ChangeSet) -> Result<Attempt, Failed> {
        let found = self.lock(connection, set.changes()).await?;
        let is_applied = |(change, found): (&DocumentChange, &Option<Revision>)| {
            change.body.is_some() && *found == Some(set.revision())
        };
        if set.changes().iter().zip(&found).any(is_applied) {
            return Ok(Attempt::Repeated);
        }
        let is_outdated = |(change, found): (&DocumentChange, &Option<Revision>)| {
            let found = found.map(|revision| Document::new(revision, String::new()));
            !change.expected.allows(found.as_ref())
        };
        if let Some(index) = set.changes().iter().zip(&found).position(is_outdated) {
            return Ok(Attempt::Outdated(index));
        }

        let (mut replaced, mut deleted, mut created) = (Rows::default(), Rows::default(), Rows::default());
        for (change, found) in set.changes().iter().zip(&found) {
            match (&change.body, found) {
                (Some(body), Some(_)) => replaced.push(&change.key, body),
                (Some(body), None) => created.push(&change.key, body),
                (None, Some(_)) => deleted.push(&change.key, ""),
                (None, None) if change.expected == ExpectedDocument::Absent => {
                    let condition = DocumentCondition::new(change.key.clone(), ExpectedDocument::Absent);
                    if !holds(self, connection, &condition).await? {
                        return Ok(Attempt::Raced);
                    }
                }
                (None, None) => {}
            }
        }
        let expected = created.names.len() as u64;
        let query = sqlx::query(self.sql(APPLY)).bind(set.revision().as_uuid());
        let query = query.bind(replaced.collections).bind(replaced.names).bind(replaced.bodies);
        let query = query.bind(deleted.collections).bind(deleted.names);
        let query = query.bind(created.collections).bind(created.names).bind(created.bodies);
        if self.within(query.execute(&mut *connection)).await?.rows_affected() < expected {
            return Ok(Attempt::Raced);
        }
        for write in set.additional_writes() {
            if !statement::execute(self, connection, write).await? {
                return Ok(Attempt::Refused);
            }
        }
        Ok(Attempt::Committed)
    }

    /// Locks the documents of the changes that exist, and returns the revision of each.
    async fn lock(
        &self,
        connection: &mut PgConnection,
        changes: &[DocumentChange],
    ) -> Result<Vec<Option<Revision>>, Failed> {
        let collections: Vec<&str> = changes.iter().map(|change| change.key.collection()).collect();
        let names: Vec<&str> = changes.iter().map(|change| change.key.name()).collect();
        let query = sqlx::query(self.sql(LOCK)).bind(collections).bind(names);
        let mut found = vec![None; changes.len()];
        for row in self.within(query.fetch_all(connection)).await? {
            let place = row.try_get::<i64, _>("place")? as usize - 1;
            found[place] = Some(Revision::new(row.try_get::<Uuid, _>("revision")?));
        }
        Ok(found)
    }
}

/// The parameters of a statement about several documents.
#[derive(Default)]
struct Rows<'a> {
    collections: Vec<&'a str>,
    names: Vec<&'a str>,
    bodies: Vec<&'a str>,
}

impl<'a> Rows<'a> {
    fn push(&mut self, key: &'a DocumentKey, body: &'a str) {
        self.collections.push(key.collection());
        self.names.push(key.name());
        self.bodies.push(body);
    }
}

/// Returns whether a condition holds, and keeps it so until the transaction ends.
pub(crate) async fn holds(
    database: &Database,
    connection: &mut PgConnection,
    condition: &DocumentCondition,
) -> Result<bool, Failed> {
    let key = condition.key.checked()?;
    let begin = |sql| sqlx::query(database.sql(sql)).bind(key.collection()).bind(key.name());
    match condition.expected {
        ExpectedDocument::Any => Ok(true),
        ExpectedDocument::At(revision) => {
            let query = begin(HOLD).bind(revision.as_uuid());
            Ok(database.within(query.fetch_optional(connection)).await?.is_some())
        }
        // A row that only this transaction sees makes others wait that would create the document.
        ExpectedDocument::Absent => {
            let query = begin(CREATE).bind(Uuid::nil()).bind("");
            let is_absent = database.within(query.execute(&mut *connection)).await?.rows_affected() == 1;
            if is_absent {
                database.within(begin(DELETE).execute(connection)).await?;
            }
            Ok(is_absent)
        }
    }
}
