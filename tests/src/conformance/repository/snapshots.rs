//! Snapshots never change a result.

use std::sync::Arc;

use es_core::repository::Loaded;
use es_core::snapshot::{Fingerprint, Snapshot, SnapshotPolicy};
use es_core::{Aggregate, EventStore, Repository, Version};

use super::{account, stream};
use crate::conformance::support::time;
use crate::domain::{Account, Deposit};

fn without_snapshots(store: &Arc<dyn EventStore>) -> Repository<Account> {
    Repository::builder(Arc::clone(store)).snapshots(SnapshotPolicy::Never).build()
}

/// Waits for the snapshots under way, and loads from the snapshot at `version`.
async fn load_from(accounts: &Repository<Account>, id: &String, version: Version) -> Loaded<Account> {
    accounts.flush().await;
    let loaded = accounts.load(id).await.expect("loads");
    assert_eq!(loaded.snapshot, Some(version));
    loaded
}

/// Commits of different lengths place snapshots at all kinds of boundaries.
pub async fn snapshot_and_tail_equal_the_full_replay_at_every_boundary(store: Arc<dyn EventStore>) {
    for every in [1, 2, 3, 7] {
        let (_, id) = account(&store);
        let accounts: Repository<Account> =
            Repository::builder(Arc::clone(&store)).snapshots(SnapshotPolicy::Every(every)).build();
        let plain = without_snapshots(&store);
        let (mut snapshot, mut version) = (Version::NONE, Version::NONE);
        for (step, count) in [1, 1, 3, 1, 2, 5, 1, 4, 1, 1, 1].into_iter().enumerate() {
            let notes = (0..count).map(|n| format!("{step}.{n}")).collect();
            let done = accounts.execute(&id, Deposit { cents: 1, notes }).await.expect("accepted");
            version = version.plus(count);
            if version.since(snapshot) >= u64::from(every) {
                snapshot = version;
            }
            accounts.flush().await;
            let replay = plain.load(&id).await.expect("loads");
            assert_eq!(replay.snapshot, None);
            assert_eq!((&done.state, done.version), (&replay.state, replay.version));
            let loaded = match snapshot {
                Version::NONE => accounts.load(&id).await.expect("loads"),
                snapshot => load_from(&accounts, &id, snapshot).await,
            };
            assert_eq!((loaded.state, loaded.version), (replay.state, version), "every {every}, step {step}");
            assert_eq!(loaded.time, replay.time);
        }
    }
}

/// If the snapshot is damaged, loads and commands fold the events instead.
pub async fn snapshots_that_cannot_be_used_change_nothing(store: Arc<dyn EventStore>) {
    let shape = Account::snapshots().expect("has snapshots").fingerprint();
    let at = |version, state: &str| Snapshot::new(Version::new(version), time(0), shape, state.to_owned());
    let lie = r#"{"balance":1,"notes":[],"rate":0.0,"events":1}"#;
    let sound = at(4, lie);
    let cases = [
        ("no JSON", at(4, "{\"balance\":")),
        ("another type", at(4, "[]")),
        ("a field missing", at(4, "{\"balance\":1}")),
        ("inside a commit", at(3, lie)),
        ("ahead of the stream", at(40, lie)),
        ("another shape", Snapshot::new(Version::new(4), time(0), Fingerprint::new(1), lie.to_owned())),
        (
            "changed by hand",
            Snapshot::from_stored(
                sound.version(),
                sound.time(),
                shape,
                lie.replace("\"balance\":1", "\"balance\":9"),
                sound.checksum(),
            ),
        ),
    ];
    for (name, snapshot) in cases {
        let (accounts, id) = account(&store);
        let notes = |n: &str| (0..2).map(|i| format!("{n}{i}")).collect::<Vec<_>>();
        for commit in ["a", "b", "c"] {
            accounts.execute(&id, Deposit { cents: 10, notes: notes(commit) }).await.expect("accepted");
        }
        store.write_snapshot(&stream(&id), &snapshot, None).await.expect("writes");

        let loaded = accounts.load(&id).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((loaded.state.balance, loaded.version), (60, Version::new(6)), "{name}");
        assert_eq!(loaded.snapshot, None, "{name}");
        let done = accounts.execute(&id, Deposit::one(5, "d")).await.expect("accepted");
        assert_eq!((done.state.balance, done.version), (65, Version::new(7)), "{name}");
        let replay = without_snapshots(&store).load(&id).await.expect("loads");
        assert_eq!(replay.state, done.state, "{name}");

        // After the seventh event a snapshot was due, and it replaced the unusable one.
        let loaded = load_from(&accounts, &id, Version::new(7)).await;
        assert_eq!(loaded.state, replay.state, "{name}");
    }
}

/// After a deployment that changes the shape of the state, old snapshots are ignored, then overwritten.
pub async fn a_snapshot_of_another_shape_is_replaced_in_time(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    for n in 0..10 {
        accounts.execute(&id, Deposit::one(1, n.to_string())).await.expect("accepted");
        accounts.flush().await;
    }
    load_from(&accounts, &id, Version::new(7)).await;
    let foreign = Snapshot::new(Version::new(10), time(0), Fingerprint::new(1), "{}".to_owned());
    store.write_snapshot(&stream(&id), &foreign, None).await.expect("writes");
    assert_eq!(accounts.load(&id).await.expect("loads").snapshot, None);
    let done = accounts.execute(&id, Deposit::one(1, "10")).await.expect("accepted");
    let loaded = load_from(&accounts, &id, Version::new(11)).await;
    assert_eq!(loaded.state, done.state);
}

/// A snapshot is written when the events since the last one are larger than it, and larger than 4 KB.
pub async fn adaptive_snapshots_follow_the_size_of_the_events(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let accounts: Repository<Account> =
        Repository::builder(Arc::clone(&store)).snapshots(SnapshotPolicy::Adaptive).build();
    let mut snapshots = Vec::new();
    for n in 0..120_u64 {
        accounts.execute(&id, Deposit::one(1, format!("{n:0200}"))).await.expect("accepted");
        accounts.flush().await;
        let loaded = accounts.load(&id).await.expect("loads");
        assert_eq!((loaded.version, loaded.state.balance), (Version::new(n + 1), n + 1));
        if loaded.snapshot != snapshots.last().copied() {
            snapshots.extend(loaded.snapshot);
        }
    }
    let gaps: Vec<_> = std::iter::once(snapshots[0].get())
        .chain(snapshots.windows(2).map(|pair| pair[1].since(pair[0])))
        .collect();
    assert!(gaps[0] >= 8, "events of 4 KB come before the first snapshot: {gaps:?}");
    assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1] + 1), "the state grows, so do the gaps: {gaps:?}");
    assert!(gaps.len() <= 6, "what is written at most doubles: {gaps:?}");
}
