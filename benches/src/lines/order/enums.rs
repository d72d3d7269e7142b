//! The Order domain on this framework, with `#[handlers]`, one enum of events, and one enum of commands.

use es_core::prelude::*;
use es_core::{ExecuteError, MemoryStore};
use serde::{Deserialize, Serialize};

use super::vocabulary::{
    Line, OrderError, Status, require, require_lines, require_pieces, require_removable, require_total, total,
};
use super::{Step, Told};

#[event]
pub enum OrderEvent {
    OrderPlaced { customer: String, lines: Vec<Line> },
    LineAdded { line: Line },
    LineRemoved { article: String },
    OrderPaid { cents: u64 },
    OrderShipped { carrier: String },
    OrderDelivered,
    OrderCancelled { reason: String },
    OrderReturned { reason: String },
}

#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[aggregate(name = "order", id = String, event = OrderEvent, snapshot(every = 100))]
pub struct Order {
    pub status: Status,
    pub lines: Vec<Line>,
    pub paid: u64,
}

pub enum OrderCommand {
    PlaceOrder { customer: String, lines: Vec<Line> },
    AddLine { line: Line },
    RemoveLine { article: String },
    Pay { cents: u64 },
    Ship { carrier: String },
    Deliver,
    Cancel { reason: String },
    Return { reason: String },
}

#[handlers]
impl Order {
    #[apply]
    fn happened(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::OrderPlaced { lines, .. } => {
                self.status = Status::Placed;
                self.lines.clone_from(lines);
            }
            OrderEvent::LineAdded { line } => self.lines.push(line.clone()),
            OrderEvent::LineRemoved { article } => self.lines.retain(|line| line.article != *article),
            OrderEvent::OrderPaid { cents } => {
                self.status = Status::Paid;
                self.paid = *cents;
            }
            OrderEvent::OrderShipped { .. } => self.status = Status::Shipped,
            OrderEvent::OrderDelivered => self.status = Status::Delivered,
            OrderEvent::OrderCancelled { .. } => {
                self.status = Status::Cancelled;
                self.paid = 0;
            }
            OrderEvent::OrderReturned { .. } => {
                self.status = Status::Returned;
                self.paid = 0;
            }
        }
    }

    #[handle]
    fn decide(&self, command: &OrderCommand) -> Result<Option<OrderEvent>, OrderError> {
        Ok(Some(match command {
            OrderCommand::PlaceOrder { customer, lines } => {
                require(self.status, Status::New, "placed")?;
                require_lines(lines)?;
                OrderEvent::OrderPlaced { customer: customer.clone(), lines: lines.clone() }
            }
            OrderCommand::AddLine { line } => {
                require(self.status, Status::Placed, "changed")?;
                require_pieces(line)?;
                OrderEvent::LineAdded { line: line.clone() }
            }
            OrderCommand::RemoveLine { article } => {
                require(self.status, Status::Placed, "changed")?;
                require_removable(&self.lines, article)?;
                OrderEvent::LineRemoved { article: article.clone() }
            }
            OrderCommand::Pay { cents } => {
                require(self.status, Status::Placed, "paid")?;
                require_total(&self.lines, *cents)?;
                OrderEvent::OrderPaid { cents: *cents }
            }
            OrderCommand::Ship { carrier } => {
                require(self.status, Status::Paid, "shipped")?;
                OrderEvent::OrderShipped { carrier: carrier.clone() }
            }
            OrderCommand::Deliver => {
                if self.status == Status::Delivered {
                    return Ok(None);
                }
                require(self.status, Status::Shipped, "delivered")?;
                OrderEvent::OrderDelivered
            }
            OrderCommand::Cancel { reason } => match self.status {
                Status::Placed | Status::Paid => OrderEvent::OrderCancelled { reason: reason.clone() },
                Status::Cancelled => return Ok(None),
                status => return Err(OrderError::WrongStatus { status, wanted: "cancelled" }),
            },
            OrderCommand::Return { reason } => {
                require(self.status, Status::Delivered, "returned")?;
                OrderEvent::OrderReturned { reason: reason.clone() }
            }
        }))
    }
}

// end of the domain

type Orders = Repository<Order>;

pub fn new() -> Orders {
    Repository::new(MemoryStore::new())
}

pub async fn take(orders: &Orders, step: Step) -> Told {
    let command = match step {
        Step::Place(lines) => OrderCommand::PlaceOrder { customer: "Ann".to_owned(), lines },
        Step::AddLine(line) => OrderCommand::AddLine { line },
        Step::RemoveLine(article) => OrderCommand::RemoveLine { article: article.to_owned() },
        Step::Pay(cents) => OrderCommand::Pay { cents },
        Step::Ship => OrderCommand::Ship { carrier: "post".to_owned() },
        Step::Deliver => OrderCommand::Deliver,
        Step::Cancel => OrderCommand::Cancel { reason: "late".to_owned() },
        Step::Return => OrderCommand::Return { reason: "broken".to_owned() },
    };
    match orders.execute("1", command).await {
        Ok(done) => Ok((done.state.status, total(&done.state.lines), done.state.paid)),
        Err(ExecuteError::Rejected(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}
