//! Simulations of the end of streams under faults: clients deposit money, and close, archive, restore, delete, and read
//! accounts at the same time, while others index the feed and read it from the start.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use es_core::bytes::Bytes;
use es_core::feed::{EventFilter, Feed, FeedRead, Position};
use es_core::payloads::{
    MemoryPayloads, PayloadError, PayloadName, PayloadPrefix, PayloadStore, StoredPayload,
};
use es_core::repository::{Archives, StreamEnd};
use es_core::store::{Read, StreamState};
use es_core::testing::{Fault, Faults};
use es_core::{Aggregate, EventStore, ExecuteError, Repository, RetryPolicy, StoreError, StreamId};
use fastrand::Rng;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::TryStreamExt;
use futures_util::future::join_all;

use super::client::{SeededIds, perhaps_interrupted};
use super::{CLIENTS, faults};
use crate::domain::{Account, Deposit, TakeHandle};

/// The number of accounts that the clients share.
const SHARED: usize = 2;
/// The number of operations of each client.
const OPERATIONS: usize = 12;
/// The prefix of archives.
const PREFIX: &str = "accounts/archives";

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct LifecycleReport {
    /// Acknowledged deposits.
    pub deposited: u64,
    /// Deposits that were refused because the account was closed, archived, or deleted.
    pub refused: u64,
    /// Acknowledged operations that closed an account.
    pub closed: u64,
    /// Acknowledged operations that archived an account.
    pub archived: u64,
    /// Acknowledged operations that restored an account.
    pub restored: u64,
    /// Acknowledged operations that deleted an account.
    pub deleted: u64,
    /// Operations other than deposits that failed or were interrupted.
    pub interrupted: u64,
    /// Accounts that were archived at the end.
    pub left_archived: u64,
    /// Accounts that could be read at the end.
    pub readable: u64,
    /// Passes over the whole feed.
    pub rebuilds: u64,
    /// Runs of the reconciler.
    pub indexed: u64,
}

impl std::ops::AddAssign for LifecycleReport {
    fn add_assign(&mut self, other: Self) {
        self.deposited += other.deposited;
        self.refused += other.refused;
        self.closed += other.closed;
        self.archived += other.archived;
        self.restored += other.restored;
        self.deleted += other.deleted;
        self.interrupted += other.interrupted;
        self.left_archived += other.left_archived;
        self.readable += other.readable;
        self.rebuilds += other.rebuilds;
        self.indexed += other.indexed;
    }
}

/// A payload store whose requests and responses are lost as planned.
#[derive(Clone, Debug)]
struct FaultyPayloads {
    payloads: MemoryPayloads,
    faults: Faults,
}

impl FaultyPayloads {
    async fn request<T>(
        &self,
        request: impl Future<Output = Result<T, PayloadError>>,
    ) -> Result<T, PayloadError> {
        // Another client may be faster.
        tokio::task::yield_now().await;
        let lost = || PayloadError::unavailable("lost on purpose");
        match self.faults.next() {
            Some(Fault::RequestLost | Fault::Throttled) => Err(lost()),
            Some(Fault::AnswerLost) => {
                request.await?;
                Err(lost())
            }
            _ => request.await,
        }
    }
}

#[async_trait]
impl PayloadStore for FaultyPayloads {
    async fn put(&self, name: &PayloadName, content: Bytes) -> Result<(), PayloadError> {
        self.request(self.payloads.put(name, content)).await
    }

    async fn get(&self, name: &PayloadName) -> Result<Bytes, PayloadError> {
        self.request(self.payloads.get(name)).await
    }

    async fn delete(&self, name: &PayloadName) -> Result<(), PayloadError> {
        self.request(self.payloads.delete(name)).await
    }

    fn list(&self, prefix: &PayloadPrefix) -> BoxStream<'_, Result<StoredPayload, PayloadError>> {
        self.payloads.list(prefix)
    }
}

/// What the clients know of an account.
#[derive(Debug, Default)]
struct Known {
    /// The notes of acknowledged deposits.
    deposited: HashSet<String>,
    /// The notes of deposits that were refused.
    refused: HashSet<String>,
    /// Whether the end of the account was acknowledged.
    is_ended: bool,
    /// Whether its deletion was acknowledged.
    is_deleted: bool,
}

/// Adds commits to the feed, if the store does not.
pub type Index<'a> = dyn Fn() -> BoxFuture<'a, Result<(), String>> + 'a;

/// The state that all clients of a run share.
struct Shared<'a> {
    truth: Arc<dyn Feed>,
    index: &'a Index<'a>,
    accounts: Mutex<HashMap<String, Known>>,
    payloads: MemoryPayloads,
}

impl Shared<'_> {
    fn known<T>(&self, id: &str, look: impl FnOnce(&mut Known) -> T) -> T {
        let mut accounts = self.accounts.lock().expect("no client panicked");
        look(accounts.entry(id.to_owned()).or_default())
    }

    fn archives(&self, faults: Option<Faults>) -> Archives {
        let prefix = PayloadPrefix::new(PREFIX).expect("valid");
        match faults {
            Some(faults) => Archives::new(FaultyPayloads { payloads: self.payloads.clone(), faults }, prefix),
            None => Archives::new(self.payloads.clone(), prefix),
        }
    }

    /// Checks the notes of an account, which was loaded after `before` was noted.
    fn check_notes(&self, id: &str, notes: &[String], before: &HashSet<String>) -> Result<(), String> {
        let found: HashSet<_> = notes.iter().cloned().collect();
        if found.len() < notes.len() {
            return Err(format!("an event of {id} is there twice: {notes:?}"));
        }
        if let Some(lost) = before.difference(&found).next() {
            return Err(format!("the acknowledged deposit {lost} of {id} is lost: {notes:?}"));
        }
        let refused = self.known(id, |known| known.refused.clone());
        match refused.intersection(&found).next() {
            Some(note) => Err(format!("the refused deposit {note} of {id} is there")),
            None => Ok(()),
        }
    }

    /// Reads the feed from the start, and checks that each event is there at most once, and none of a deleted account.
    async fn rebuild(&self, must_be_whole: bool) -> Result<HashMap<String, Vec<String>>, String> {
        let deleted: Vec<_> = {
            let accounts = self.accounts.lock().expect("no client panicked");
            accounts.iter().filter(|(_, known)| known.is_deleted).map(|(id, _)| id.clone()).collect()
        };
        let mut notes = HashMap::<String, Vec<String>>::new();
        for slice in self.truth.slices().await.map_err(text)?.iter() {
            let filter = EventFilter::none().with_events(Account::NAME, ["Deposited"]);
            let mut read = FeedRead::new(slice, Position::NONE).filter(filter).limit(5);
            loop {
                let page = self.truth.read_feed(&read).await.map_err(text)?;
                for entry in &page.entries {
                    let events = entry.commit.events.iter().filter(|event| event.name() == "Deposited");
                    for event in events {
                        let event: serde_json::Value = serde_json::from_str(event.payload()).map_err(text)?;
                        let note = event["note"].as_str().unwrap_or_default().to_owned();
                        notes.entry(entry.stream.id().to_owned()).or_default().push(note);
                    }
                }
                (read.after, read.anchor) = (page.through, page.anchor);
                if page.is_last {
                    break;
                }
            }
        }
        for (id, notes) in &notes {
            self.check_notes(id, notes, &HashSet::new())?;
            if deleted.contains(id) {
                return Err(format!("events of the deleted account {id} are in the feed: {notes:?}"));
            }
        }
        if must_be_whole {
            let accounts = self.accounts.lock().expect("no client panicked");
            for (id, known) in accounts.iter().filter(|(_, known)| !known.is_deleted) {
                let found: HashSet<_> = notes.get(id).into_iter().flatten().cloned().collect();
                if let Some(lost) = known.deposited.difference(&found).next() {
                    return Err(format!("the deposit {lost} of {id} is not in the feed"));
                }
            }
        }
        Ok(notes)
    }
}

fn text(error: impl std::error::Error + 'static) -> String {
    es_core::error_text(&error)
}

fn id_of(index: usize) -> String {
    format!("shared-{index}")
}

/// Runs the clients of one seed, and checks the result.
///
/// `open` returns the store of a client, with the given faults. `truth` is that store without faults.
///
/// # Errors
///
/// The violation found by the check.
pub async fn run<'a>(
    seed: u64,
    truth: Arc<dyn Feed>,
    open: impl Fn(Faults) -> Arc<dyn EventStore>,
    index: &'a Index<'a>,
) -> Result<LifecycleReport, String> {
    let mut random = Rng::with_seed(seed);
    let shared = Shared { truth, index, accounts: Mutex::default(), payloads: MemoryPayloads::new() };
    let clients = (0..CLIENTS).map(|client| {
        let seed = random.u64(..);
        let faults = faults(&mut random, seed).stalls(0.0);
        live(client, Rng::with_seed(seed), faults, &open, &shared)
    });
    let clients: Vec<_> = clients.collect();
    let mut report = LifecycleReport::default();
    for lived in join_all(clients).await {
        report += lived?;
    }
    for account in 0..SHARED {
        settle(&shared, &id_of(account), &mut report).await?;
    }
    index().await?;
    shared.rebuild(true).await?;
    Ok(report)
}

/// Executes operations, and dies now and then.
async fn live(
    client: usize,
    mut random: Rng,
    plan: Faults,
    open: &dyn Fn(Faults) -> Arc<dyn EventStore>,
    shared: &Shared<'_>,
) -> Result<LifecycleReport, String> {
    let mut report = LifecycleReport::default();
    let mut done = 0;
    while done < OPERATIONS {
        let life = random.usize(1..=OPERATIONS - done);
        let faults = match random.u8(..3) {
            0 => plan.clone().crash_after(plan.requests() + random.u64(1..30)),
            _ => plan.clone(),
        };
        let retry = RetryPolicy::default().with_max_attempts(6).with_base_delay(Duration::ZERO);
        let accounts: Repository<Account> = Repository::builder(open(faults.clone()))
            .retry(retry)
            .cache(random.usize(1..4))
            .ids(SeededIds::new(Rng::with_seed(random.u64(..))))
            .build();
        let archives = shared.archives(Some(faults));
        for _ in 0..life {
            done += 1;
            let id = id_of(random.usize(..SHARED));
            operate(client, done, &id, &mut random, &accounts, &archives, shared, &mut report).await?;
        }
    }
    Ok(report)
}

#[expect(clippy::too_many_arguments, reason = "the state of a client")]
async fn operate(
    client: usize,
    number: usize,
    id: &str,
    random: &mut Rng,
    accounts: &Repository<Account>,
    archives: &Archives,
    shared: &Shared<'_>,
    report: &mut LifecycleReport,
) -> Result<(), String> {
    let choice = random.u8(..20);
    let mut ended = |result: Option<Result<StreamEnd, StoreError>>| match result {
        Some(Ok(_)) => true,
        _ => {
            report.interrupted += 1;
            false
        }
    };
    match choice {
        0 | 1 => {
            if ended(perhaps_interrupted(random, accounts.close(id)).await) {
                shared.known(id, |known| known.is_ended = true);
                report.closed += 1;
            }
        }
        2..=4 => {
            if ended(perhaps_interrupted(random, accounts.archive(id, archives)).await) {
                report.archived += 1;
            }
        }
        5..=7 => {
            if ended(perhaps_interrupted(random, accounts.restore(id, archives)).await) {
                report.restored += 1;
            }
        }
        8 if random.bool() => {
            if ended(perhaps_interrupted(random, accounts.delete_archived(id, archives)).await) {
                shared.known(id, |known| (known.is_ended, known.is_deleted) = (true, true));
                report.deleted += 1;
            }
        }
        9 | 10 => {
            let (before, is_deleted) = shared.known(id, |known| (known.deposited.clone(), known.is_deleted));
            if let Ok(loaded) = accounts.load(id).await {
                if is_deleted {
                    return Err(format!("the deleted account {id} was loaded"));
                }
                shared.check_notes(id, &loaded.state.notes, &before)?;
            }
        }
        11 => {
            shared.rebuild(false).await?;
            report.rebuilds += 1;
        }
        12 => {
            (shared.index)().await?;
            report.indexed += 1;
        }
        _ => {
            let note = format!("{client}.{number}");
            let is_ended = shared.known(id, |known| known.is_ended);
            let command = Deposit::one(1, note.clone());
            match perhaps_interrupted(random, accounts.execute(id, command)).await {
                Some(Ok(_)) if is_ended => {
                    return Err(format!("the deposit {note} was accepted after the end of {id}"));
                }
                Some(Ok(_)) => {
                    shared.known(id, |known| known.deposited.insert(note));
                    report.deposited += 1;
                }
                Some(Err(ExecuteError::Closed(_))) => {
                    shared.known(id, |known| known.refused.insert(note));
                    report.refused += 1;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Completes the interrupted operations on an account, without faults, and checks the result.
async fn settle(shared: &Shared<'_>, id: &str, report: &mut LifecycleReport) -> Result<(), String> {
    let stream = StreamId::new(Account::NAME, id).map_err(text)?;
    let accounts: Repository<Account> = Repository::new(Arc::clone(&shared.truth));
    let archives = shared.archives(None);
    let head = shared.truth.head(&stream).await.map_err(text)?;
    let (before, is_ended, is_deleted) =
        shared.known(id, |known| (known.deposited.clone(), known.is_ended, known.is_deleted));
    if is_ended && head.state.is_open() {
        return Err(format!("the account {id} was closed, and is open"));
    }
    if is_deleted && head.state != StreamState::Deleted {
        return Err(format!("the account {id} was deleted, and is {:?}", head.state));
    }
    if head.state == StreamState::Deleted {
        shared.known(id, |known| known.is_deleted = true);
        accounts.delete_archived(id, &archives).await.map_err(text)?;
        (shared.index)().await?;
        if accounts.restore(id, &archives).await.is_ok() || accounts.load(id).await.is_ok() {
            return Err(format!("the deleted account {id} came back"));
        }
        let pages: Vec<_> = shared.truth.read(Read::all(stream)).try_collect().await.map_err(text)?;
        let mut events = pages.iter().flat_map(|page| &page.commits).flat_map(|commit| &commit.events);
        return match events.find(|event| !event.name().starts_with('$')) {
            Some(event) => Err(format!("the event {event:?} of the deleted account {id} is there")),
            None => Ok(()),
        };
    }
    report.readable += 1;
    report.left_archived += u64::from(!head.state.is_readable());
    if !head.state.is_open() {
        accounts.restore(id, &archives).await.map_err(text)?;
    }
    let loaded = accounts.load(id).await.map_err(text)?;
    shared.check_notes(id, &loaded.state.notes, &before)?;
    let again = accounts.execute(id, TakeHandle { handle: id.to_owned() }).await;
    match head.state.is_open() {
        true => again.map(|_| ()).map_err(|error| error.to_string()),
        false if again.is_ok() => Err(format!("the closed account {id} accepts commands")),
        false => Ok(()),
    }
}
