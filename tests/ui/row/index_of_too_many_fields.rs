include!("../row.rs");

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = a, index(by_all(a, b, c, d, e, f, g, h, i)))]
pub struct Line {
    a: u8,
    b: u8,
    c: u8,
    d: u8,
    e: u8,
    f: u8,
    g: u8,
    h: u8,
    i: u8,
}
