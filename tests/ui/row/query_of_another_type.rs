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
    let _ = lines.get(&1).await;
    let _ = lines.find(Line::BY_CUSTOMER, &1).all().await;
    let _ = lines.find(Line::BY_CUSTOMER, "ann").from("5").all().await;
}
