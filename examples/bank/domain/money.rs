//! Money in whole cents, because floating-point arithmetic is inexact.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in cents, serialized as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(u64);

impl Money {
    /// The maximum balance of an account: the largest integer that all JSON parsers read exactly.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Creates an amount of `cents` cents.
    pub const fn cents(cents: u64) -> Self {
        Self(cents)
    }

    /// Returns the amount in cents.
    pub const fn in_cents(self) -> u64 {
        self.0
    }

    /// Returns whether the amount is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the difference, or zero if `other` is greater.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} EUR", self.0 / 100, self.0 % 100)
    }
}
