include!("../account.rs");

#[derive(Clone, Debug)]
pub struct Number(u64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[event]
pub struct Welcomed;

#[derive(Aggregate, Default)]
#[aggregate(name = "welcome", id = Number, events(Welcomed))]
pub struct Welcome;

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened, Closed)))]
pub struct Welcoming;

#[handlers]
impl Welcome {
    #[apply]
    fn welcomed(&mut self, _: &Welcomed) {}
}

#[handlers]
impl Welcoming {
    #[react]
    async fn opened(&self, _: &Opened) -> Welcomed {
        Welcomed
    }

    #[react(instance = |_| 5)]
    async fn closed(&self, _: &Closed) {}
}
