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

/// What a customer has paid in advance; identified by the customer's name.
#[derive(Aggregate, Clone, Debug, Default, PartialEq)]
#[aggregate(name = "wallet", id = String, events(MoneyPaidIn, MoneyTaken))]
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

/// There is not enough money in the wallet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("there are {balance} in the wallet")]
pub struct TooLittle {
    /// What there is.
    pub balance: Money,
}

/// Puts money in.
#[derive(Clone, Debug)]
pub struct PayIn {
    /// How much.
    pub amount: Money,
}

impl Handle<PayIn> for Wallet {
    type Error = TooLittle;

    fn handle(&self, command: &PayIn, _: &Context<Self>) -> Result<Events<Self>, TooLittle> {
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
    type Error = TooLittle;

    fn handle(&self, command: &Take, _: &Context<Self>) -> Result<Events<Self>, TooLittle> {
        if command.amount > self.balance {
            return Err(TooLittle { balance: self.balance });
        }
        Ok(MoneyTaken { amount: command.amount }.into())
    }
}
