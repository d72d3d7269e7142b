//! The Order domain on eventcore, in the style of its documentation: a command is a type with its own logic.

use eventcore::{
    Command, CommandError, CommandLogic, Event, NewEvents, RetryPolicy, StreamId, collect_events, execute,
};
use eventcore_memory::InMemoryEventStore;
use eventcore_types::EventStore;
use serde::{Deserialize, Serialize};

use super::vocabulary::{
    Line, OrderError, Status, require, require_lines, require_pieces, require_removable, require_total, total,
};
use super::{Step, Told};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum OrderEvent {
    OrderPlaced { order: StreamId, customer: String, lines: Vec<Line> },
    LineAdded { order: StreamId, line: Line },
    LineRemoved { order: StreamId, article: String },
    OrderPaid { order: StreamId, cents: u64 },
    OrderShipped { order: StreamId, carrier: String },
    OrderDelivered { order: StreamId },
    OrderCancelled { order: StreamId, reason: String },
    OrderReturned { order: StreamId, reason: String },
}

impl Event for OrderEvent {
    fn stream_id(&self) -> &StreamId {
        match self {
            OrderEvent::OrderPlaced { order, .. }
            | OrderEvent::LineAdded { order, .. }
            | OrderEvent::LineRemoved { order, .. }
            | OrderEvent::OrderPaid { order, .. }
            | OrderEvent::OrderShipped { order, .. }
            | OrderEvent::OrderDelivered { order }
            | OrderEvent::OrderCancelled { order, .. }
            | OrderEvent::OrderReturned { order, .. } => order,
        }
    }

    fn event_type_name() -> &'static str {
        "OrderEvent"
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    pub status: Status,
    pub lines: Vec<Line>,
    pub paid: u64,
}

impl Order {
    fn apply(mut self, event: &OrderEvent) -> Self {
        match event {
            OrderEvent::OrderPlaced { lines, .. } => {
                self.status = Status::Placed;
                self.lines.clone_from(lines);
            }
            OrderEvent::LineAdded { line, .. } => self.lines.push(line.clone()),
            OrderEvent::LineRemoved { article, .. } => self.lines.retain(|line| line.article != *article),
            OrderEvent::OrderPaid { cents, .. } => {
                self.status = Status::Paid;
                self.paid = *cents;
            }
            OrderEvent::OrderShipped { .. } => self.status = Status::Shipped,
            OrderEvent::OrderDelivered { .. } => self.status = Status::Delivered,
            OrderEvent::OrderCancelled { .. } => {
                self.status = Status::Cancelled;
                self.paid = 0;
            }
            OrderEvent::OrderReturned { .. } => {
                self.status = Status::Returned;
                self.paid = 0;
            }
        }
        self
    }
}

impl From<OrderError> for CommandError {
    fn from(error: OrderError) -> Self {
        CommandError::business_rule_violated(error)
    }
}

#[derive(Command)]
pub struct PlaceOrder {
    #[stream]
    pub order: StreamId,
    pub customer: String,
    pub lines: Vec<Line>,
}

impl CommandLogic for PlaceOrder {
    type Event = OrderEvent;
    type State = Order;

    fn apply(&self, state: Order, event: &OrderEvent) -> Order {
        state.apply(event)
    }

    fn handle(&self, state: Order) -> Result<NewEvents<OrderEvent>, CommandError> {
        require(state.status, Status::New, "placed")?;
        require_lines(&self.lines)?;
        let (customer, lines) = (self.customer.clone(), self.lines.clone());
        Ok(vec![OrderEvent::OrderPlaced { order: self.order.clone(), customer, lines }].into())
    }
}

#[derive(Command)]
pub struct AddLine {
    #[stream]
    pub order: StreamId,
    pub line: Line,
}

impl CommandLogic for AddLine {
    type Event = OrderEvent;
    type State = Order;

    fn apply(&self, state: Order, event: &OrderEvent) -> Order {
        state.apply(event)
    }

    fn handle(&self, state: Order) -> Result<NewEvents<OrderEvent>, CommandError> {
        require(state.status, Status::Placed, "changed")?;
        require_pieces(&self.line)?;
        Ok(vec![OrderEvent::LineAdded { order: self.order.clone(), line: self.line.clone() }].into())
    }
}

#[derive(Command)]
pub struct RemoveLine {
    #[stream]
    pub order: StreamId,
    pub article: String,
}

impl CommandLogic for RemoveLine {
    type Event = OrderEvent;
    type State = Order;

    fn apply(&self, state: Order, event: &OrderEvent) -> Order {
        state.apply(event)
    }

    fn handle(&self, state: Order) -> Result<NewEvents<OrderEvent>, CommandError> {
        require(state.status, Status::Placed, "changed")?;
        require_removable(&state.lines, &self.article)?;
        Ok(vec![OrderEvent::LineRemoved { order: self.order.clone(), article: self.article.clone() }].into())
    }
}

#[derive(Command)]
pub struct Pay {
    #[stream]
    pub order: StreamId,
    pub cents: u64,
}

impl CommandLogic for Pay {
    type Event = OrderEvent;
    type State = Order;

    fn apply(&self, state: Order, event: &OrderEvent) -> Order {
        state.apply(event)
    }

    fn handle(&self, state: Order) -> Result<NewEvents<OrderEvent>, CommandError> {
        require(state.status, Status::Placed, "paid")?;
        require_total(&state.lines, self.cents)?;
        Ok(vec![OrderEvent::OrderPaid { order: self.order.clone(), cents: self.cents }].into())
    }
}

#[derive(Command)]
pub struct Ship {
    #[stream]
    pub order: StreamId,
    pub carrier: String,
}

impl CommandLogic for Ship {
    type Event = OrderEvent;
    type State = Order;

    fn apply(&self, state: Order, event: &OrderEvent) -> Order {
        state.apply(event)
    }

    fn handle(&self, state: Order) -> Result<NewEvents<OrderEvent>, CommandError> {
        require(state.status, Status::Paid, "shipped")?;
        Ok(vec![OrderEvent::OrderShipped { order: self.order.clone(), carrier: self.carrier.clone() }].into())
    }
}

#[derive(Command)]
pub struct Deliver {
    #[stream]
    pub order: StreamId,
}

impl CommandLogic for Deliver {
    type Event = OrderEvent;
    type State = Order;

    fn apply(&self, state: Order, event: &OrderEvent) -> Order {
        state.apply(event)
    }

    fn handle(&self, state: Order) -> Result<NewEvents<OrderEvent>, CommandError> {
        if state.status == Status::Delivered {
            return Ok(NewEvents::default());
        }
        require(state.status, Status::Shipped, "delivered")?;
        Ok(vec![OrderEvent::OrderDelivered { order: self.order.clone() }].into())
    }
}

#[derive(Command)]
pub struct Cancel {
    #[stream]
    pub order: StreamId,
    pub reason: String,
}

impl CommandLogic for Cancel {
    type Event = OrderEvent;
    type State = Order;

    fn apply(&self, state: Order, event: &OrderEvent) -> Order {
        state.apply(event)
    }

    fn handle(&self, state: Order) -> Result<NewEvents<OrderEvent>, CommandError> {
        match state.status {
            Status::Placed | Status::Paid => {
                let (order, reason) = (self.order.clone(), self.reason.clone());
                Ok(vec![OrderEvent::OrderCancelled { order, reason }].into())
            }
            Status::Cancelled => Ok(NewEvents::default()),
            status => Err(OrderError::WrongStatus { status, wanted: "cancelled" }.into()),
        }
    }
}

#[derive(Command)]
pub struct Return {
    #[stream]
    pub order: StreamId,
    pub reason: String,
}

impl CommandLogic for Return {
    type Event = OrderEvent;
    type State = Order;

    fn apply(&self, state: Order, event: &OrderEvent) -> Order {
        state.apply(event)
    }

    fn handle(&self, state: Order) -> Result<NewEvents<OrderEvent>, CommandError> {
        require(state.status, Status::Delivered, "returned")?;
        Ok(vec![OrderEvent::OrderReturned { order: self.order.clone(), reason: self.reason.clone() }].into())
    }
}

// end of the domain

pub fn new() -> InMemoryEventStore {
    InMemoryEventStore::new()
}

pub async fn take(store: &InMemoryEventStore, step: Step) -> Told {
    let order = StreamId::try_new("order-1").expect("a stream");
    let retry = RetryPolicy::new();
    let of = order.clone();
    let done = match step {
        Step::Place(lines) => {
            execute(store, PlaceOrder { order, customer: "Ann".to_owned(), lines }, retry).await
        }
        Step::AddLine(line) => execute(store, AddLine { order, line }, retry).await,
        Step::RemoveLine(article) => {
            execute(store, RemoveLine { order, article: article.to_owned() }, retry).await
        }
        Step::Pay(cents) => execute(store, Pay { order, cents }, retry).await,
        Step::Ship => execute(store, Ship { order, carrier: "post".to_owned() }, retry).await,
        Step::Deliver => execute(store, Deliver { order }, retry).await,
        Step::Cancel => execute(store, Cancel { order, reason: "late".to_owned() }, retry).await,
        Step::Return => execute(store, Return { order, reason: "broken".to_owned() }, retry).await,
    };
    match done {
        Ok(_) => {
            let events = store.read_stream::<OrderEvent>(of).await.expect("reads");
            let events = collect_events(events).await.expect("reads");
            let order = events.iter().fold(Order::default(), Order::apply);
            Ok((order.status, total(&order.lines), order.paid))
        }
        Err(CommandError::BusinessRuleViolation(error)) => {
            Err(*error.downcast::<OrderError>().expect("the domain's error"))
        }
        Err(error) => panic!("{error}"),
    }
}
