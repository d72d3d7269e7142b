include!("../commands.rs");

#[handlers]
impl Apply<Opened> for Account {
    #[apply]
    fn apply(&mut self, _: &Opened) {}
}

impl Apply<Closed> for Account {
    fn apply(&mut self, _: &Closed) {}
}
