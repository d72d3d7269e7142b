include!("../welcome.rs");

#[derive(Clone, Process)]
#[process]
pub struct Welcoming;
