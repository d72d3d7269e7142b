//! Commands: what is asked of an account, and the rules that decide on it.

use es_core::{Context, Events, Handle};
use uuid::Uuid;

use super::events::{AccountClosed, AccountOpened, Deposited, TransferReceived, TransferSent, Withdrawn};
use super::{Account, AccountId, AccountNumber, Money, Status};

/// The claim that an open account has on its number.
pub const NUMBER: &str = "account-number";

/// Why the bank says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The account was never opened.
    #[error("there is no such account")]
    Unknown,
    /// It was opened before.
    #[error("the account is open already")]
    AlreadyOpen,
    /// It was closed.
    #[error("the account is closed")]
    Closed,
    /// The owner is missing.
    #[error("an account needs an owner")]
    NoOwner,
    /// An amount of nothing.
    #[error("an amount is at least 0.01 EUR")]
    NoAmount,
    /// There is too little on it.
    #[error("only {balance} are left, {wanted} were wanted")]
    Overdrawn {
        /// What is on it.
        balance: Money,
        /// What was wanted.
        wanted: Money,
    },
    /// There would be too much on it.
    #[error("an account holds at most {}", Money::MAX)]
    Full,
    /// A transfer to where it comes from.
    #[error("a transfer needs two accounts")]
    SameAccount,
    /// There is still something on it.
    #[error("an account is closed only when it is empty, {balance} are left")]
    NotEmpty {
        /// What is on it.
        balance: Money,
    },
}

impl Account {
    fn require_open(&self) -> Result<(), AccountError> {
        match self.status {
            Status::New => Err(AccountError::Unknown),
            Status::Open => Ok(()),
            Status::Closed => Err(AccountError::Closed),
        }
    }

    fn require_room_for(&self, amount: Money) -> Result<(), AccountError> {
        self.require_open()?;
        if amount.is_zero() {
            return Err(AccountError::NoAmount);
        }
        if amount > Money::MAX.minus(self.balance) {
            return Err(AccountError::Full);
        }
        Ok(())
    }

    fn require_balance_of(&self, amount: Money) -> Result<(), AccountError> {
        self.require_open()?;
        if amount.is_zero() {
            return Err(AccountError::NoAmount);
        }
        if amount > self.balance {
            return Err(AccountError::Overdrawn { balance: self.balance, wanted: amount });
        }
        Ok(())
    }
}

/// Opens an account. Its number is claimed: of all accounts, at most one has it.
#[derive(Clone, Debug)]
pub struct Open {
    /// Whose it is.
    pub owner: String,
    /// The number that it gets.
    pub number: AccountNumber,
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
        let number = command.number.as_str().to_owned();
        let opened = AccountOpened { owner: command.owner.trim().to_owned(), number: number.clone() };
        Ok(Events::from(opened).claim(NUMBER, number))
    }
}

/// Puts money on the account.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// How much.
    pub amount: Money,
}

impl Handle<Deposit> for Account {
    type Error = AccountError;

    fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, AccountError> {
        self.require_room_for(command.amount)?;
        Ok(Deposited { amount: command.amount }.into())
    }
}

/// Takes money off the account.
#[derive(Clone, Debug)]
pub struct Withdraw {
    /// How much.
    pub amount: Money,
}

impl Handle<Withdraw> for Account {
    type Error = AccountError;

    fn handle(&self, command: &Withdraw, _: &Context<Self>) -> Result<Events<Self>, AccountError> {
        self.require_balance_of(command.amount)?;
        Ok(Withdrawn { amount: command.amount }.into())
    }
}

/// One half of a transfer. The other one is [`ReceiveTransfer`]: a transaction carries out both, or none.
#[derive(Clone, Debug)]
pub struct SendTransfer {
    /// Identifies the transfer on both accounts.
    pub transfer: Uuid,
    /// The other account.
    pub to: AccountId,
    /// How much.
    pub amount: Money,
}

impl Handle<SendTransfer> for Account {
    type Error = AccountError;

    fn handle(&self, command: &SendTransfer, ctx: &Context<Self>) -> Result<Events<Self>, AccountError> {
        if command.to == *ctx.id() {
            return Err(AccountError::SameAccount);
        }
        self.require_balance_of(command.amount)?;
        let SendTransfer { transfer, to, amount } = *command;
        Ok(TransferSent { transfer, to, amount }.into())
    }
}

/// The other half of a transfer.
#[derive(Clone, Debug)]
pub struct ReceiveTransfer {
    /// Identifies the transfer on both accounts.
    pub transfer: Uuid,
    /// The other account.
    pub from: AccountId,
    /// How much.
    pub amount: Money,
}

impl Handle<ReceiveTransfer> for Account {
    type Error = AccountError;

    fn handle(&self, command: &ReceiveTransfer, _: &Context<Self>) -> Result<Events<Self>, AccountError> {
        self.require_room_for(command.amount)?;
        let ReceiveTransfer { transfer, from, amount } = *command;
        Ok(TransferReceived { transfer, from, amount }.into())
    }
}

/// Closes the account, and gives its number back. To close it again is no mistake.
#[derive(Clone, Debug)]
pub struct Close;

impl Handle<Close> for Account {
    type Error = AccountError;

    fn handle(&self, _: &Close, _: &Context<Self>) -> Result<Events<Self>, AccountError> {
        if self.status == Status::Closed {
            return Ok(Events::none());
        }
        self.require_open()?;
        if !self.balance.is_zero() {
            return Err(AccountError::NotEmpty { balance: self.balance });
        }
        Ok(Events::from(AccountClosed).release(NUMBER, &self.number))
    }
}
