use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};

#[event]
pub struct Opened;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "accounts", key = account)]
pub struct AccountRow {
    account: String,
}

#[derive(Clone, Projection)]
#[projection(name = "accounts", events(Account(Opened)))]
pub struct Accounts {
    accounts: ReadModel<AccountRow>,
    #[read_model(read_only)]
    others: ReadModel<AccountRow>,
}

impl Project<Opened> for Accounts {
    async fn project(&mut self, _: &Opened, ctx: &EventContext) -> Result<(), BoxError> {
        Ok(self.accounts.put(AccountRow { account: ctx.id().to_owned() })?)
    }
}

fn main() {}
