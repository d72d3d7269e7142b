// The complete account of the tutorial. Snippets of other chapters include it.

use std::fmt;

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

#[event]
pub struct Opened {
    pub owner: String,
}

#[event]
pub struct Deposited {
    pub cents: u64,
}

#[event]
pub struct Withdrawn {
    pub cents: u64,
}

#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[aggregate(
    name = "account",
    id = String,
    events(Opened, Deposited, Withdrawn),
    snapshot(every = 100)
)]
pub struct Account {
    open: bool,
    balance: u64,
}

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, _: &Opened) {
        self.open = true;
    }

    #[apply]
    fn deposited(&mut self, event: &Deposited) {
        self.balance += event.cents;
    }

    #[apply]
    fn withdrawn(&mut self, event: &Withdrawn) {
        self.balance -= event.cents;
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    NotOpen,
    AlreadyOpen,
    Overdrawn { balance: u64 },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen => f.write_str("the account is not open"),
            Self::AlreadyOpen => f.write_str("the account is open already"),
            Self::Overdrawn { balance } => write!(f, "only {balance} cents are left"),
        }
    }
}

impl std::error::Error for Refused {}

#[derive(Clone, Debug)]
pub struct Open {
    pub owner: String,
}

#[derive(Clone, Debug)]
pub struct Deposit {
    pub cents: u64,
}

#[derive(Clone, Debug)]
pub struct Withdraw {
    pub cents: u64,
}

#[handlers]
impl Account {
    #[handle]
    fn open(&self, command: &Open) -> Result<Opened, Refused> {
        if self.open {
            return Err(Refused::AlreadyOpen);
        }
        Ok(Opened { owner: command.owner.clone() })
    }

    #[handle]
    fn deposit(&self, command: &Deposit) -> Result<Deposited, Refused> {
        if !self.open {
            return Err(Refused::NotOpen);
        }
        Ok(Deposited { cents: command.cents })
    }

    #[handle]
    fn withdraw(&self, command: &Withdraw) -> Result<Withdrawn, Refused> {
        if !self.open {
            return Err(Refused::NotOpen);
        }
        if command.cents > self.balance {
            return Err(Refused::Overdrawn { balance: self.balance });
        }
        Ok(Withdrawn { cents: command.cents })
    }
}
