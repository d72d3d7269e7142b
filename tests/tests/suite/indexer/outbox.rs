//! The indexer on the embedded engine: in one process, and in two with the same file.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use es_core::feed::Feed;
use es_core::{Repository, Version};
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, Indexer};
use es_tests::domain::{Account, Deposit};

use super::{PATIENCE, account, check, deposit, indexed, quick, start, stop};

/// The environment variable with the file for a child process.
const CHILD: &str = "ES_TESTS_OUTBOX_FILE";

/// A file that is deleted after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("es-tests-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).expect("can be created");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("events.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn open(path: &Path) -> DynamoStore {
    DynamoStore::embedded_at(path).await.expect("opens")
}

/// Polls for commits of other processes so rarely that a test would fail first.
fn deaf(store: &DynamoStore) -> Indexer {
    quick(store).poll(Duration::from_secs(600)).build().expect("has an outbox")
}

#[tokio::test]
async fn a_commit_of_this_process_is_indexed_at_once() {
    let folder = Folder::new();
    let in_memory = Engine::in_memory().expect("starts").store().await.expect("has a table");
    for store in [in_memory, open(&folder.file()).await] {
        let indexer = deaf(&store);
        let running = start(&indexer);
        deposit(&store, 3, 4).await;
        for id in 0..3 {
            indexed(&store, &account(id), 6).await;
        }
        // The indexer is idle, so it sleeps.
        tokio::time::sleep(Duration::from_millis(50)).await;
        deposit(&store, 1, 1).await;
        indexed(&store, &account(0), 7).await;
        stop(&indexer, running).await;
        check(&store, 19).await;
        let progress = indexer.progress();
        assert_eq!((progress.events, progress.records, progress.unfounded), (19, 13, 0), "{progress:?}");
        assert_eq!((progress.reconciliation, progress.shards), (None, 0));
    }
}

#[tokio::test]
async fn what_an_earlier_process_has_not_indexed_is_indexed_at_the_next_start() {
    let folder = Folder::new();
    let store = open(&folder.file()).await;
    deposit(&store, 3, 4).await;
    drop(store);
    let store = open(&folder.file()).await;
    let indexer = deaf(&store);
    let running = start(&indexer);
    for id in 0..3 {
        indexed(&store, &account(id), 6).await;
    }
    stop(&indexer, running).await;
    drop((store, indexer));

    // Indexed commits are not read again.
    let store = open(&folder.file()).await;
    let indexer = deaf(&store);
    let running = start(&indexer);
    deposit(&store, 1, 1).await;
    indexed(&store, &account(0), 7).await;
    stop(&indexer, running).await;
    assert_eq!(indexer.progress().records, 1);
    check(&store, 19).await;
}

#[tokio::test]
async fn a_commit_in_several_items_is_indexed_as_one() {
    let store = Engine::in_memory().expect("starts").store().await.expect("has a table");
    let indexer = deaf(&store);
    let running = start(&indexer);
    let accounts: Repository<Account> = Repository::new(store.clone());
    let large = Deposit { cents: 1, notes: vec!["x".repeat(300_000); 3] };
    accounts.execute(&"0".to_owned(), large).await.expect("accepted");
    indexed(&store, &account(0), 3).await;
    stop(&indexer, running).await;
    check(&store, 3).await;
}

#[tokio::test]
async fn a_table_that_had_a_stream_is_indexed_from_its_first_commit() {
    let engine = Engine::in_memory().expect("starts");
    let builder = DynamoStore::builder().client(engine.client());
    let before = builder.build().expect("valid");
    before.create_table().await.expect("creates");
    deposit(&before, 5, 2).await;
    let store = engine.store().await.expect("is completed");
    let indexer = deaf(&store);
    let running = start(&indexer);
    for id in 0..5 {
        indexed(&store, &account(id), 3).await;
    }
    stop(&indexer, running).await;
    check(&store, 15).await;
}

/// The work for a commit is constant: its row in the outbox is read once and then removed.
#[tokio::test]
async fn a_commit_is_read_once_however_many_there_were_before() {
    let store = Engine::in_memory().expect("starts").store().await.expect("has a table");
    for _ in 0..3 {
        let indexer = deaf(&store);
        let running = start(&indexer);
        let from = store.indexed(&account(0)).await.expect("is known");
        deposit(&store, 100, 1).await;
        for id in 0..100 {
            indexed(&store, &account(id), from.next().get()).await;
        }
        stop(&indexer, running).await;
        assert_eq!(indexer.progress().records, 100);
    }
    let described = store.client().describe_table().table_name(store.table_name()).send().await;
    let table = described.expect("answers").table.expect("is there");
    assert!(table.latest_stream_arn.is_none(), "a stream makes every write read all records before it");
    check(&store, 300).await;
}

/// The second process: it commits until it is killed, with or without an indexer.
#[tokio::test]
async fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = open(Path::new(&path)).await;
    if std::env::var_os("ES_TESTS_OUTBOX_INDEXES").is_some() {
        let _running = start(&quick(&store).build().expect("has an outbox"));
    }
    let accounts: Repository<Account> = Repository::new(store);
    for version in 1_u64.. {
        accounts.execute(&"child".to_owned(), Deposit::one(1, "")).await.expect("accepted");
        println!("\ncommitted {version}");
    }
}

/// The lines of a process's output.
fn lines_of(output: ChildStdout) -> mpsc::Receiver<String> {
    let (line, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for read in BufReader::new(output).lines().map_while(Result::ok) {
            if line.send(read).is_err() {
                break;
            }
        }
    });
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_a_process_that_was_killed_are_indexed_by_another() {
    for indexes in [false, true] {
        let folder = Folder::new();
        let store = open(&folder.file()).await;
        let indexer = quick(&store).build().expect("has an outbox");
        let running = start(&indexer);
        let mut child = Command::new(std::env::current_exe().expect("is known"));
        child.args(["indexer::outbox::child", "--exact", "--nocapture", "--test-threads=1"]);
        child.env(CHILD, folder.file()).stdout(Stdio::piped()).stderr(Stdio::null());
        if indexes {
            child.env("ES_TESTS_OUTBOX_INDEXES", "yes");
        }
        let mut child = child.spawn().expect("starts");
        let lines = lines_of(child.stdout.take().expect("is piped"));
        let mut acknowledged = 0;
        while acknowledged < 20 {
            // This process commits as well.
            deposit(&store, 2, 1).await;
            let line = lines.recv_timeout(PATIENCE).expect("goes on");
            if let Some(version) = line.strip_prefix("committed ") {
                acknowledged = version.parse().expect("a number");
            }
        }
        child.kill().expect("is running");
        child.wait().expect("ends");
        let head = es_core::EventStore::head(&store, &account("child")).await.expect("is known").version;
        assert!(head >= Version::new(acknowledged), "{head} of {acknowledged}");
        let own = es_core::EventStore::head(&store, &account(0)).await.expect("is known").version;
        for (id, last) in [("child", head), ("0", own), ("1", own)] {
            indexed(&store, &account(id), last.get()).await;
        }
        stop(&indexer, running).await;
        check(&store, head.get() + 2 * own.get()).await;
    }
}
