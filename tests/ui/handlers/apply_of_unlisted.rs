include!("../applied.rs");

#[event]
pub struct Renamed;

#[handlers]
impl Account {
    #[apply]
    fn renamed(&mut self, _: &Renamed) {}
}
