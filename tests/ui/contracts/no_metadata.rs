use es_core::Metadata;
use es_core::serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
pub struct Tenant {
    pub name: String,
}

pub fn of(tenant: &Tenant) {
    let _ = Metadata::new().with_value(tenant);
}

fn main() {}
