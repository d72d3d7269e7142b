include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String)]
pub struct Account;

pub struct Open;

impl Handle<Open> for Account {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Open, ctx: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        let _ = ctx.exists();
        Ok(Events::none())
    }
}

pub async fn open(accounts: Repository<Account>) {
    let _ = accounts.execute(&"ann".to_owned(), Open).await;
}
