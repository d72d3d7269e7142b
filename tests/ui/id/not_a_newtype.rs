use es_core::prelude::*;

#[derive(Id)]
pub struct OrderId {
    pub number: u64,
}

#[derive(Id)]
pub struct LineId(u64, u32);

#[derive(Id)]
pub struct ShopId;

#[derive(Id)]
pub enum CustomerId {
    Number(u64),
}

fn main() {}
