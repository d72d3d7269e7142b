include!("../row.rs");

type Euros = f64;

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = order, index(by_customer(customer, total)), index(by_discount(discount)))]
pub struct Line {
    order: String,
    customer: String,
    total: Euros,
    discount: Option<f64>,
}
