//! The aggregate: the state that is folded from an account's events.

use es_core::{Aggregate, Id, handlers};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Money;
use super::events::{AccountClosed, AccountOpened, Deposited, TransferReceived, TransferSent, Withdrawn};

/// The id of an account. Its number is not suitable as an id, because another account may get it after this one is
/// closed.
#[derive(Id)]
pub struct AccountId(pub Uuid);

/// The status of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The account has not been opened yet.
    #[default]
    New,
    /// The account is open.
    Open,
    /// The account was closed.
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
    /// The status of the account.
    pub status: Status,
    /// The owner's name.
    pub owner: String,
    /// The account number, which no other open account has.
    pub number: String,
    /// The balance.
    pub balance: Money,
}

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, event: &AccountOpened) {
        self.status = Status::Open;
        self.owner.clone_from(&event.owner);
        self.number.clone_from(&event.number);
    }

    #[apply]
    fn deposited(&mut self, event: &Deposited) {
        self.balance = self.balance.plus(event.amount);
    }

    #[apply]
    fn withdrawn(&mut self, event: &Withdrawn) {
        self.balance = self.balance.minus(event.amount);
    }

    #[apply]
    fn transfer_sent(&mut self, event: &TransferSent) {
        self.balance = self.balance.minus(event.amount);
    }

    #[apply]
    fn transfer_received(&mut self, event: &TransferReceived) {
        self.balance = self.balance.plus(event.amount);
    }

    #[apply]
    fn closed(&mut self, _: &AccountClosed) {
        self.status = Status::Closed;
    }
}
