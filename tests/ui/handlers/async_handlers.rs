include!("../commands.rs");

async fn owner_from_a_service() -> String {
    "Ann".to_owned()
}

#[handlers]
impl Account {
    #[apply]
    async fn opened(&mut self, _: &Opened) {}

    #[apply]
    fn closed(&mut self, _: &Closed) {}

    #[handle]
    async fn open(&self, _: &Open) -> Opened {
        Opened { owner: owner_from_a_service().await }
    }
}
