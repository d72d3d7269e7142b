//! A small domain to test with: an account whose rules can be broken.

use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};

/// Money came in.
#[event]
pub struct Deposited {
    /// How much, in cents.
    pub cents: u64,
    /// What for.
    pub note: String,
}

/// Money went out.
#[event]
pub struct Withdrawn {
    /// How much, in cents.
    pub cents: u64,
}

/// A rate was set; not every `f64` has a JSON form.
#[event]
pub struct RateSet {
    /// The rate.
    pub rate: f64,
}

/// The account can be found under a handle that no other account has.
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
    /// In cents.
    pub balance: u64,
    /// The notes of all deposits, so that a state shows every event that made it.
    pub notes: Vec<String>,
    /// The last rate set.
    pub rate: f64,
    /// The handle, if it has one.
    pub handle: Option<String>,
    /// How many events there were.
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

/// What the account refuses.
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
    /// How much each time, in cents.
    pub cents: u64,
    /// What for.
    pub notes: Vec<String>,
}

impl Deposit {
    /// One deposit.
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

/// Withdraws an amount, if it is there.
#[derive(Clone, Debug)]
pub struct Withdraw {
    /// How much, in cents.
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

/// Does nothing, if an amount is there.
#[derive(Clone, Debug)]
pub struct RequireBalance {
    /// How much, in cents.
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

/// Takes a handle, and gives back the one before.
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
