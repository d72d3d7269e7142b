//! The warning and the metric about an open transaction that holds back the feed.

use std::future::Future;
use std::time::Duration;

use es_core::StreamId;
use es_core::Version;
use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::store::{Append, EventStore};
use es_postgres::PostgresStore;
use es_postgres::sqlx::{self, Connection, PgConnection};
use es_tests::conformance::{events, new_commit};
use es_tests::recorder::{Recorded, Seen};
use tracing::Level;

const METRIC: &str = "es.feed.held";

/// Runs `work` while the clock of tokio stands still, although it waits for the server. A paused clock would otherwise
/// advance to the next timer, which is a time limit.
async fn with_frozen_clock<T>(work: impl Future<Output = T>) -> T {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let running = tokio::task::spawn_blocking(move || ended.recv());
    let done = work.await;
    drop(end);
    let _ = running.await.expect("no panic");
    done
}

/// Waits until the transaction of the session `pid` is the oldest of the server. Those of other tests may be older.
async fn wait_until_oldest(store: &PostgresStore, pid: i32) {
    for _ in 0..5_000 {
        let oldest = store.feed_delay().await.expect("is known").oldest;
        if oldest.is_some_and(|oldest| oldest.pid == Some(pid)) {
            return;
        }
        sqlx::query("SELECT pg_sleep(0.01)").execute(store.pool()).await.expect("waits");
    }
    panic!("older transactions do not end");
}

/// Reads the feed, and returns its end and the warnings that were logged.
async fn read(store: &PostgresStore, seen: &Seen) -> (Position, Vec<String>) {
    let page = store.read_feed(&FeedRead::new(Slice::new(0), Position::NONE)).await.expect("reads");
    let warnings = seen.log(Level::WARN).into_iter().filter(|line| line.message().contains("feed"));
    let warnings = warnings.map(|line| {
        assert_eq!((line.text("schema"), line.number("waiting")), (store.schema(), 1));
        format!("{} s: {}", line.text("held"), line.message())
    });
    (page.through, warnings.collect())
}

#[test]
#[ignore = "needs a PostgreSQL server"]
fn a_transaction_that_holds_back_the_feed_is_logged_and_measured() {
    let (seen, recorded) = (Seen::default(), Recorded::default());
    recorded.during(|| {
        seen.record(with_frozen_clock(async {
            let store = crate::store().await;
            let check_metric = |expected: f64| {
                if cfg!(feature = "metrics") {
                    assert_eq!(recorded.last(METRIC, &[store.schema()]), expected);
                }
            };
            assert_eq!(read(&store, &seen).await, (Position::NONE, Vec::new()));
            check_metric(0.0);

            let options = store.pool().connect_options();
            let mut writer = PgConnection::connect_with(&options.as_ref().clone().application_name("report"))
                .await
                .expect("connects");
            sqlx::raw_sql("BEGIN; SELECT pg_current_xact_id()").execute(&mut writer).await.expect("begins");
            let pid = sqlx::query_scalar("SELECT pg_backend_pid()");
            let pid: i32 = pid.fetch_one(&mut writer).await.expect("is known");
            let stream = StreamId::new("held", "1").expect("valid");
            let append = Append::after_loaded(stream, Version::NONE, new_commit(events(2)));
            store.append(&append).await.expect("appends");
            wait_until_oldest(&store, pid).await;

            let (mut logged, mut held) = (Vec::new(), 0);
            for seconds in [0, 9, 1, 5, 5] {
                tokio::time::advance(Duration::from_secs(seconds)).await;
                held += seconds;
                let (through, warnings) = read(&store, &seen).await;
                assert_eq!(through, Position::NONE, "an older transaction may still insert");
                check_metric(held as f64);
                logged.push(warnings);
            }
            let counts: Vec<_> = logged.iter().map(Vec::len).collect();
            assert_eq!(counts, [0, 0, 1, 0, 1], "{logged:?}");
            let start = format!(
                "10.0 s: an open transaction holds back the feed: the session {pid} of `report` (idle in transaction)"
            );
            assert!(logged[2][0].starts_with(&start), "{logged:?}");

            writer.close().await.expect("rolls back");
            for _ in 0..5_000 {
                let (through, warnings) = read(&store, &seen).await;
                assert_eq!(warnings, [""; 0]);
                if through == Position::new(2) {
                    check_metric(0.0);
                    return;
                }
                sqlx::query("SELECT pg_sleep(0.01)").execute(store.pool()).await.expect("waits");
            }
            panic!("the commit is not delivered");
        }));
    });
}
