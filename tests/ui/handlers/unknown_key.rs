include!("../welcome.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)))]
pub struct Welcoming;

#[handlers]
impl Welcoming {
    #[react(instanec = |event| event.owner.clone())]
    async fn opened(&self, _: &Opened) -> Welcomed {
        Welcomed
    }
}

#[handlers(aggregate)]
impl Welcome {
    #[handle(Opened)]
    fn open(&self, _: &Opened) -> Welcomed {
        Welcomed
    }
}
