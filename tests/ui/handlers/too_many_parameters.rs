include!("../commands.rs");

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, _: &Opened, ctx: &Context<Self>) {}

    #[apply]
    fn closed(&mut self, _: &Closed) {}

    #[handle]
    fn open(&self, command: &Open, _: &Context<Self>, rate: f64) -> Opened {
        Opened { owner: command.owner.clone() }
    }
}
