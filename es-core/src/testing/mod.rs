//! What tests need: stores that fail on purpose.
//!
//! Behind the feature `testing`.

mod faults;
mod faulty_store;

pub use faults::{Fault, Faults};
pub use faulty_store::FaultyStore;
