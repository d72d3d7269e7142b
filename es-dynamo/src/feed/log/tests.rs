//! Tests and simulations of the log.

use std::sync::Arc;
use std::time::Duration;

use es_core::feed::{Position, Slice, Slices};
use es_core::testing::Faults;
use es_core::{StreamId, Version};
use es_tests::chaos::run_seeds;
use futures_util::future;
use uuid::Uuid;

use super::hint::Hint;
use super::index::FeedIndex;
use super::marks::Mark;
use super::page::LogPage;
use super::settings::Settings;
use super::simulation::{MAX_DELAY, SimulatedTable, reference, runtime};
use super::storage::{PutPage, Storage};
use super::summary::Shape;
use super::summary::part::Kind;
use super::writer::Writer;

pub(super) const KEY: [u8; 16] = [7; 16];
const SLICE: Slice = Slice::new(0);

pub(super) fn settings(slices: u32) -> Settings {
    Settings { slices: Slices::new(slices).expect("not zero"), hash_key: KEY }
}

pub(super) fn feed(slices: u32) -> FeedIndex {
    FeedIndex::new(settings(slices), Arc::default())
}

pub(super) fn writer() -> Writer {
    Writer::with_shape(SLICE, settings(1), Shape::USED)
}

pub(super) fn order(id: u64) -> StreamId {
    StreamId::new("order", id).expect("valid")
}

/// Returns the watermarks of the first `streams` orders, as known to a writer.
async fn marks(writer: &mut Writer, table: &SimulatedTable, streams: u64) -> Vec<Mark> {
    let mut marks = Vec::new();
    for id in 0..streams {
        marks.push(writer.mark(table, &order(id)).await.expect("reads"));
    }
    marks
}

/// Returns the watermarks of the first `streams` orders, read from the pages.
fn folded(table: &SimulatedTable, streams: u64) -> Vec<Mark> {
    let content = table.content.lock().expect("no panic before");
    let references = content.logs.values().flat_map(|log| log.values()).flat_map(|page| &page.references);
    let mut marks = vec![Mark::default(); streams as usize];
    for reference in references {
        let id: usize = reference.stream.id().parse().expect("a number");
        marks[id] = Mark { version: reference.last, tag: reference.tag };
    }
    marks
}

#[test]
fn commits_are_indexed_once_and_in_order() {
    runtime().block_on(async {
        let (table, feed) = (SimulatedTable::new(), feed(1));
        let commits: Vec<_> = (0..200).map(|index| table.commit(&order(index % 9), 1 + index % 3)).collect();
        let hints: Vec<_> = commits.iter().cloned().map(Hint::Commit).collect();
        let indexed = feed.submit(&table, hints.clone(), Duration::ZERO).await.expect("indexes");
        assert_eq!(table.check(), Ok(indexed.events));
        assert_eq!(indexed.pages, 4, "64 commits a page");
        // Repeated hints, in reverse order.
        let again = feed.submit(&table, hints.into_iter().rev().collect(), Duration::ZERO).await;
        assert_eq!(again.expect("indexes").events, 0);
        assert_eq!(table.check(), Ok(indexed.events));
    });
}

#[test]
fn missing_commits_are_read_from_the_table() {
    runtime().block_on(async {
        let (table, feed) = (SimulatedTable::new(), feed(1));
        let stream = order(1);
        let commits: Vec<_> = (0..23).map(|_| table.commit(&stream, 2)).collect();
        let last = commits[22].clone();
        let indexed = feed.submit(&table, vec![Hint::Commit(last)], Duration::ZERO).await.expect("indexes");
        assert_eq!((indexed.events, table.check()), (46, Ok(46)));
        assert_eq!(feed.indexed(&table, &stream).await.expect("knows"), Version::new(46));
    });
}

#[test]
fn hints_without_commits_index_nothing() {
    runtime().block_on(async {
        let (table, feed) = (SimulatedTable::new(), feed(1));
        table.commit(&order(1), 1);
        let wrong = vec![
            Hint::UpTo(order(1), Version::MAX),
            Hint::UpTo(order(2), Version::MAX),
            Hint::Commit(reference("order", 3, 5, 1, &["Happened"])),
            Hint::UpTo(order(4), Version::new(1)),
        ];
        let indexed = feed.submit(&table, wrong, Duration::ZERO).await.expect("indexes");
        assert_eq!((indexed.events, indexed.unfounded, table.check()), (1, 2, Ok(1)));
    });
}

#[test]
fn two_writers_take_turns() {
    runtime().block_on(async {
        let table = SimulatedTable::new();
        let (mut one, mut two) = (writer(), writer());
        for round in 0..20 {
            let commits: Vec<_> = (0..3).map(|id| Hint::Commit(table.commit(&order(id), 1))).collect();
            let both = future::try_join(
                one.index(&table, commits[..2].to_vec()),
                two.index(&table, commits[1..].to_vec()),
            );
            let (first, second) = both.await.expect("index");
            assert_eq!(first.events + second.events, 3, "round {round}");
        }
        assert_eq!(table.check(), Ok(60));
    });
}

#[test]
fn a_taken_position_is_refused_and_a_repetition_is_recognized() {
    runtime().block_on(async {
        let table = SimulatedTable::new();
        let commits: Vec<_> = (0..2).map(|id| table.commit(&order(id), 1)).collect();
        let page = LogPage::filled(SLICE, settings(1).slices, Position::new(1), &commits);
        let put = async |page: LogPage| table.put_page(&page).await.expect("answers");
        assert!(matches!(put(page.clone()).await, PutPage::Written));
        assert!(matches!(put(page.clone()).await, PutPage::Written), "a repetition");
        let other = LogPage { id: Uuid::new_v4(), ..page };
        assert!(matches!(put(other).await, PutPage::Taken));
    });
}

/// Returns a table with a log of many pages and a summary, and the number of its events.
async fn long_log() -> (SimulatedTable, u64) {
    let (table, feed) = (SimulatedTable::new(), feed(1));
    let mut events = 0;
    for index in 0..300 {
        let commit = table.commit(&order(index % 50), 1);
        events += 1;
        feed.submit(&table, vec![Hint::Commit(commit)], Duration::ZERO).await.expect("indexes");
    }
    let root = table.content.lock().expect("no panic before").roots[&SLICE].clone();
    assert!(
        root.through > Position::new(250) && !root.node.children.is_empty(),
        "there is a summary: {root:?}"
    );
    (table, events)
}

#[test]
fn a_summary_saves_reading_the_log() {
    runtime().block_on(async {
        let (table, _) = long_log().await;
        let faults = Faults::seeded(0);
        let counted = table.with(faults.clone());
        let mut writer = writer();
        writer.catch_up(&counted).await.expect("reads");
        assert!(faults.requests() < 10, "{} requests", faults.requests());
        assert_eq!(marks(&mut writer, &table, 60).await, folded(&table, 60));

        // The version of a single stream takes even fewer requests.
        let faults = Faults::seeded(0);
        let asked = table.with(faults.clone());
        assert_eq!(feed(1).indexed(&asked, &order(7)).await.expect("knows"), Version::new(6));
        assert_eq!(feed(1).indexed(&asked, &order(1_000)).await.expect("knows"), Version::NONE);
        assert!(faults.requests() < 30, "{} requests", faults.requests());
    });
}

#[test]
fn a_lost_or_damaged_summary_is_harmless() {
    type Damage = fn(&mut super::simulation::Content);
    let damages: [Damage; 9] = [
        |content| content.roots.clear(),
        |content| content.parts.clear(),
        |content| content.parts.values_mut().for_each(|(_, part)| part[1] ^= 1),
        |content| content.parts.values_mut().for_each(|(_, part)| part.truncate(3)),
        |content| content.parts.retain(|(_, key), _| key.kind != Kind::Filter),
        |content| content.parts.retain(|(_, key), _| key.kind != Kind::Marks),
        |content| content.roots.values_mut().for_each(|root| root.through = Position::new(100_000)),
        |content| content.roots.values_mut().for_each(|root| root.page = Uuid::nil()),
        // The page was lost, and another page has its position.
        |content| {
            let through = content.roots[&SLICE].through;
            let log = content.logs.get_mut(&SLICE).expect("a log");
            let page = log.values_mut().find(|page| page.last() == through).expect("a page");
            page.id = Uuid::nil();
        },
    ];
    runtime().block_on(async {
        for (index, damage) in damages.iter().enumerate() {
            let (table, events) = long_log().await;
            let known = feed(1);
            known
                .submit(&table, vec![Hint::UpTo(order(1), Version::MAX)], Duration::ZERO)
                .await
                .expect("reads");
            damage(&mut table.content.lock().expect("no panic before"));
            let feed = feed(1);
            assert_eq!(
                feed.indexed(&table, &order(7)).await.expect("knows"),
                Version::new(6),
                "damage {index}"
            );
            let commit = Hint::Commit(table.commit(&order(7), 1));
            feed.submit(&table, vec![commit], Duration::ZERO).await.expect("indexes");
            assert_eq!(table.check(), Ok(events + 1), "damage {index}");
            // A process that knew the summary before continues, too.
            let commit = Hint::Commit(table.commit(&order(8), 1));
            known.submit(&table, vec![commit], Duration::ZERO).await.expect("indexes");
            assert_eq!(table.check(), Ok(events + 2), "damage {index}");
        }
    });
}

#[test]
fn a_summary_that_is_started_again_forgets_nothing() {
    runtime().block_on(async {
        for polls in 1..120 {
            let (table, _) = long_log().await;
            let known = feed(1);
            known
                .submit(&table, vec![Hint::UpTo(order(1), Version::MAX)], Duration::ZERO)
                .await
                .expect("reads");
            // A process that cannot use the summary begins a new one, and dies.
            table.content.lock().expect("no panic before").parts.clear();
            let commits = (0..20).map(|id| Hint::Commit(table.commit(&order(id), 1))).collect();
            die_after(polls, feed(1).submit(&table, commits, Duration::ZERO)).await;
            // A process that knew the summary before writes the next run.
            for id in 0..50 {
                let commit = Hint::Commit(table.commit(&order(id), 1));
                known.submit(&table, vec![commit], Duration::ZERO).await.expect("indexes");
            }
            assert_eq!(table.check(), Ok(370), "after {polls} polls");
            table.check_summaries(KEY).expect("sound");
        }
    });
}

#[test]
fn a_writer_without_rivals_completes_every_job() {
    runtime().block_on(async {
        // With few streams, the root stays a leaf. With many, merges continue in the children.
        for streams in [1, 5, 20, 150] {
            let (table, feed) = (SimulatedTable::new(), feed(1));
            for index in 0..1_000 {
                let hint = Hint::Commit(table.commit(&order(index % streams), 1));
                feed.submit(&table, vec![hint], Duration::ZERO).await.expect("indexes");
            }
            table.check_summaries(KEY).expect("sound");
            let content = table.content.lock().expect("no panic before");
            assert_eq!(content.refused_parts, 0, "{streams} streams");
            let root = &content.roots[&SLICE];
            assert!(root.through > Position::new(980), "{streams} streams: up to {}", root.through);
            assert!(root.node.fullest() < Shape::TINY.merge_now, "{streams} streams: {:?}", root.node);
        }
    });
}

#[test]
fn a_summary_beyond_the_end_of_the_log_is_not_used() {
    runtime().block_on(async {
        let (table, events) = long_log().await;
        {
            // As after a restore of the log to an earlier time than the summary.
            let mut content = table.content.lock().expect("no panic before");
            let through = content.roots[&SLICE].through;
            let log = content.logs.get_mut(&SLICE).expect("a log");
            log.retain(|first, _| *first < through);
        }
        let all = (0..50).map(|id| Hint::UpTo(order(id), Version::MAX)).collect();
        feed(1).submit(&table, all, Duration::ZERO).await.expect("indexes");
        assert_eq!(table.check(), Ok(events));
    });
}

#[test]
fn a_log_that_contradicts_itself_is_not_continued() {
    runtime().block_on(async {
        let (table, _) = long_log().await;
        {
            let mut content = table.content.lock().expect("no panic before");
            content.roots.clear();
            let log = content.logs.get_mut(&SLICE).expect("a log");
            let (_, mut page) = log.pop_first().expect("a page");
            page.references[0] = reference("order", 0, 2, 1, &["Happened"]);
            log.insert(page.first, page);
        }
        let error = writer().catch_up(&table).await.expect_err("damaged").to_string();
        assert!(error.ends_with("of the stream `order#0`, version 2 follows version 0"), "{error}");
    });
}

#[test]
fn a_table_that_contradicts_its_feed_is_detected() {
    runtime().block_on(async {
        let (table, writer) = (SimulatedTable::new(), feed(1));
        let tell = async |feed: &FeedIndex, hints: Vec<Hint>| {
            let indexed = feed.submit(&table, hints, Duration::ZERO).await.expect("indexes");
            assert!(indexed.damaged.is_empty());
            let found: Vec<_> = indexed.contradicting.into_iter().map(|(stream, _)| stream).collect();
            (indexed.events, found)
        };
        let [stream, sound] = [1, 2].map(order);
        for _ in 0..4 {
            for stream in [&stream, &sound] {
                let hint = Hint::Commit(table.commit(stream, 2));
                assert_eq!(tell(&writer, vec![hint]).await, (2, vec![]));
            }
        }
        // The table is restored to an earlier time than its feed, and the stream grows again.
        table
            .content
            .lock()
            .expect("no panic before")
            .streams
            .get_mut(&stream)
            .expect("is there")
            .truncate(2);
        let mut grown = Vec::new();
        for events in [2, 1, 2, 4] {
            let mut commit = table.commit(&stream, events);
            commit.tag = super::reference::CommitTag(1_000 + commit.first.get() as u32);
            let mut content = table.content.lock().expect("no panic before");
            *content.streams.get_mut(&stream).and_then(|commits| commits.last_mut()).expect("is there") =
                commit.clone();
            grown.push(commit);
        }
        // After the last commit of the log, in a new process that knows nothing of the commits before.
        let after = || vec![Hint::Commit(grown[3].clone())];
        assert_eq!(tell(&feed(1), after()).await, (0, vec![stream.clone()]));
        // Before the last commit of the log, at its version, and across it, in the same process and in a new one.
        for writer in [&writer, &feed(1)] {
            for commit in &grown[..3] {
                for hint in [Hint::Commit(commit.clone()), Hint::Part(commit.clone())] {
                    assert_eq!(tell(writer, vec![hint]).await, (0, vec![stream.clone()]), "{commit:?}");
                }
            }
            let all = grown.iter().cloned().map(Hint::Commit).collect();
            assert_eq!(tell(writer, all).await, (0, vec![stream.clone()]), "nothing more is indexed");
            assert_eq!(tell(writer, after()).await, (0, vec![stream.clone()]), "also not later");
        }
        // A repetition of a commit that is still in the table is not a contradiction.
        let repeated = reference("order", 2, 3, 2, &["Happened"]);
        assert_eq!(tell(&feed(1), vec![Hint::Commit(repeated)]).await, (0, vec![]));
    });
}

/// Drops a future when it has been polled a number of times, unless it completes first.
pub(super) async fn die_after<T>(polls: usize, future: impl Future<Output = T>) {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    future::poll_fn(|context| {
        left -= 1;
        if left == 0 || future.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
}

/// Several processes index hints that are incomplete, repeated, and out of order, with requests that fail. If `splits`,
/// they also split slices, and some of them have a version without splits.
async fn run(seed: u64, splits: bool) -> Result<u64, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let table = SimulatedTable::new();
    let slices = random.u32(1..4);
    // With many streams, nodes are merged and get children.
    let streams = if random.bool() { random.u64(1..12) } else { random.u64(50..150) };
    let commits: Vec<_> = (0..random.u64(1..400))
        .map(|_| table.commit(&order(random.u64(0..streams)), random.u64(1..4)))
        .collect();
    let workers = (0..random.usize(1..4)).map(|worker| {
        let mut random = fastrand::Rng::with_seed(seed ^ (worker as u64 + 1) << 32);
        let faults = Faults::seeded(random.u64(..))
            .lost_requests(0.05)
            .lost_answers(0.05)
            .throttling(0.03)
            .delays(0.1, MAX_DELAY);
        let is_old = splits && random.u8(..6) == 0;
        let table = if is_old { table.old() } else { table.clone() };
        let (table, mut feed) = (table.with(faults), feed(slices));
        let mut hints: Vec<_> = commits.iter().filter(|_| random.f64() < 0.6).cloned().collect();
        if random.bool() {
            random.shuffle(&mut hints);
        }
        let checked = table.clone();
        async move {
            for batch in hints.chunks(random.usize(1..30)) {
                let linger = Duration::from_millis(random.u64(0..3) * 100);
                let hints: Vec<_> = batch.iter().cloned().map(Hint::Commit).collect();
                if random.u8(..8) == 0 {
                    // The process dies between two requests, and another one with no knowledge takes its place.
                    let polls = random.usize(1..60);
                    die_after(polls, feed.submit(&table, hints.clone(), Duration::ZERO)).await;
                    feed = self::feed(slices);
                }
                if splits && !is_old && random.u8(..4) == 0 {
                    let all: Vec<Slice> = table.tree().iter().collect();
                    // A split of a closed slice is a repetition.
                    if let Some(slice) = random.choice(&all).filter(|_| all.len() < 12) {
                        let polls = if random.bool() { random.usize(1..30) } else { usize::MAX };
                        die_after(polls, feed.split(&table, *slice)).await;
                        if random.u8(..4) == 0 {
                            feed = self::feed(slices);
                        }
                    }
                }
                if splits {
                    // A process may learn of a split by reading, before its writer has read the closing page.
                    let all: Vec<Slice> = table.tree().iter().collect();
                    let slice = random.choice(&all).copied().unwrap_or(SLICE);
                    match random.u8(..10) {
                        0 => drop(feed.end(&table, slice).await),
                        1 => drop(feed.indexed(&table, &order(random.u64(0..streams))).await),
                        2 if !is_old => drop(feed.tree(&table).await),
                        _ => {}
                    }
                }
                // A batch may be given up.
                for _ in 0..random.usize(1..4) {
                    if feed.submit(&table, hints.clone(), linger).await.is_ok() {
                        break;
                    }
                }
                if random.u8(..4) == 0 {
                    checked.check_summaries(KEY)?;
                }
            }
            Ok::<_, String>(())
        }
    });
    future::try_join_all(workers.collect::<Vec<_>>()).await?;
    // The last process gets all hints.
    let last = feed(slices);
    let all = (0..streams).map(|id| Hint::UpTo(order(id), Version::MAX)).collect();
    last.submit(&table, all, Duration::ZERO).await.map_err(|error| es_core::error_text(&error))?;
    let total = table.check()?;
    table.check_summaries(KEY)?;
    let stored: u64 = commits.iter().map(super::reference::Reference::events).sum();
    if total != stored {
        return Err(format!("{total} events of {stored}"));
    }
    let tree = feed(slices).tree(&table).await.map_err(|error| es_core::error_text(&error))?;
    let with_pages: Vec<Slice> = {
        let content = table.content.lock().expect("no panic before");
        let logs = content.logs.iter().filter(|(_, log)| !log.is_empty());
        logs.map(|(slice, _)| *slice).collect()
    };
    if let Some(slice) = with_pages.into_iter().find(|slice| !tree.contains(*slice)) {
        return Err(format!("slice {slice} is not in the tree"));
    }
    for id in 0..streams {
        let head = table.head(&order(id));
        let known = last.indexed(&table, &order(id)).await;
        let searched = feed(slices).indexed(&table, &order(id)).await;
        if known.as_ref().ok() != Some(&head) || searched.as_ref().ok() != Some(&head) {
            return Err(format!("{id}: {known:?} and {searched:?}, not {head}"));
        }
    }
    Ok(total)
}

/// `ES_FAULT_RUNS` sets the number of runs, and `ES_FAULT_SEED` repeats the run of one seed.
#[test]
fn writers_with_faults_index_every_event_once() {
    let events = run_seeds(200, |seed| run(seed, false));
    println!("{} runs, {} events", events.len(), events.iter().sum::<u64>());
}

/// See [`writers_with_faults_index_every_event_once`].
#[test]
fn writers_with_faults_index_every_event_once_while_slices_are_split() {
    let events = run_seeds(200, |seed| run(seed, true));
    println!("{} runs, {} events", events.len(), events.iter().sum::<u64>());
}
