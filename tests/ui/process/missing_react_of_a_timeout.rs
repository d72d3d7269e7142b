include!("../welcoming.rs");

#[event]
pub struct Late;

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)), timeouts(Late))]
pub struct Welcoming;
