include!("../commands.rs");

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, _: &Opened) {}

    #[apply]
    fn closed(&mut self, _: &Closed) {}

    #[apply]
    fn closed_again(&mut self, _: &Closed) {}

    #[handle]
    fn close(&self, _: &Close) -> Closed {
        Closed
    }

    #[handle]
    fn shut(&self, _: &Close) -> Closed {
        Closed
    }
}
