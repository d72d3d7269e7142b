include!("../row.rs");

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(key = order)]
pub struct Line {
    order: String,
    customer: String,
}
