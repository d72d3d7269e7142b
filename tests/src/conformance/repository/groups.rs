//! Commits that were stored as one are the same to a repository as commits that were stored one by one.

use std::sync::Arc;

use es_core::event::CommitId;
use es_core::repository::{Loaded, Recorded};
use es_core::snapshot::{Snapshot, SnapshotPolicy};
use es_core::store::{Append, NewCommit};
use es_core::{Aggregate, EventStore, ExpectedVersion, Metadata, Repository, Version};

use super::{account, deposited, stream};
use crate::conformance::support::{new_commit, time};
use crate::domain::{Account, Deposit, Overdrawn, Withdraw};

/// Returns commits of these numbers of deposits, at the times from 10 on, each with the next second.
fn deposits(sizes: &[usize], from: i64) -> Vec<NewCommit> {
    let commit = |(size, number): (&usize, i64)| {
        let events = (0..*size).map(|index| deposited(1, &format!("{number}.{index}"))).collect();
        let mut commit = new_commit(events);
        commit.time = time(number);
        commit.with_metadata(Metadata::new().with_actor(format!("actor {number}")))
    };
    sizes.iter().zip(from..).map(commit).collect()
}

/// Appends the same commits to two accounts: as one to the first, and one by one to the second.
async fn as_one_and_one_by_one(store: &Arc<dyn EventStore>, ids: [&str; 2], commits: Vec<NewCommit>) {
    let [one, each] = ids;
    for commit in commits.clone() {
        store.append(&Append::new(stream(each), ExpectedVersion::Any, commit)).await.expect("appends");
    }
    let mut commits = commits.into_iter();
    let append = Append::new(stream(one), ExpectedVersion::Any, commits.next().expect("at least one"));
    store.append(&append.with_following(commits)).await.expect("appends");
}

async fn two_accounts(store: &Arc<dyn EventStore>) -> (Repository<Account>, String, String) {
    let ((accounts, one), (_, each)) = (account(store), account(store));
    for commits in [deposits(&[1, 3, 2], 10), deposits(&[2], 20), deposits(&[1, 1, 4, 1], 30)] {
        as_one_and_one_by_one(store, [&one, &each], commits).await;
    }
    (accounts, one, each)
}

fn assert_same(one: &Loaded<Account>, each: &Loaded<Account>) {
    assert_eq!((&one.state, one.version, one.time), (&each.state, each.version, each.time));
}

/// At every version and every time.
pub async fn the_past_is_the_same(store: Arc<dyn EventStore>) {
    let (accounts, one, each) = two_accounts(&store).await;
    for version in (0..=15).map(Version::new) {
        let at = async |id: &String| accounts.load_at(id, version).await.expect("loads");
        assert_same(&at(&one).await, &at(&each).await);
    }
    for seconds in [9, 10, 11, 12, 15, 20, 29, 30, 31, 32, 33, 99] {
        let as_of = async |id: &String| accounts.load_as_of(id, time(seconds)).await.expect("loads");
        assert_same(&as_of(&one).await, &as_of(&each).await);
    }
    type Told = (Version, CommitId, Option<String>, chrono::DateTime<chrono::Utc>);
    let told = |all: Vec<Recorded<<Account as Aggregate>::Event>>| -> Vec<Told> {
        let actor =
            |event: &Recorded<<Account as Aggregate>::Event>| event.metadata.actor().map(str::to_owned);
        all.iter().map(|event| (event.version, event.id.commit(), actor(event), event.time)).collect()
    };
    let history = async |id: &String| told(accounts.history(id).all().await.expect("reads"));
    assert_eq!(history(&one).await, history(&each).await);
    for (after, until) in (0..=15).flat_map(|after| [1, 4, 5, 8, 15, 99].map(|until| (after, until))) {
        let between = async |id: &String| {
            let part = accounts.history_between(id, Version::new(after), Version::new(until));
            told(part.all().await.expect("reads"))
        };
        assert_eq!(between(&one).await, between(&each).await, "{after} to {until}");
    }
}

/// After every commit, a snapshot leads to the state of the events, and commands go on from there.
pub async fn snapshots_inside_change_nothing(store: Arc<dyn EventStore>) {
    let shape = Account::snapshots().expect("has snapshots").fingerprint();
    let (_, one, _) = two_accounts(&store).await;
    for policy in [SnapshotPolicy::Every(3), SnapshotPolicy::Every(100)] {
        // Its own snapshots would replace those of the rule.
        let accounts: Repository<Account> = Repository::builder(Arc::clone(&store)).snapshots(policy).build();
        let plain: Repository<Account> =
            Repository::builder(Arc::clone(&store)).snapshots(SnapshotPolicy::Never).build();
        let replay = plain.load(&one).await.expect("loads");
        for version in [1, 4, 6, 8, 9, 10, 14, 15].map(Version::new) {
            let past = plain.load_at(&one, version).await.expect("loads");
            let state = serde_json::to_string(&past.state).expect("has a JSON form");
            let snapshot = Snapshot::new(version, past.time.expect("has events"), shape, state);
            let replaced = accounts.load(&one).await.expect("loads").snapshot;
            store.write_snapshot(&stream(&one), &snapshot, replaced).await.expect("writes");
            let loaded = accounts.load(&one).await.expect("loads");
            assert_same(&loaded, &replay);
            let later = replaced.is_some_and(|replaced| replaced > version);
            assert!(later || loaded.snapshot == Some(version), "at {version}: {:?}", loaded.snapshot);
        }
        let done = accounts.execute(&one, Deposit::one(1, "late")).await.expect("accepted");
        assert_eq!(done.state, plain.load(&one).await.expect("loads").state);
    }
}

/// A command that loses a race against several commits is decided after all of them.
pub async fn a_lost_race_follows_all_commits(store: Arc<dyn EventStore>) {
    let ((accounts, id), (_, other)) = (account(&store), account(&store));
    accounts.execute(&id, Deposit::one(1, "first")).await.expect("accepted");
    let seen = std::sync::Mutex::new(Vec::new());
    let done = accounts
        .decide(&id, async |state, ctx| {
            let first = seen.lock().expect("is not poisoned").is_empty();
            seen.lock().expect("is not poisoned").push(state.balance);
            if first {
                as_one_and_one_by_one(&store, [&id, &other], deposits(&[1, 3, 2], 10)).await;
            }
            es_core::Handle::handle(state, &Withdraw { cents: state.balance }, ctx)
        })
        .await;
    let done = done.unwrap_or_else(|error: es_core::ExecuteError<Overdrawn>| panic!("{error}"));
    assert_eq!(seen.into_inner().expect("is not poisoned"), [1, 7]);
    assert_eq!((done.version, done.state.balance, done.cost.requests), (Version::new(8), 0, 3));
    assert_eq!(accounts.load(&id).await.expect("loads").state, done.state);
}
