include!("../welcoming.rs");

#[derive(Clone, Process)]
#[process(state = Welcome, events(Account(Opened)))]
pub struct Welcoming;
