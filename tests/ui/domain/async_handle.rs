include!("../account.rs");

pub struct Open;

impl Handle<Open> for Account {
    type Error = BoxError;

    async fn handle(&self, _: &Open, _: &Context<Self>) -> Result<Events<Self>, BoxError> {
        Ok(Events::none())
    }
}
