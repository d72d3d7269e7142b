//! Money in whole cents, because floating-point arithmetic is inexact.

use std::fmt;
use std::iter::Sum;

use es_core::Schema;
use serde::{Deserialize, Serialize};

/// An amount in cents.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Schema, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(u64);

impl Money {
    /// Creates an amount of `cents` cents.
    pub const fn cents(cents: u64) -> Self {
        Self(cents)
    }

    /// Returns the amount multiplied by `times`, saturating.
    #[must_use]
    pub const fn times(self, times: u32) -> Self {
        Self(self.0.saturating_mul(times as u64))
    }

    /// Returns the difference, or zero if `amount` is greater.
    #[must_use]
    pub const fn less(self, amount: Self) -> Self {
        Self(self.0.saturating_sub(amount.0))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self(0), |sum, amount| Self(sum.0.saturating_add(amount.0)))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} EUR", self.0 / 100, self.0 % 100)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
