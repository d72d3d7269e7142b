//! Commands: requests to an order, and the rules by which it accepts or rejects them.
//!
//! A handler is a pure function of the state, the command, and the context. It returns the events of the command, or
//! the domain's error. It may run again after a conflict with another writer, so time and ids come from the
//! [`Context`].

use es_core::{Context, handlers};

use super::events::{
    Line, LineAdded, LineRemoved, OrderCancelled, OrderDelivered, OrderPaid, OrderPlaced, OrderReturned,
    OrderShipped,
};
use super::{Money, Order, Status};

/// Places the order.
#[derive(Clone, Debug)]
pub struct PlaceOrder {
    /// The customer's name.
    pub customer: String,
    /// The lines of the order, at least one.
    pub lines: Vec<Line>,
}

/// Adds a line to the order.
#[derive(Clone, Debug)]
pub struct AddLine(pub Line);

/// Removes an article from the order.
#[derive(Clone, Debug)]
pub struct RemoveLine {
    /// The article to remove.
    pub article: String,
}

/// Pays the order in full.
#[derive(Clone, Debug)]
pub struct Pay {
    /// The amount, which must be the order's total.
    pub amount: Money,
}

/// Hands the parcel to a carrier.
#[derive(Clone, Debug)]
pub struct Ship {
    /// The carrier's name.
    pub carrier: String,
    /// The carrier's tracking number.
    pub tracking: String,
}

/// Reports that the parcel was delivered. Carriers report more than once, so repeated reports are accepted.
#[derive(Clone, Debug)]
pub struct Deliver;

/// Cancels the order and refunds the payment.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// The reason for the cancellation.
    pub reason: String,
}

/// Returns a delivered order for a refund.
#[derive(Clone, Debug)]
pub struct Return {
    /// The reason for the return.
    pub reason: String,
}

/// The reason for rejecting a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The command is not possible in the order's status.
    #[error("an order that is {status} cannot be {wanted}")]
    WrongStatus {
        /// The status of the order.
        status: Status,
        /// The status that the command would set.
        wanted: &'static str,
    },
    /// The order would have no lines.
    #[error("an order needs at least one line")]
    NoLines,
    /// A line has a quantity of zero.
    #[error("a line needs at least one piece of {0}")]
    NoPieces(String),
    /// The article is not in the order.
    #[error("{0} is not in the order")]
    NotOrdered(String),
    /// The amount is not the order's total.
    #[error("the order costs {total}, {offered} was offered")]
    WrongAmount {
        /// The order's total.
        total: Money,
        /// The amount in the command.
        offered: Money,
    },
}

#[handlers]
impl Order {
    #[handle]
    fn place(&self, command: &PlaceOrder) -> Result<OrderPlaced, OrderError> {
        self.require(Status::New, "placed")?;
        if command.lines.is_empty() {
            return Err(OrderError::NoLines);
        }
        command.lines.iter().try_for_each(require_pieces)?;
        Ok(OrderPlaced { customer: command.customer.clone(), lines: command.lines.clone() })
    }

    #[handle]
    fn add_line(&self, AddLine(line): &AddLine) -> Result<LineAdded, OrderError> {
        self.require(Status::Placed, "changed")?;
        require_pieces(line)?;
        Ok(LineAdded { line: line.clone() })
    }

    #[handle]
    fn remove_line(&self, RemoveLine { article }: &RemoveLine) -> Result<LineRemoved, OrderError> {
        self.require(Status::Placed, "changed")?;
        let (removed, left): (Vec<_>, Vec<_>) = self.lines.iter().partition(|line| line.article == *article);
        if removed.is_empty() {
            return Err(OrderError::NotOrdered(article.clone()));
        }
        if left.is_empty() {
            return Err(OrderError::NoLines);
        }
        Ok(LineRemoved { article: article.clone() })
    }

    #[handle]
    fn pay(&self, command: &Pay, ctx: &Context<Self>) -> Result<OrderPaid, OrderError> {
        self.require(Status::Placed, "paid")?;
        if command.amount != self.total() {
            return Err(OrderError::WrongAmount { total: self.total(), offered: command.amount });
        }
        Ok(OrderPaid { amount: command.amount, reference: ctx.new_id().to_string() })
    }

    #[handle]
    fn ship(&self, command: &Ship) -> Result<OrderShipped, OrderError> {
        self.require(Status::Paid, "shipped")?;
        Ok(OrderShipped { carrier: command.carrier.clone(), tracking: command.tracking.clone() })
    }

    #[handle]
    fn deliver(&self, _: &Deliver) -> Result<Option<OrderDelivered>, OrderError> {
        if self.status == Status::Delivered {
            return Ok(None);
        }
        self.require(Status::Shipped, "delivered")?;
        Ok(Some(OrderDelivered))
    }

    #[handle]
    fn cancel(&self, Cancel { reason }: &Cancel) -> Result<Option<OrderCancelled>, OrderError> {
        match self.status {
            Status::Placed | Status::Paid => {
                Ok(Some(OrderCancelled { reason: reason.clone(), refund: self.paid }))
            }
            Status::Cancelled => Ok(None),
            status => Err(OrderError::WrongStatus { status, wanted: "cancelled" }),
        }
    }

    #[handle]
    fn send_back(&self, Return { reason }: &Return) -> Result<OrderReturned, OrderError> {
        self.require(Status::Delivered, "returned")?;
        Ok(OrderReturned { reason: reason.clone(), refund: self.paid })
    }

    /// Most commands are possible in one status only.
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
