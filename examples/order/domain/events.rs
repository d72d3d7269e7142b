//! Events: what happened to an order. They are stored permanently, so they hold facts, not instructions.
//!
//! `#[event]` makes a struct storable. Its name in the store is the struct's, unless `name = "…"` says
//! otherwise, and moving it to another module changes nothing.

use es_core::{Schema, event};
use serde::{Deserialize, Serialize};

use super::Money;

/// Some pieces of one article, at the price that was agreed.
///
/// `Schema` makes its fields a part of the schema lock, `schema.json`.
#[derive(Clone, Debug, PartialEq, Schema, Serialize, Deserialize)]
pub struct Line {
    /// What is ordered.
    pub article: String,
    /// How many.
    pub quantity: u32,
    /// What one costs.
    pub price: Money,
}

impl Line {
    /// `quantity` pieces of `article` at `price` each.
    pub fn new(quantity: u32, article: &str, price: Money) -> Self {
        Self { article: article.to_owned(), quantity, price }
    }
}

/// A customer ordered.
#[event]
pub struct OrderPlaced {
    /// Who.
    pub customer: String,
    /// What.
    pub lines: Vec<Line>,
}

/// The customer wants more.
#[event]
pub struct LineAdded {
    /// Of what.
    pub line: Line,
}

/// The customer wants less.
#[event]
pub struct LineRemoved {
    /// What is no longer wanted.
    pub article: String,
}

/// The payment arrived.
#[event]
pub struct OrderPaid {
    /// How much.
    pub amount: Money,
    /// The bank's reference.
    pub reference: String,
}

/// A carrier took the parcel.
#[event]
pub struct OrderShipped {
    /// Which carrier.
    pub carrier: String,
    /// Where to look for the parcel.
    pub tracking: String,
}

/// The parcel arrived.
#[event]
pub struct OrderDelivered;

/// The order will not be carried out.
#[event]
pub struct OrderCancelled {
    /// Why.
    pub reason: String,
    /// What the customer gets back.
    pub refund: Money,
}

/// The customer sent everything back.
#[event]
pub struct OrderReturned {
    /// Why.
    pub reason: String,
    /// What the customer gets back.
    pub refund: Money,
}
