include!("../applied.rs");

#[handlers]
impl Account {
    #[handle]
    fn close(&self, _: &Close, _: &EventContext) -> Closed {
        Closed
    }
}
