include!("../opened.rs");

#[event(alias = "Shut")]
pub struct Closed;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, Closed), retired("Vanished", "Shut"))]
pub struct Account;

impl Apply<Closed> for Account {
    fn apply(&mut self, _: &Closed) {}
}
