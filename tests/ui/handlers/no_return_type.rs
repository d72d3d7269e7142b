include!("../applied.rs");

#[handlers]
impl Account {
    #[handle]
    fn open(&self, _: &Open) {}

    #[handle]
    fn close(&self, _: &Close) -> Result<(), Rejected> {
        Err(Rejected)
    }
}
