//! A customer's wallet, which is paid into in advance.

use es_core::{Aggregate, Context, event, handlers};
use serde::{Deserialize, Serialize};

use super::Money;

/// The customer paid money into the wallet.
#[event]
pub struct MoneyPaidIn {
    /// The amount.
    pub amount: Money,
}

/// The shop took money out of the wallet.
#[event]
pub struct MoneyTaken {
    /// The amount.
    pub amount: Money,
}

/// The shop returned money to the wallet.
#[event]
pub struct MoneyGivenBack {
    /// The amount.
    pub amount: Money,
}

/// A customer's wallet, identified by the customer's name.
#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize)]
#[aggregate(name = "wallet", id = String, events(MoneyPaidIn, MoneyTaken, MoneyGivenBack))]
pub struct Wallet {
    /// The money in the wallet.
    pub balance: Money,
}

/// Pays money into the wallet.
#[derive(Clone, Debug)]
pub struct PayIn {
    /// The amount.
    pub amount: Money,
}

/// Takes money out of the wallet.
#[derive(Clone, Debug)]
pub struct Take {
    /// The amount.
    pub amount: Money,
}

/// Returns money to the wallet.
#[derive(Clone, Debug)]
pub struct GiveBack {
    /// The amount.
    pub amount: Money,
}

/// The reason why money cannot be taken.
///
/// A process stores the answers to its commands, so the error can be serialized.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum WalletError {
    /// The customer pays in another way.
    #[error("the customer has no wallet")]
    NoWallet,
    /// There is not enough money in the wallet.
    #[error("there are {balance} in the wallet")]
    TooLittle {
        /// The money in the wallet.
        balance: Money,
    },
}

#[handlers]
impl Wallet {
    #[apply]
    fn paid_in(&mut self, event: &MoneyPaidIn) {
        self.balance = [self.balance, event.amount].into_iter().sum();
    }

    #[apply]
    fn taken(&mut self, event: &MoneyTaken) {
        self.balance = self.balance.less(event.amount);
    }

    #[apply]
    fn given_back(&mut self, event: &MoneyGivenBack) {
        self.balance = [self.balance, event.amount].into_iter().sum();
    }

    #[handle]
    fn pay_in(&self, command: &PayIn) -> MoneyPaidIn {
        MoneyPaidIn { amount: command.amount }
    }

    #[handle]
    fn take(&self, command: &Take, ctx: &Context<Self>) -> Result<MoneyTaken, WalletError> {
        if !ctx.exists() {
            return Err(WalletError::NoWallet);
        }
        if command.amount > self.balance {
            return Err(WalletError::TooLittle { balance: self.balance });
        }
        Ok(MoneyTaken { amount: command.amount })
    }

    #[handle]
    fn give_back(&self, command: &GiveBack) -> MoneyGivenBack {
        MoneyGivenBack { amount: command.amount }
    }
}
