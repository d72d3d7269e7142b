include!("../opened.rs");

use es_core::personal::Personal;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account {
    id: String,
    #[personal(subject = id)]
    name: Option<Personal<String>>,
}
