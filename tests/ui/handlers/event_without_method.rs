include!("../commands.rs");

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, _: &Opened) {}
}
