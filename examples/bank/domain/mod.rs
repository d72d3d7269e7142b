//! The domain: what a bank knows about an account.
//!
//! Read it in this order: [`events`] are the facts that are recorded, [`account`] is the state that they add up
//! to, [`commands`] are the requests, and the rules that they have to keep.

pub mod account;
pub mod commands;
pub mod events;
pub mod money;
pub mod number;

pub use account::{Account, AccountEvent, AccountId, Status};
pub use commands::{AccountError, Close, Deposit, Open, ReceiveTransfer, SendTransfer, Withdraw};
pub use money::Money;
pub use number::AccountNumber;
