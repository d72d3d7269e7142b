//! The domain that all contenders share: an account, and deposits with payloads of about 100 bytes.

use std::convert::Infallible;

use es_core::{Aggregate, Apply, Context, Events, Handle, event};
use serde::{Deserialize, Serialize};

/// The note of every deposit, with which a payload has about 100 bytes.
const NOTE: &str = "a deposit at the counter of the main branch, thanked for and put on record";

/// The number of events between snapshots, for contenders with snapshots.
pub const SNAPSHOT_EVERY: u64 = 100;

/// Money was deposited.
#[event]
pub struct Deposited {
    pub cents: u64,
    pub note: String,
}

impl Deposited {
    pub fn new() -> Self {
        Self { cents: 12_500, note: NOTE.to_owned() }
    }

    /// Returns the payload in JSON, which all contenders store.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a deposit has a JSON form")
    }
}

/// The state, which is as small as that of a typical account.
#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[aggregate(name = "account", id = String, events(Deposited), snapshot(every = 100))]
pub struct Account {
    pub balance: u64,
    pub deposits: u64,
    pub last: String,
}

impl Account {
    /// Applies an event. All contenders use this function.
    pub fn add(&mut self, event: &Deposited) {
        self.balance += event.cents;
        self.deposits += 1;
        self.last.clone_from(&event.note);
    }

    /// Returns the account after `events` events.
    pub fn after(events: u64) -> Self {
        let mut account = Self::default();
        let event = Deposited::new();
        for _ in 0..events {
            account.add(&event);
        }
        account
    }
}

impl Apply<Deposited> for Account {
    fn apply(&mut self, event: &Deposited) {
        self.add(event);
    }
}

/// The command: several deposits at once.
pub struct Deposit {
    pub times: u64,
}

impl Deposit {
    pub fn events(&self) -> impl Iterator<Item = Deposited> {
        (0..self.times).map(|_| Deposited::new())
    }
}

impl Handle<Deposit> for Account {
    type Error = Infallible;

    fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(command.events().collect())
    }
}
