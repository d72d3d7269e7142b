use es_core::prelude::*;

#[derive(Id)]
pub struct AccountId(String);

#[derive(Id)]
pub struct OrderId(String);

#[event]
pub struct Opened;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = AccountId, events(Opened))]
pub struct Account;

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, _: &Opened) {}
}

pub async fn load(accounts: Repository<Account>, id: OrderId) {
    let _ = accounts.load(&id).await;
}

fn main() {}
