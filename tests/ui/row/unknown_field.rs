include!("../row.rs");

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = id, index(by_customer(custmer, order)))]
pub struct Line {
    order: String,
    customer: String,
}
