//! Shared code of the benchmarks: the engine, the meter, and tables of numbers.

pub mod engine;
pub mod meter;
pub mod report;
pub mod tables;

pub type Failure = Box<dyn std::error::Error + Send + Sync>;
