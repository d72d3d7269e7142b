include!("../welcome.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming", events(Account(Opened)))]
pub struct Welcoming;
