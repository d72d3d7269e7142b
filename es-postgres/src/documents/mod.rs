//! Documents: reading and listing. `change` has the writes.

mod change;

use es_core::StoreError;
use es_core::documents::{Document, DocumentKey, DocumentPage, DocumentQuery, Revision};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::database::{Database, Failed};

pub(crate) use change::holds;

/// The size of a page in bytes, which its last document may exceed (1 MiB).
const PAGE_BYTES: i64 = 1024 * 1024;

const DOCUMENT: &str = "SELECT revision, body FROM {schema}.documents WHERE collection = $1 AND name = $2";

/// The documents between two names, both inclusive, except for one. Those that do not fit into the page have no body.
const ASCENDING: &str = "SELECT name, revision, CASE WHEN before < $6 THEN body END AS body FROM ( \
         SELECT *, sum(octet_length(body)) OVER (ORDER BY name) - octet_length(body) AS before \
         FROM {schema}.documents WHERE collection = $1 AND name >= $2 AND name <= $3 \
         AND name IS DISTINCT FROM $4 ORDER BY name LIMIT $5) AS page ORDER BY name";

const DESCENDING: &str = "SELECT name, revision, CASE WHEN before < $6 THEN body END AS body FROM ( \
         SELECT *, sum(octet_length(body)) OVER (ORDER BY name DESC) - octet_length(body) AS before \
         FROM {schema}.documents WHERE collection = $1 AND name >= $2 AND name <= $3 \
         AND name IS DISTINCT FROM $4 ORDER BY name DESC LIMIT $5) AS page ORDER BY name DESC";

impl Database {
    pub(crate) async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        let mut session = self.connect().await?;
        let query = sqlx::query(self.sql(DOCUMENT)).bind(key.collection()).bind(key.name());
        let row = self.within(query.fetch_optional(session.connection())).await;
        let row = row.map_err(|failed| failed.of_read(self))?;
        session.release();
        let document = row.map(|row| document_from(&row)).transpose();
        document.map_err(|error| Failed::from(error).of_read(self))
    }

    pub(crate) async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        let names = Names::of(query);
        let limit = query.limit.max(1);
        let mut session = self.connect().await?;
        let sql = self.sql(if query.descending { DESCENDING } else { ASCENDING });
        let list = sqlx::query(sql).bind(&*query.collection).bind(names.from).bind(names.until);
        let list = list.bind(names.except).bind(i64::from(limit) + 1).bind(PAGE_BYTES);
        let rows = self.within(list.fetch_all(session.connection())).await;
        let rows = rows.map_err(|failed| failed.of_read(self))?;
        session.release();
        let page = page_from(&rows, limit as usize);
        page.map_err(|error| Failed::from(error).of_read(self))
    }
}

fn document_from(row: &PgRow) -> Result<Document, sqlx::Error> {
    Ok(Document::new(Revision::new(row.try_get::<Uuid, _>("revision")?), row.try_get::<String, _>("body")?))
}

fn page_from(rows: &[PgRow], limit: usize) -> Result<DocumentPage, sqlx::Error> {
    let mut documents: Vec<(String, Document)> = Vec::with_capacity(rows.len().min(limit));
    for row in rows.iter().take(limit) {
        if row.try_get::<Option<&str>, _>("body")?.is_none() {
            break;
        }
        documents.push((row.try_get("name")?, document_from(row)?));
    }
    let next = documents.last().filter(|_| documents.len() < rows.len()).map(|(name, _)| name.clone());
    Ok(DocumentPage::new(documents, next))
}

/// The names that a page selects: from the first to the last, both inclusive, except for one.
struct Names {
    from: String,
    until: String,
    except: Option<String>,
}

impl Names {
    fn of(query: &DocumentQuery) -> Self {
        let mut from = query.from.clone().unwrap_or_else(|| query.prefix.clone());
        let mut until = query.until.clone().unwrap_or_else(|| match query.prefix.is_empty() {
            true => last_name(""),
            false => last_name(&query.prefix),
        });
        let mut except = None;
        if let Some(after) = &query.after {
            let bound = if query.descending { &mut until } else { &mut from };
            let is_inside = if query.descending { *after <= *bound } else { *after >= *bound };
            if is_inside {
                bound.clone_from(after);
                except = Some(after.clone());
            }
        }
        Self { from, until, except }
    }
}

/// Returns the last possible name with a prefix: as many of the last character as fit into a name.
fn last_name(prefix: &str) -> String {
    let fitting = DocumentKey::MAX_NAME_BYTES.saturating_sub(prefix.len()) / char::MAX.len_utf8();
    let mut last = prefix.to_owned();
    last.extend(std::iter::repeat_n(char::MAX, fitting + 1));
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_by_prefixes_and_pages() {
        let query = DocumentQuery::new("c").prefix("a");
        let names = Names::of(&query);
        assert!(names.from == "a" && names.except.is_none());
        assert!(*"a\u{10ffff}" < *names.until && *names.until < *"b");
        let names = Names::of(&query.clone().after(Some("ab".to_owned())));
        assert_eq!((&*names.from, names.except.as_deref()), ("ab", Some("ab")));
        let names = Names::of(&query.clone().after(Some("A".to_owned())));
        assert_eq!((&*names.from, names.except), ("a", None), "before the prefix");
        let names = Names::of(&query.descending().after(Some("ab".to_owned())));
        assert_eq!((&*names.from, &*names.until, names.except.as_deref()), ("a", "ab", Some("ab")));
    }
}
