//! The Bank domain on this framework, with implementations of its traits.

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

impl Apply<AccountOpened> for Account {
    fn apply(&mut self, event: &AccountOpened) {
        self.status = Status::Open;
        self.owner.clone_from(&event.owner);
        self.number.clone_from(&event.number);
    }
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

impl Apply<TransferSent> for Account {
    fn apply(&mut self, event: &TransferSent) {
        self.balance -= event.cents;
    }
}

impl Apply<TransferReceived> for Account {
    fn apply(&mut self, event: &TransferReceived) {
        self.balance += event.cents;
    }
}

impl Apply<AccountClosed> for Account {
    fn apply(&mut self, _: &AccountClosed) {
        self.status = Status::Closed;
    }
}

impl Handle<Open> for Account {
    type Error = AccountError;

    fn handle(&self, command: &Open, _: &Context<Self>) -> Result<Events<Self>, AccountError> {
        if self.status != Status::New {
            return Err(AccountError::AlreadyOpen);
        }
        if command.owner.trim().is_empty() {
            return Err(AccountError::NoOwner);
        }
        let (owner, number) = (command.owner.trim().to_owned(), command.number.clone());
        Ok(Events::from(AccountOpened { owner, number: number.clone() }).claim(NUMBER, number))
    }
}

impl Handle<Deposit> for Account {
    type Error = AccountError;

    fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, AccountError> {
        self.require_room_for(command.cents)?;
        Ok(Deposited { cents: command.cents }.into())
    }
}

impl Handle<Withdraw> for Account {
    type Error = AccountError;

    fn handle(&self, command: &Withdraw, _: &Context<Self>) -> Result<Events<Self>, AccountError> {
        self.require_balance_of(command.cents)?;
        Ok(Withdrawn { cents: command.cents }.into())
    }
}

impl Handle<SendTransfer> for Account {
    type Error = AccountError;

    fn handle(&self, command: &SendTransfer, ctx: &Context<Self>) -> Result<Events<Self>, AccountError> {
        if command.to == *ctx.id() {
            return Err(AccountError::SameAccount);
        }
        self.require_balance_of(command.cents)?;
        Ok(TransferSent { to: command.to.clone(), cents: command.cents }.into())
    }
}

impl Handle<ReceiveTransfer> for Account {
    type Error = AccountError;

    fn handle(&self, command: &ReceiveTransfer, _: &Context<Self>) -> Result<Events<Self>, AccountError> {
        self.require_room_for(command.cents)?;
        Ok(TransferReceived { from: command.from.clone(), cents: command.cents }.into())
    }
}

impl Handle<Close> for Account {
    type Error = AccountError;

    fn handle(&self, _: &Close, _: &Context<Self>) -> Result<Events<Self>, AccountError> {
        if self.status == Status::Closed {
            return Ok(Events::none());
        }
        self.require_open()?;
        if self.balance != 0 {
            return Err(AccountError::NotEmpty { balance: self.balance });
        }
        Ok(Events::from(AccountClosed).release(NUMBER, &self.number))
    }
}

impl Account {
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
