//! Faults below the SDK, of the table of the keys and of the events: lost requests and responses, throttling,
//! responses from elsewhere, and processes that die between any two requests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::time::Duration;

use es_core::personal::{KeyState, Keyring, Personal, SealedStore, Subject};
use es_core::prelude::*;
use es_core::repository::RetryBudget;
use es_core::testing::Faults;
use es_core::{Projector, RetryPolicy, StoreError};
use es_dynamo::embedded::Engine;
use es_dynamo::keyring::{DynamoKeyring, LocalMasterKey};
use es_dynamo::{DynamoStore, Reconciler};
use es_tests::chaos;
use futures_util::future::join_all;

use super::domain::{Contact, Customer, CustomerEvent, Directory, Move, Register, SendMail, secret};
use crate::faults::open;
use crate::processes::support::Time;

/// The customers. The last one is never forgotten.
const IDS: [&str; 4] = ["17", "18", "19", "20"];

/// Returns the keyring of a process with this store, whose other requests have these faults. The age of its cached keys
/// is measured in the paused time of the run.
type NewKeyring = dyn Fn(&DynamoStore, Option<&Faults>) -> DynamoKeyring;

/// What the runs have tried.
#[derive(Debug, Default)]
struct Tried {
    acknowledged: u64,
    refused: u64,
    deaths: u64,
    forgotten: u64,
    faults: u64,
}

impl AddAssign for Tried {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.deaths += other.deaths;
        self.forgotten += other.forgotten;
        self.faults += other.faults;
    }
}

/// The commands of one kind for one customer.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    acknowledged: usize,
    /// Those during which a process has died: each may have been recorded.
    unknown: usize,
}

type Counts = BTreeMap<(&'static str, Kind), Count>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Register,
    Move,
    Mail,
}

/// A process: executes commands until each is acknowledged or refused, or it dies.
struct Life {
    number: u64,
    store: DynamoStore,
    keyring: DynamoKeyring,
    faults: Faults,
    dies_at: u64,
}

impl Life {
    async fn run(self, seed: u64, counts: &mut Counts, tried: &mut Tried) -> Result<(), String> {
        let mut random = fastrand::Rng::with_seed(seed * 1_000 + self.number);
        let sealed = SealedStore::new(self.store.clone(), self.keyring.clone());
        let retry = RetryPolicy::default().with_base_delay(Duration::from_millis(1));
        let customers: Repository<Customer> = Repository::builder(sealed)
            .clock(Time)
            .retry(retry)
            .retry_budget(RetryBudget::unlimited())
            .build();
        for step in 0..6 {
            let id = IDS[random.usize(..IDS.len())];
            let kind = [Kind::Register, Kind::Move, Kind::Mail][random.usize(..3)];
            let key = format!("{}/{step}", self.number);
            loop {
                let once = || customers.once(&key);
                let result = match kind {
                    Kind::Register => failure(once().execute(id, Register { name: secret(id) }).await),
                    Kind::Move => failure(once().execute(id, Move { street: secret(id) }).await),
                    Kind::Mail => failure(once().execute(id, SendMail).await),
                };
                let count = counts.entry((id, kind)).or_default();
                match result {
                    None => {
                        count.acknowledged += 1;
                        tried.acknowledged += 1;
                        break;
                    }
                    Some(Failure::Rejected) => break,
                    Some(Failure::Store(StoreError::Invalid { reason, .. }))
                        if reason.contains("was forgotten") =>
                    {
                        tried.refused += 1;
                        break;
                    }
                    Some(_) if self.faults.requests() >= self.dies_at => {
                        count.unknown += 1;
                        tried.deaths += 1;
                        return Ok(());
                    }
                    Some(Failure::Conflict) => {}
                    Some(Failure::Store(error)) if error.is_transient() => {}
                    Some(Failure::Store(error)) => return Err(format!("{kind:?} of {id}: {error:?}")),
                }
            }
            tokio::time::sleep(Duration::from_millis(random.u64(..50))).await;
        }
        tried.faults += self.faults.injected();
        Ok(())
    }
}

/// The failure of a command.
enum Failure {
    Rejected,
    Conflict,
    Store(StoreError),
}

fn failure<T, E>(result: Result<T, ExecuteError<E>>) -> Option<Failure> {
    match result {
        Ok(_) => None,
        Err(ExecuteError::Rejected(_)) => Some(Failure::Rejected),
        Err(ExecuteError::Conflict(_)) => Some(Failure::Conflict),
        Err(ExecuteError::Store(error)) => Some(Failure::Store(error)),
        Err(_) => panic!("an error that these commands do not have"),
    }
}

fn faults(random: &mut fastrand::Rng) -> Faults {
    Faults::seeded(random.u64(..))
        .lost_requests(0.05)
        .lost_answers(0.08)
        .throttling(0.05)
        .internal_errors(0.03)
        .unreadable_answers(0.05)
        .stalls(0.01)
        .delays(0.1, Duration::from_millis(20))
}

fn subject(id: &str) -> Subject {
    Subject::new(id).expect("valid")
}

async fn run(seed: u64, new_keyring: Box<NewKeyring>) -> Result<Tried, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let engine = Engine::in_memory().expect("starts");
    let truth = open(&engine, None);
    truth.create_table().await.expect("created");
    new_keyring(&truth, None).create_table().await.expect("created");

    // Processes that follow each other, side by side with others.
    let lives = (0..3).map(|lane| {
        let (mut random, engine, new_keyring) = (random.fork(), &engine, &new_keyring);
        async move {
            let (mut counts, mut tried) = (Counts::new(), Tried::default());
            for life in 0..3 {
                let dies_at = if random.u32(..3) == 0 { u64::MAX } else { random.u64(1..40) };
                let faults = faults(&mut random);
                let faults = if dies_at == u64::MAX { faults } else { faults.crash_after(dies_at) };
                let store = open(engine, Some(faults.clone()));
                let keyring = new_keyring(&store, Some(&faults));
                let life = Life { number: lane * 10 + life, store, keyring, faults, dies_at };
                life.run(seed, &mut counts, &mut tried).await?;
            }
            Ok::<_, String>((counts, tried))
        }
    });
    let lives = join_all(lives.collect::<Vec<_>>());
    let mut when = random.fork();
    let forgetting = async {
        let mut forgotten = BTreeSet::new();
        for id in &IDS[..3] {
            tokio::time::sleep(Duration::from_millis(when.u64(..150))).await;
            if when.u32(..4) == 0 {
                continue;
            }
            let faults = faults(&mut when);
            let keyring = new_keyring(&open(&engine, Some(faults.clone())), Some(&faults));
            while keyring.forget(&subject(id)).await.is_err() {}
            forgotten.insert(*id);
        }
        forgotten
    };
    let (lives, forgotten) = tokio::join!(lives, forgetting);
    let (mut counts, mut tried) = (Counts::new(), Tried::default());
    for life in lives {
        let (of_life, tried_by_life) = life?;
        tried += tried_by_life;
        for (key, count) in of_life {
            let sum = counts.entry(key).or_default();
            *sum = Count {
                acknowledged: sum.acknowledged + count.acknowledged,
                unknown: sum.unknown + count.unknown,
            };
        }
    }
    tried.forgotten = forgotten.len() as u64;
    check(&truth, &new_keyring(&truth, None), &counts, &forgotten).await?;
    Ok(tried)
}

/// Checks the events and the rows as a new process without faults reads them.
async fn check(
    truth: &DynamoStore,
    keyring: &DynamoKeyring,
    counts: &Counts,
    forgotten: &BTreeSet<&'static str>,
) -> Result<(), String> {
    let sealed = SealedStore::new(truth.clone(), keyring.clone());
    let customers: Repository<Customer> = Repository::builder(sealed.clone()).clock(Time).build();
    Reconciler::builder(truth).build().run().await.map_err(|error| error.to_string())?;
    let directory = Directory { entries: ReadModel::of::<Directory>(&sealed) };
    let entries = directory.entries.clone();
    let projector = Projector::builder(sealed, directory).clock(Time).build();
    projector.run_until_caught_up().await.map_err(|error| error.to_string())?;

    for id in IDS {
        let is_forgotten = forgotten.contains(id);
        let history = customers.history(id).all().await.map_err(|error| format!("{id}: {error:?}"))?;
        let (mut registered, mut moved, mut mailed, mut values) = (0, 0, 0, Vec::new());
        for event in history {
            match event.event {
                CustomerEvent::Registered(event) => {
                    registered += 1;
                    values.push(event.name.into_value());
                    values.extend(event.phones.into_iter().map(Personal::into_value));
                }
                CustomerEvent::Contact(Contact::Moved { address, .. }) => {
                    moved += 1;
                    let address = address.expect("given").into_value();
                    values.push(address.map(|address| address.street));
                }
                CustomerEvent::Contact(Contact::Mailed) => mailed += 1,
            }
        }
        for (kind, recorded) in [(Kind::Register, registered), (Kind::Move, moved), (Kind::Mail, mailed)] {
            let Count { acknowledged, unknown } = counts.get(&(id, kind)).copied().unwrap_or_default();
            if recorded < acknowledged || recorded > acknowledged + unknown {
                return Err(format!(
                    "{kind:?} of {id}: {recorded} recorded, {acknowledged} acknowledged, {unknown} unknown"
                ));
            }
        }
        let expected = (!is_forgotten).then(|| secret(id));
        if values.iter().any(|value| *value != expected) {
            return Err(format!("{id}, forgotten: {is_forgotten}, has the values {values:?}"));
        }
        let row = entries.get(id).await.map_err(|error| error.to_string())?;
        if row.is_some_and(|row| row.name.into_value() != expected) {
            return Err(format!("the row of {id} has another name"));
        }
        let state = keyring.keys_or_create(&[subject(id)]).await.map_err(|error| error.to_string())?;
        if (state[0] == KeyState::Forgotten) != is_forgotten {
            return Err(format!("{id}, forgotten: {is_forgotten}, has the key {:?}", state[0]));
        }
    }
    Ok(())
}

/// Runs the seeds, each with the keyrings that a call of `keyrings` returns.
pub(crate) fn run_all(name: &str, runs: u64, keyrings: impl Fn() -> Box<NewKeyring> + Send + Sync + 'static) {
    let run = async move |seed| run(seed, keyrings()).await;
    chaos::run_all(name, runs, 10, run, |total: &Tried| {
        let Tried { acknowledged, refused, deaths, forgotten, faults } = *total;
        [acknowledged, refused, deaths, forgotten, faults]
    });
}

#[test]
fn nothing_acknowledged_is_unreadable_and_nothing_forgotten_comes_back() {
    run_all("keyring", 12, || {
        Box::new(|store, _| {
            DynamoKeyring::builder(store.client(), LocalMasterKey::new([1; 32])).clock(Time).build()
        })
    });
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_between_any_two_requests_leaves_a_key_that_others_use() {
    let master_key = || LocalMasterKey::new([1; 32]);
    let mut deaths_between_the_key_and_the_event = 0;
    for (dies_at, seed) in (1..=5).flat_map(|dies_at| (0..3).map(move |seed| (dies_at, seed))) {
        let engine = Engine::in_memory().expect("starts");
        let truth = open(&engine, None);
        truth.create_table().await.expect("created");
        let keyring = || DynamoKeyring::builder(truth.client(), master_key()).clock(Time).build();
        keyring().create_table().await.expect("created");
        let ann = [subject("17")];

        let store = open(&engine, Some(Faults::seeded(seed).crash_after(dies_at)));
        let dying = DynamoKeyring::builder(store.client(), master_key()).clock(Time).build();
        let dying: Repository<Customer> =
            Repository::builder(SealedStore::new(store, dying)).retry(RetryPolicy::never()).build();
        let died = dying.execute("17", Register { name: secret("17") }).await.is_err();

        let customers: Repository<Customer> = Repository::new(SealedStore::new(truth.clone(), keyring()));
        let key = keyring().keys(&ann).await.expect("read");
        let is_recorded = customers.exists("17").await.expect("read");
        assert!(died || is_recorded, "acknowledged");
        deaths_between_the_key_and_the_event += u32::from(key != [KeyState::Missing] && !is_recorded);
        if !is_recorded {
            customers.execute("17", Register { name: secret("17") }).await.expect("accepted");
        }
        let after = keyring().keys(&ann).await.expect("read");
        assert!(key == after || key == [KeyState::Missing], "the key has changed");
        let loaded = customers.load("17").await.expect("loaded");
        assert_eq!(loaded.state.name, Some(Personal::from(secret("17"))));
    }
    assert!(deaths_between_the_key_and_the_event > 0);
}
