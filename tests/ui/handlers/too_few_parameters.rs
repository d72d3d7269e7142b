include!("../applied.rs");

#[handlers]
impl Account {
    #[handle]
    fn close(&self) -> Closed {
        Closed
    }
}
