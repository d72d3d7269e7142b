include!("../row.rs");

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "", ky = order, index(by_customer(custmer)))]
pub struct Line {
    order: String,
    customer: String,
}
