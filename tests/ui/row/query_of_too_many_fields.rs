include!("../row.rs");

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = order, index(by_customer(customer, total)))]
pub struct Line {
    order: String,
    customer: String,
    total: u64,
}

pub async fn query(lines: es_core::ReadModel<Line>) {
    let _ = lines.find(Line::BY_CUSTOMER, "ann").only(&5).only("1001").all().await;
}
