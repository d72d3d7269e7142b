include!("../row.rs");

#[derive(Clone)]
pub struct Id;

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = order)]
pub struct Line {
    #[serde(skip)]
    order: Option<Id>,
    customer: String,
}
