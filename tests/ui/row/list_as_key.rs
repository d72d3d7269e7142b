use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = orders)]
pub struct Line {
    orders: Vec<String>,
}

fn main() {}
