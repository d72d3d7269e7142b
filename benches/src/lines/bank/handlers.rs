//! The Bank domain on this framework, with `#[handlers]`.

use es_core::prelude::*;
use es_core::{ExecuteError, MemoryStore};
use serde::{Deserialize, Serialize};

use super::vocabulary::{AccountError, MAX, NUMBER, Status};
use super::{Step, Told};

#[event]
pub struct AccountOpened {
    pub owner: String,
    pub number: String,
}

#[event]
pub struct Deposited {
    pub cents: u64,
}

#[event]
pub struct Withdrawn {
    pub cents: u64,
}

#[event]
pub struct TransferSent {
    pub to: String,
    pub cents: u64,
}

#[event]
pub struct TransferReceived {
    pub from: String,
    pub cents: u64,
}

#[event]
pub struct AccountClosed;

#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[aggregate(
    name = "account",
    id = String,
    events(AccountOpened, Deposited, Withdrawn, TransferSent, TransferReceived, AccountClosed),
    snapshot(every = 20)
)]
pub struct Account {
    pub status: Status,
    pub owner: String,
    pub number: String,
    pub balance: u64,
}

pub struct Open {
    pub owner: String,
    pub number: String,
}

pub struct Deposit {
    pub cents: u64,
}

pub struct Withdraw {
    pub cents: u64,
}

pub struct SendTransfer {
    pub to: String,
    pub cents: u64,
}

pub struct ReceiveTransfer {
    pub from: String,
    pub cents: u64,
}

pub struct Close;

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
        self.balance += event.cents;
    }

    #[apply]
    fn withdrawn(&mut self, event: &Withdrawn) {
        self.balance -= event.cents;
    }

    #[apply]
    fn transfer_sent(&mut self, event: &TransferSent) {
        self.balance -= event.cents;
    }

    #[apply]
    fn transfer_received(&mut self, event: &TransferReceived) {
        self.balance += event.cents;
    }

    #[apply]
    fn closed(&mut self, _: &AccountClosed) {
        self.status = Status::Closed;
    }

    #[handle]
    fn open(&self, command: &Open) -> Result<Events<Self>, AccountError> {
        if self.status != Status::New {
            return Err(AccountError::AlreadyOpen);
        }
        if command.owner.trim().is_empty() {
            return Err(AccountError::NoOwner);
        }
        let (owner, number) = (command.owner.trim().to_owned(), command.number.clone());
        Ok(Events::from(AccountOpened { owner, number: number.clone() }).claim(NUMBER, number))
    }

    #[handle]
    fn deposit(&self, command: &Deposit) -> Result<Deposited, AccountError> {
        self.require_room_for(command.cents)?;
        Ok(Deposited { cents: command.cents })
    }

    #[handle]
    fn withdraw(&self, command: &Withdraw) -> Result<Withdrawn, AccountError> {
        self.require_balance_of(command.cents)?;
        Ok(Withdrawn { cents: command.cents })
    }

    #[handle]
    fn send(&self, command: &SendTransfer, ctx: &Context<Self>) -> Result<TransferSent, AccountError> {
        if command.to == *ctx.id() {
            return Err(AccountError::SameAccount);
        }
        self.require_balance_of(command.cents)?;
        Ok(TransferSent { to: command.to.clone(), cents: command.cents })
    }

    #[handle]
    fn receive(&self, command: &ReceiveTransfer) -> Result<TransferReceived, AccountError> {
        self.require_room_for(command.cents)?;
        Ok(TransferReceived { from: command.from.clone(), cents: command.cents })
    }

    #[handle]
    fn close(&self, _: &Close) -> Result<Events<Self>, AccountError> {
        if self.status == Status::Closed {
            return Ok(Events::none());
        }
        self.require_open()?;
        if self.balance != 0 {
            return Err(AccountError::NotEmpty { balance: self.balance });
        }
        Ok(Events::from(AccountClosed).release(NUMBER, &self.number))
    }

    fn require_open(&self) -> Result<(), AccountError> {
        match self.status {
            Status::New => Err(AccountError::Unknown),
            Status::Open => Ok(()),
            Status::Closed => Err(AccountError::Closed),
        }
    }

    fn require_room_for(&self, cents: u64) -> Result<(), AccountError> {
        self.require_open()?;
        if cents == 0 {
            return Err(AccountError::NoAmount);
        }
        if cents > MAX - self.balance {
            return Err(AccountError::Full);
        }
        Ok(())
    }

    fn require_balance_of(&self, cents: u64) -> Result<(), AccountError> {
        self.require_open()?;
        if cents == 0 {
            return Err(AccountError::NoAmount);
        }
        if cents > self.balance {
            return Err(AccountError::Overdrawn { balance: self.balance, wanted: cents });
        }
        Ok(())
    }
}

// end of the domain

type Accounts = Repository<Account>;

pub fn new() -> Accounts {
    Repository::new(MemoryStore::new())
}

pub async fn take(accounts: &Accounts, step: Step) -> Told {
    let (id, bob) = ("1", "2".to_owned());
    let done = match step {
        Step::Open(owner) => {
            accounts.execute(id, Open { owner: owner.to_owned(), number: "DE 1".to_owned() }).await
        }
        Step::Deposit(cents) => accounts.execute(id, Deposit { cents }).await,
        Step::Withdraw(cents) => accounts.execute(id, Withdraw { cents }).await,
        Step::Send(to, cents) => accounts.execute(id, SendTransfer { to: to.to_owned(), cents }).await,
        Step::Receive(cents) => accounts.execute(id, ReceiveTransfer { from: bob, cents }).await,
        Step::Close => accounts.execute(id, Close).await,
    };
    match done {
        Ok(done) => Ok((done.state.status, done.state.balance)),
        Err(ExecuteError::Rejected(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}
