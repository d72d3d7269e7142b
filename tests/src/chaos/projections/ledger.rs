//! The projection of the runs, which records every event in several ways.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};
use fastrand::Rng;

use crate::chaos::user_code::Misbehavior;
use crate::domain::{Account, Deposited, Withdrawn};

/// The versions of one account's events, in the order of handling. Each event moves the row in its index.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "seen", key = account, index(by_parity(odd, count)))]
pub(super) struct Seen {
    pub(super) account: String,
    pub(super) odd: bool,
    pub(super) count: usize,
    pub(super) versions: Vec<u64>,
}

/// One event, with so many indexes that a page of events exceeds a transaction.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(
    name = "marks",
    key = event,
    index(by_account(account, version)),
    index(second(account)),
    index(third(account)),
    index(fourth(account)),
    index(fifth(account)),
    index(sixth(account))
)]
pub(super) struct Mark {
    pub(super) event: String,
    pub(super) account: String,
    pub(super) version: u64,
}

/// The number of events of a slice: a row that many streams change.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "counters", key = slice)]
pub(super) struct Counter {
    pub(super) slice: u32,
    pub(super) events: u64,
}

/// An event: its account and version.
pub(super) type Place = (String, u64);

/// Determines which events fail, and when.
#[derive(Clone)]
pub(super) struct Trouble {
    shared: Arc<Shared>,
}

struct Shared {
    /// The probability that an attempt fails.
    flaky: f64,
    /// One event in this many always fails.
    poison: Option<u64>,
    /// Lets handlers panic and hang.
    misbehavior: Option<Misbehavior>,
    is_over: AtomicBool,
    failures: AtomicU64,
    random: Mutex<Rng>,
    /// The events handled outside of the store, at least once.
    sink: Mutex<Vec<Place>>,
}

impl Trouble {
    pub(super) fn new(random: &mut Rng) -> Self {
        let shared = Shared {
            flaky: if random.bool() { random.f64() * 0.3 } else { 0.0 },
            poison: random.bool().then(|| random.u64(5..40)),
            misbehavior: random.bool().then(|| Misbehavior::new(random.f64() * 0.03, random.fork())),
            is_over: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            random: Mutex::new(random.fork()),
            sink: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Ends all failures.
    pub(super) fn end(&self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.misbehavior.iter().for_each(Misbehavior::end);
    }

    pub(super) fn sink(&self) -> Vec<Place> {
        self.shared.sink.lock().expect("is not poisoned").clone()
    }

    /// Returns whether handlers panic and hang.
    pub(super) fn interrupts(&self) -> bool {
        self.shared.misbehavior.is_some()
    }

    /// Returns how often they did.
    pub(super) fn interruptions(&self) -> u64 {
        self.shared.misbehavior.as_ref().map_or(0, Misbehavior::interruptions)
    }

    /// Returns whether only the store fails.
    pub(super) fn is_none(&self) -> bool {
        let Shared { flaky, poison, .. } = &*self.shared;
        *flaky == 0.0 && poison.is_none() && !self.interrupts()
    }

    pub(super) fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::SeqCst)
    }

    /// Returns how many changes an event makes before it fails, or `None` if it does not fail.
    fn fails_after(&self, (account, version): &Place) -> Option<u8> {
        if self.shared.is_over.load(Ordering::SeqCst) {
            return None;
        }
        let mut random = self.shared.random.lock().expect("is not poisoned");
        let number = account.bytes().fold(*version, |hash, byte| hash * 31 + u64::from(byte));
        let is_poison = self.shared.poison.is_some_and(|one_of| number % one_of == 0);
        (is_poison || random.f64() < self.shared.flaky).then(|| {
            self.shared.failures.fetch_add(1, Ordering::SeqCst);
            random.u8(..4)
        })
    }
}

#[derive(Clone, Projection)]
#[projection(name = "ledger", events(Account(Deposited, Withdrawn)))]
pub(super) struct Ledger {
    #[read_model]
    pub(super) seen: ReadModel<Seen>,
    #[read_model]
    pub(super) marks: ReadModel<Mark>,
    #[read_model]
    pub(super) counters: ReadModel<Counter>,
    trouble: Trouble,
}

impl Ledger {
    pub(super) fn new(store: &Arc<dyn Feed>, trouble: Trouble) -> Self {
        Self {
            seen: ReadModel::of::<Self>(store),
            marks: ReadModel::of::<Self>(store),
            counters: ReadModel::of::<Self>(store),
            trouble,
        }
    }

    async fn note(&mut self, ctx: &EventContext) -> Result<(), BoxError> {
        let place = (ctx.id().to_owned(), ctx.version().get());
        let fails_after = self.trouble.fails_after(&place);
        let fail =
            |changes| (fails_after == Some(changes)).then_some("failed on purpose").map_or(Ok(()), Err);
        fail(0)?;
        let (account, version) = place.clone();
        self.marks.put(Mark { event: format!("{account}@{version}"), account, version })?;
        fail(1)?;
        if let Some(misbehavior) = &self.trouble.shared.misbehavior {
            misbehavior.may_strike().await;
        }
        let mut seen = self.seen.get(&place.0).await?.unwrap_or_else(|| Seen {
            account: place.0.clone(),
            odd: false,
            count: 0,
            versions: Vec::new(),
        });
        seen.versions.push(place.1);
        (seen.count, seen.odd) = (seen.versions.len(), seen.versions.len() % 2 == 1);
        self.seen.put(seen)?;
        fail(2)?;
        let slice = ctx.slice().get();
        let events = self.counters.get(&slice).await?.map_or(0, |counter| counter.events);
        self.counters.put(Counter { slice, events: events + 1 })?;
        fail(3)?;
        self.trouble.shared.sink.lock().expect("is not poisoned").push(place);
        Ok(())
    }
}

impl Project<Deposited> for Ledger {
    async fn project(&mut self, _: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        self.note(ctx).await
    }
}

impl Project<Withdrawn> for Ledger {
    async fn project(&mut self, _: &Withdrawn, ctx: &EventContext) -> Result<(), BoxError> {
        self.note(ctx).await
    }
}
