use es_core::prelude::*;

#[derive(Clone, Row)]
#[row(name = "lines", key = order)]
pub struct Line {
    order: String,
    customer: String,
}

fn main() {}
