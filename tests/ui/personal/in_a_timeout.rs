include!("../opened.rs");

use es_core::personal::Personal;

#[event]
pub struct Reminder {
    pub customer: String,
    pub name: Personal<String>,
}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account;

#[derive(Clone, Process)]
#[process(name = "remind", state = Account, events(Account(Opened)), timeouts(Reminder))]
pub struct Remind;

#[handlers]
impl Remind {
    #[react]
    async fn opened(&self, _: &Opened, _: &mut Reaction<'_, Account>) -> Result<Option<Opened>, BoxError> {
        Ok(None)
    }

    #[react]
    async fn reminder(&self, _: &Reminder, _: &mut Reaction<'_, Account>) -> Result<Option<Opened>, BoxError> {
        Ok(None)
    }
}
