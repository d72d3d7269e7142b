include!("../commands.rs");

#[handlers]
impl Account {
    #[apply]
    fn opened(&self, _: &Opened) {}

    #[apply]
    fn closed(mut self, _: &Closed) {
        self.is_open = false;
    }

    #[handle]
    fn open(&mut self, command: &Open) -> Opened {
        self.is_open = true;
        Opened { owner: command.owner.clone() }
    }

    #[handle]
    fn close(self, _: &Close) -> Closed {
        Closed
    }
}
