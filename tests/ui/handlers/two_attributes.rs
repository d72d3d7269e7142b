include!("../commands.rs");

#[handlers]
impl Account {
    #[apply]
    #[handle]
    fn opened(&mut self, _: &Opened) {}

    #[apply]
    fn closed(&mut self, _: &Closed) {}
}
