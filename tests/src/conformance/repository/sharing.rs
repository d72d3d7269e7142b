//! Commands that target the same aggregate at the same time, in one process.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use es_core::event::CommitId;
use es_core::store::{Append, MAX_GROUP_COMMITS};
use es_core::{Cost, EventStore, ExecuteError, ExpectedVersion, Metadata, Repository, RetryPolicy, Version};
use futures_util::future::{join, join_all};

use super::{account, append, deposited, stream};
use crate::conformance::support::new_commit;
use crate::domain::{Account, Deposit, Overdrawn, RequireBalance, SetRate, TakeHandle, Withdraw};
use crate::gate::{Gate, Trouble, is_pending};

/// Returns a repository on a store with a gate, and the id of a new account.
fn gated(store: Arc<dyn EventStore>) -> (Gate, Repository<Account>, String) {
    let gate = Gate::new(store);
    let retry = RetryPolicy::default().with_base_delay(Duration::from_millis(1));
    let accounts = Repository::builder(gate.clone()).retry(retry).build();
    let (_, id) = account(&(Arc::new(gate.clone()) as Arc<dyn EventStore>));
    (gate, accounts, id)
}

/// Returns an append of another writer to the end of the stream.
fn winner(id: &str, cents: u64) -> Append {
    Append::new(stream(id), ExpectedVersion::Any, new_commit(vec![deposited(cents, "winner")]))
}

/// Every command has its own outcome, commit, time, and metadata, although most of them are written together, and the
/// costs of all outcomes add up to the billed cost.
pub async fn commands_that_wait_share_a_write(store: Arc<dyn EventStore>) {
    const CLIENTS: usize = 64;
    let (gate, accounts, id) = gated(store);
    let command = async |client: usize| {
        let metadata = Metadata::new().with_actor(format!("client-{client}"));
        let notes = (0..=client % 2).map(|part| format!("{client}.{part}")).collect();
        let command = Deposit { cents: client as u64, notes };
        accounts.with_metadata(metadata).execute(&id, command).await.expect("accepted")
    };
    let outcomes = join_all((0..CLIENTS).map(command)).await;
    let cost: Cost = outcomes.iter().map(|outcome| outcome.cost).sum();
    assert_eq!(cost, gate.cost());

    let appends = gate.appends();
    assert_eq!(appends.iter().sum::<usize>(), CLIENTS, "{appends:?}");
    assert!(appends.len() <= 4, "{appends:?}");
    let history = accounts.history(&id).all().await.expect("is read");
    let mut commits = BTreeSet::new();
    for (client, outcome) in outcomes.iter().enumerate() {
        let events = 1 + client as u64 % 2;
        assert_eq!((outcome.events.len() as u64, outcome.attempts, outcome.repeated), (events, 1, false));
        let last = outcome.version.get();
        for (part, version) in (last - events + 1..=last).enumerate() {
            let recorded = &history[version as usize - 1];
            assert_eq!(recorded.version, Version::new(version));
            assert_eq!(recorded.metadata.actor(), Some(format!("client-{client}").as_str()));
            assert_eq!(recorded.event, outcome.events[part]);
            assert_eq!(Some(recorded.id.commit()), outcome.commit);
        }
        let state = accounts.load_at(&id, outcome.version).await.expect("loads").state;
        assert_eq!(outcome.state, state, "the state after the command, without those after it");
        assert!(commits.insert(outcome.commit.map(CommitId::as_uuid)), "each has its own commit");
    }
    assert!(history.is_sorted_by_key(|recorded| recorded.time));

    let with_cost = outcomes.iter().filter(|outcome| outcome.cost.requests > 0).count();
    assert_eq!(with_cost, appends.len(), "the first outcome of each group carries its cost");
    assert!(cost.requests as usize <= appends.len() + 1, "one load: {cost}");
}

/// A command is decided on the state that the commands before it lead to, and is rejected or has nothing to do without
/// regard to those after it.
pub async fn each_is_decided_on_the_state_after_the_one_before(store: Arc<dyn EventStore>) {
    let (gate, accounts, id) = gated(store);
    accounts.execute(&id, Deposit::one(10, "first")).await.expect("accepted");
    let _ = gate.appends();
    let withdraw = async |cents| accounts.execute(&id, Withdraw { cents }).await;
    let (a, b) = (withdraw(4), withdraw(5));
    let (c, d) = (withdraw(2), withdraw(1));
    let nothing = accounts.execute(&id, RequireBalance { cents: 0 });
    let ((a, b), (c, (nothing, d))) = join(join(a, b), join(c, join(nothing, d))).await;
    let told = |outcome: Result<es_core::repository::Outcome<Account>, ExecuteError<Overdrawn>>| match outcome
    {
        Ok(outcome) => Ok((outcome.version.get(), outcome.state.balance)),
        Err(error) => Err(error.rejection().expect("a rejection").balance),
    };
    assert_eq!((told(a), told(b), told(c), told(d)), (Ok((2, 6)), Ok((3, 1)), Err(1), Ok((4, 0))));
    let nothing = nothing.expect("has nothing to do");
    assert_eq!((nothing.version.get(), nothing.state.balance, nothing.commit), (3, 1, None));
    assert_eq!(gate.appends(), [1, 2]);
}

/// A rejection that was decided on unwritten commits is returned after they are written.
pub async fn a_rejection_waits_for_the_commits_it_was_decided_on(store: Arc<dyn EventStore>) {
    let (gate, accounts, id) = gated(store);
    accounts.execute(&id, Deposit::one(10, "first")).await.expect("accepted");
    let _ = gate.appends();
    gate.close();
    let mut head = pin!(accounts.execute(&id, Deposit::one(1, "head")));
    let mut all = pin!(accounts.execute(&id, Withdraw { cents: 11 }));
    let mut late = pin!(accounts.execute(&id, Withdraw { cents: 1 }));
    // The head's append is let through; that of the group waits.
    while gate.appends() != [1] {
        assert!(is_pending(&mut head).await);
        tokio::task::yield_now().await;
    }
    assert!(is_pending(&mut all).await && is_pending(&mut late).await);
    gate.open();
    head.await.expect("accepted");
    gate.close();
    while gate.appends() != [1] {
        assert!(is_pending(&mut all).await && is_pending(&mut late).await);
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        assert!(is_pending(&mut late).await, "the withdrawal that it was rejected for is not recorded");
        tokio::task::yield_now().await;
    }
    gate.open();
    let (all, late) = join(all, late).await;
    assert_eq!(all.expect("accepted").state.balance, 0);
    assert_eq!(late.expect_err("rejected").rejection(), Some(&Overdrawn { balance: 0 }));
}

/// After a conflict with another writer, the whole group is decided again: a rejected command may now be accepted.
pub async fn a_group_that_loses_a_race_is_decided_again(store: Arc<dyn EventStore>) {
    let (gate, accounts, id) = gated(store);
    accounts.execute(&id, Deposit::one(10, "first")).await.expect("accepted");
    let (_, reads) = (gate.appends(), gate.reads());
    gate.plan([None, Some(Trouble::Overtaken(Box::new(winner(&id, 7))))]);
    let head = accounts.execute(&id, Deposit::one(1, "head"));
    let all = accounts.execute(&id, Withdraw { cents: 11 });
    let late = accounts.execute(&id, Withdraw { cents: 7 });
    let over = accounts.execute(&id, Withdraw { cents: 1 });
    let (head, (all, (late, over))) = join(head, join(all, join(late, over))).await;
    assert_eq!((head.expect("accepted").attempts, all.as_ref().expect("accepted").attempts), (1, 2));
    let late = late.expect("accepted after the winner");
    assert_eq!((late.state.balance, late.version, late.attempts), (0, Version::new(5), 2));
    assert_eq!(over.expect_err("rejected").rejection(), Some(&Overdrawn { balance: 0 }));
    assert_eq!((gate.appends(), gate.reads() - reads), (vec![1, 1, 2], 1), "the winner is in the conflict");
    assert_eq!(accounts.load(&id).await.expect("loads").state, late.state);
}

/// The response to the write of a group is lost: the group is recognized, and recorded once.
pub async fn a_lost_response_to_a_group_is_resolved(store: Arc<dyn EventStore>) {
    for trouble in [Trouble::AnswerLost, Trouble::RequestLost, Trouble::Throttled] {
        let (gate, accounts, id) = gated(Arc::clone(&store));
        gate.plan([None, Some(trouble)]);
        let commands = (0..8).map(|n| accounts.execute(&id, Deposit::one(1, n.to_string())));
        for outcome in join_all(commands).await {
            let outcome = outcome.expect("accepted");
            assert_eq!((outcome.attempts, outcome.state.events), (1, outcome.version.get()));
        }
        assert_eq!(gate.appends(), [1, 7, 7]);
        assert_eq!(accounts.load(&id).await.expect("loads").state.balance, 8);
    }
}

/// A store that fails for good fails every command of the group, each with the reason, and nothing of it stays in the
/// state.
pub async fn a_failed_group_leaves_nothing_in_the_state(store: Arc<dyn EventStore>) {
    let gate = Gate::new(store);
    let retry = RetryPolicy::default().with_max_attempts(2).with_base_delay(Duration::ZERO);
    let accounts: Repository<Account> = Repository::builder(gate.clone()).retry(retry).build();
    let (_, id) = account(&(Arc::new(gate.clone()) as Arc<dyn EventStore>));
    gate.plan([None, Some(Trouble::RequestLost), Some(Trouble::RequestLost)]);
    gate.close();
    let mut head = pin!(accounts.execute(&id, Deposit::one(1, "head")));
    let mut first = pin!(join_all((0..3).map(|n| accounts.execute(&id, Deposit::one(10, n.to_string())))));
    while gate.appends() != [1] {
        assert!(is_pending(&mut head).await);
        tokio::task::yield_now().await;
    }
    assert!(is_pending(&mut first).await);
    gate.open();
    head.await.expect("accepted");
    gate.close();
    while gate.appends() != [3] {
        assert!(is_pending(&mut first).await);
        tokio::task::yield_now().await;
    }
    // Decided on the unwritten deposits, and again when these have failed.
    let mut next = pin!(accounts.execute(&id, Withdraw { cents: 1 }));
    let mut over = pin!(accounts.execute(&id, Withdraw { cents: 5 }));
    assert!(is_pending(&mut next).await && is_pending(&mut over).await);
    gate.open();
    let (first, (next, over)) = join(first, join(next, over)).await;
    for error in first {
        let error = error.expect_err("the store has failed");
        assert!(error.is_outcome_unknown() && error.is_retryable(), "{error:?}");
        let text = es_core::error_text(&error);
        assert!(text.ends_with("the store is unavailable: the request was lost"), "{text}");
    }
    assert_eq!(next.expect("accepted").state.balance, 0);
    assert_eq!(over.expect_err("rejected").rejection(), Some(&Overdrawn { balance: 0 }));
}

/// A command that cannot be stored fails alone.
pub async fn a_command_that_cannot_be_stored_fails_alone(store: Arc<dyn EventStore>) {
    let (_, accounts, id) = gated(store);
    let head = accounts.execute(&id, Deposit::one(1, "head"));
    let before = accounts.execute(&id, Deposit::one(1, "before"));
    let large = accounts.execute(&id, Deposit::one(1, "x".repeat(500_000)));
    let not_a_number = accounts.execute(&id, SetRate { rate: f64::NAN });
    let after = accounts.execute(&id, Deposit::one(1, "after"));
    let ((head, before), (large, (not_a_number, after))) =
        join(join(head, before), join(large, join(not_a_number, after))).await;
    assert!(head.is_ok() && before.is_ok(), "{head:?} {before:?}");
    let error = large.expect_err("is too large");
    assert!(matches!(&error, ExecuteError::Store(es_core::StoreError::TooLarge { .. })), "{error:?}");
    assert!(matches!(not_a_number, Err(ExecuteError::Store(_))), "{not_a_number:?}");
    assert_eq!(after.expect("accepted").state.notes, ["head", "before", "after"]);
}

/// Groups are limited in size, and no command is lost at the limits.
pub async fn groups_have_limits(store: Arc<dyn EventStore>) {
    let (gate, accounts, id) = gated(Arc::clone(&store));
    let many = (0..2 * MAX_GROUP_COMMITS + 1).map(|n| accounts.execute(&id, Deposit::one(1, n.to_string())));
    assert!(join_all(many).await.iter().all(Result::is_ok));
    assert_eq!(gate.appends(), [1, MAX_GROUP_COMMITS, MAX_GROUP_COMMITS]);

    let (gate, accounts, id) = gated(store);
    let large = (0..7).map(|_| accounts.execute(&id, Deposit::one(1, "x".repeat(100_000))));
    assert!(join_all(large).await.iter().all(Result::is_ok));
    assert!(gate.appends().iter().all(|commits| *commits <= 3));
    assert_eq!(accounts.load(&id).await.expect("loads").state.balance, 7);
}

/// Commands that require a separate write, such as those with a claim, join no group, and none of their events are
/// lost.
pub async fn commands_with_their_own_write_are_executed_beside_the_group(store: Arc<dyn EventStore>) {
    let (_, accounts, id) = gated(store);
    let deposits = (0..10).map(|n| accounts.execute(&id, Deposit::one(1, n.to_string())));
    let handle = accounts.execute(&id, TakeHandle { handle: format!("handle-{id}") });
    let request = accounts.once("key");
    let once = request.execute(&id, Deposit::one(1, "once"));
    let decided = accounts.decide(&id, async |account, _| {
        Ok::<_, Overdrawn>(
            crate::domain::Deposited { cents: 1, note: format!("after {}", account.events) }.into(),
        )
    });
    let ((deposits, handle), (once, decided)) =
        join(join(join_all(deposits), handle), join(once, decided)).await;
    assert!(deposits.iter().all(Result::is_ok) && handle.is_ok() && once.is_ok() && decided.is_ok());
    let loaded = accounts.load(&id).await.expect("loads");
    assert_eq!((loaded.state.balance, loaded.version), (12, Version::new(13)));
    let holder = accounts.claim_holder("handle", &format!("handle-{id}")).await.expect("is read");
    assert_eq!(holder, Some(stream(&id)));
}

/// Each of several repositories, as of several processes, has its own groups, which compete.
pub async fn groups_of_several_repositories_compete(store: Arc<dyn EventStore>) {
    let (gate, first, id) = gated(Arc::clone(&store));
    let retry = RetryPolicy::default().with_base_delay(Duration::from_millis(1)).with_max_attempts(100);
    let second: Repository<Account> = Repository::builder(gate.clone()).retry(retry).build();
    let third = Repository::builder(gate.clone()).retry(retry).build();
    let repositories = [first, second, third];
    let clients = (0..30).map(|client| {
        let (repository, id) = (repositories[client % 3].clone(), id.clone());
        tokio::spawn(async move {
            for n in 0..5 {
                let done = repository.execute(&id, Deposit::one(1, format!("{client}.{n}"))).await;
                let done = done.expect("accepted");
                assert_eq!(done.state.notes.last(), Some(&format!("{client}.{n}")));
                assert_eq!(done.state.events, done.version.get());
            }
        })
    });
    for client in join_all(clients).await {
        client.expect("does not panic");
    }
    let loaded = repositories[0].load(&id).await.expect("loads");
    let notes: BTreeSet<_> = loaded.state.notes.iter().collect();
    assert_eq!((loaded.state.balance, notes.len()), (150, 150));
    assert!(gate.appends().len() < 150);
}

/// Snapshots and the cache follow the groups.
pub async fn snapshots_and_the_cache_follow_groups(store: Arc<dyn EventStore>) {
    let gate = Gate::new(store);
    let accounts: Repository<Account> = Repository::builder(gate.clone()).cache(4).build();
    let (_, id) = account(&(Arc::new(gate.clone()) as Arc<dyn EventStore>));
    for round in 1..=3 {
        let reads = gate.reads();
        let commands = (0..20).map(|n| accounts.execute(&id, Deposit::one(1, format!("{round}.{n}"))));
        assert!(join_all(commands).await.iter().all(Result::is_ok));
        assert_eq!(gate.reads() - reads, u32::from(round == 1), "later rounds start from the cache");
        // A snapshot is skipped while an earlier one of the stream is being written.
        accounts.flush().await;
    }
    let plain: Repository<Account> = Repository::new(gate.clone());
    let loaded = plain.load(&id).await.expect("loads");
    assert_eq!(loaded.snapshot, Some(Version::new(60)), "the snapshot after the last group");
    assert_eq!(loaded.state, plain.load_at(&id, Version::new(60)).await.expect("loads").state);
}

/// The other writer's commit arrives while the first command runs.
pub async fn a_head_that_loses_a_race_hands_over_what_it_wrote(store: Arc<dyn EventStore>) {
    let (gate, accounts, id) = gated(store);
    append(&(Arc::new(gate.clone()) as Arc<dyn EventStore>), &id, vec![deposited(5, "first")]).await;
    let _ = gate.appends();
    gate.plan([Some(Trouble::Overtaken(Box::new(winner(&id, 7))))]);
    let commands = (0..4).map(|n| accounts.execute(&id, Withdraw { cents: 3 + n }));
    let outcomes = join_all(commands).await;
    let balances: Vec<_> =
        outcomes.iter().map(|outcome| outcome.as_ref().map(|it| it.state.balance).ok()).collect();
    assert_eq!(balances, [Some(9), Some(5), Some(0), None]);
    assert_eq!(gate.appends(), [1, 1, 2]);
}
