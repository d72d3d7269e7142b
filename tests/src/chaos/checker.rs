//! The check: what the table holds, against what the clients were told.

use std::collections::HashMap;
use std::sync::Arc;

use es_core::store::Read;
use es_core::{Aggregate, EventStore, Repository, SnapshotPolicy, StreamId};
use futures_util::TryStreamExt;

use super::ACCOUNTS;
use super::client::{Attempted, Told};
use crate::domain::{Account, AccountEvent};

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Commands that were accepted.
    pub accepted: u64,
    /// Commands that were refused, by the domain or after too many conflicts.
    pub refused: u64,
    /// Commands whose clients never learned what became of them.
    pub unknown: u64,
    /// Of those, how many had been recorded.
    pub unknown_but_recorded: u64,
    /// Events in all streams.
    pub events: u64,
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.unknown_but_recorded += other.unknown_but_recorded;
        self.events += other.events;
    }
}

/// Whether a run kept the promises.
pub type Verdict = Result<Report, String>;

pub(super) async fn check(store: Arc<dyn EventStore>, logs: &[Vec<Attempted>]) -> Verdict {
    let mut report = Report::default();
    // Where each note stands: account and version, once for each time.
    let mut found: HashMap<(String, String), Vec<u64>> = HashMap::new();
    for account in (0..ACCOUNTS).map(|index| format!("shared-{index}")) {
        report.events += check_stream(&store, &account, &mut found).await?;
    }

    for log in logs {
        let mut last: HashMap<&str, u64> = HashMap::new();
        for attempted in log {
            let places: Vec<&[u64]> = attempted
                .notes
                .iter()
                .map(|note| {
                    found.get(&(attempted.account.clone(), note.clone())).map_or(&[][..], Vec::as_slice)
                })
                .collect();
            let all_once = places.iter().all(|places| places.len() == 1);
            let none = places.iter().all(|places| places.is_empty());
            match attempted.told {
                Told::Accepted(version) => {
                    report.accepted += 1;
                    if !all_once {
                        return Err(format!(
                            "accepted, but not there exactly once: {attempted:?} at {places:?}"
                        ));
                    }
                    // A commit ends at the version that the client was told, and later ones come later.
                    let last = last.entry(&attempted.account).or_default();
                    if places.last().is_some_and(|place| place[0] != version.get()) || *last > version.get() {
                        return Err(format!("in another place than told: {attempted:?} at {places:?}"));
                    }
                    *last = version.get();
                }
                Told::Refused => {
                    report.refused += 1;
                    if !none {
                        return Err(format!("refused, but there: {attempted:?} at {places:?}"));
                    }
                }
                Told::Nothing => {
                    report.unknown += 1;
                    if !all_once && !none {
                        return Err(format!(
                            "neither whole and once, nor not at all: {attempted:?} at {places:?}"
                        ));
                    }
                    report.unknown_but_recorded += u64::from(all_once && !attempted.notes.is_empty());
                }
            }
        }
    }
    let attempted: usize = logs.iter().flatten().map(|attempted| attempted.notes.len()).sum();
    if found.len() > attempted {
        return Err("there are events that nobody tried to record".to_owned());
    }
    Ok(report)
}

/// Checks one stream by itself, and notes where its deposits stand.
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
