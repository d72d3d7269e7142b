use es_core::prelude::*;

#[event(name = "Ordered")]
pub struct OrderedV1;

#[event(name = "Placed", version = 2, previous = OrderedV1, alias = "Ordered")]
pub struct PlacedV2;

#[event(name = "OrderPlaced", version = 3, previous = PlacedV2, alias = "Placed")]
pub struct OrderPlaced;

impl From<OrderedV1> for PlacedV2 {
    fn from(_: OrderedV1) -> Self {
        Self
    }
}

impl From<PlacedV2> for OrderPlaced {
    fn from(_: PlacedV2) -> Self {
        Self
    }
}

fn main() {}
