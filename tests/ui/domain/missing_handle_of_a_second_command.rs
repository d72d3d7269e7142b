use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

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

fn main() {}
