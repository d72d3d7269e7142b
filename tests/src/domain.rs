//! A small domain for tests: an account with rules that commands can violate.

use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};

/// Money was deposited.
#[event]
pub struct Deposited {
    /// The amount, in cents.
    pub cents: u64,
    /// The note.
    pub note: String,
}

/// Money was withdrawn.
#[event]
pub struct Withdrawn {
    /// The amount, in cents.
    pub cents: u64,
}

/// A rate was set. Not every `f64` has a JSON form.
#[event]
pub struct RateSet {
    /// The rate.
    pub rate: f64,
}

/// The account took a handle, which is unique among accounts.
#[event]
pub struct HandleTaken {
    /// The handle.
    pub handle: String,
}

/// An account, with a snapshot every seven events.
#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[aggregate(
    name = "account",
    id = String,
    events(Deposited, Withdrawn, RateSet, HandleTaken),
    retired("AccountFlagged"),
    snapshot(every = 7)
)]
pub struct Account {
    /// The balance, in cents.
    pub balance: u64,
    /// The notes of all deposits, so that a state shows every event it was folded from.
    pub notes: Vec<String>,
    /// The rate set last.
    pub rate: f64,
    /// The handle, if any.
    pub handle: Option<String>,
    /// The number of events.
    pub events: u64,
}

impl Apply<Deposited> for Account {
    fn apply(&mut self, event: &Deposited) {
        self.balance += event.cents;
        self.notes.push(event.note.clone());
        self.events += 1;
    }
}

impl Apply<Withdrawn> for Account {
    fn apply(&mut self, event: &Withdrawn) {
        self.balance -= event.cents;
        self.events += 1;
    }
}

impl Apply<RateSet> for Account {
    fn apply(&mut self, event: &RateSet) {
        self.rate = event.rate;
        self.events += 1;
    }
}

impl Apply<HandleTaken> for Account {
    fn apply(&mut self, event: &HandleTaken) {
        self.handle = Some(event.handle.clone());
        self.events += 1;
    }
}

/// The reason why an account rejects a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdrawn {
    /// The balance, in cents.
    pub balance: u64,
}

impl std::fmt::Display for Overdrawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the balance is only {}", self.balance)
    }
}

impl std::error::Error for Overdrawn {}

/// Deposits an amount once for each note.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// The amount of each deposit, in cents.
    pub cents: u64,
    /// The note.
    pub notes: Vec<String>,
}

impl Deposit {
    /// Returns a command with one deposit.
    #[must_use]
    pub fn one(cents: u64, note: impl Into<String>) -> Self {
        Self { cents, notes: vec![note.into()] }
    }
}

impl Handle<Deposit> for Account {
    type Error = Overdrawn;

    fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
        Ok(command.notes.iter().map(|note| Deposited { cents: command.cents, note: note.clone() }).collect())
    }
}

/// Withdraws an amount, if the balance covers it.
#[derive(Clone, Debug)]
pub struct Withdraw {
    /// The amount, in cents.
    pub cents: u64,
}

impl Handle<Withdraw> for Account {
    type Error = Overdrawn;

    fn handle(&self, command: &Withdraw, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
        if command.cents > self.balance {
            return Err(Overdrawn { balance: self.balance });
        }
        Ok(Withdrawn { cents: command.cents }.into())
    }
}

/// Sets the rate.
#[derive(Clone, Debug)]
pub struct SetRate {
    /// The rate.
    pub rate: f64,
}

impl Handle<SetRate> for Account {
    type Error = Overdrawn;

    fn handle(&self, command: &SetRate, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
        Ok(RateSet { rate: command.rate }.into())
    }
}

/// Records nothing, and is rejected if the balance is lower than an amount.
#[derive(Clone, Debug)]
pub struct RequireBalance {
    /// The amount, in cents.
    pub cents: u64,
}

impl Handle<RequireBalance> for Account {
    type Error = Overdrawn;

    fn handle(&self, command: &RequireBalance, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
        match command.cents > self.balance {
            true => Err(Overdrawn { balance: self.balance }),
            false => Ok(Events::none()),
        }
    }
}

/// Takes a handle, and releases the previous one.
#[derive(Clone, Debug)]
pub struct TakeHandle {
    /// The handle.
    pub handle: String,
}

impl Handle<TakeHandle> for Account {
    type Error = Overdrawn;

    fn handle(&self, command: &TakeHandle, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
        if self.handle.as_ref() == Some(&command.handle) {
            return Ok(Events::none());
        }
        let mut events = Events::from(HandleTaken { handle: command.handle.clone() });
        if let Some(old) = &self.handle {
            events = events.release("handle", old);
        }
        Ok(events.claim("handle", &command.handle))
    }
}
