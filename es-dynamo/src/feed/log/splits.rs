//! Tests of splits.

use std::time::Duration;

use es_core::feed::{FeedEnd, Position, Slice};
use es_core::{StoreError, StreamId, Version};

use super::hint::Hint;
use super::index::FeedIndex;
use super::reference::{CommitTag, Reference};
use super::simulation::{SimulatedTable, runtime};
use super::tests::{die_after, feed, order};

const PARENT: Slice = Slice::new(0);
const CHILDREN: [Slice; 2] = [Slice::new(1), Slice::new(2)];

/// Commits an event to each of the first `streams` orders, and indexes them.
async fn index_all(table: &SimulatedTable, feed: &FeedIndex, streams: u64) {
    let hints = (0..streams).map(|id| Hint::Commit(table.commit(&order(id), 1))).collect();
    feed.submit(table, hints, Duration::ZERO).await.expect("indexes");
}

fn events(table: &SimulatedTable, slice: Slice) -> u64 {
    let content = table.content.lock().expect("no panic before");
    let pages = content.logs.get(&slice).into_iter().flat_map(|log| log.values());
    pages.flat_map(|page| &page.references).map(Reference::events).sum()
}

/// Returns a stream whose events belong to `slice` after the split of slice 0.
fn stream_of(table: &SimulatedTable, slice: Slice) -> StreamId {
    let tree = table.tree();
    (0..).map(order).find(|stream| tree.of(stream) == slice).expect("there is one")
}

#[test]
fn streams_continue_in_the_children() {
    runtime().block_on(async {
        let (table, one, two) = (SimulatedTable::new(), feed(1), feed(1));
        index_all(&table, &one, 40).await;
        index_all(&table, &two, 40).await;
        assert_eq!(one.split(&table, PARENT).await.expect("splits"), CHILDREN);
        // One process knows of the split, and the other does not.
        index_all(&table, &one, 50).await;
        index_all(&table, &two, 50).await;
        assert_eq!(table.check(), Ok(180));
        assert_eq!(events(&table, PARENT), 80);
        let [lower, upper] = CHILDREN.map(|child| events(&table, child));
        assert!(lower + upper == 100 && lower > 20 && upper > 20, "{lower} and {upper}");
        for id in [0, 45, 49] {
            let version = Version::new(if id < 40 { 4 } else { 2 });
            for process in [&one, &two, &feed(1)] {
                assert_eq!(process.indexed(&table, &order(id)).await.expect("knows"), version, "{id}");
            }
        }
        // A child can be split as well.
        let grandchildren = two.split(&table, CHILDREN[0]).await.expect("splits");
        assert_eq!(grandchildren, [Slice::new(3), Slice::new(4)]);
        index_all(&table, &one, 50).await;
        assert_eq!((table.check(), events(&table, CHILDREN[0])), (Ok(230), lower));
        assert_eq!(feed(1).indexed(&table, &order(0)).await.expect("knows"), Version::new(5));
        let tree = feed(1).tree(&table).await.expect("reads");
        assert_eq!(tree.iter().map(Slice::get).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(tree.end(PARENT), Some(Position::new(80)));
    });
}

#[test]
fn a_split_can_be_repeated_and_does_not_change_the_end() {
    runtime().block_on(async {
        let table = SimulatedTable::new();
        index_all(&table, &feed(1), 3).await;
        let before = feed(1).end(&table, PARENT).await.expect("reads");
        for process in [feed(1), feed(1)] {
            for _ in 0..2 {
                assert_eq!(process.split(&table, PARENT).await.expect("splits"), CHILDREN);
                assert_eq!(process.end(&table, PARENT).await.expect("reads"), before.with_closed(true));
            }
        }
        let pages = table.content.lock().expect("no panic before").logs[&PARENT].len();
        assert_eq!(pages, 2, "a page of events, and one that closes the slice");
        let missing = feed(1).split(&table, Slice::new(3)).await.expect_err("its parent is open");
        assert!(matches!(missing, StoreError::Invalid { .. }), "{missing}");
    });
}

#[test]
fn an_empty_slice_can_be_split() {
    runtime().block_on(async {
        let (table, feed) = (SimulatedTable::new(), feed(1));
        feed.split(&table, PARENT).await.expect("splits");
        feed.split(&table, CHILDREN[1]).await.expect("splits");
        let end = feed.end(&table, PARENT).await.expect("reads");
        assert_eq!(end, FeedEnd::default().with_closed(true));
        index_all(&table, &feed, 20).await;
        assert_eq!((table.check(), events(&table, PARENT)), (Ok(20), 0));
        assert_eq!(feed.indexed(&table, &order(100)).await.expect("knows"), Version::NONE);
    });
}

#[test]
fn a_process_that_learns_of_a_split_by_reading_does_not_index_twice() {
    runtime().block_on(async {
        let (table, behind, ahead) = (SimulatedTable::new(), feed(1), feed(1));
        index_all(&table, &behind, 5).await;
        let late: Vec<_> = (0..5).map(|id| Hint::Commit(table.commit(&order(id), 1))).collect();
        ahead.submit(&table, late.clone(), Duration::ZERO).await.expect("indexes");
        ahead.split(&table, PARENT).await.expect("splits");
        // It knows the split from the newest page, but has not read the page before it.
        behind.end(&table, PARENT).await.expect("reads");
        assert!(behind.is_closed(PARENT));
        let again = behind.submit(&table, late, Duration::ZERO).await.expect("indexes");
        assert_eq!((again.events, table.check()), (0, Ok(10)));
    });
}

#[test]
fn the_log_decides_whether_a_slice_is_split() {
    runtime().block_on(async {
        let table = SimulatedTable::new();
        index_all(&table, &feed(1), 5).await;
        let splits = || table.content.lock().expect("no panic before").splits.clone();
        // Entries without a closing page.
        table.content.lock().expect("no panic before").splits.extend([PARENT, CHILDREN[0]]);
        let process = feed(1);
        assert_eq!(process.tree(&table).await.expect("reads"), table.tree());
        assert_eq!(process.tree(&table).await.expect("reads").iter().count(), 1);
        index_all(&table, &process, 5).await;
        assert_eq!((table.check(), events(&table, PARENT)), (Ok(10), 10));
        // A closing page without an entry: the caller has died, or the entry was lost.
        table.content.lock().expect("no panic before").splits.clear();
        for polls in 1.. {
            die_after(polls, feed(1).split(&table, PARENT)).await;
            if table.tree().is_closed(PARENT) {
                break;
            }
        }
        assert!(splits().is_empty());
        index_all(&table, &feed(1), 5).await;
        assert_eq!((table.check(), splits()), (Ok(15), [PARENT].into()));
        assert_eq!(feed(1).tree(&table).await.expect("reads").end(PARENT), Some(Position::new(10)));
    });
}

/// As after a restore of only some items: the page that closes the parent is lost, and those of the children are not.
#[test]
fn a_slice_is_not_split_if_its_children_have_pages() {
    runtime().block_on(async {
        let (table, process) = (SimulatedTable::new(), feed(1));
        index_all(&table, &process, 5).await;
        process.split(&table, PARENT).await.expect("splits");
        index_all(&table, &process, 5).await;
        let closing = table.content.lock().expect("no panic before").logs.get_mut(&PARENT).and_then(|log| {
            let position = *log.iter().find(|(_, page)| page.closes())?.0;
            log.remove(&position)
        });
        assert!(closing.is_some());
        let error = feed(1).split(&table, PARENT).await.expect_err("a child has pages").to_string();
        assert!(error.contains("cannot be split") && error.contains("\"Backup and restore\""), "{error}");
        assert!(!table.tree().is_closed(PARENT));
        // A process that has not read the closing page yet finds it.
        let (table, late) = (SimulatedTable::new(), feed(1));
        index_all(&table, &late, 5).await;
        let early = feed(1);
        early.split(&table, PARENT).await.expect("splits");
        index_all(&table, &early, 5).await;
        assert_eq!(late.split(&table, PARENT).await.expect("is split already"), CHILDREN);
    });
}

#[test]
fn two_callers_split_different_slices_at_once() {
    runtime().block_on(async {
        let table = SimulatedTable::new();
        let (one, two) = (feed(3), feed(3));
        index_all(&table, &one, 60).await;
        let splits = [&one, &two]
            .into_iter()
            .flat_map(|process| (0..3).map(|slice| process.split(&table, Slice::new(slice))));
        let children = futures_util::future::try_join_all(splits).await.expect("split");
        assert_eq!(children[..3], children[3..], "both callers have the same children");
        let numbers: Vec<u32> = children[..3].iter().flatten().map(|slice| slice.get()).collect();
        assert_eq!(numbers, [3, 4, 5, 6, 7, 8]);
        index_all(&table, &one, 60).await;
        assert_eq!(table.check(), Ok(120));
    });
}

#[test]
fn commits_that_contradict_the_parent_are_detected() {
    runtime().block_on(async {
        let (table, process) = (SimulatedTable::new(), feed(1));
        index_all(&table, &process, 5).await;
        process.split(&table, PARENT).await.expect("splits");
        let stream = stream_of(&table, CHILDREN[0]);
        let mut other = table.commit(&stream, 1);
        // As after a restore of the table: the last commit in the feed is another one.
        let content = || table.content.lock().expect("no panic before");
        let known = content().streams[&stream][0].clone();
        content().streams.get_mut(&stream).expect("is there")[0].tag = CommitTag(77);
        (other.first, other.last) = (known.first, known.last);
        other.tag = CommitTag(77);
        for process in [&process, &feed(1)] {
            let found = process.submit(&table, vec![Hint::Commit(other.clone())], Duration::ZERO).await;
            let found = found.expect("indexes");
            assert_eq!((found.events, found.contradicting.len()), (0, 1));
        }
    });
}

#[test]
fn a_version_without_splits_stops_at_a_closed_slice_and_loses_nothing() {
    runtime().block_on(async {
        let table = SimulatedTable::new();
        let (old_table, old, new) = (table.old(), feed(1), feed(1));
        index_all(&old_table, &old, 10).await;
        new.split(&table, PARENT).await.expect("splits");
        let expected = "it has the format 2, which this version does not support: update es-dynamo";
        let commits: Vec<_> = (0..10).map(|id| Hint::Commit(table.commit(&order(id), 1))).collect();
        // The process from before the split, and one that was started after it.
        for old in [old, feed(1)] {
            for _ in 0..2 {
                let error = old.submit(&old_table, commits.clone(), Duration::ZERO).await.expect_err("stops");
                assert!(!error.is_transient() && error.to_string().contains(expected), "{error}");
            }
            let error = old.end(&old_table, PARENT).await.expect_err("stops").to_string();
            assert!(error.contains(expected), "{error}");
            let error = old.indexed(&old_table, &order(1)).await.expect_err("stops").to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(events(&table, PARENT), 10, "it has written nothing");
        new.submit(&table, commits, Duration::ZERO).await.expect("indexes");
        assert_eq!(table.check(), Ok(20));
    });
}
