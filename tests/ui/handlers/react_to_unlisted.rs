include!("../welcome.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)))]
pub struct Welcoming;

#[handlers]
impl Welcoming {
    #[react]
    async fn opened(&self, _: &Opened) -> Welcomed {
        Welcomed
    }

    #[react]
    async fn closed(&self, _: &Closed) {}
}
