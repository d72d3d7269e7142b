// The complete projection of the chapter on projections, for the account of the tutorial.

use es_core::feed::Feed;

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[row(name = "accounts", key = account, index(by_owner(owner, balance)))]
pub struct AccountRow {
    pub account: String,
    pub owner: String,
    pub balance: u64,
}

#[derive(Clone, Projection)]
#[projection(name = "overview", events(Account(Opened, Deposited, Withdrawn)))]
pub struct Overview {
    #[read_model]
    pub accounts: ReadModel<AccountRow>,
}

#[handlers]
impl Overview {
    pub fn new(store: &(impl Feed + Clone)) -> Self {
        Self { accounts: ReadModel::of::<Self>(store) }
    }

    async fn add(&mut self, account: &str, cents: i64) -> Result<(), BoxError> {
        let mut row = self.accounts.get(account).await?.ok_or("an account that was never opened")?;
        row.balance = row.balance.checked_add_signed(cents).ok_or("a balance out of range")?;
        Ok(self.accounts.put(row)?)
    }

    #[project]
    async fn opened(&mut self, event: &Opened, ctx: &EventContext) -> Result<(), BoxError> {
        let (account, owner) = (ctx.id().to_owned(), event.owner.clone());
        Ok(self.accounts.put(AccountRow { account, owner, balance: 0 })?)
    }

    #[project]
    async fn deposited(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        self.add(ctx.id(), event.cents.try_into()?).await
    }

    #[project]
    async fn withdrawn(&mut self, event: &Withdrawn, ctx: &EventContext) -> Result<(), BoxError> {
        self.add(ctx.id(), -i64::try_from(event.cents)?).await
    }
}
