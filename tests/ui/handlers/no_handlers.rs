include!("../applied.rs");

#[handlers]
impl Account {
    fn close(&self, _: &Close) -> Closed {
        Closed
    }
}
