//! What tests need: scenarios for handlers, projections and processes, laws for aggregates, a lock for what is stored, and stores that fail on purpose.
//!
//! Behind the feature `testing`; [`check_laws`] behind `proptest`.

mod diff;
mod faults;
mod faulty_store;
#[cfg(feature = "proptest")]
mod laws;
mod lock;
mod projected;
mod reacting;
mod scenario;
mod stage;

pub use faults::{Fault, Faults};
pub use faulty_store::FaultyStore;
#[cfg(feature = "proptest")]
#[cfg_attr(docsrs, doc(cfg(feature = "proptest")))]
pub use laws::{AnyCommand, check_laws};
pub use lock::{SchemaLock, Timeouts};
pub use projected::{Projected, project};
pub use reacting::{Reacted, react};
pub use scenario::{Given, Recorded, Then, given};
