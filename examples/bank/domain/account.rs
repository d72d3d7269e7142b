//! The aggregate: what an account's events add up to.

use std::fmt;
use std::str::FromStr;

use es_core::{Aggregate, Apply};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Money;
use super::events::{AccountClosed, AccountOpened, Deposited, TransferReceived, TransferSent, Withdrawn};

/// Identifies an account. It is not its number, which another account may get once this one is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub Uuid);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AccountId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// How far an account has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// There is no account yet.
    #[default]
    New,
    /// In use.
    Open,
    /// No longer in use.
    Closed,
}

/// An account.
#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[aggregate(
    name = "account",
    id = AccountId,
    events(AccountOpened, Deposited, Withdrawn, TransferSent, TransferReceived, AccountClosed),
    snapshot(every = 20)
)]
pub struct Account {
    /// How far it has come.
    pub status: Status,
    /// Whose it is.
    pub owner: String,
    /// Its number, which no other open account has.
    pub number: String,
    /// What is on it.
    pub balance: Money,
}

impl Apply<AccountOpened> for Account {
    fn apply(&mut self, event: &AccountOpened) {
        self.status = Status::Open;
        self.owner.clone_from(&event.owner);
        self.number.clone_from(&event.number);
    }
}

impl Apply<Deposited> for Account {
    fn apply(&mut self, event: &Deposited) {
        self.balance = self.balance.plus(event.amount);
    }
}

impl Apply<Withdrawn> for Account {
    fn apply(&mut self, event: &Withdrawn) {
        self.balance = self.balance.minus(event.amount);
    }
}

impl Apply<TransferSent> for Account {
    fn apply(&mut self, event: &TransferSent) {
        self.balance = self.balance.minus(event.amount);
    }
}

impl Apply<TransferReceived> for Account {
    fn apply(&mut self, event: &TransferReceived) {
        self.balance = self.balance.plus(event.amount);
    }
}

impl Apply<AccountClosed> for Account {
    fn apply(&mut self, _: &AccountClosed) {
        self.status = Status::Closed;
    }
}
