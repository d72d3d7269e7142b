use es_core::prelude::*;

#[derive(Id)]
pub struct OrderId<T>(String, std::marker::PhantomData<T>);

fn main() {}
