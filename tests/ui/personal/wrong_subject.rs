use es_core::personal::Personal;
use es_core::prelude::*;

#[event]
pub struct Registered {
    pub customer: String,
    #[personal(subject = costumer)]
    pub name: Personal<String>,
    #[personal(subject = name)]
    pub born: Personal<String>,
    #[personal(subjet = customer)]
    pub phone: Personal<String>,
    #[personal(subject = "customer")]
    pub fax: Personal<String>,
}

fn main() {}
