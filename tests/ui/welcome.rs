// An aggregate, and the state of a process, for the cases that define a process.

include!("account.rs");

#[event]
pub struct Welcomed;

#[derive(Aggregate, Default)]
#[aggregate(name = "welcome", id = String, events(Welcomed))]
pub struct Welcome;

impl Apply<Welcomed> for Welcome {
    fn apply(&mut self, _: &Welcomed) {}
}
