//! The Order domain on cqrs-es, in the style of its user guide.

use cqrs_es::event_sink::EventSink;
use cqrs_es::mem_store::MemStore;
use cqrs_es::{Aggregate, AggregateContext, AggregateError, CqrsFramework, DomainEvent, EventStore};
use serde::{Deserialize, Serialize};

use super::vocabulary::{
    Line, OrderError, Status, require, require_lines, require_pieces, require_removable, require_total, total,
};
use super::{Step, Told};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        let name = match self {
            OrderEvent::OrderPlaced { .. } => "OrderPlaced",
            OrderEvent::LineAdded { .. } => "LineAdded",
            OrderEvent::LineRemoved { .. } => "LineRemoved",
            OrderEvent::OrderPaid { .. } => "OrderPaid",
            OrderEvent::OrderShipped { .. } => "OrderShipped",
            OrderEvent::OrderDelivered => "OrderDelivered",
            OrderEvent::OrderCancelled { .. } => "OrderCancelled",
            OrderEvent::OrderReturned { .. } => "OrderReturned",
        };
        name.to_string()
    }

    fn event_version(&self) -> String {
        "1.0".to_string()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Error = OrderError;
    type Services = ();

    async fn handle(
        &mut self,
        command: OrderCommand,
        _: &(),
        sink: &EventSink<Self>,
    ) -> Result<(), OrderError> {
        match command {
            OrderCommand::PlaceOrder { customer, lines } => {
                require(self.status, Status::New, "placed")?;
                require_lines(&lines)?;
                sink.write(OrderEvent::OrderPlaced { customer, lines }, self).await;
            }
            OrderCommand::AddLine { line } => {
                require(self.status, Status::Placed, "changed")?;
                require_pieces(&line)?;
                sink.write(OrderEvent::LineAdded { line }, self).await;
            }
            OrderCommand::RemoveLine { article } => {
                require(self.status, Status::Placed, "changed")?;
                require_removable(&self.lines, &article)?;
                sink.write(OrderEvent::LineRemoved { article }, self).await;
            }
            OrderCommand::Pay { cents } => {
                require(self.status, Status::Placed, "paid")?;
                require_total(&self.lines, cents)?;
                sink.write(OrderEvent::OrderPaid { cents }, self).await;
            }
            OrderCommand::Ship { carrier } => {
                require(self.status, Status::Paid, "shipped")?;
                sink.write(OrderEvent::OrderShipped { carrier }, self).await;
            }
            OrderCommand::Deliver => {
                if self.status == Status::Delivered {
                    return Ok(());
                }
                require(self.status, Status::Shipped, "delivered")?;
                sink.write(OrderEvent::OrderDelivered, self).await;
            }
            OrderCommand::Cancel { reason } => match self.status {
                Status::Placed | Status::Paid => {
                    sink.write(OrderEvent::OrderCancelled { reason }, self).await;
                }
                Status::Cancelled => {}
                status => return Err(OrderError::WrongStatus { status, wanted: "cancelled" }),
            },
            OrderCommand::Return { reason } => {
                require(self.status, Status::Delivered, "returned")?;
                sink.write(OrderEvent::OrderReturned { reason }, self).await;
            }
        }
        Ok(())
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::OrderPlaced { lines, .. } => {
                self.status = Status::Placed;
                self.lines = lines;
            }
            OrderEvent::LineAdded { line } => self.lines.push(line),
            OrderEvent::LineRemoved { article } => self.lines.retain(|line| line.article != article),
            OrderEvent::OrderPaid { cents } => {
                self.status = Status::Paid;
                self.paid = cents;
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
}

// end of the domain

type Orders = (CqrsFramework<Order, MemStore<Order>>, MemStore<Order>);

pub fn new() -> Orders {
    let store = MemStore::default();
    (CqrsFramework::new(store.clone(), vec![], ()), store)
}

pub async fn take((orders, store): &Orders, step: Step) -> Told {
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
        Ok(()) => {
            let mut context = store.load_aggregate("1").await.expect("loads");
            let order = context.aggregate();
            Ok((order.status, total(&order.lines), order.paid))
        }
        Err(AggregateError::UserError(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}
