//! The history of an account, page by page.

use axum::Json;
use axum::extract::State;
use es_core::Version;
use serde::Serialize;
use uuid::Uuid;

use super::headers::Target;
use super::page::PageRequest;
use super::problem::Problem;
use super::views::EventView;
use crate::Bank;
use crate::domain::{AccountError, AccountId};

/// `GET /accounts/{id}/history`
pub async fn history(
    State(bank): State<Bank>,
    Target(id): Target,
    page: PageRequest,
) -> Result<Json<Page>, Problem> {
    let after = page.cursor.map_or(Ok(Version::NONE), |cursor| version_in(&cursor, id))?;
    // Read one more event than the page contains, to know whether another page follows.
    let until = after.get().saturating_add(u64::from(page.limit) + 1);
    let mut events = bank.accounts.history_between(&id, after, Version::new(until)).all().await?;
    if events.is_empty() && after.is_none() {
        return Err(AccountError::Unknown.into());
    }
    let has_more = events.len() > page.limit as usize;
    events.truncate(page.limit as usize);
    let next = events.last().filter(|_| has_more).map(|event| cursor_after(event.version, id));
    Ok(Json(Page { events: events.iter().map(EventView::from).collect(), next }))
}

/// A page of events, oldest first.
#[derive(Serialize)]
pub struct Page {
    events: Vec<EventView>,
    /// The cursor of the next page, or `null` on the last page.
    next: Option<String>,
}

/// Returns the cursor of the page after `version`: the version, and a digest that binds it to the account. It is opaque
/// to clients, so its content may change, and a cursor that is mistyped or belongs to another account is rejected.
fn cursor_after(version: Version, id: AccountId) -> String {
    format!("{:016x}{:016x}", version.get(), digest(version, id))
}

/// Returns the version after which a cursor of the account starts.
fn version_in(cursor: &str, id: AccountId) -> Result<Version, Problem> {
    let version = cursor.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(Version::new);
    version
        .filter(|version| cursor_after(*version, id) == cursor)
        .ok_or_else(|| Problem::malformed("cursor", "`cursor` is the `next` of a page of this account"))
}

fn digest(version: Version, id: AccountId) -> u64 {
    Uuid::new_v5(&CURSORS, format!("{id} {version}").as_bytes()).as_u64_pair().0
}

/// The namespace of the digests of cursors.
const CURSORS: Uuid = Uuid::from_u128(0x6f1e_0d52_94c3_4b7a_8a1d_3e77_52c0_96b1);
