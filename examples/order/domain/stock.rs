//! The stock of one article: pieces that are available, and pieces that are reserved for orders.

use std::collections::BTreeMap;

use es_core::{Aggregate, Id, event, handlers};
use serde::{Deserialize, Serialize};

use super::OrderId;

/// An article, by its name.
#[derive(Id)]
pub struct Article(pub String);

/// Pieces arrived.
#[event]
pub struct StockReceived {
    /// The number of pieces.
    pub pieces: u32,
}

/// Pieces were reserved for an order.
#[event]
pub struct StockReserved {
    /// The order.
    pub order: u32,
    /// The number of pieces.
    pub pieces: u32,
}

/// The reservation of an order was released.
#[event]
pub struct StockReleased {
    /// The order.
    pub order: u32,
}

/// The stock of one article.
#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize)]
#[aggregate(name = "stock", id = Article, events(StockReceived, StockReserved, StockReleased))]
pub struct Stock {
    /// The number of pieces that are not reserved.
    pub free: u32,
    /// The number of reserved pieces, by order.
    pub reserved: BTreeMap<u32, u32>,
}

/// Adds pieces to the stock.
#[derive(Clone, Debug)]
pub struct Receive {
    /// The number of pieces.
    pub pieces: u32,
}

/// Reserves pieces for an order.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The order.
    pub order: OrderId,
    /// The number of pieces.
    pub pieces: u32,
}

/// Releases the reservation of an order, if there is one.
#[derive(Clone, Debug)]
pub struct Release {
    /// The order.
    pub order: OrderId,
}

/// There are too few pieces.
///
/// A process stores the answers to its commands, so the error can be serialized.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("only {left} pieces are left")]
pub struct SoldOut {
    /// The number of available pieces.
    pub left: u32,
}

#[handlers]
impl Stock {
    #[apply]
    fn received(&mut self, event: &StockReceived) {
        self.free = self.free.saturating_add(event.pieces);
    }

    #[apply]
    fn reserved(&mut self, event: &StockReserved) {
        self.free = self.free.saturating_sub(event.pieces);
        self.reserved.insert(event.order, event.pieces);
    }

    #[apply]
    fn released(&mut self, event: &StockReleased) {
        self.free += self.reserved.remove(&event.order).unwrap_or_default();
    }

    #[handle]
    fn receive(&self, command: &Receive) -> StockReceived {
        StockReceived { pieces: command.pieces }
    }

    #[handle]
    fn reserve(&self, &Reserve { order, pieces }: &Reserve) -> Result<StockReserved, SoldOut> {
        if pieces > self.free {
            return Err(SoldOut { left: self.free });
        }
        Ok(StockReserved { order: order.0, pieces })
    }

    #[handle]
    fn release(&self, &Release { order }: &Release) -> Option<StockReleased> {
        self.reserved.contains_key(&order.0).then_some(StockReleased { order: order.0 })
    }
}
