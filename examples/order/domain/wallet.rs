//! A customer's wallet: money that was paid in advance.

use es_core::{Aggregate, Apply, Context, Events, Handle, event};
use serde::{Deserialize, Serialize};

use super::Money;

/// The customer put money in.
#[event]
pub struct MoneyPaidIn {
    /// How much.
    pub amount: Money,
}

/// The shop took money out.
#[event]
pub struct MoneyTaken {
    /// How much.
    pub amount: Money,
}

/// The shop gave money back.
#[event]
pub struct MoneyGivenBack {
    /// How much.
    pub amount: Money,
}

/// What a customer has paid in advance; identified by the customer's name.
#[derive(Aggregate, Clone, Debug, Default, PartialEq)]
#[aggregate(name = "wallet", id = String, events(MoneyPaidIn, MoneyTaken, MoneyGivenBack))]
pub struct Wallet {
    /// What is left.
    pub balance: Money,
}

impl Apply<MoneyPaidIn> for Wallet {
    fn apply(&mut self, event: &MoneyPaidIn) {
        self.balance = [self.balance, event.amount].into_iter().sum();
    }
}

impl Apply<MoneyTaken> for Wallet {
    fn apply(&mut self, event: &MoneyTaken) {
        self.balance = self.balance.less(event.amount);
    }
}

impl Apply<MoneyGivenBack> for Wallet {
    fn apply(&mut self, event: &MoneyGivenBack) {
        self.balance = [self.balance, event.amount].into_iter().sum();
    }
}

/// Why there is no money to be had.
///
/// A process remembers what it was told, so the error can be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum WalletError {
    /// The customer pays in another way.
    #[error("the customer has no wallet")]
    NoWallet,
    /// There is not enough money in the wallet.
    #[error("there are {balance} in the wallet")]
    TooLittle {
        /// What there is.
        balance: Money,
    },
}

/// Puts money in.
#[derive(Clone, Debug)]
pub struct PayIn {
    /// How much.
    pub amount: Money,
}

impl Handle<PayIn> for Wallet {
    type Error = WalletError;

    fn handle(&self, command: &PayIn, _: &Context<Self>) -> Result<Events<Self>, WalletError> {
        Ok(MoneyPaidIn { amount: command.amount }.into())
    }
}

/// Takes money out.
#[derive(Clone, Debug)]
pub struct Take {
    /// How much.
    pub amount: Money,
}

impl Handle<Take> for Wallet {
    type Error = WalletError;

    fn handle(&self, command: &Take, ctx: &Context<Self>) -> Result<Events<Self>, WalletError> {
        if !ctx.exists() {
            return Err(WalletError::NoWallet);
        }
        if command.amount > self.balance {
            return Err(WalletError::TooLittle { balance: self.balance });
        }
        Ok(MoneyTaken { amount: command.amount }.into())
    }
}

/// Gives money back.
#[derive(Clone, Debug)]
pub struct GiveBack {
    /// How much.
    pub amount: Money,
}

impl Handle<GiveBack> for Wallet {
    type Error = WalletError;

    fn handle(&self, command: &GiveBack, _: &Context<Self>) -> Result<Events<Self>, WalletError> {
        Ok(MoneyGivenBack { amount: command.amount }.into())
    }
}
