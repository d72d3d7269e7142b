//! The Order domain on event-store-adapter-rs, in the style of its example: a repository, and methods that return
//! events.

use chrono::Utc;
use event_store_adapter_rs::{
    AggregateId, EventEnvelope, EventStore, EventStoreError, EventStoreForMemory, MemoryStorage,
    RetentionSettings, SnapshotEnvelope,
};
use serde::{Deserialize, Serialize};

use super::vocabulary::{
    Line, OrderError, Status, require, require_lines, require_pieces, require_removable, require_total, total,
};
use super::{Step, Told};

#[derive(Clone, Debug)]
pub struct OrderId(pub String);

impl AggregateId for OrderId {
    fn type_name(&self) -> String {
        "order".to_string()
    }

    fn value(&self) -> String {
        self.0.clone()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
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

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub status: Status,
    pub lines: Vec<Line>,
    pub paid: u64,
}

impl Order {
    pub fn place(&self, customer: String, lines: Vec<Line>) -> Result<OrderEvent, OrderError> {
        require(self.status, Status::New, "placed")?;
        require_lines(&lines)?;
        Ok(OrderEvent::OrderPlaced { customer, lines })
    }

    pub fn add_line(&self, line: Line) -> Result<OrderEvent, OrderError> {
        require(self.status, Status::Placed, "changed")?;
        require_pieces(&line)?;
        Ok(OrderEvent::LineAdded { line })
    }

    pub fn remove_line(&self, article: String) -> Result<OrderEvent, OrderError> {
        require(self.status, Status::Placed, "changed")?;
        require_removable(&self.lines, &article)?;
        Ok(OrderEvent::LineRemoved { article })
    }

    pub fn pay(&self, cents: u64) -> Result<OrderEvent, OrderError> {
        require(self.status, Status::Placed, "paid")?;
        require_total(&self.lines, cents)?;
        Ok(OrderEvent::OrderPaid { cents })
    }

    pub fn ship(&self, carrier: String) -> Result<OrderEvent, OrderError> {
        require(self.status, Status::Paid, "shipped")?;
        Ok(OrderEvent::OrderShipped { carrier })
    }

    pub fn deliver(&self) -> Result<Option<OrderEvent>, OrderError> {
        if self.status == Status::Delivered {
            return Ok(None);
        }
        require(self.status, Status::Shipped, "delivered")?;
        Ok(Some(OrderEvent::OrderDelivered))
    }

    pub fn cancel(&self, reason: String) -> Result<Option<OrderEvent>, OrderError> {
        match self.status {
            Status::Placed | Status::Paid => Ok(Some(OrderEvent::OrderCancelled { reason })),
            Status::Cancelled => Ok(None),
            status => Err(OrderError::WrongStatus { status, wanted: "cancelled" }),
        }
    }

    pub fn send_back(&self, reason: String) -> Result<OrderEvent, OrderError> {
        require(self.status, Status::Delivered, "returned")?;
        Ok(OrderEvent::OrderReturned { reason })
    }

    fn apply_event(&mut self, event: &OrderEvent) {
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
}

pub struct OrderRepository<S> {
    pub event_store: S,
}

impl<S: EventStore<AID = OrderId, A = Order, P = OrderEvent>> OrderRepository<S> {
    pub async fn find_by_id(&self, id: &OrderId) -> Result<(Order, u64), EventStoreError> {
        let Some(read) = self.event_store.get_latest_snapshot_by_id(id).await? else {
            return Ok((Order::default(), 0));
        };
        let (snapshot, _) = read.into_parts();
        let (mut order, mut seq_nr) = match snapshot {
            Some(snapshot) => {
                let seq_nr = snapshot.seq_nr();
                (snapshot.into_aggregate(), seq_nr)
            }
            None => (Order::default(), 0),
        };
        for event in self.event_store.get_events_by_id_since_seq_nr(id, seq_nr + 1).await? {
            seq_nr = event.seq_nr();
            order.apply_event(event.payload());
        }
        Ok((order, seq_nr))
    }

    pub async fn store(
        &self,
        id: &OrderId,
        mut order: Order,
        seq_nr: u64,
        event: OrderEvent,
    ) -> Result<Order, EventStoreError> {
        let seq_nr = seq_nr + 1;
        order.apply_event(&event);
        let event = EventEnvelope::new(id.clone(), seq_nr, Utc::now(), event);
        if seq_nr.is_multiple_of(100) {
            let snapshot = SnapshotEnvelope::new(order.clone(), seq_nr);
            self.event_store.persist_event_and_snapshot(event, snapshot).await?;
        } else {
            self.event_store.persist_event(event).await?;
        }
        Ok(order)
    }
}

// end of the domain

type Orders = OrderRepository<EventStoreForMemory<OrderId, Order, OrderEvent>>;

pub fn new() -> Orders {
    let storage = MemoryStorage::new(RetentionSettings::current_only()).expect("a storage");
    OrderRepository { event_store: EventStoreForMemory::new(storage) }
}

pub async fn take(orders: &Orders, step: Step) -> Told {
    let id = OrderId("1".to_owned());
    let (order, seq_nr) = orders.find_by_id(&id).await.expect("loads");
    let event = match step {
        Step::Place(lines) => Some(order.place("Ann".to_owned(), lines)?),
        Step::AddLine(line) => Some(order.add_line(line)?),
        Step::RemoveLine(article) => Some(order.remove_line(article.to_owned())?),
        Step::Pay(cents) => Some(order.pay(cents)?),
        Step::Ship => Some(order.ship("post".to_owned())?),
        Step::Deliver => order.deliver()?,
        Step::Cancel => order.cancel("late".to_owned())?,
        Step::Return => Some(order.send_back("broken".to_owned())?),
    };
    let order = match event {
        Some(event) => orders.store(&id, order, seq_nr, event).await.expect("stores"),
        None => order,
    };
    Ok((order.status, total(&order.lines), order.paid))
}
