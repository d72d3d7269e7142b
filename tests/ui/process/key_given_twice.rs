include!("../welcoming.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)), name = "again")]
pub struct Welcoming;
