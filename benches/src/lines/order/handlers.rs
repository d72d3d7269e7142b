//! The Order domain on this framework, with `#[handlers]`.

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

#[handlers]
impl Order {
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
        self.paid = event.cents;
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
        self.paid = 0;
    }

    #[apply]
    fn returned(&mut self, _: &OrderReturned) {
        self.status = Status::Returned;
        self.paid = 0;
    }

    #[handle]
    fn place(&self, command: &PlaceOrder) -> Result<OrderPlaced, OrderError> {
        require(self.status, Status::New, "placed")?;
        require_lines(&command.lines)?;
        Ok(OrderPlaced { customer: command.customer.clone(), lines: command.lines.clone() })
    }

    #[handle]
    fn add_line(&self, AddLine(line): &AddLine) -> Result<LineAdded, OrderError> {
        require(self.status, Status::Placed, "changed")?;
        require_pieces(line)?;
        Ok(LineAdded { line: line.clone() })
    }

    #[handle]
    fn remove_line(&self, RemoveLine { article }: &RemoveLine) -> Result<LineRemoved, OrderError> {
        require(self.status, Status::Placed, "changed")?;
        require_removable(&self.lines, article)?;
        Ok(LineRemoved { article: article.clone() })
    }

    #[handle]
    fn pay(&self, command: &Pay) -> Result<OrderPaid, OrderError> {
        require(self.status, Status::Placed, "paid")?;
        require_total(&self.lines, command.cents)?;
        Ok(OrderPaid { cents: command.cents })
    }

    #[handle]
    fn ship(&self, command: &Ship) -> Result<OrderShipped, OrderError> {
        require(self.status, Status::Paid, "shipped")?;
        Ok(OrderShipped { carrier: command.carrier.clone() })
    }

    #[handle]
    fn deliver(&self, _: &Deliver) -> Result<Option<OrderDelivered>, OrderError> {
        if self.status == Status::Delivered {
            return Ok(None);
        }
        require(self.status, Status::Shipped, "delivered")?;
        Ok(Some(OrderDelivered))
    }

    #[handle]
    fn cancel(&self, command: &Cancel) -> Result<Option<OrderCancelled>, OrderError> {
        match self.status {
            Status::Placed | Status::Paid => Ok(Some(OrderCancelled { reason: command.reason.clone() })),
            Status::Cancelled => Ok(None),
            status => Err(OrderError::WrongStatus { status, wanted: "cancelled" }),
        }
    }

    #[handle]
    fn send_back(&self, command: &Return) -> Result<OrderReturned, OrderError> {
        require(self.status, Status::Delivered, "returned")?;
        Ok(OrderReturned { reason: command.reason.clone() })
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
