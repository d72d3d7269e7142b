//! The aggregate: what an order's events add up to.
//!
//! `#[derive(Aggregate)]` generates [`OrderEvent`], an enum of the listed events, and asks for one `Apply`
//! for each of them: forget one, and the compiler says which.

use std::fmt;

use es_core::{Aggregate, Apply, Schema};
use serde::{Deserialize, Serialize};

use super::Money;
use super::events::{
    Line, LineAdded, LineRemoved, OrderCancelled, OrderDelivered, OrderPaid, OrderPlaced, OrderReturned,
    OrderShipped,
};

/// The number of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderId(pub u32);

impl OrderId {
    /// The number of the shop's first order.
    pub const FIRST: Self = Self(1001);
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Schema, Serialize, Deserialize)]
pub enum Status {
    /// There is no order yet.
    #[default]
    New,
    /// Ordered, not paid.
    Placed,
    /// Paid, not sent.
    Paid,
    /// On its way.
    Shipped,
    /// With the customer.
    Delivered,
    /// Called off.
    Cancelled,
    /// Sent back.
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

/// An order: only what the rules need to know, not everything that ever happened to it.
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
    /// How far it has come.
    pub status: Status,
    /// What is ordered.
    pub lines: Vec<Line>,
    /// What was paid.
    pub paid: Money,
}

impl Order {
    /// What all the lines cost together.
    pub fn total(&self) -> Money {
        self.lines.iter().map(|line| line.price.times(line.quantity)).sum()
    }
}

impl Apply<OrderPlaced> for Order {
    fn apply(&mut self, event: &OrderPlaced) {
        self.status = Status::Placed;
        self.lines.clone_from(&event.lines);
    }
}

impl Apply<LineAdded> for Order {
    fn apply(&mut self, event: &LineAdded) {
        self.lines.push(event.line.clone());
    }
}

impl Apply<LineRemoved> for Order {
    fn apply(&mut self, event: &LineRemoved) {
        self.lines.retain(|line| line.article != event.article);
    }
}

impl Apply<OrderPaid> for Order {
    fn apply(&mut self, event: &OrderPaid) {
        self.status = Status::Paid;
        self.paid = event.amount;
    }
}

impl Apply<OrderShipped> for Order {
    fn apply(&mut self, _: &OrderShipped) {
        self.status = Status::Shipped;
    }
}

impl Apply<OrderDelivered> for Order {
    fn apply(&mut self, _: &OrderDelivered) {
        self.status = Status::Delivered;
    }
}

impl Apply<OrderCancelled> for Order {
    fn apply(&mut self, _: &OrderCancelled) {
        self.status = Status::Cancelled;
        self.paid = Money::default();
    }
}

impl Apply<OrderReturned> for Order {
    fn apply(&mut self, _: &OrderReturned) {
        self.status = Status::Returned;
        self.paid = Money::default();
    }
}
