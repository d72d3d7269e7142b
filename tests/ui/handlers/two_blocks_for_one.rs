include!("../applied.rs");

#[handlers]
impl Account {
    #[handle]
    fn close(&self, _: &Close) -> Closed {
        Closed
    }
}

#[handlers]
impl Account {
    #[handle]
    fn shut(&self, _: &Close) -> Closed {
        Closed
    }
}
