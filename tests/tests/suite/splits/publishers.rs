//! Publishers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use es_core::projection::WaitError;
use es_core::publish::{BatchLimits, CloudEvents, Envelope, PublishError, Publisher, Publishing};
use es_core::{MemoryStore, Projector};
use es_tests::chaos::run_seeds;
use fastrand::Rng;

use super::{ACCOUNTS, Life, deposit};

/// A broker that accepts envelopes, refuses them for now, and loses its responses, by a seed.
#[derive(Clone, Debug)]
struct Broker(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: Rng,
    /// The accepted events, by stream.
    accepted: BTreeMap<String, Vec<u64>>,
    refused: u64,
}

impl Broker {
    fn seeded(seed: u64) -> Self {
        let random = Rng::with_seed(seed);
        Self(Arc::new(Mutex::new(State { random, accepted: BTreeMap::new(), refused: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// Returns the versions of each stream in the order in which each was accepted first, and the number of
    /// repetitions.
    fn accepted(&self) -> (BTreeMap<String, Vec<u64>>, u64) {
        let mut repeated = 0;
        let mut first = |versions: &Vec<u64>| {
            let mut first = Vec::new();
            for version in versions {
                if first.contains(version) {
                    repeated += 1;
                } else {
                    first.push(*version);
                }
            }
            first
        };
        let accepted = self.state().accepted.clone();
        (accepted.iter().map(|(stream, versions)| (stream.clone(), first(versions))).collect(), repeated)
    }
}

#[async_trait]
impl Publisher for Broker {
    fn limits(&self) -> BatchLimits {
        BatchLimits::default()
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let mut state = self.state();
        let mut outcomes = Vec::new();
        for envelope in batch {
            if state.random.u8(..10) == 0 {
                state.refused += 1;
                outcomes.push(Err(PublishError::transient("refused on purpose")));
            } else {
                let (stream, version) = (envelope.stream().to_string(), envelope.id().version().get());
                state.accepted.entry(stream).or_default().push(version);
                outcomes.push(Ok(()));
            }
        }
        if state.random.u8(..20) == 0 {
            return Err(PublishError::transient("the response was lost on purpose"));
        }
        Ok(outcomes)
    }
}

fn publisher(store: impl es_core::feed::Feed, broker: &Broker, batch: u32) -> Projector<Publishing<Broker>> {
    let envelopes = CloudEvents::source("/tests").expect("a source");
    super::projector(store, Publishing::new("to_broker", broker.clone(), envelopes)).batch(batch).build()
}

/// Workers die, slices are split at any time, and the broker fails: every event is published, and the first time in the
/// order of its stream.
#[test]
fn every_event_is_published_in_the_order_of_its_stream() {
    let reports = run_seeds(150, async |seed| {
        let (store, mut random, broker) = (MemoryStore::new(), Rng::with_seed(seed), Broker::seeded(seed));
        let mut expected = BTreeMap::<String, Vec<u64>>::new();
        let mut life = Life::default();
        for _ in 0..25 {
            life.step(&mut random, |batch| publisher(store.clone(), &broker, batch));
            life.split(&store, &mut random).await?;
            let account = format!("account-{}", random.usize(..ACCOUNTS));
            let versions = deposit(&store, &account, random.usize(1..4)).await;
            expected.entry(format!("account#{account}")).or_default().extend(versions);
            tokio::time::sleep(Duration::from_millis(random.u64(..200))).await;
        }
        life.end();
        finish(&publisher(store.clone(), &broker, 10)).await?;
        let (accepted, repeated) = broker.accepted();
        if accepted != expected {
            return Err(format!("published were {accepted:?}, and the events are {expected:?}"));
        }
        let refused = broker.state().refused;
        Ok((life.splits, life.deaths, refused, repeated))
    });
    let sum = reports.iter().fold((0, 0, 0, 0), |sum, report| {
        (sum.0 + report.0, sum.1 + report.1, sum.2 + report.2, sum.3 + report.3)
    });
    let (splits, deaths, refused, repeated) = sum;
    println!(
        "{} runs of publishers, {splits} splits, {deaths} deaths, {refused} refusals, {repeated} repetitions",
        reports.len()
    );
    assert!(reports.len() < 100 || [splits, deaths, refused, repeated].iter().all(|count| *count > 0));
}

/// Runs until everything is published. A slice that has stopped because the broker refused an event is retried.
async fn finish(projector: &Projector<Publishing<Broker>>) -> Result<(), String> {
    loop {
        match projector.run_until_caught_up().await {
            Ok(()) => return Ok(()),
            Err(WaitError::Stopped { slice, .. }) => {
                projector.retry(slice).await.map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
