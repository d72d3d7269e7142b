include!("../welcoming.rs");

#[derive(Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)))]
pub struct Welcoming;
