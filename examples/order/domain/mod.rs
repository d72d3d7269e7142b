//! The domain: what a shop knows about an order.
//!
//! Read it in this order: [`events`] are the facts that are recorded, [`order`] is the state that they add up
//! to, [`commands`] are the requests, and the rules that they have to keep. `tests.rs` shows how these are
//! tested without a store. [`stock`] and [`wallet`] are two more aggregates, each in one file.

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
