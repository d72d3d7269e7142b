//! Projections and read models, on the store in memory.

mod batches;
mod builds;
mod deleted;
mod failures;
mod faults;
mod handling;
mod keys;
mod kit;
mod logs;
mod orders;
mod rows;
mod sendable;
mod shapes;
mod sizes;
mod splits;
pub(crate) mod support;
mod user_code;
mod versions;
mod waiting;
mod workers;
