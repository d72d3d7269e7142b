//! The aggregate: the state that is folded from an order's events.
//!
//! `#[derive(Aggregate)]` generates [`OrderEvent`], an enum of the listed events, and requires one `#[apply]` method
//! for each of them. If one is missing, the compiler names it.

use std::fmt;

use es_core::{Aggregate, Id, Schema, handlers};
use serde::{Deserialize, Serialize};

use super::Money;
use super::events::{
    Line, LineAdded, LineRemoved, OrderCancelled, OrderDelivered, OrderPaid, OrderPlaced, OrderReturned,
    OrderShipped,
};

/// The number of an order.
#[derive(Id)]
pub struct OrderId(pub u32);

impl OrderId {
    /// The number of the shop's first order.
    pub const FIRST: Self = Self(1001);
}

/// The status of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Schema, Serialize, Deserialize)]
pub enum Status {
    /// The order has not been placed yet.
    #[default]
    New,
    /// Placed, but not paid.
    Placed,
    /// Paid, but not shipped.
    Paid,
    /// On its way to the customer.
    Shipped,
    /// Delivered to the customer.
    Delivered,
    /// Cancelled.
    Cancelled,
    /// Returned by the customer.
    Returned,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Placed => "placed",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Returned => "returned",
        })
    }
}

/// An order: the state that its rules need, not everything that ever happened to it.
#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[aggregate(
    name = "order",
    id = OrderId,
    events(
        OrderPlaced,
        LineAdded,
        LineRemoved,
        OrderPaid,
        OrderShipped,
        OrderDelivered,
        OrderCancelled,
        OrderReturned,
    ),
    snapshot(every = 5)
)]
pub struct Order {
    /// The status of the order.
    pub status: Status,
    /// The ordered articles.
    pub lines: Vec<Line>,
    /// The amount paid.
    pub paid: Money,
}

#[handlers]
impl Order {
    /// Returns the price of all lines.
    pub fn total(&self) -> Money {
        self.lines.iter().map(|line| line.price.times(line.quantity)).sum()
    }

    #[apply]
    fn placed(&mut self, event: &OrderPlaced) {
        self.status = Status::Placed;
        self.lines.clone_from(&event.lines);
    }

    #[apply]
    fn line_added(&mut self, event: &LineAdded) {
        self.lines.push(event.line.clone());
    }

    #[apply]
    fn line_removed(&mut self, event: &LineRemoved) {
        self.lines.retain(|line| line.article != event.article);
    }

    #[apply]
    fn paid(&mut self, event: &OrderPaid) {
        self.status = Status::Paid;
        self.paid = event.amount;
    }

    #[apply]
    fn shipped(&mut self, _: &OrderShipped) {
        self.status = Status::Shipped;
    }

    #[apply]
    fn delivered(&mut self, _: &OrderDelivered) {
        self.status = Status::Delivered;
    }

    #[apply]
    fn cancelled(&mut self, _: &OrderCancelled) {
        self.status = Status::Cancelled;
        self.paid = Money::default();
    }

    #[apply]
    fn returned(&mut self, _: &OrderReturned) {
        self.status = Status::Returned;
        self.paid = Money::default();
    }
}
