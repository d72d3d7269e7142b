//! The domain: insurance claims, each filed once, and a read model with a row for each.

use std::convert::Infallible;

use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::serde;

/// A claim was filed.
#[event]
pub struct Filed {
    pub cents: u64,
    pub what: String,
}

#[derive(Aggregate, Clone, Default)]
#[aggregate(name = "claim", id = String, events(Filed))]
pub struct Claim;

impl Apply<Filed> for Claim {
    fn apply(&mut self, _: &Filed) {}
}

/// Files the claim.
pub struct File;

impl Handle<File> for Claim {
    type Error = Infallible;

    fn handle(&self, _: &File, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        let what = "hail on the roof of a barn, with photographs, and an estimate of the roofer";
        Ok(Filed { cents: 125_000, what: what.to_owned() }.into())
    }
}

/// A claim in the list.
#[derive(Clone, Row, serde::Serialize, serde::Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "listed", key = claim)]
pub struct Listed {
    claim: String,
    cents: u64,
}

/// Writes a row for each claim.
#[derive(Clone, Projection)]
#[projection(name = "claims", events(Claim(Filed)))]
pub struct Claims {
    #[read_model]
    rows: ReadModel<Listed>,
}

impl Claims {
    pub fn new(store: &(impl Feed + Clone)) -> Self {
        Self { rows: ReadModel::of::<Self>(store) }
    }
}

impl Project<Filed> for Claims {
    async fn project(&mut self, event: &Filed, ctx: &EventContext) -> Result<(), BoxError> {
        Ok(self.rows.put(Listed { claim: ctx.id().to_owned(), cents: event.cents })?)
    }
}
