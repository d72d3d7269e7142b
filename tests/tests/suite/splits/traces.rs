//! The ready-made projection [`Traces`].

use std::collections::BTreeSet;
use std::time::Duration;

use es_core::read_model::Traces;
use es_core::{MemoryStore, Metadata};
use es_tests::chaos::run_seeds;
use fastrand::Rng;

use super::{ACCOUNTS, Life, deposit_with, projector};

/// Its commits may be in a slice, in its children, and in other slices.
#[test]
fn a_trace_has_all_of_its_commits_once() {
    let splits = run_seeds(60, async |seed| {
        let (store, mut random) = (MemoryStore::new(), Rng::with_seed(seed));
        let traces = Traces::new(&store);
        let mut expected = vec![BTreeSet::new(); 3];
        let mut life = Life::default();
        for _ in 0..25 {
            life.step(&mut random, |batch| projector(store.clone(), traces.clone()).batch(batch).build());
            life.split(&store, &mut random).await?;
            let account = format!("account-{}", random.usize(..ACCOUNTS));
            let trace = random.usize(..expected.len());
            let metadata = Metadata::new().with_correlation(format!("request-{trace}"));
            let versions = deposit_with(&store, &account, 1, metadata).await;
            expected[trace].insert((format!("account#{account}"), *versions.start()));
            tokio::time::sleep(Duration::from_millis(random.u64(..100))).await;
        }
        life.end();
        let last = projector(store.clone(), traces.clone()).build();
        last.run_until_caught_up().await.map_err(|error| error.to_string())?;
        for (trace, expected) in expected.iter().enumerate() {
            let found = traces.commits(&format!("request-{trace}"), 1_000).await;
            let found: Vec<_> = found.map_err(|error| error.to_string())?;
            let places: BTreeSet<_> =
                found.iter().map(|commit| (commit.stream.to_string(), commit.first.get())).collect();
            if places != *expected || found.len() != expected.len() {
                return Err(format!("trace {trace} has {expected:?}, found were {found:?}"));
            }
        }
        Ok(life.splits)
    });
    println!("{} runs of traces, {} splits", splits.len(), splits.iter().sum::<u64>());
}
