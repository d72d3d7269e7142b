// The aggregates of the chapter on processes.

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

#[event]
pub struct OrderPlaced {
    pub item: String,
}

#[event]
pub struct OrderPaid;

#[event]
pub struct OrderCancelled;

#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "order", id = String, events(OrderPlaced, OrderPaid, OrderCancelled))]
pub struct Order {
    paid: bool,
    cancelled: bool,
}

#[handlers]
impl Order {
    #[apply]
    fn order_placed(&mut self, _: &OrderPlaced) {}

    #[apply]
    fn order_paid(&mut self, _: &OrderPaid) {
        self.paid = true;
    }

    #[apply]
    fn order_cancelled(&mut self, _: &OrderCancelled) {
        self.cancelled = true;
    }
}

pub struct Place {
    pub item: String,
}

#[handlers]
impl Order {
    #[handle]
    fn place(&self, command: &Place, ctx: &Context<Self>) -> Events<Self> {
        match ctx.exists() {
            true => Events::none(),
            false => OrderPlaced { item: command.item.clone() }.into(),
        }
    }
}

pub struct Pay;

#[handlers]
impl Order {
    #[handle]
    fn pay(&self, _: &Pay) -> Events<Self> {
        match self.paid || self.cancelled {
            true => Events::none(),
            false => OrderPaid.into(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct AlreadyPaid;

/// Cancels an order that was not paid in time.
pub struct Cancel;

#[handlers]
impl Order {
    #[handle]
    fn cancel(&self, _: &Cancel) -> Result<Events<Self>, AlreadyPaid> {
        match (self.paid, self.cancelled) {
            (true, _) => Err(AlreadyPaid),
            (false, true) => Ok(Events::none()),
            (false, false) => Ok(OrderCancelled.into()),
        }
    }
}

/// Cancels an order that the shop cannot deliver.
pub struct Refuse;

#[handlers]
impl Order {
    #[handle]
    fn refuse(&self, _: &Refuse) -> Events<Self> {
        match self.cancelled {
            true => Events::none(),
            false => OrderCancelled.into(),
        }
    }
}

#[event]
pub struct Received {
    pub pieces: u32,
}

#[event]
pub struct Reserved;

#[event]
pub struct Released;

#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "stock", id = String, events(Received, Reserved, Released))]
pub struct Stock {
    free: u32,
}

#[handlers]
impl Stock {
    #[apply]
    fn received(&mut self, event: &Received) {
        self.free += event.pieces;
    }

    #[apply]
    fn reserved(&mut self, _: &Reserved) {
        self.free -= 1;
    }

    #[apply]
    fn released(&mut self, _: &Released) {
        self.free += 1;
    }
}

pub struct Receive {
    pub pieces: u32,
}

#[handlers]
impl Stock {
    #[handle]
    fn receive(&self, command: &Receive) -> Received {
        Received { pieces: command.pieces }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SoldOut;

pub struct Reserve;

#[handlers]
impl Stock {
    #[handle]
    fn reserve(&self, _: &Reserve) -> Result<Events<Self>, SoldOut> {
        match self.free {
            0 => Err(SoldOut),
            _ => Ok(Reserved.into()),
        }
    }
}

pub struct Release;

#[handlers]
impl Stock {
    #[handle]
    fn release(&self, _: &Release) -> Released {
        Released
    }
}
