include!("../account.rs");

pub struct Open;

impl Handle<Open> for Account {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Open, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        Ok(Events::none())
    }
}

pub struct Close;

pub async fn close(accounts: Repository<Account>) {
    let _ = accounts.execute(&"ann".to_owned(), Close).await;
}
