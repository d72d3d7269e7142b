include!("../row.rs");

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = order, index(by_customer()))]
pub struct Line {
    order: String,
    customer: String,
}
