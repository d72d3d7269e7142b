//! Projections and read models, on the store in memory.

mod builds;
mod failures;
mod faults;
mod handling;
mod orders;
mod rows;
mod shapes;
mod support;
mod waiting;
mod workers;
