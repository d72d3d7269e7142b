include!("../commands.rs");

#[handlers]
impl Account {
    #[apply]
    fn opened(_: &Opened) {}

    #[apply]
    fn closed(state: &mut Self, _: &Closed) {
        state.is_open = false;
    }

    #[handle]
    fn open(command: &Open) -> Opened {
        Opened { owner: command.owner.clone() }
    }

    #[handle]
    fn close(_: &Close) -> Option<Closed> {
        self.is_open.then_some(Closed)
    }
}
