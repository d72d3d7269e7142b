//! The domain: an account, and deposits whose payloads have about 100 bytes of JSON.

use std::convert::Infallible;

use es_core::prelude::*;

/// Money was deposited.
#[event]
pub struct Deposited {
    pub cents: u64,
    pub note: String,
}

#[derive(Aggregate, Clone, Default)]
#[aggregate(name = "account", id = String, events(Deposited))]
pub struct Account;

impl Apply<Deposited> for Account {
    fn apply(&mut self, _: &Deposited) {}
}

/// Records one deposit.
pub struct Deposit;

impl Handle<Deposit> for Account {
    type Error = Infallible;

    fn handle(&self, _: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        let note = "a deposit at the counter of the main branch, thanked for and put on record";
        Ok(Deposited { cents: 12_500, note: note.to_owned() }.into())
    }
}
