//! The quick start of the README, which quotes everything below this line.

use std::convert::Infallible;

use es_core::prelude::*;
use es_dynamo::DynamoStore;

// Events: facts, stored as JSON.
#[event]
pub struct Deposited {
    pub cents: u64,
}

#[event]
pub struct Withdrawn {
    pub cents: u64,
}

// The aggregate: the state that its rules need, folded from its events.
#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "account", id = String, events(Deposited, Withdrawn))]
pub struct Account {
    balance: u64,
}

impl Apply<Deposited> for Account {
    fn apply(&mut self, event: &Deposited) {
        self.balance += event.cents;
    }
}

impl Apply<Withdrawn> for Account {
    fn apply(&mut self, event: &Withdrawn) {
        self.balance -= event.cents;
    }
}

// Commands: requests, each with a pure function that accepts or rejects it.
pub struct Deposit {
    pub cents: u64,
}

impl Handle<Deposit> for Account {
    type Error = Infallible;

    fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Deposited { cents: command.cents }.into())
    }
}

pub struct Withdraw {
    pub cents: u64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("only {balance} cents are left")]
pub struct Overdrawn {
    pub balance: u64,
}

impl Handle<Withdraw> for Account {
    type Error = Overdrawn;

    fn handle(&self, command: &Withdraw, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
        if command.cents > self.balance {
            return Err(Overdrawn { balance: self.balance });
        }
        Ok(Withdrawn { cents: command.cents }.into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = DynamoStore::embedded().await?; // on AWS: DynamoStore::from_env().await?
    let accounts: Repository<Account> = Repository::new(store);
    let ann = "ann".to_owned();

    accounts.execute(&ann, Deposit { cents: 500 }).await?;
    let error = accounts.execute(&ann, Withdraw { cents: 900 }).await.unwrap_err();
    assert_eq!(error.rejection(), Some(&Overdrawn { balance: 500 }));

    let done = accounts.execute(&ann, Withdraw { cents: 200 }).await?;
    println!("{} cents at version {}: {}", done.state.balance, done.version, done.cost);
    Ok(())
}
