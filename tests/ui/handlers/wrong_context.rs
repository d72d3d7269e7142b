include!("../applied.rs");

#[handlers]
impl Account {
    #[handle]
    fn close(&self, _: &Close, _: &EventContext) -> Closed {
        Closed
    }

    #[handle]
    fn open(&self, command: &Open, reaction: &mut Reaction<'_, Account>) -> Opened {
        Opened { owner: format!("{} {}", command.owner, reaction.id()) }
    }
}

#[derive(Clone, Projection)]
#[projection(name = "owners", events(Account(Opened)))]
pub struct Owners;

#[handlers]
impl Owners {
    #[project]
    async fn opened(&self, _: &Opened, _: &Context<Account>) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(Clone, Projection)]
#[projection(name = "names", events(Account(Opened)))]
pub struct Names;

#[handlers]
impl Names {
    #[project]
    async fn opened(&self, event: &Opened, ctx: &Context<Self>) -> Result<(), BoxError> {
        println!("{} {}", event.owner, ctx.version());
        Ok(())
    }
}
