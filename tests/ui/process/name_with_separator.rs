include!("../welcoming.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming#1", state = Welcome, events(Account(Opened)))]
pub struct Welcoming;
