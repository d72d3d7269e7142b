// An aggregate without handlers, and commands, for the cases with `#[handlers]`.

use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[event]
pub struct Closed;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, Closed))]
pub struct Account {
    pub is_open: bool,
}

pub struct Open {
    pub owner: String,
}

pub struct Close;

#[derive(Debug)]
pub struct Rejected;

fn main() {}
