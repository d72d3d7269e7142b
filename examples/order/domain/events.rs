//! Events: what happened to an order. They are stored permanently, so they contain facts, not instructions.
//!
//! `#[event]` makes a struct storable. It is stored under the struct's name, or the one in `name = "…"`, so that it can
//! be moved to another module.

use es_core::{Schema, event};
use serde::{Deserialize, Serialize};

use super::Money;

/// A number of pieces of one article, at the agreed price.
///
/// `Schema` makes its fields a part of the schema lock, `schema.json`.
#[derive(Clone, Debug, PartialEq, Schema, Serialize, Deserialize)]
pub struct Line {
    /// The article.
    pub article: String,
    /// The number of pieces.
    pub quantity: u32,
    /// The price of one piece.
    pub price: Money,
}

impl Line {
    /// Returns a line of `quantity` pieces of `article` at `price` each.
    pub fn new(quantity: u32, article: &str, price: Money) -> Self {
        Self { article: article.to_owned(), quantity, price }
    }
}

/// A customer placed the order.
#[event]
pub struct OrderPlaced {
    /// The customer's name.
    pub customer: String,
    /// The ordered lines.
    pub lines: Vec<Line>,
}

/// A line was added to the order.
#[event]
pub struct LineAdded {
    /// The added line.
    pub line: Line,
}

/// An article was removed from the order.
#[event]
pub struct LineRemoved {
    /// The removed article.
    pub article: String,
}

/// The order was paid.
#[event]
pub struct OrderPaid {
    /// The amount paid.
    pub amount: Money,
    /// The reference of the payment.
    pub reference: String,
}

/// The parcel was handed to a carrier.
#[event]
pub struct OrderShipped {
    /// The carrier's name.
    pub carrier: String,
    /// The carrier's tracking number.
    pub tracking: String,
}

/// The parcel was delivered.
#[event]
pub struct OrderDelivered;

/// The order was cancelled.
#[event]
pub struct OrderCancelled {
    /// The reason.
    pub reason: String,
    /// The refunded amount.
    pub refund: Money,
}

/// The customer returned the order.
#[event]
pub struct OrderReturned {
    /// The reason.
    pub reason: String,
    /// The refunded amount.
    pub refund: Money,
}
