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

impl Apply<OrderPlaced> for Order {
    fn apply(&mut self, _: &OrderPlaced) {}
}

impl Apply<OrderPaid> for Order {
    fn apply(&mut self, _: &OrderPaid) {
        self.paid = true;
    }
}

impl Apply<OrderCancelled> for Order {
    fn apply(&mut self, _: &OrderCancelled) {
        self.cancelled = true;
    }
}

pub struct Place {
    pub item: String,
}

impl Handle<Place> for Order {
    type Error = std::convert::Infallible;

    fn handle(&self, command: &Place, ctx: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        match ctx.exists() {
            true => Ok(Events::none()),
            false => Ok(OrderPlaced { item: command.item.clone() }.into()),
        }
    }
}

pub struct Pay;

impl Handle<Pay> for Order {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Pay, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        match self.paid || self.cancelled {
            true => Ok(Events::none()),
            false => Ok(OrderPaid.into()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct AlreadyPaid;

/// Cancels an order that was not paid in time.
pub struct Cancel;

impl Handle<Cancel> for Order {
    type Error = AlreadyPaid;

    fn handle(&self, _: &Cancel, _: &Context<Self>) -> Result<Events<Self>, AlreadyPaid> {
        match (self.paid, self.cancelled) {
            (true, _) => Err(AlreadyPaid),
            (false, true) => Ok(Events::none()),
            (false, false) => Ok(OrderCancelled.into()),
        }
    }
}

/// Cancels an order that the shop cannot deliver.
pub struct Refuse;

impl Handle<Refuse> for Order {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Refuse, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        match self.cancelled {
            true => Ok(Events::none()),
            false => Ok(OrderCancelled.into()),
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

impl Apply<Received> for Stock {
    fn apply(&mut self, event: &Received) {
        self.free += event.pieces;
    }
}

impl Apply<Reserved> for Stock {
    fn apply(&mut self, _: &Reserved) {
        self.free -= 1;
    }
}

impl Apply<Released> for Stock {
    fn apply(&mut self, _: &Released) {
        self.free += 1;
    }
}

pub struct Receive {
    pub pieces: u32,
}

impl Handle<Receive> for Stock {
    type Error = std::convert::Infallible;

    fn handle(&self, command: &Receive, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        Ok(Received { pieces: command.pieces }.into())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SoldOut;

pub struct Reserve;

impl Handle<Reserve> for Stock {
    type Error = SoldOut;

    fn handle(&self, _: &Reserve, _: &Context<Self>) -> Result<Events<Self>, SoldOut> {
        match self.free {
            0 => Err(SoldOut),
            _ => Ok(Reserved.into()),
        }
    }
}

pub struct Release;

impl Handle<Release> for Stock {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Release, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        Ok(Released.into())
    }
}
