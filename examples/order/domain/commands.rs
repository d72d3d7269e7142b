//! Commands: what is asked of an order, and the rules that decide on it.
//!
//! A handler is a pure function of the state, the command and the context: it returns the events that the
//! command leads to, or the domain's error. It may run again when another writer comes first, so time and
//! ids come from the [`Context`], never from the outside world.

use es_core::{Context, Events, Handle};

use super::events::{
    Line, LineAdded, LineRemoved, OrderCancelled, OrderDelivered, OrderPaid, OrderPlaced, OrderReturned,
    OrderShipped,
};
use super::{Money, Order, Status};

/// Why the shop says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The command does not fit the order's status.
    #[error("an order that is {status} cannot be {wanted}")]
    WrongStatus {
        /// How far the order has come.
        status: Status,
        /// What was asked for.
        wanted: &'static str,
    },
    /// An order without lines.
    #[error("an order needs at least one line")]
    NoLines,
    /// A line of nothing.
    #[error("a line needs at least one piece of {0}")]
    NoPieces(String),
    /// The article is not in the order.
    #[error("{0} is not in the order")]
    NotOrdered(String),
    /// Too little or too much was paid.
    #[error("the order costs {total}, {offered} was offered")]
    WrongAmount {
        /// What the order costs.
        total: Money,
        /// What was offered.
        offered: Money,
    },
}

impl Order {
    /// The rule that most commands share: they fit only one status.
    fn require(&self, status: Status, wanted: &'static str) -> Result<(), OrderError> {
        if self.status == status {
            Ok(())
        } else {
            Err(OrderError::WrongStatus { status: self.status, wanted })
        }
    }
}

fn require_pieces(line: &Line) -> Result<(), OrderError> {
    if line.quantity == 0 {
        return Err(OrderError::NoPieces(line.article.clone()));
    }
    Ok(())
}

/// Orders.
#[derive(Clone, Debug)]
pub struct PlaceOrder {
    /// Who.
    pub customer: String,
    /// What.
    pub lines: Vec<Line>,
}

impl Handle<PlaceOrder> for Order {
    type Error = OrderError;

    fn handle(&self, command: &PlaceOrder, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        self.require(Status::New, "placed")?;
        if command.lines.is_empty() {
            return Err(OrderError::NoLines);
        }
        command.lines.iter().try_for_each(require_pieces)?;
        Ok(OrderPlaced { customer: command.customer.clone(), lines: command.lines.clone() }.into())
    }
}

/// Asks for more.
#[derive(Clone, Debug)]
pub struct AddLine(pub Line);

impl Handle<AddLine> for Order {
    type Error = OrderError;

    fn handle(&self, command: &AddLine, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        self.require(Status::Placed, "changed")?;
        require_pieces(&command.0)?;
        Ok(LineAdded { line: command.0.clone() }.into())
    }
}

/// Asks for less.
#[derive(Clone, Debug)]
pub struct RemoveLine {
    /// What is no longer wanted.
    pub article: String,
}

impl Handle<RemoveLine> for Order {
    type Error = OrderError;

    fn handle(&self, command: &RemoveLine, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        self.require(Status::Placed, "changed")?;
        let (gone, left): (Vec<_>, Vec<_>) =
            self.lines.iter().partition(|line| line.article == command.article);
        if gone.is_empty() {
            return Err(OrderError::NotOrdered(command.article.clone()));
        }
        if left.is_empty() {
            return Err(OrderError::NoLines);
        }
        Ok(LineRemoved { article: command.article.clone() }.into())
    }
}

/// Pays the whole order.
#[derive(Clone, Debug)]
pub struct Pay {
    /// How much.
    pub amount: Money,
}

impl Handle<Pay> for Order {
    type Error = OrderError;

    fn handle(&self, command: &Pay, ctx: &Context<Self>) -> Result<Events<Self>, OrderError> {
        self.require(Status::Placed, "paid")?;
        if command.amount != self.total() {
            return Err(OrderError::WrongAmount { total: self.total(), offered: command.amount });
        }
        Ok(OrderPaid { amount: command.amount, reference: ctx.new_id().to_string() }.into())
    }
}

/// Hands the parcel to a carrier.
#[derive(Clone, Debug)]
pub struct Ship {
    /// Which carrier.
    pub carrier: String,
    /// Where to look for the parcel.
    pub tracking: String,
}

impl Handle<Ship> for Order {
    type Error = OrderError;

    fn handle(&self, command: &Ship, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        self.require(Status::Paid, "shipped")?;
        Ok(OrderShipped { carrier: command.carrier.clone(), tracking: command.tracking.clone() }.into())
    }
}

/// Reports that the parcel arrived. Carriers report more than once, which is no mistake.
#[derive(Clone, Debug)]
pub struct Deliver;

impl Handle<Deliver> for Order {
    type Error = OrderError;

    fn handle(&self, _: &Deliver, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        if self.status == Status::Delivered {
            return Ok(Events::none());
        }
        self.require(Status::Shipped, "delivered")?;
        Ok(OrderDelivered.into())
    }
}

/// Calls the order off; what was paid is paid back.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// Why.
    pub reason: String,
}

impl Handle<Cancel> for Order {
    type Error = OrderError;

    fn handle(&self, command: &Cancel, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        match self.status {
            Status::Placed | Status::Paid => {
                Ok(OrderCancelled { reason: command.reason.clone(), refund: self.paid }.into())
            }
            Status::Cancelled => Ok(Events::none()),
            status => Err(OrderError::WrongStatus { status, wanted: "cancelled" }),
        }
    }
}

/// Sends everything back.
#[derive(Clone, Debug)]
pub struct Return {
    /// Why.
    pub reason: String,
}

impl Handle<Return> for Order {
    type Error = OrderError;

    fn handle(&self, command: &Return, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        self.require(Status::Delivered, "returned")?;
        Ok(OrderReturned { reason: command.reason.clone(), refund: self.paid }.into())
    }
}
