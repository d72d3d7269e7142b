//! What both forms of the Bank domain share. It is not counted.

use serde::{Deserialize, Serialize};

/// The largest balance, in cents.
pub const MAX: u64 = (1 << 53) - 1;

/// The name of the claim of an open account on its number.
pub const NUMBER: &str = "account-number";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    #[default]
    New,
    Open,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    #[error("there is no such account")]
    Unknown,
    #[error("the account is open already")]
    AlreadyOpen,
    #[error("the account is closed")]
    Closed,
    #[error("an account needs an owner")]
    NoOwner,
    #[error("an amount is at least one cent")]
    NoAmount,
    #[error("only {balance} cents are left, {wanted} were wanted")]
    Overdrawn { balance: u64, wanted: u64 },
    #[error("an account holds at most {MAX} cents")]
    Full,
    #[error("a transfer needs two accounts")]
    SameAccount,
    #[error("an account is closed only when it is empty, {balance} cents are left")]
    NotEmpty { balance: u64 },
}
