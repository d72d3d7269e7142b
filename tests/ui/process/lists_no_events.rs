include!("../welcoming.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events())]
pub struct Welcoming;
