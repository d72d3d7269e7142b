//! Commands: requests to an account, and the rules by which it accepts or rejects them.

use es_core::{Context, Events, handlers};
use uuid::Uuid;

use super::events::{AccountClosed, AccountOpened, Deposited, TransferReceived, TransferSent, Withdrawn};
use super::{Account, AccountId, AccountNumber, Money, Status};

/// The name of the claim of an open account on its number.
pub const NUMBER: &str = "account-number";

/// Opens an account. Its number is claimed, so that it is unique.
#[derive(Clone, Debug)]
pub struct Open {
    /// The owner's name.
    pub owner: String,
    /// The number of the account.
    pub number: AccountNumber,
}

/// Deposits money.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// The amount.
    pub amount: Money,
}

/// Withdraws money.
#[derive(Clone, Debug)]
pub struct Withdraw {
    /// The amount.
    pub amount: Money,
}

/// Sends a transfer. A transaction executes it together with [`ReceiveTransfer`] on the other account.
#[derive(Clone, Debug)]
pub struct SendTransfer {
    /// Identifies the transfer on both accounts.
    pub transfer: Uuid,
    /// The other account.
    pub to: AccountId,
    /// The amount.
    pub amount: Money,
}

/// Receives a transfer.
#[derive(Clone, Debug)]
pub struct ReceiveTransfer {
    /// Identifies the transfer on both accounts.
    pub transfer: Uuid,
    /// The other account.
    pub from: AccountId,
    /// The amount.
    pub amount: Money,
}

/// Closes the account, and releases its number. Closing a closed account does nothing.
#[derive(Clone, Debug)]
pub struct Close;

/// The reason for rejecting a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The account was never opened.
    #[error("there is no such account")]
    Unknown,
    /// The account was opened before.
    #[error("the account is already open")]
    AlreadyOpen,
    /// The account was closed.
    #[error("the account is closed")]
    Closed,
    /// The owner is missing.
    #[error("an account needs an owner")]
    NoOwner,
    /// The amount is zero.
    #[error("an amount must be at least 0.01 EUR")]
    NoAmount,
    /// The balance is less than the amount.
    #[error("the balance is {balance}, which is less than {wanted}")]
    Overdrawn {
        /// The balance.
        balance: Money,
        /// The amount in the command.
        wanted: Money,
    },
    /// The balance would exceed the maximum.
    #[error("the balance cannot exceed {}", Money::MAX)]
    Full,
    /// Both accounts of the transfer are the same.
    #[error("a transfer needs two accounts")]
    SameAccount,
    /// The balance is not zero.
    #[error("the balance must be zero to close the account, but it is {balance}")]
    NotEmpty {
        /// The balance.
        balance: Money,
    },
}

#[handlers]
impl Account {
    #[handle]
    fn open(&self, command: &Open) -> Result<Events<Self>, AccountError> {
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

    #[handle]
    fn deposit(&self, &Deposit { amount }: &Deposit) -> Result<Deposited, AccountError> {
        self.require_room_for(amount)?;
        Ok(Deposited { amount })
    }

    #[handle]
    fn withdraw(&self, &Withdraw { amount }: &Withdraw) -> Result<Withdrawn, AccountError> {
        self.require_balance_of(amount)?;
        Ok(Withdrawn { amount })
    }

    #[handle]
    fn send(&self, command: &SendTransfer, ctx: &Context<Self>) -> Result<TransferSent, AccountError> {
        let &SendTransfer { transfer, to, amount } = command;
        if to == *ctx.id() {
            return Err(AccountError::SameAccount);
        }
        self.require_balance_of(amount)?;
        Ok(TransferSent { transfer, to, amount })
    }

    #[handle]
    fn receive(&self, command: &ReceiveTransfer) -> Result<TransferReceived, AccountError> {
        let &ReceiveTransfer { transfer, from, amount } = command;
        self.require_room_for(amount)?;
        Ok(TransferReceived { transfer, from, amount })
    }

    #[handle]
    fn close(&self, _: &Close) -> Result<Events<Self>, AccountError> {
        if self.status == Status::Closed {
            return Ok(Events::none());
        }
        self.require_open()?;
        if !self.balance.is_zero() {
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
