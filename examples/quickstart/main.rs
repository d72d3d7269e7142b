//! The quick start of the README, which quotes everything below this line.

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

// Commands: requests to an account.
pub struct Deposit {
    pub cents: u64,
}

pub struct Withdraw {
    pub cents: u64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("only {balance} cents are left")]
pub struct Overdrawn {
    pub balance: u64,
}

// The aggregate: the state that its rules need.
#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "account", id = String, events(Deposited, Withdrawn))]
pub struct Account {
    balance: u64,
}

#[handlers]
impl Account {
    // Events change the state.
    #[apply]
    fn deposited(&mut self, event: &Deposited) {
        self.balance += event.cents;
    }

    #[apply]
    fn withdrawn(&mut self, event: &Withdrawn) {
        self.balance -= event.cents;
    }

    // Commands are decided on the state, by pure functions.
    #[handle]
    fn deposit(&self, command: &Deposit) -> Deposited {
        Deposited { cents: command.cents }
    }

    #[handle]
    fn withdraw(&self, command: &Withdraw) -> Result<Withdrawn, Overdrawn> {
        if command.cents > self.balance {
            return Err(Overdrawn { balance: self.balance });
        }
        Ok(Withdrawn { cents: command.cents })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = DynamoStore::embedded().await?; // on AWS: DynamoStore::from_env().await?
    let accounts: Repository<Account> = Repository::new(store);

    accounts.execute("ann", Deposit { cents: 500 }).await?;
    let error = accounts.execute("ann", Withdraw { cents: 900 }).await.unwrap_err();
    assert_eq!(error.rejection(), Some(&Overdrawn { balance: 500 }));

    let done = accounts.execute("ann", Withdraw { cents: 200 }).await?;
    println!("{} cents at version {}: {}", done.state.balance, done.version, done.cost);
    Ok(())
}
