include!("../opened.rs");

#[event(name = "Opened")]
pub struct Reopened;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, Reopened))]
pub struct Account;

impl Apply<Reopened> for Account {
    fn apply(&mut self, _: &Reopened) {}
}
