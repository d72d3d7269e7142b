use es_core::prelude::*;

#[handlers]
pub struct Account;

impl Account {
    #[handlers]
    pub fn close(&self) {}
}

fn main() {}
