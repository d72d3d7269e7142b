include!("../opened.rs");

#[event]
pub struct Closed;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account;

impl Apply<Closed> for Account {
    fn apply(&mut self, _: &Closed) {}
}
