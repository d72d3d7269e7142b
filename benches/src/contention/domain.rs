//! The domain: an account with small deposits, with and without snapshots.

use std::convert::Infallible;

use es_core::{Aggregate, Apply, Context, Events, Handle, event};
use serde::{Deserialize, Serialize};

/// The text in every event, with which a payload has about 100 bytes.
const NOTE: &str = "a deposit at the counter of the main branch, thanked for and put on record";

#[event]
pub struct Deposited {
    pub cents: u64,
    pub note: String,
}

impl Deposited {
    pub fn new() -> Self {
        Self { cents: 12_500, note: NOTE.to_owned() }
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a deposit has a JSON form")
    }
}

#[derive(Aggregate, Clone, Debug, Default, Serialize, Deserialize)]
#[aggregate(name = "account", id = String, events(Deposited), snapshot(every = 100))]
pub struct Account {
    pub deposits: u64,
    pub balance: u64,
}

impl Apply<Deposited> for Account {
    fn apply(&mut self, event: &Deposited) {
        self.deposits += 1;
        self.balance += event.cents;
    }
}

pub struct Deposit;

impl Handle<Deposit> for Account {
    type Error = Infallible;

    fn handle(&self, _: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Deposited::new().into())
    }
}

/// A ledger whose state has about 20 KB of JSON, in which every line has other numbers.
#[derive(Aggregate, Clone, Debug, Default, Serialize, Deserialize)]
#[aggregate(name = "ledger", id = String, events(Deposited), snapshot(every = 1))]
pub struct Ledger {
    pub lines: Vec<String>,
}

impl Apply<Deposited> for Ledger {
    fn apply(&mut self, event: &Deposited) {
        let line = |line: u64| {
            let number = (line + event.cents).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
            let (article, pieces, cents) = (number % 1_000_000, number % 97, number / 97 % 100_000);
            format!(
                "{line:04}: {pieces} pieces of article {article:06} for {cents} cents each, for the stock of depot {}",
                number % 12
            )
        };
        self.lines = (0..200).map(line).collect();
    }
}

impl Handle<Deposit> for Ledger {
    type Error = Infallible;

    fn handle(&self, _: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Deposited::new().into())
    }
}
