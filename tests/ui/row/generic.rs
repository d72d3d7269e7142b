use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = order)]
pub struct Line<T> {
    order: String,
    customer: T,
}

fn main() {}
