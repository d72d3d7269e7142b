include!("../welcome.rs");

pub struct Memory;

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Memory, events(Account(Opened)))]
pub struct Welcoming;
