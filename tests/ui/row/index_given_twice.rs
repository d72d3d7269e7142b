include!("../row.rs");

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = order, index(by_customer(customer)), index(by_customer(order)))]
pub struct Line {
    order: String,
    customer: String,
}
