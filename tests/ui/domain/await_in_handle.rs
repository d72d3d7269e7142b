include!("../account.rs");

pub struct Open;

async fn owner_from_a_service() -> String {
    "Ann".to_owned()
}

impl Handle<Open> for Account {
    type Error = BoxError;

    fn handle(&self, _: &Open, _: &Context<Self>) -> Result<Events<Self>, BoxError> {
        Ok(Opened { owner: owner_from_a_service().await }.into())
    }
}
