#![deny(unused_must_use)]

include!("../account.rs");

pub struct Open;

impl Handle<Open> for Account {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Open, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        Events::<Self>::from(Opened { owner: String::new() });
        Ok(Events::none())
    }
}
