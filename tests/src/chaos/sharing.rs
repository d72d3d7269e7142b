//! Clients that share a repository, as in one process: commands on the same aggregate share writes.
//!
//! Some handlers panic, some futures are dropped, and whole processes die. The check compares every outcome with the
//! stream: its events, commit, metadata, and state. A rejection must have been decided on a recorded state that was
//! current at some time during the command.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use es_core::clock::ManualClock;
use es_core::event::CommitId;
use es_core::prelude::*;
use es_core::repository::{Outcome, Recorded};
use es_core::snapshot::SnapshotPolicy;
use es_core::testing::Faults;
use es_core::{EventStore, ExecuteError, Repository, RetryPolicy, Version};
use fastrand::Rng;
use futures_util::FutureExt;
use futures_util::future::join_all;

use super::client::{SeededIds, perhaps_interrupted};
use super::faults;
use crate::conformance::time;
use crate::domain::{Account, AccountEvent, Deposit, Deposited, Overdrawn, RequireBalance, Withdraw};

const PROCESSES: usize = 2;
const CLIENTS: usize = 5;
const COMMANDS: usize = 4;
const ACCOUNTS: usize = 2;

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharingReport {
    /// Accepted commands.
    pub accepted: u64,
    /// Of the accepted: those whose write had the commits of other commands, too.
    pub shared: u64,
    /// Commands that were rejected.
    pub rejected: u64,
    /// Commands that had nothing to do.
    pub nothing: u64,
    /// Commands that failed, and are not recorded.
    pub failed: u64,
    /// Commands with an unknown outcome.
    pub unknown: u64,
    /// Of the unknown: recorded ones.
    pub unknown_but_recorded: u64,
    /// Commands that were dropped, with those of processes that died.
    pub dropped: u64,
    /// Of the dropped: recorded ones.
    pub dropped_but_recorded: u64,
    /// Commands whose handler panicked.
    pub panicked: u64,
    /// Events in all streams.
    pub events: u64,
}

impl std::ops::AddAssign for SharingReport {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.shared += other.shared;
        self.rejected += other.rejected;
        self.nothing += other.nothing;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.unknown_but_recorded += other.unknown_but_recorded;
        self.dropped += other.dropped;
        self.dropped_but_recorded += other.dropped_but_recorded;
        self.panicked += other.panicked;
        self.events += other.events;
    }
}

/// A command whose handler panics.
struct Explode;

impl Handle<Explode> for Account {
    type Error = Overdrawn;

    fn handle(&self, _: &Explode, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
        // Without the message of the panic hook.
        resume_unwind(Box::new("the handler panics, as planned"));
    }
}

/// What a client was told about a command.
enum Told {
    Done(Box<Outcome<Account>>),
    Rejected(Overdrawn),
    Failed,
    Unknown,
    Panicked,
    Dropped,
}

/// A command, and its outcome as returned to the client.
struct Attempted {
    account: usize,
    /// The actor in the metadata, which no other command has.
    actor: String,
    /// The amount that a withdrawal needs.
    cents: u64,
    /// How many events it leads to; 0 if it has nothing to do.
    events: usize,
    told: Told,
    /// The versions of the stream while the client waited.
    versions: RangeInclusive<Version>,
}

fn id(account: usize) -> String {
    format!("account-{account}")
}

/// Runs the processes of one seed, and checks the result.
///
/// `open` returns the store of a process, with the given faults. `truth` is that store without faults.
///
/// # Errors
///
/// The violation found by the check.
pub async fn run(
    seed: u64,
    truth: Arc<dyn EventStore>,
    open: impl Fn(Faults) -> Arc<dyn EventStore>,
) -> Result<SharingReport, String> {
    let mut random = Rng::with_seed(seed);
    let plain: Repository<Account> = Repository::builder(truth).snapshots(SnapshotPolicy::Never).build();
    let processes = (0..PROCESSES).map(|index| {
        let seed = random.u64(..);
        // Delayed requests let commands meet.
        let faults = faults(&mut random, seed).delays(0.5, Duration::from_millis(8));
        live(index, random.fork(), faults, &open, &plain)
    });
    let processes: Vec<_> = processes.collect();
    let logs = join_all(processes).await;
    check(&plain, logs.into_iter().flatten()).await
}

/// One process after another, until the clients have executed their commands.
async fn live(
    index: usize,
    mut random: Rng,
    faults: Faults,
    open: &dyn Fn(Faults) -> Arc<dyn EventStore>,
    plain: &Repository<Account>,
) -> Vec<Attempted> {
    let mut log = Vec::new();
    for life in 0..2 {
        let accounts = repository(&mut random, open(faults.clone()));
        let mut clients: Vec<Client> = (0..CLIENTS)
            .map(|client| Client::new(format!("{index}.{life}.{client}"), random.fork()))
            .collect();
        // A process that dies drops all commands at once.
        let work = join_all(clients.iter_mut().map(|client| client.work(&accounts, plain)));
        perhaps_interrupted(&mut random, work).await;
        for client in clients {
            log.extend(client.log);
        }
    }
    log
}

fn repository(random: &mut Rng, store: Arc<dyn EventStore>) -> Repository<Account> {
    let policy = match random.u8(..3) {
        0 => SnapshotPolicy::Never,
        1 => SnapshotPolicy::Every(random.u32(1..5)),
        _ => SnapshotPolicy::Adaptive,
    };
    let builder = Repository::builder(store)
        .retry(RetryPolicy::default().with_max_attempts(6).with_base_delay(Duration::ZERO))
        .snapshots(policy)
        .ids(SeededIds::new(random.fork()))
        .clock(ManualClock::at(time(random.i64(0..100))));
    match random.u8(..4) {
        0 => builder.cache(4).build(),
        1 => builder.eventual_reads().build(),
        _ => builder.build(),
    }
}

/// A client, with a log of its commands.
struct Client {
    name: String,
    random: Rng,
    log: Vec<Attempted>,
}

impl Client {
    fn new(name: String, random: Rng) -> Self {
        Self { name, random, log: Vec::new() }
    }

    async fn work(&mut self, accounts: &Repository<Account>, plain: &Repository<Account>) {
        for number in 0..COMMANDS {
            let account = self.random.usize(..ACCOUNTS);
            let actor = format!("{}.{number}", self.name);
            let (kind, cents) = (self.random.u8(..12), self.random.u64(1..6));
            let events = match kind {
                0..=3 => 1,
                4 | 5 | 11 => 0,
                _ => self.random.usize(1..4),
            };
            let began = plain.version(&id(account)).await.expect("has no faults");
            // A command that is dropped with its process has this entry.
            let versions = began..=Version::MAX;
            self.log.push(Attempted { account, actor, cents, events, told: Told::Dropped, versions });
            let command = attempt(accounts, kind, self.log.last().expect("was added"));
            let told = perhaps_interrupted(&mut self.random, AssertUnwindSafe(command).catch_unwind()).await;
            let ended = plain.version(&id(account)).await.expect("has no faults");
            let entry = self.log.last_mut().expect("was added");
            entry.versions = began..=ended;
            entry.told = match told {
                None => Told::Dropped,
                Some(Err(_)) => Told::Panicked,
                Some(Ok(Ok(outcome))) => Told::Done(Box::new(outcome)),
                Some(Ok(Err(ExecuteError::Rejected(rejected)))) => Told::Rejected(rejected),
                Some(Ok(Err(error))) if error.is_outcome_unknown() => Told::Unknown,
                Some(Ok(Err(_))) => Told::Failed,
            };
        }
    }
}

async fn attempt(
    accounts: &Repository<Account>,
    kind: u8,
    attempted: &Attempted,
) -> Result<Outcome<Account>, ExecuteError<Overdrawn>> {
    let (id, cents) = (id(attempted.account), attempted.cents);
    let notes = (0..attempted.events).map(|part| format!("{}.{part}", attempted.actor)).collect();
    let deposit = Deposit { cents: 1, notes };
    let request = accounts.with_metadata(Metadata::new().with_actor(&attempted.actor));
    match kind {
        0..=3 => request.execute(&id, Withdraw { cents }).await,
        4 => request.execute(&id, RequireBalance { cents }).await,
        5 => request.execute(&id, Explode).await,
        6 => request.once(&attempted.actor).execute(&id, deposit).await,
        7 => {
            let decide = async |_: &Account, _: &Context<Account>| {
                let notes = deposit.notes.iter();
                Ok(notes.map(|note| Deposited { cents: 1, note: note.clone() }).collect())
            };
            request.decide(&id, decide).await
        }
        _ => request.execute(&id, deposit).await,
    }
}

/// A stream, and what a replay makes of it.
struct Truth {
    history: Vec<Recorded<AccountEvent>>,
    /// The states after each commit, by version.
    states: BTreeMap<Version, Account>,
}

impl Truth {
    async fn of(plain: &Repository<Account>, account: usize) -> Result<Self, String> {
        let history = plain.history(&id(account)).all().await.map_err(|error| error.to_string())?;
        let mut state = Account::default();
        let mut states = BTreeMap::from([(Version::NONE, state.clone())]);
        for (index, recorded) in history.iter().enumerate() {
            state.apply_event(&recorded.event);
            if history.get(index + 1).is_none_or(|next| next.id.commit() != recorded.id.commit()) {
                states.insert(recorded.version, state.clone());
            }
        }
        Ok(Self { history, states })
    }

    /// Returns the events that a command has recorded.
    fn of_actor(&self, actor: &str) -> Vec<&Recorded<AccountEvent>> {
        self.history.iter().filter(|recorded| recorded.metadata.actor() == Some(actor)).collect()
    }
}

async fn check(
    plain: &Repository<Account>,
    log: impl Iterator<Item = Attempted>,
) -> Result<SharingReport, String> {
    let mut report = SharingReport::default();
    let mut truths = Vec::new();
    for account in 0..ACCOUNTS {
        let truth = Truth::of(plain, account).await?;
        report.events += truth.history.len() as u64;
        if !truth.history.is_sorted_by_key(|recorded| recorded.time) {
            return Err(format!("the times in the stream of account {account} decrease"));
        }
        truths.push(truth);
    }
    let mut actors: HashMap<String, usize> = HashMap::new();
    for attempted in log {
        actors.insert(attempted.actor.clone(), attempted.account);
        check_attempted(&attempted, &truths[attempted.account], &mut report)
            .map_err(|violation| format!("{}: {violation}", attempted.actor))?;
    }
    let recorded = truths.iter().flat_map(|truth| &truth.history);
    match recorded
        .into_iter()
        .find(|recorded| recorded.metadata.actor().is_none_or(|actor| !actors.contains_key(actor)))
    {
        Some(stranger) => Err(format!("no client has tried to record {stranger:?}")),
        None => Ok(report),
    }
}

/// Checks one command against the stream.
fn check_attempted(attempted: &Attempted, truth: &Truth, report: &mut SharingReport) -> Result<(), String> {
    let recorded = truth.of_actor(&attempted.actor);
    let commits: Vec<CommitId> = recorded.iter().map(|recorded| recorded.id.commit()).collect();
    let is_whole = recorded.len() == attempted.events && commits.iter().all(|commit| *commit == commits[0]);
    if !recorded.is_empty() && !is_whole {
        return Err(format!("it is recorded in parts, or more than once: {recorded:?}"));
    }
    let is_recorded = !recorded.is_empty();
    match &attempted.told {
        Told::Done(outcome) if outcome.commit.is_some() => {
            report.accepted += 1;
            report.shared += u64::from(outcome.cost.requests == 0);
            let events: Vec<_> = recorded.iter().map(|recorded| recorded.event.clone()).collect();
            let last = recorded.last().map(|recorded| recorded.version);
            if (Some(outcome.version), outcome.commit) != (last, commits.first().copied()) {
                return Err(format!("it was told {}, and has {last:?}", outcome.version));
            }
            if outcome.events != events || truth.states.get(&outcome.version) != Some(&outcome.state) {
                return Err(format!("it was told another state or other events: {outcome:?}"));
            }
        }
        _ if is_recorded && !matches!(attempted.told, Told::Unknown | Told::Dropped) => {
            return Err(format!("it is recorded, and was told otherwise: {recorded:?}"));
        }
        Told::Done(outcome) => {
            report.nothing += 1;
            let is_current = attempted.versions.contains(&outcome.version);
            if !is_current || truth.states.get(&outcome.version) != Some(&outcome.state) {
                return Err(format!("it had nothing to do in a state that was not current: {outcome:?}"));
            }
        }
        Told::Rejected(rejected) => {
            report.rejected += 1;
            let mut current = truth.states.range(attempted.versions.clone());
            let has_balance = current.any(|(_, state)| state.balance == rejected.balance);
            if !has_balance || rejected.balance >= attempted.cents {
                return Err(format!("it was rejected in a state that was not current: {rejected:?}"));
            }
        }
        Told::Failed => report.failed += 1,
        Told::Panicked => report.panicked += 1,
        Told::Unknown => {
            report.unknown += 1;
            report.unknown_but_recorded += u64::from(is_recorded);
        }
        Told::Dropped => {
            report.dropped += 1;
            report.dropped_but_recorded += u64::from(is_recorded);
        }
    }
    Ok(())
}
