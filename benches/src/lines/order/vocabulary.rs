//! What all versions of the Order domain share. It is not counted.

use serde::{Deserialize, Serialize};

/// A number of pieces of one article, at the price of one in cents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub article: String,
    pub quantity: u32,
    pub cents: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    #[default]
    New,
    Placed,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
    Returned,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("an order that is {status:?} cannot be {wanted}")]
    WrongStatus { status: Status, wanted: &'static str },
    #[error("an order needs at least one line")]
    NoLines,
    #[error("a line needs at least one piece of {0}")]
    NoPieces(String),
    #[error("{0} is not in the order")]
    NotOrdered(String),
    #[error("the order costs {total} cents, {offered} were offered")]
    WrongAmount { total: u64, offered: u64 },
}

pub fn total(lines: &[Line]) -> u64 {
    lines.iter().map(|line| line.cents * u64::from(line.quantity)).sum()
}

pub fn require(actual: Status, needed: Status, wanted: &'static str) -> Result<(), OrderError> {
    if actual == needed { Ok(()) } else { Err(OrderError::WrongStatus { status: actual, wanted }) }
}

pub fn require_pieces(line: &Line) -> Result<(), OrderError> {
    if line.quantity == 0 { Err(OrderError::NoPieces(line.article.clone())) } else { Ok(()) }
}

pub fn require_lines(lines: &[Line]) -> Result<(), OrderError> {
    if lines.is_empty() { Err(OrderError::NoLines) } else { lines.iter().try_for_each(require_pieces) }
}

pub fn require_removable(lines: &[Line], article: &str) -> Result<(), OrderError> {
    match lines.iter().filter(|line| line.article == article).count() {
        0 => Err(OrderError::NotOrdered(article.to_owned())),
        count if count == lines.len() => Err(OrderError::NoLines),
        _ => Ok(()),
    }
}

pub fn require_total(lines: &[Line], offered: u64) -> Result<(), OrderError> {
    let total = total(lines);
    if total == offered { Ok(()) } else { Err(OrderError::WrongAmount { total, offered }) }
}
