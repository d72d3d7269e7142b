//! The cost of an operation.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// The number of requests and capacity units that an operation consumed.
///
/// ```
/// use es_core::Cost;
///
/// let cost = Cost::read(0.5) + Cost::write(1.0);
/// assert_eq!(cost.to_string(), "2 requests, 0.5 RCU, 1 WCU");
/// ```
///
/// The capacity units are DynamoDB's: one read unit covers a strongly consistent read of up to 4 KB, one write unit a
/// write of up to 1 KB ([read and write
/// operations](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html)). Stores
/// that are not billed by units report zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// The number of requests to the store.
    pub requests: u32,
    /// The read capacity units.
    pub read_units: f64,
    /// The write capacity units.
    pub write_units: f64,
}

impl Cost {
    /// No cost.
    pub const ZERO: Self = Self { requests: 0, read_units: 0.0, write_units: 0.0 };

    /// Returns the cost of one request that consumed `units` read capacity units.
    #[must_use]
    pub const fn read(units: f64) -> Self {
        Self { requests: 1, read_units: units, write_units: 0.0 }
    }

    /// Returns the cost of one request that consumed `units` write capacity units.
    #[must_use]
    pub const fn write(units: f64) -> Self {
        Self { requests: 1, read_units: 0.0, write_units: units }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            read_units: self.read_units + other.read_units,
            write_units: self.write_units + other.write_units,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::ZERO, Add::add)
    }
}

/// Formats the cost as in `2 requests, 0.5 RCU, 1 WCU`.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.requests == 1 { "" } else { "s" };
        write!(f, "{} request{plural}, {} RCU, {} WCU", self.requests, self.read_units, self.write_units)
    }
}
