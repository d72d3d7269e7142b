//! Rules of read models, which a projection on the feed maintains.

use std::sync::Arc;

use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::read_model::{AggregateIds, ReadModelError, Traces};
use es_core::serde::{Deserialize, Serialize};
use es_core::{EventId, Metadata, StreamId, Version};
use uuid::Uuid;

use super::is_indexed;
use crate::domain::{Account, Deposit, Deposited};

/// A deposit, listed by account and amount.
#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "deposits", key = event, index(by_account(account, cents)))]
struct Entry {
    event: String,
    account: String,
    cents: u64,
    note: String,
}

#[derive(Clone, Projection)]
#[projection(name = "conformance_deposits", events(Account(Deposited)))]
struct Entries {
    #[read_model]
    entries: ReadModel<Entry>,
}

#[handlers]
impl Entries {
    #[project]
    async fn deposited(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), ReadModelError> {
        self.entries.put(Entry {
            event: ctx.event_id().to_string(),
            account: ctx.id().to_owned(),
            cents: event.cents,
            note: event.note.clone(),
        })
    }
}

/// Deposits these amounts in a new account, and waits until the projection has handled them. Returns its id.
async fn deposited(feed: &Arc<dyn Feed>, amounts: &[u64]) -> (ReadModel<Entry>, String) {
    let id = new_account(feed, amounts).await;
    let entries = ReadModel::of::<Entries>(feed);
    let projector = Projector::new(Arc::clone(feed), Entries { entries: entries.clone() });
    projector.run_until_caught_up().await.expect("catches up");
    (entries, id)
}

async fn new_account(feed: &Arc<dyn Feed>, amounts: &[u64]) -> String {
    let id = Uuid::now_v7().to_string();
    let accounts: Repository<Account> = Repository::new(Arc::clone(feed));
    for cents in amounts {
        let deposit = Deposit::one(*cents, "a note of some length, so that a row has some bytes");
        accounts.execute(&id, deposit).await.expect("accepted");
    }
    is_indexed(&**feed, &StreamId::new(Account::NAME, &id).expect("valid")).await;
    id
}

fn amounts(rows: &[Entry]) -> Vec<u64> {
    rows.iter().map(|row| row.cents).collect()
}

/// Numbers are compared as numbers, and bounds are inclusive except `before`.
pub async fn a_range_selects_the_rows_within_its_bounds(feed: Arc<dyn Feed>) {
    let (entries, id) = deposited(&feed, &[70, 5, 1_000, 30, 200, 8]).await;
    let all = || entries.find(Entry::BY_ACCOUNT, &id);
    for (query, expected) in [
        (all(), &[5, 8, 30, 70, 200, 1_000][..]),
        (all().descending(), &[1_000, 200, 70, 30, 8, 5]),
        (all().from(&30), &[30, 70, 200, 1_000]),
        (all().until(&30), &[5, 8, 30]),
        (all().before(&30), &[5, 8]),
        (all().between(&8, &70).descending(), &[70, 30, 8]),
        (all().between(&9, &29), &[]),
        (all().between(&70, &8), &[]),
        (all().from(&8).before(&1_000), &[8, 30, 70, 200]),
    ] {
        let described = format!("{query:?}");
        assert_eq!(amounts(&query.all().await.expect("rows")), expected, "{described}");
    }
    assert_eq!(amounts(&all().only(&70).all().await.expect("rows")), [70]);
    assert!(all().only(&71).all().await.expect("rows").is_empty());
}

/// Pages cover the rows of a range once, in order, and a token is good for its own query only.
pub async fn a_page_continues_where_the_last_one_ended(feed: Arc<dyn Feed>) {
    let (entries, id) = deposited(&feed, &[1, 2, 3, 4, 5, 6, 7]).await;
    let query = |down: bool| {
        let query = entries.find(Entry::BY_ACCOUNT, &id).between(&2, &6).limit(2);
        if down { query.descending() } else { query }
    };
    for (down, expected) in [(false, [2, 3, 4, 5, 6]), (true, [6, 5, 4, 3, 2])] {
        let (mut seen, mut next) = (Vec::new(), None);
        loop {
            let page = query(down).after(next).page().await.expect("a page");
            assert!(page.rows.len() <= 2, "{page:?}");
            seen.extend(amounts(&page.rows));
            if page.next.is_none() {
                break;
            }
            for other in [query(!down), entries.find(Entry::BY_ACCOUNT, &id), query(down).from(&3)] {
                let refused = other.after(page.next.clone()).page().await;
                assert!(matches!(refused, Err(ReadModelError::PageToken { .. })), "{refused:?}");
            }
            next = page.next;
        }
        assert_eq!(seen, expected);
    }
}

/// A count has the rows that the query would return, up to its limit.
pub async fn a_count_stops_at_its_limit(feed: Arc<dyn Feed>) {
    let (entries, id) = deposited(&feed, &[1, 2, 3, 4, 5, 6, 7]).await;
    let all = || entries.find(Entry::BY_ACCOUNT, &id);
    for (most, expected) in [(0, 0), (1, 1), (6, 6), (7, 7), (8, 7), (u64::MAX, 7)] {
        assert_eq!(all().count(most).await.expect("a count"), expected, "at most {most}");
        assert_eq!(all().limit(2).count(most).await.expect("a count"), expected, "in pages, at most {most}");
    }
    assert_eq!(all().between(&3, &5).count(100).await.expect("a count"), 3);
    assert_eq!(all().from(&8).count(100).await.expect("a count"), 0);
    let page = all().limit(5).page().await.expect("a page");
    assert_eq!(all().after(page.next).count(100).await.expect("a count"), 2, "what is left after a page");
    let none = entries.find(Entry::BY_ACCOUNT, "unknown").count(100).await;
    assert_eq!(none.expect("a count"), 0);
}

/// Every aggregate is listed once, whatever the number of its events.
pub async fn the_ids_of_an_aggregate_are_listed_once(feed: Arc<dyn Feed>) {
    let mut expected = Vec::new();
    for deposits in [1, 3, 2, 1, 1] {
        expected.push(new_account(&feed, &vec![1; deposits]).await);
    }
    let ids = AggregateIds::<Account>::new(&feed);
    Projector::new(Arc::clone(&feed), ids.clone()).run_until_caught_up().await.expect("catches up");
    let (mut seen, mut next) = (Vec::new(), None);
    loop {
        let page = ids.page(2, next).await.expect("a page");
        assert!(page.rows.len() <= 2, "{page:?}");
        seen.extend(page.rows);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    // The store may have accounts of other rules.
    seen.retain(|id| expected.contains(id));
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

/// A trace has the commits of a command and of everything that its events have caused, whatever the correlation is.
pub async fn a_trace_has_all_that_a_command_has_caused(feed: Arc<dyn Feed>) {
    let accounts: Repository<Account> = Repository::new(Arc::clone(&feed));
    let traces = Traces::new(&feed);
    let projector = Projector::new(Arc::clone(&feed), traces.clone());
    let request = Uuid::now_v7().to_string();
    for metadata in [Metadata::new(), Metadata::new().with_correlation(&request)] {
        let [first, second, third] = [(); 3].map(|()| Uuid::now_v7().to_string());
        let many = Deposit { cents: 5, notes: vec!["the first".to_owned(); 3] };
        let execute = async |id: &String, metadata: Metadata, deposit| {
            let done = accounts.with_metadata(metadata).execute(id, deposit).await.expect("accepted");
            done.commit.expect("a commit")
        };
        let root = execute(&first, metadata.clone(), many).await;
        // As a process reacts to the second event, and another one to what follows from it.
        let cause = EventId::new(root, Version::new(2));
        let next = metadata.following(cause);
        let caused = execute(&second, next.clone(), Deposit::one(5, "the second")).await;
        let last = next.following(EventId::new(caused, Version::new(1)));
        execute(&third, last, Deposit::one(5, "the third")).await;
        for id in [&first, &second, &third] {
            is_indexed(&*feed, &StreamId::new(Account::NAME, id).expect("valid")).await;
        }
        projector.run_until_caught_up().await.expect("catches up");
        let mut names = vec![root.to_string(), caused.to_string(), cause.to_string()];
        names.extend(metadata.correlation().map(str::to_owned));
        for name in names {
            let commits = traces.commits(&name, 10).await.expect("reads");
            let ids: Vec<_> = commits.iter().map(|commit| commit.stream.id()).collect();
            assert_eq!(ids, [&*first, &*second, &*third], "{name}");
            assert_eq!(commits[0].commit, root);
        }
        assert_eq!(traces.commits(&root.to_string(), 2).await.expect("reads").len(), 2);
    }
    assert!(traces.commits("unknown", 10).await.expect("reads").is_empty());
}
