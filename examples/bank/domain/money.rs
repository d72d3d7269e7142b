//! Money, in whole cents: sums of floating-point numbers do not add up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in cents, in JSON a plain number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(u64);

impl Money {
    /// The most that an account may hold: what every client's JSON reader can still count exactly.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// `cents` cents.
    pub const fn cents(cents: u64) -> Self {
        Self(cents)
    }

    /// The amount as a number of cents.
    pub const fn in_cents(self) -> u64 {
        self.0
    }

    /// Whether it is no money at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Both together; more than there can be stays the most there can be.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left without `other`; nothing, when that is more.
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
