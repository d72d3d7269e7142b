// An aggregate that applies its events, for the cases with `#[handle]`.

include!("commands.rs");

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, _: &Opened) {
        self.is_open = true;
    }

    #[apply]
    fn closed(&mut self, _: &Closed) {
        self.is_open = false;
    }
}
