use es_core::publish::{CloudEvents, Publishing};

#[derive(Debug)]
pub struct Broker;

pub fn publishing(envelopes: CloudEvents) -> impl es_core::Projection {
    Publishing::new("to_broker", Broker, envelopes)
}

fn main() {}
