use es_core::prelude::*;

#[handlers]
pub struct Account;

fn main() {}
