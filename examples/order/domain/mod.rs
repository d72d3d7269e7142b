//! The domain: orders, without storage.
//!
//! Read it in this order: [`events`] defines the recorded facts, [`order`] the state that is folded from them, and
//! [`commands`] the requests and their rules. `tests.rs` tests the rules without a store. [`stock`] and [`wallet`] are
//! two more aggregates, each in one file.

pub mod commands;
pub mod events;
pub mod money;
pub mod order;
#[cfg(test)]
mod schema_change;
pub mod stock;
#[cfg(test)]
mod tests;
pub mod wallet;

pub use commands::{AddLine, Cancel, Deliver, OrderError, Pay, PlaceOrder, RemoveLine, Return, Ship};
pub use events::Line;
pub use money::Money;
pub use order::{Order, OrderEvent, OrderId, Status};
pub use stock::Stock;
pub use wallet::Wallet;
