//! Recorders of the log, the spans, and the metrics of a test.

mod log;
mod metrics;

pub use log::{Fields, Line, Seen};
pub use metrics::Recorded;
