include!("../welcome.rs");

#[derive(Clone, Process)]
pub struct Welcoming;
