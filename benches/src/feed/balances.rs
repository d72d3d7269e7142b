//! The measured projection, which maintains a row for each account.

use std::time::Instant;

use es_core::event::EventData;
use es_core::feed::{EventFilter, Feed};
use es_core::prelude::*;
use es_core::projection::{Due, ProjectError, ProjectorBuilder, Stage, Tick};
use es_core::serde;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Failure;
use crate::domain::{Account, Deposited};

/// The balance of an account.
#[derive(Clone, Row, serde::Serialize, serde::Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "balances", key = account)]
pub struct Balance {
    account: String,
    balance: u64,
    deposits: u64,
}

/// Reads the account's row for each event, and puts it back.
#[derive(Clone, Projection)]
#[projection(name = "balances", events(Account(Deposited)))]
pub struct Balances {
    #[read_model]
    rows: ReadModel<Balance>,
}

impl Balances {
    pub fn new(store: &(impl Feed + Clone)) -> Self {
        Self { rows: ReadModel::of::<Self>(store) }
    }

    /// Returns the number of events in the rows of `store`.
    pub async fn events(store: &(impl Feed + Clone)) -> Result<u64, Failure> {
        let rows = Self::new(store).rows.all().await?;
        Ok(rows.iter().map(|row| row.deposits).sum())
    }
}

impl Project<Deposited> for Balances {
    async fn project(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let found = self.rows.get(ctx.id()).await?;
        let mut row =
            found.unwrap_or_else(|| Balance { account: ctx.id().to_owned(), balance: 0, deposits: 0 });
        row.balance += event.cents;
        row.deposits += 1;
        Ok(self.rows.put(row)?)
    }
}

/// An event, by its account and version.
pub type Place = (String, u64);

/// The projection with a report of the time at which the row of each event was written.
#[derive(Clone)]
pub struct Watched {
    balances: Balances,
    handled: Vec<Place>,
    written: UnboundedSender<(Place, Instant)>,
}

impl Watched {
    /// Returns a projector of it on `store`, and the receiver of its reports.
    pub fn on<S: Feed + Clone>(store: &S) -> (Projector<Self>, UnboundedReceiver<(Place, Instant)>) {
        let (written, receiver) = unbounded_channel();
        let watched = Self { balances: Balances::new(store), handled: Vec::new(), written };
        (ProjectorBuilder::build(Projector::builder(store.clone(), watched)), receiver)
    }
}

impl Projection for Watched {
    const NAME: &'static str = Balances::NAME;

    fn filter(&self) -> EventFilter {
        self.balances.filter()
    }

    async fn handle(&mut self, event: &EventData, ctx: &EventContext) -> Result<(), ProjectError> {
        self.balances.handle(event, ctx).await?;
        self.handled.push((ctx.id().to_owned(), ctx.version().get()));
        Ok(())
    }

    fn stages(&mut self) -> Vec<&mut dyn Stage> {
        self.balances.stages()
    }

    /// Called after a page, when its rows are written.
    async fn tick(&mut self, _: Tick<'_>) -> Result<Due, ProjectError> {
        let now = Instant::now();
        for place in self.handled.drain(..) {
            // The receiver is dropped after the last event.
            let _ = self.written.send((place, now));
        }
        Ok(Due::default())
    }
}
