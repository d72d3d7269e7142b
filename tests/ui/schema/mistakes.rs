use es_core::Schema;

/// A union has no JSON form.
#[derive(Schema)]
pub union Either {
    pub left: u8,
    pub right: u8,
}

/// There is one key.
#[derive(Schema)]
#[schema(name = "line")]
pub struct Line {
    pub sku: String,
}

fn main() {}
