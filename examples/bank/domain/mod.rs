//! The domain: accounts, without storage or HTTP.
//!
//! Read it in this order: [`events`] defines the recorded facts, [`account`] the state that is folded from them, and
//! [`commands`] the requests and their rules.

pub mod account;
pub mod commands;
pub mod events;
pub mod money;
pub mod number;

pub use account::{Account, AccountEvent, AccountId, Status};
pub use commands::{AccountError, Close, Deposit, Open, ReceiveTransfer, SendTransfer, Withdraw};
pub use money::Money;
pub use number::AccountNumber;
