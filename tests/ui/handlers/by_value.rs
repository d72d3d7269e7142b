include!("../commands.rs");

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, _: Opened) {}

    #[apply]
    fn closed(&mut self, _event: &mut Closed) {}

    #[handle]
    fn open(&self, command: Open) -> Opened {
        Opened { owner: command.owner }
    }
}
