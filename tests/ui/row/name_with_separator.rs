use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines#1", key = order)]
pub struct Line {
    order: String,
    customer: String,
}

fn main() {}
