//! Settings with the longest and the shortest durations: users write `Duration::MAX` for "never".

use std::time::Duration;

use es_core::prelude::*;
use es_core::testing::react;
use es_core::{MemoryStore, Repository, RetryPolicy};
use es_dynamo::{DynamoStore, Indexer};
use es_tests::domain::{Account, Deposit, Deposited};
use tokio::time::timeout;

use crate::projections::support::{Journal, deposit, projector, stream, work};

const EXTREMES: [Duration; 2] = [Duration::MAX, Duration::ZERO];
const LIMIT: Duration = Duration::from_secs(60);

fn retry(delay: Duration) -> RetryPolicy {
    RetryPolicy::default().with_base_delay(delay).with_max_delay(delay)
}

#[tokio::test(start_paused = true)]
async fn a_projector_accepts_any_pause() {
    for pause in EXTREMES {
        let store = MemoryStore::new();
        let journal = Journal::new(&store);
        // A handler needs some time, and a lease may not end at once.
        let long = pause.max(LIMIT);
        let settings = || {
            let settings =
                projector(store.clone(), journal.clone()).poll(pause).lease(long).retry(retry(pause));
            settings.restart(retry(pause)).handler_timeout(long).shutdown_timeout(long)
        };
        for projector in [settings().build(), settings().idle_poll(pause).build()] {
            let worker = work(&projector);
            for _ in 0..3 {
                let version = deposit(&store, "ada", &["a"]).await;
                let waited = timeout(LIMIT, projector.wait_for(&stream("ada"), version, LIMIT)).await;
                waited.expect("is not late").expect("is handled");
            }
            projector.shutdown();
            timeout(LIMIT, worker).await.expect("is not late").expect("no panic").expect("ends");
        }
    }
}

#[tokio::test]
async fn a_repository_accepts_any_deadline_and_retention() {
    let accounts = Repository::<Account>::builder(MemoryStore::new())
        .deadline(Duration::MAX)
        .max_clock_skew(Duration::MAX)
        .retry(retry(Duration::MAX))
        .build();
    for retention in EXTREMES {
        let once = accounts.once_for(retention, format!("{retention:?}")).deadline(Duration::MAX);
        once.execute("ada", Deposit { cents: 5, notes: Vec::new() }).await.expect("is accepted");
    }
}

#[tokio::test]
async fn an_indexer_accepts_any_pause() {
    for pause in EXTREMES {
        let store = DynamoStore::embedded().await.expect("starts");
        let long = pause.max(LIMIT);
        let settings = Indexer::builder(&store).poll(pause).refresh(long).lease(long).shutdown_timeout(long);
        let indexer = settings.idle_poll(pause).linger(Duration::ZERO).build().expect("has a client");
        let work = async {
            let accounts = Repository::<Account>::new(store.clone());
            for _ in 0..3 {
                accounts.execute("ada", Deposit { cents: 5, notes: Vec::new() }).await.expect("is accepted");
            }
            indexer.shutdown();
        };
        let (ended, ()) = timeout(LIMIT, async { tokio::join!(indexer.run(), work) }).await.expect("ends");
        ended.expect("runs");
    }
}

/// A process that never reacts again.
#[derive(Clone, Process)]
#[process(name = "never", state = Never, events(Account(Deposited)), timeouts(Again))]
struct WaitForever {
    time: Duration,
}

#[event]
struct Again;

#[event]
struct Waited;

#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "never", id = String, events(Waited))]
struct Never;

#[handlers]
impl Never {
    #[apply]
    fn waited(&mut self, _: &Waited) {}
}

#[handlers]
impl WaitForever {
    #[react]
    async fn deposited(
        &self,
        _: &Deposited,
        reaction: &mut Reaction<'_, Never>,
    ) -> Result<Option<Waited>, BoxError> {
        reaction.schedule(self.time, Again)?;
        Ok(None)
    }

    #[react]
    async fn again(&self, _: &Again) -> Option<Waited> {
        Some(Waited)
    }
}

/// Nothing can be stored with a time after the calendar, and the error says so, however far after.
#[tokio::test]
async fn a_timeout_after_the_calendar_is_refused() {
    let ten_thousand_years = Duration::from_secs(10_000 * 366 * 86_400);
    for time in [ten_thousand_years, Duration::from_secs(u64::MAX / 1_000), Duration::MAX] {
        let event = Deposited { cents: 5, note: String::new() };
        let reacted = react(|_| WaitForever { time }).when::<Account>("ada", event).await;
        reacted.then_failed("a timeout is due after the year 9999: schedule it for an earlier time");
    }
}
