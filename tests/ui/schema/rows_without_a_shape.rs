include!("../row.rs");

use es_core::testing::SchemaLock;

#[derive(Clone, Debug, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "orders", key = order)]
pub struct OrderRow {
    pub order: String,
}

pub fn test(row: OrderRow) {
    SchemaLock::at("schema.json").rows([row]).check();
}
