include!("../account.rs");

#[event]
pub struct Shipped;

pub struct Close;
pub struct Ship;

impl Handle<Close> for Account {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Close, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        Ok(Shipped.into())
    }
}

impl Handle<Ship> for Account {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Ship, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        Ok(events![Opened { owner: String::new() }, Shipped])
    }
}
