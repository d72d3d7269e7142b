include!("../account.rs");

pub struct Open;

impl Handle<Open> for Account {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Open, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        self.is_open = true;
        Ok(Events::none())
    }
}
