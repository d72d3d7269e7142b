//! The stock of one article: pieces on the shelf, and pieces that are set aside for orders.

use std::collections::BTreeMap;
use std::fmt;

use es_core::{Aggregate, Apply, Context, Events, Handle, event};
use serde::{Deserialize, Serialize};

use super::OrderId;

/// An article, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Article(pub String);

impl fmt::Display for Article {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Pieces arrived.
#[event]
pub struct StockReceived {
    /// How many.
    pub pieces: u32,
}

/// Pieces were set aside for an order.
#[event]
pub struct StockReserved {
    /// For which order.
    pub order: u32,
    /// How many.
    pub pieces: u32,
}

/// What was set aside for an order went back to the shelf.
#[event]
pub struct StockReleased {
    /// Of which order.
    pub order: u32,
}

/// What is there of one article.
#[derive(Aggregate, Clone, Debug, Default, PartialEq)]
#[aggregate(name = "stock", id = Article, events(StockReceived, StockReserved, StockReleased))]
pub struct Stock {
    /// On the shelf.
    pub free: u32,
    /// Set aside, by order.
    pub reserved: BTreeMap<u32, u32>,
}

impl Apply<StockReceived> for Stock {
    fn apply(&mut self, event: &StockReceived) {
        self.free = self.free.saturating_add(event.pieces);
    }
}

impl Apply<StockReserved> for Stock {
    fn apply(&mut self, event: &StockReserved) {
        self.free = self.free.saturating_sub(event.pieces);
        self.reserved.insert(event.order, event.pieces);
    }
}

impl Apply<StockReleased> for Stock {
    fn apply(&mut self, event: &StockReleased) {
        self.free += self.reserved.remove(&event.order).unwrap_or_default();
    }
}

/// There are not enough pieces.
///
/// A process remembers what it was told, so the error can be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("only {left} pieces are left")]
pub struct SoldOut {
    /// How many there are.
    pub left: u32,
}

/// Puts pieces on the shelf.
#[derive(Clone, Debug)]
pub struct Receive {
    /// How many.
    pub pieces: u32,
}

impl Handle<Receive> for Stock {
    type Error = SoldOut;

    fn handle(&self, command: &Receive, _: &Context<Self>) -> Result<Events<Self>, SoldOut> {
        Ok(StockReceived { pieces: command.pieces }.into())
    }
}

/// Sets pieces aside for an order.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// For which order.
    pub order: OrderId,
    /// How many.
    pub pieces: u32,
}

impl Handle<Reserve> for Stock {
    type Error = SoldOut;

    fn handle(&self, command: &Reserve, _: &Context<Self>) -> Result<Events<Self>, SoldOut> {
        if command.pieces > self.free {
            return Err(SoldOut { left: self.free });
        }
        Ok(StockReserved { order: command.order.0, pieces: command.pieces }.into())
    }
}

/// Puts back what was set aside for an order, if anything was.
#[derive(Clone, Debug)]
pub struct Release {
    /// Of which order.
    pub order: OrderId,
}

impl Handle<Release> for Stock {
    type Error = SoldOut;

    fn handle(&self, command: &Release, _: &Context<Self>) -> Result<Events<Self>, SoldOut> {
        if !self.reserved.contains_key(&command.order.0) {
            return Ok(Events::none());
        }
        Ok(StockReleased { order: command.order.0 }.into())
    }
}
