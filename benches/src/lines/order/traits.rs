//! The Order domain on this framework, with implementations of its traits.

use es_core::prelude::*;
use es_core::{ExecuteError, MemoryStore};
use serde::{Deserialize, Serialize};

use super::vocabulary::{
    Line, OrderError, Status, require, require_lines, require_pieces, require_removable, require_total, total,
};
use super::{Step, Told};

#[event]
pub struct OrderPlaced {
    pub customer: String,
    pub lines: Vec<Line>,
}

#[event]
pub struct LineAdded {
    pub line: Line,
}

#[event]
pub struct LineRemoved {
    pub article: String,
}

#[event]
pub struct OrderPaid {
    pub cents: u64,
}

#[event]
pub struct OrderShipped {
    pub carrier: String,
}

#[event]
pub struct OrderDelivered;

#[event]
pub struct OrderCancelled {
    pub reason: String,
}

#[event]
pub struct OrderReturned {
    pub reason: String,
}

#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[aggregate(
    name = "order",
    id = String,
    events(
        OrderPlaced, LineAdded, LineRemoved, OrderPaid, OrderShipped, OrderDelivered, OrderCancelled, OrderReturned
    ),
    snapshot(every = 100)
)]
pub struct Order {
    pub status: Status,
    pub lines: Vec<Line>,
    pub paid: u64,
}

pub struct PlaceOrder {
    pub customer: String,
    pub lines: Vec<Line>,
}

pub struct AddLine(pub Line);

pub struct RemoveLine {
    pub article: String,
}

pub struct Pay {
    pub cents: u64,
}

pub struct Ship {
    pub carrier: String,
}

pub struct Deliver;

pub struct Cancel {
    pub reason: String,
}

pub struct Return {
    pub reason: String,
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
        self.paid = event.cents;
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
        self.paid = 0;
    }
}

impl Apply<OrderReturned> for Order {
    fn apply(&mut self, _: &OrderReturned) {
        self.status = Status::Returned;
        self.paid = 0;
    }
}

impl Handle<PlaceOrder> for Order {
    type Error = OrderError;

    fn handle(&self, command: &PlaceOrder, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        require(self.status, Status::New, "placed")?;
        require_lines(&command.lines)?;
        Ok(OrderPlaced { customer: command.customer.clone(), lines: command.lines.clone() }.into())
    }
}

impl Handle<AddLine> for Order {
    type Error = OrderError;

    fn handle(&self, AddLine(line): &AddLine, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        require(self.status, Status::Placed, "changed")?;
        require_pieces(line)?;
        Ok(LineAdded { line: line.clone() }.into())
    }
}

impl Handle<RemoveLine> for Order {
    type Error = OrderError;

    fn handle(
        &self,
        RemoveLine { article }: &RemoveLine,
        _: &Context<Self>,
    ) -> Result<Events<Self>, OrderError> {
        require(self.status, Status::Placed, "changed")?;
        require_removable(&self.lines, article)?;
        Ok(LineRemoved { article: article.clone() }.into())
    }
}

impl Handle<Pay> for Order {
    type Error = OrderError;

    fn handle(&self, command: &Pay, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        require(self.status, Status::Placed, "paid")?;
        require_total(&self.lines, command.cents)?;
        Ok(OrderPaid { cents: command.cents }.into())
    }
}

impl Handle<Ship> for Order {
    type Error = OrderError;

    fn handle(&self, command: &Ship, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        require(self.status, Status::Paid, "shipped")?;
        Ok(OrderShipped { carrier: command.carrier.clone() }.into())
    }
}

impl Handle<Deliver> for Order {
    type Error = OrderError;

    fn handle(&self, _: &Deliver, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        if self.status == Status::Delivered {
            return Ok(Events::none());
        }
        require(self.status, Status::Shipped, "delivered")?;
        Ok(OrderDelivered.into())
    }
}

impl Handle<Cancel> for Order {
    type Error = OrderError;

    fn handle(&self, command: &Cancel, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        match self.status {
            Status::Placed | Status::Paid => Ok(OrderCancelled { reason: command.reason.clone() }.into()),
            Status::Cancelled => Ok(Events::none()),
            status => Err(OrderError::WrongStatus { status, wanted: "cancelled" }),
        }
    }
}

impl Handle<Return> for Order {
    type Error = OrderError;

    fn handle(&self, command: &Return, _: &Context<Self>) -> Result<Events<Self>, OrderError> {
        require(self.status, Status::Delivered, "returned")?;
        Ok(OrderReturned { reason: command.reason.clone() }.into())
    }
}

// end of the domain

type Orders = Repository<Order>;

pub fn new() -> Orders {
    Repository::new(MemoryStore::new())
}

pub async fn take(orders: &Orders, step: Step) -> Told {
    let done = match step {
        Step::Place(lines) => orders.execute("1", PlaceOrder { customer: "Ann".to_owned(), lines }).await,
        Step::AddLine(line) => orders.execute("1", AddLine(line)).await,
        Step::RemoveLine(article) => orders.execute("1", RemoveLine { article: article.to_owned() }).await,
        Step::Pay(cents) => orders.execute("1", Pay { cents }).await,
        Step::Ship => orders.execute("1", Ship { carrier: "post".to_owned() }).await,
        Step::Deliver => orders.execute("1", Deliver).await,
        Step::Cancel => orders.execute("1", Cancel { reason: "late".to_owned() }).await,
        Step::Return => orders.execute("1", Return { reason: "broken".to_owned() }).await,
    };
    match done {
        Ok(done) => Ok((done.state.status, total(&done.state.lines), done.state.paid)),
        Err(ExecuteError::Rejected(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}
