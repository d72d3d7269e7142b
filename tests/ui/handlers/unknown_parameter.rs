include!("../applied.rs");

#[handlers]
impl Account {
    #[handle]
    fn close<T: Default>(&self, _: &Close) -> Closed {
        let _ = T::default();
        Closed
    }
}
