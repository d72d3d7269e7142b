include!("../welcoming.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome)]
pub struct Welcoming;
