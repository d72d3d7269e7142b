include!("../welcome.rs");

pub struct Greet;

#[derive(Debug)]
pub struct TooLate;

#[handlers]
impl Account {
    #[handle]
    fn greet(&self, _: &Greet) -> Result<Closed, TooLate> {
        Err(TooLate)
    }
}

pub async fn react(
    reaction: &mut Reaction<'_, Welcome>,
    accounts: &Repository<Account>,
) -> Result<(), BoxError> {
    let _ = reaction.ask(accounts, "ann", Greet).await?;
    Ok(())
}
