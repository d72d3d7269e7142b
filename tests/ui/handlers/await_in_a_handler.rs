include!("../applied.rs");

async fn owner_from_a_service() -> String {
    "Ann".to_owned()
}

#[handlers]
impl Account {
    #[handle]
    fn open(&self, _: &Open) -> Result<Opened, Rejected> {
        Ok(Opened { owner: owner_from_a_service().await })
    }
}
