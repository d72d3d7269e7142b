include!("../applied.rs");

type Decision<T> = Result<T, Rejected>;

#[handlers]
impl Account {
    #[handle]
    fn close(&self, _: &Close) -> Decision<Closed> {
        Ok(Closed)
    }
}
