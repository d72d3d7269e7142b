//! The domain: accounts.

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

/// Money was paid into the account.
#[event]
pub struct Deposited {
    /// The amount, in cents.
    pub cents: u64,
}

/// Money was paid out of the account.
#[event]
pub struct Withdrawn {
    /// The amount, in cents.
    pub cents: u64,
}

/// An account.
#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "account", id = String, events(Deposited, Withdrawn))]
pub struct Account {
    /// The balance, in cents.
    pub balance: u64,
}

/// Pays money into the account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Deposit {
    /// The amount, in cents.
    pub cents: u64,
}

/// Pays money out of the account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Withdraw {
    /// The amount, in cents.
    pub cents: u64,
}

/// The reason why a command is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The amount is zero.
    #[error("the amount must not be zero")]
    Zero,
    /// The balance is too low, or the amount too high.
    #[error("the balance of {balance} cents does not allow this amount")]
    Balance {
        /// The balance, in cents.
        balance: u64,
    },
}

#[handlers]
impl Account {
    #[apply]
    fn deposited(&mut self, event: &Deposited) {
        self.balance += event.cents;
    }

    #[apply]
    fn withdrawn(&mut self, event: &Withdrawn) {
        self.balance -= event.cents;
    }

    #[handle]
    fn deposit(&self, command: &Deposit) -> Result<Deposited, Refused> {
        let cents = self.amount(command.cents)?;
        match self.balance.checked_add(cents) {
            Some(_) => Ok(Deposited { cents }),
            None => Err(Refused::Balance { balance: self.balance }),
        }
    }

    #[handle]
    fn withdraw(&self, command: &Withdraw) -> Result<Withdrawn, Refused> {
        let cents = self.amount(command.cents)?;
        match cents <= self.balance {
            true => Ok(Withdrawn { cents }),
            false => Err(Refused::Balance { balance: self.balance }),
        }
    }

    #[expect(clippy::unused_self, reason = "a block with #[handlers] has methods only")]
    fn amount(&self, cents: u64) -> Result<u64, Refused> {
        if cents == 0 { Err(Refused::Zero) } else { Ok(cents) }
    }
}
