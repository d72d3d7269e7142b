use es_core::prelude::*;

pub type Number = u64;

#[derive(Id)]
pub struct OrderId(Number);

#[derive(Id)]
pub struct LineId((u64, u32));

#[derive(Id)]
pub struct ShopId(&'static str);

#[derive(Id)]
pub struct PriceId(f64);

fn main() {}
