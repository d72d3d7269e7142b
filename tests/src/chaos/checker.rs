//! The check: compares the table with the outcomes that the clients received.

use std::collections::HashMap;
use std::sync::Arc;

use es_core::snapshot::SnapshotPolicy;
use es_core::store::Read;
use es_core::{Aggregate, EventStore, Repository, StreamId};
use futures_util::TryStreamExt;

use super::client::{Attempted, Kind, Told};
use super::{ACCOUNTS, HANDLES, accounts};
use crate::domain::{Account, AccountEvent};

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Accepted commands.
    pub accepted: u64,
    /// Commands refused by the domain, or after too many conflicts.
    pub refused: u64,
    /// Commands with an unknown outcome.
    pub unknown: u64,
    /// Of the unknown: recorded ones.
    pub unknown_but_recorded: u64,
    /// Of the accepted: transactions over several accounts.
    pub transactions: u64,
    /// Of the accepted: created accounts.
    pub created: u64,
    /// Of the accepted: commits that were appended as one.
    pub groups: u64,
    /// Of the accepted: commands with an idempotency key.
    pub deliveries: u64,
    /// Of the accepted: handles taken.
    pub claims: u64,
    /// Of the refused: handles held by others.
    pub claimed: u64,
    /// Events in all streams.
    pub events: u64,
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.unknown_but_recorded += other.unknown_but_recorded;
        self.transactions += other.transactions;
        self.created += other.created;
        self.groups += other.groups;
        self.deliveries += other.deliveries;
        self.claims += other.claims;
        self.claimed += other.claimed;
        self.events += other.events;
    }
}

/// Checks that a run kept all promises.
pub type Verdict = Result<Report, String>;

pub(super) async fn check(store: Arc<dyn EventStore>, logs: &[Vec<Attempted>]) -> Verdict {
    let mut report = Report::default();
    // The places of each note: account and version, one per occurrence.
    let mut found: HashMap<(String, String), Vec<u64>> = HashMap::new();
    for account in accounts() {
        report.events += check_stream(&store, &account, &mut found).await?;
    }

    for log in logs {
        let mut last: HashMap<&str, u64> = HashMap::new();
        for attempted in log {
            check_attempted(attempted, &found, &mut last, &mut report)?;
        }
    }
    let attempted: usize = logs.iter().flatten().map(|attempted| attempted.notes.len()).sum();
    if found.len() > attempted {
        return Err("there are events that no client tried to record".to_owned());
    }
    check_handles(&store).await?;
    Ok(report)
}

/// Checks the events of one command against the outcome that its client received.
fn check_attempted<'a>(
    attempted: &'a Attempted,
    found: &HashMap<(String, String), Vec<u64>>,
    last: &mut HashMap<&'a str, u64>,
    report: &mut Report,
) -> Result<(), String> {
    let places: Vec<&[u64]> =
        attempted.notes.iter().map(|note| found.get(note).map_or(&[][..], Vec::as_slice)).collect();
    let all_once = places.iter().all(|places| places.len() == 1);
    let none = places.iter().all(|places| places.is_empty());
    match &attempted.told {
        Told::Accepted(versions) => {
            report.accepted += 1;
            report.transactions += u64::from(attempted.kind == Kind::Transaction);
            report.created += u64::from(attempted.kind == Kind::Creation);
            report.groups += u64::from(attempted.kind == Kind::Group);
            report.deliveries += u64::from(attempted.kind == Kind::Delivery);
            report.claims += u64::from(attempted.kind == Kind::Claim);
            if !all_once {
                return Err(format!("accepted, but not there exactly once: {attempted:?} at {places:?}"));
            }
            if attempted.kind == Kind::Creation && places[0] != [1] {
                return Err(format!("created, but not at the start: {attempted:?} at {places:?}"));
            }
            for (account, version) in versions {
                // A commit ends at the version returned to the client, and later commits have higher versions.
                let mut notes = attempted.notes.iter().zip(&places).filter(|((id, _), _)| id == account);
                let end = notes.next_back().map(|(_, places)| places[0]);
                let last = last.entry(account).or_default();
                if end.is_some_and(|end| end != version.get()) || *last > version.get() {
                    return Err(format!("in another place than told: {attempted:?} at {places:?}"));
                }
                *last = version.get();
            }
        }
        Told::Refused => {
            report.refused += 1;
            report.claimed += u64::from(attempted.kind == Kind::Claim);
            if !none {
                return Err(format!("refused, but there: {attempted:?} at {places:?}"));
            }
        }
        Told::Nothing => {
            report.unknown += 1;
            if !all_once && !none {
                return Err(format!("neither whole and once, nor not at all: {attempted:?} at {places:?}"));
            }
            report.unknown_but_recorded += u64::from(all_once && !attempted.notes.is_empty());
        }
    }
    Ok(())
}

/// Checks that every handle is held by the one account that took it.
async fn check_handles(store: &Arc<dyn EventStore>) -> Result<(), String> {
    let accounts: Repository<Account> = Repository::new(Arc::clone(store));
    let mut owners: HashMap<String, String> = HashMap::new();
    for index in 0..ACCOUNTS {
        let id = format!("shared-{index}");
        let state = accounts.load(&id).await.map_err(|error| error.to_string())?.state;
        if let Some(handle) = state.handle
            && let Some(other) = owners.insert(handle.clone(), id.clone())
        {
            return Err(format!("{id} and {other} both have {handle}"));
        }
    }
    for handle in (0..HANDLES).map(|index| format!("handle-{index}")) {
        let holder = accounts.claim_holder("handle", &handle).await.map_err(|error| error.to_string())?;
        let holder = holder.as_ref().map(StreamId::id);
        let owner = owners.get(&handle).map(String::as_str);
        if holder != owner {
            return Err(format!("{handle} is held by {holder:?}, and {owner:?} has it"));
        }
    }
    Ok(())
}

/// Checks one stream, and records the versions of its deposits.
async fn check_stream(
    store: &Arc<dyn EventStore>,
    account: &String,
    found: &mut HashMap<(String, String), Vec<u64>>,
) -> Result<u64, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{account}: {what}: {error}");
    let plain: Repository<Account> =
        Repository::builder(Arc::clone(store)).snapshots(SnapshotPolicy::Never).build();
    // The history checks that versions are contiguous.
    let history =
        plain.history(account).all().await.map_err(|error| failed("the history cannot be read", &error))?;
    for recorded in &history {
        if let AccountEvent::Deposited(deposited) = &recorded.event {
            let place = (account.clone(), deposited.note.clone());
            found.entry(place).or_default().push(recorded.version.get());
        }
    }

    let replay = plain.load(account).await.map_err(|error| failed("cannot be replayed", &error))?;
    let with_snapshot: Repository<Account> =
        Repository::builder(Arc::clone(store)).snapshots(SnapshotPolicy::Every(1)).build();
    let loaded = with_snapshot.load(account).await.map_err(|error| failed("cannot be loaded", &error))?;
    if (&loaded.state, loaded.version) != (&replay.state, replay.version) {
        return Err(format!(
            "{account}: the snapshot at {:?} changes the state at version {}",
            loaded.snapshot, replay.version
        ));
    }

    let stream = StreamId::new(Account::NAME, account).expect("a valid stream");
    let shape = Account::snapshots().expect("has snapshots").fingerprint();
    let pages: Vec<_> = store
        .read(Read::all(stream).from_snapshot(shape, 100))
        .try_collect()
        .await
        .map_err(|error| failed("cannot be read", &error))?;
    if let Some(version) = pages.iter().find_map(|page| page.unusable_snapshot) {
        return Err(format!("{account}: the snapshot at {version} is damaged, or ahead of its stream"));
    }
    Ok(history.len() as u64)
}
