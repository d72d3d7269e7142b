include!("../account.rs");

#[derive(Clone)]
pub struct Line;

pub fn lines(store: &es_core::MemoryStore) -> ReadModel<Line> {
    ReadModel::named(store, "lines")
}
