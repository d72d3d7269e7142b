//! The domain of the hostile items: a ledger that shows all of its events, and accepts any number.

use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};
use serde_json::Value;

/// An amount was booked.
#[event]
pub(crate) struct Booked {
    pub(crate) amount: i64,
    #[serde(default)]
    pub(crate) detail: Value,
}

/// A ledger, with a snapshot every three events.
#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[aggregate(name = "ledger", id = String, events(Booked), snapshot(every = 3))]
pub(crate) struct Ledger {
    pub(crate) sum: i64,
    pub(crate) details: Vec<Value>,
}

impl Apply<Booked> for Ledger {
    fn apply(&mut self, event: &Booked) {
        self.sum = self.sum.wrapping_add(event.amount);
        self.details.push(event.detail.clone());
    }
}

/// Books an amount.
pub(crate) struct Book(pub(crate) i64);

impl Handle<Book> for Ledger {
    type Error = std::convert::Infallible;

    fn handle(&self, command: &Book, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        Ok(Booked { amount: command.0, detail: Value::Null }.into())
    }
}
