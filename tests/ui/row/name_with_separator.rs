include!("../row.rs");

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines#1", key = order)]
pub struct Line {
    order: String,
    customer: String,
}
