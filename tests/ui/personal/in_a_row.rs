include!("../row.rs");

use es_core::personal::Personal;

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "customers", key = id)]
pub struct Customer {
    id: String,
    name: Personal<String>,
    #[personal(subject = customer)]
    phones: Vec<Personal<String>>,
}

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "addresses", key = id, index(by_street(street)))]
pub struct Address {
    id: String,
    #[personal(subject = id)]
    street: Personal<String>,
}

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "letters", key = id)]
pub struct Letter {
    id: String,
    #[personal(subject = id)]
    text: String,
}
