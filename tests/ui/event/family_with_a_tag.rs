use es_core::prelude::*;

#[event]
#[serde(tag = "type")]
pub enum OrderEvent {
    Placed,
    #[serde(rename = "order_paid")]
    Paid,
}

fn main() {}
