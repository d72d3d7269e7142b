//! Data that a process stores and reads later.

use std::time::Duration;

use es_core::prelude::*;
use es_core::repository::Recorded;
use es_core::testing::{TestStore, react};
use es_core::{MemoryStore, Metadata};
use es_tests::domain::Account;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::support::{Diary, Did, Scripted, Work, pass, projector, tell_with};

#[event]
pub(crate) struct Asked {
    pub share: f64,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{share} is too much")]
pub(crate) struct TooMuch {
    share: f64,
    details: Value,
}

pub(crate) struct Ask(f64);

#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "desk", id = String, events(Asked))]
pub(crate) struct Desk;

impl Apply<Asked> for Desk {
    fn apply(&mut self, _: &Asked) {}
}

impl Handle<Ask> for Desk {
    type Error = TooMuch;
    fn handle(&self, command: &Ask, _: &Context<Self>) -> Result<Events<Self>, TooMuch> {
        // As deep as the share says.
        let details = (0..command.0 as usize).fold(Value::Null, |value, _| Value::from(vec![value]));
        Err(TooMuch { share: command.0, details })
    }
}

#[event]
pub(crate) struct Again {
    pub share: f64,
    pub left: u32,
}

#[event]
pub(crate) struct Unlisted;

/// Asks for a share, and schedules timeouts with it, each of which schedules the next one.
#[derive(Clone, Process)]
#[process(name = "asking", state = Diary, events(Desk(Asked)), timeouts(Again))]
struct Asking {
    desks: Option<Repository<Desk>>,
    schedules: u32,
    lists: bool,
}

impl Asking {
    fn schedules(timeouts: u32) -> Self {
        Self { desks: None, schedules: timeouts, lists: true }
    }
}

impl React<Asked> for Asking {
    fn instance(&self, _: &Asked, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(
        &self,
        event: &Asked,
        reaction: &mut Reaction<'_, Diary>,
    ) -> Result<Events<Diary>, BoxError> {
        let share = event.share;
        if let Some(desks) = &self.desks {
            let answer = reaction.ask(desks, &"other".to_owned(), Ask(share)).await?;
            return Ok(Did { what: answer.expect_err("is too much").to_string() }.into());
        }
        if !self.lists {
            reaction.schedule(Duration::from_secs(1), Unlisted)?;
        }
        reaction.schedule(Duration::from_secs(1), Again { share, left: self.schedules })?;
        Ok(Events::none())
    }
}

impl React<Again> for Asking {
    fn instance(&self, _: &Again, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(
        &self,
        event: &Again,
        reaction: &mut Reaction<'_, Diary>,
    ) -> Result<Events<Diary>, BoxError> {
        if event.left > 1 {
            reaction.schedule(Duration::from_secs(1), Again { left: event.left - 1, ..*event })?;
        }
        Ok(Did { what: event.left.to_string() }.into())
    }
}

#[tokio::test]
async fn a_timeout_that_could_not_be_read_back_is_not_scheduled() {
    react(|_: &TestStore| Asking::schedules(1))
        .when::<Desk>("1", Asked { share: f64::MAX })
        .await
        .later(Duration::from_secs(1))
        .await
        .then_events::<Diary>("1", Did { what: "1".into() });
    let process = |store: &TestStore| Wrong(Repository::new(store.clone()));
    react(process).when::<Desk>("1", Asked { share: 0.0 }).await.then_failed(
        "the timeout `Again` cannot be scheduled, because it could not be decoded when it is due \
         (the payload of the event `Again` (schema version 1) does not match its type",
    );
}

#[tokio::test]
async fn a_timeout_that_is_too_large_to_be_parked_is_not_scheduled() {
    let process = |store: &TestStore| Wrong(Repository::new(store.clone()));
    react(process).when::<Desk>("1", Asked { share: 1.0 }).await.then_failed("the timeout `Note` has 400");
}

#[tokio::test]
async fn a_timeout_that_is_not_listed_is_not_scheduled() {
    react(|_: &TestStore| Asking { lists: false, ..Asking::schedules(1) })
        .when::<Desk>("1", Asked { share: 1.0 })
        .await
        .then_failed("the process does not list the timeout `Unlisted`: add it to `timeouts(…)`");
}

#[tokio::test]
async fn a_timeout_may_schedule_the_next_one_again_and_again() {
    let mut process =
        react(|_: &TestStore| Asking::schedules(200)).when::<Desk>("1", Asked { share: 1.0 }).await;
    for left in (1..=200).rev() {
        process = process
            .later(Duration::from_secs(1))
            .await
            .then_events::<Diary>("1", Did { what: left.to_string() });
    }
    drop(process.later(Duration::from_secs(1)).await.then_nothing::<Diary>("1"));
}

/// Makes the mistake that the share selects.
#[derive(Clone, Process)]
#[process(name = "wrong", state = Diary, events(Desk(Asked)), timeouts(Again, Note))]
struct Wrong(Repository<Desk>);

#[event]
pub(crate) struct Note {
    pub text: String,
}

impl React<Asked> for Wrong {
    fn instance(&self, _: &Asked, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(
        &self,
        event: &Asked,
        reaction: &mut Reaction<'_, Diary>,
    ) -> Result<Events<Diary>, BoxError> {
        let share = event.share / 0.0;
        if share.is_nan() {
            reaction.schedule(Duration::from_secs(1), Again { share, left: 0 })?;
        } else if event.share < 0.0 {
            let _ = reaction.ask(&self.0, &"other".to_owned(), Ask(share)).await?;
        }
        reaction.schedule(Duration::from_secs(1), Note { text: "x".repeat(400_000) })?;
        Ok(Events::none())
    }
}

impl React<Again> for Wrong {
    fn instance(&self, _: &Again, _: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(None)
    }

    async fn react(&self, _: &Again, _: &mut Reaction<'_, Diary>) -> Result<Events<Diary>, BoxError> {
        Ok(Events::none())
    }
}

impl React<Note> for Wrong {
    fn instance(&self, _: &Note, _: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(None)
    }

    async fn react(&self, _: &Note, _: &mut Reaction<'_, Diary>) -> Result<Events<Diary>, BoxError> {
        Ok(Events::none())
    }
}

#[tokio::test]
async fn a_rejection_that_could_not_be_read_back_is_a_failure() {
    let process =
        |store: &TestStore| Asking { desks: Some(Repository::new(store.clone())), ..Asking::schedules(0) };
    react(process)
        .when::<Desk>("1", Asked { share: 1.5 })
        .await
        .then_events::<Diary>("1", Did { what: "1.5 is too much".into() });
    react(process).when::<Desk>("1", Asked { share: 130.0 }).await.then_failed(
        "TooMuch` cannot be stored, because it could not be decoded again (recursion limit exceeded",
    );
    let process = |store: &TestStore| Wrong(Repository::new(store.clone()));
    react(process).when::<Desk>("1", Asked { share: -1.0 }).await.then_failed(
        "TooMuch` cannot be stored, because it could not be decoded again (invalid type: null, expected f64)",
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_reaction_leads_to_has_the_metadata_of_its_event() {
    let store = MemoryStore::new();
    let metadata =
        Metadata::new().with_actor("ann").with_correlation("request-7").with_entry("tenant", "acme");
    tell_with(&store, "a", "ann: pay remind note then pay note", metadata).await;
    let _work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
    pass(Duration::from_secs(2)).await;

    let accounts = Repository::<Account>::new(store.clone());
    let diaries = Repository::<Diary>::new(store.clone());
    let told = accounts.history(&"a".to_owned()).all().await.expect("reads");
    let paid = accounts.history(&"payee".to_owned()).all().await.expect("reads");
    let noted = diaries.history(&"ann".to_owned()).all().await.expect("reads");
    let cause = told[0].id.to_string();
    check(&paid, &cause);
    check(&noted, &cause);
}

/// Returns two events, of a reaction and of the reaction to its timeout, with the propagated metadata.
fn check<E>(events: &[Recorded<E>], cause: &str) {
    assert_eq!(events.len(), 2);
    for Recorded { metadata, .. } in events {
        assert_eq!((metadata.actor(), metadata.correlation()), (Some("ann"), Some("request-7")));
        assert_eq!(metadata.get("tenant").and_then(|tenant| tenant.as_str()), Some("acme"));
        assert_eq!(metadata.causation(), Some(cause));
    }
}
