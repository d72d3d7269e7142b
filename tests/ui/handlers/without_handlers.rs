include!("../applied.rs");

impl Account {
    #[handle]
    fn close(&self, _: &Close) -> Closed {
        Closed
    }
}
