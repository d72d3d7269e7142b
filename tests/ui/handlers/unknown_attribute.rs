include!("../commands.rs");

#[handlers]
impl Account {
    #[aply]
    fn opened(&mut self, _: &Opened) {}

    #[apply]
    fn closed(&mut self, _: &Closed) {}

    #[handles]
    fn close(&self, _: &Close) -> Closed {
        Closed
    }
}
