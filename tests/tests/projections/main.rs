//! Projections and read models, on the store in memory.

mod faults;
