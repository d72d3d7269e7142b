//! Simulations of documents under faults: several clients write notes into shared documents, one or two at a time, and
//! compete to delete others.

use std::collections::HashMap;
use std::sync::Arc;

use es_core::documents::{ChangeError, ChangeSet, Document, DocumentKey, Documents, ExpectedDocument};
use es_core::testing::Faults;
use fastrand::Rng;
use futures_util::future::join_all;
use uuid::Uuid;

use super::client::perhaps_interrupted;
use super::{CLIENTS, COMMANDS, faults};

/// The numbers of documents to write notes into, and to delete.
const SHARED: usize = 3;
/// The number of attempts of a change.
const ATTEMPTS: usize = 4;

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct DocumentReport {
    /// Acknowledged changes.
    pub done: u64,
    /// Outdated changes.
    pub outdated: u64,
    /// Changes refused by the store at every attempt.
    pub refused: u64,
    /// Changes with an unknown outcome.
    pub unknown: u64,
    /// Of the unknown: applied ones.
    pub unknown_but_done: u64,
    /// Of the acknowledged: changes of two documents.
    pub together: u64,
    /// Of the acknowledged: deleted documents.
    pub taken: u64,
}

impl std::ops::AddAssign for DocumentReport {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.outdated += other.outdated;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.unknown_but_done += other.unknown_but_done;
        self.together += other.together;
        self.taken += other.taken;
    }
}

/// The outcome of a change, as returned to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    Outdated,
    /// The store refused the change, which is not applied.
    Refused,
    /// The outcome is unknown, or the client did not wait.
    Nothing,
}

/// An attempted change.
#[derive(Debug)]
struct Tried {
    /// The note to write, or `None` to delete the document.
    note: Option<String>,
    keys: Vec<DocumentKey>,
    told: Told,
}

fn shared(index: usize) -> DocumentKey {
    DocumentKey::new("shared", index.to_string())
}

fn prize(index: usize) -> DocumentKey {
    DocumentKey::new("prizes", index.to_string())
}

/// Runs the clients of one seed, and checks the result.
///
/// `open` returns the store of a client, with the given faults. `truth` is that store without faults.
///
/// # Errors
///
/// The violation found by the check.
pub async fn run(
    seed: u64,
    truth: Arc<dyn Documents>,
    open: impl Fn(Faults) -> Arc<dyn Documents>,
) -> Result<DocumentReport, String> {
    let mut random = Rng::with_seed(seed);
    for index in 0..SHARED {
        let set = ChangeSet::new(new_id(&mut random)).put(prize(index), ExpectedDocument::Absent, "{}");
        truth.change(&set).await.map_err(|error| error.to_string())?;
    }
    let clients = (0..CLIENTS).map(|index| {
        let mut random = Rng::with_seed(random.u64(..));
        let plan = faults(&mut random, seed ^ index as u64);
        let plan = if random.u8(..5) == 0 { plan.crash_after(random.u64(1..40)) } else { plan };
        live(index, random, open(plan))
    });
    let clients: Vec<_> = clients.collect();
    let log: Vec<_> = join_all(clients).await.into_iter().flatten().collect();
    check(&*truth, &log).await
}

fn new_id(random: &mut Rng) -> Uuid {
    Uuid::from_u128(random.u128(..))
}

async fn live(client: usize, mut random: Rng, store: Arc<dyn Documents>) -> Vec<Tried> {
    let mut log = Vec::new();
    for number in 0..COMMANDS {
        let first = random.usize(..SHARED);
        let (keys, note) = match random.u8(..6) {
            0 => (vec![prize(first)], None),
            1 | 2 => {
                let second = (first + random.usize(1..SHARED)) % SHARED;
                (vec![shared(first), shared(second)], Some(format!("{client}.{number}")))
            }
            _ => (vec![shared(first)], Some(format!("{client}.{number}"))),
        };
        let mut set = ChangeSet::new(new_id(&mut random));
        for key in &keys {
            let Some(before) = look(&*store, key).await else { break };
            let expected = ExpectedDocument::from(before.as_ref().map(|before| before.revision));
            set = match (&note, before) {
                (Some(note), before) => set.put(key.clone(), expected, with_note(before, note)),
                (None, Some(_)) => set.delete(key.clone(), expected),
                (None, None) => break,
            };
        }
        if set.changes().len() < keys.len() {
            continue;
        }
        let told = perhaps_interrupted(&mut random, change(&*store, &set)).await.unwrap_or(Told::Nothing);
        log.push(Tried { note, keys, told });
    }
    log
}

fn with_note(before: Option<Document>, note: &str) -> String {
    before.map_or_else(|| note.to_owned(), |before| format!("{} {note}", before.body))
}

/// Reads a document, and retries if that fails.
async fn look(store: &dyn Documents, key: &DocumentKey) -> Option<Option<Document>> {
    for _ in 0..ATTEMPTS {
        if let Ok(found) = store.document(key).await {
            return Some(found);
        }
    }
    None
}

/// Applies a change, with retries. If it is outdated after an attempt without a response, it may have been applied.
async fn change(store: &dyn Documents, set: &ChangeSet) -> Told {
    let mut is_unknown = false;
    for _ in 0..ATTEMPTS {
        match store.change(set).await {
            Ok(()) => return Told::Done,
            Err(ChangeError::Outdated { .. }) if !is_unknown => return Told::Outdated,
            Err(ChangeError::Store(error)) => is_unknown |= error.is_outcome_unknown(),
            Err(_) => return Told::Nothing,
        }
    }
    if is_unknown { Told::Nothing } else { Told::Refused }
}

async fn check(truth: &dyn Documents, log: &[Tried]) -> Result<DocumentReport, String> {
    let mut bodies = HashMap::new();
    for key in (0..SHARED).flat_map(|index| [shared(index), prize(index)]) {
        let found = truth.document(&key).await.map_err(|error| error.to_string())?;
        bodies.insert(key, found.map(|found| found.body));
    }
    let mut report = DocumentReport::default();
    let mut takers = HashMap::<_, Vec<Told>>::new();
    for tried in log {
        match tried.told {
            Told::Done => report.done += 1,
            Told::Outdated => report.outdated += 1,
            Told::Refused => report.refused += 1,
            Told::Nothing => report.unknown += 1,
        }
        let Some(note) = &tried.note else {
            takers.entry(&tried.keys[0]).or_default().push(tried.told);
            continue;
        };
        let times = |key: &DocumentKey| {
            let body = bodies[key].as_deref().unwrap_or_default();
            body.split(' ').filter(|found| found == note).count()
        };
        let times: Vec<_> = tried.keys.iter().map(times).collect();
        if times.iter().any(|found| *found != times[0] || *found > 1) {
            return Err(format!("the note {note} is there {times:?} times: {tried:?}"));
        }
        let is_there = times[0] == 1;
        match tried.told {
            Told::Done if !is_there => return Err(format!("an acknowledged note is lost: {tried:?}")),
            Told::Outdated | Told::Refused if is_there => {
                return Err(format!("a note is there that is said not to be: {tried:?}"));
            }
            Told::Done if times.len() > 1 => report.together += 1,
            Told::Nothing if is_there => report.unknown_but_done += 1,
            _ => {}
        }
    }
    for index in 0..SHARED {
        let key = prize(index);
        let told = takers.remove(&key).unwrap_or_default();
        let count = |kind| told.iter().filter(|told| **told == kind).count();
        let (done, unknown, is_there) = (count(Told::Done), count(Told::Nothing), bodies[&key].is_some());
        if done > 1 || (done == 1 && is_there) || (done == 0 && unknown == 0 && !is_there) {
            return Err(format!("`{key}`, there: {is_there}, was taken by {told:?}"));
        }
        report.taken += done as u64;
    }
    Ok(report)
}
