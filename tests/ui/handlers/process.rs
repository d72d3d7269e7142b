include!("../welcome.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened, Closed)))]
pub struct Welcoming;

#[handlers]
impl Welcoming {
    #[react]
    async fn opened(&mut self, event: Opened) -> Welcomed {
        Welcomed
    }

    #[react]
    async fn closed(&self, _: &Closed) -> Result<Closed, BoxError> {
        Ok(Closed)
    }
}
