include!("../commands.rs");

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, _: &Opened) -> Result<(), Rejected> {
        Err(Rejected)
    }

    #[apply]
    fn closed(&mut self, _: &Closed) {}
}
