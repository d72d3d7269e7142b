//! `Workers::run_until_signal` in a separate process: this test binary, started again with one of its tests.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use es_core::Workers;
use es_core::prelude::*;
use es_core::snapshot::SnapshotPolicy;
use es_core::workers::StopOrder;
use es_core::workers::Worker;
use es_dynamo::DynamoStore;
use es_tests::domain::{Account, Deposit};
use tokio::sync::{Notify, Semaphore};

/// Selects what the process runs.
const SCENARIO: &str = "ES_TESTS_WORKERS";

/// The file of the store, for the scenario that has one.
const FILE: &str = "ES_TESTS_FILE";

/// Precedes the lines of a scenario in the output of the test harness.
const MARK: &str = "workers: ";

/// How long a process may take to end, on a busy machine.
const MAX_SHUTDOWN: Duration = Duration::from_secs(120);

fn say(what: &str) {
    println!("\n{MARK}{what}");
}

/// A worker that says what it does.
#[derive(Debug)]
struct Saying {
    name: &'static str,
    order: StopOrder,
    /// Whether it ends when it is stopped.
    stops: bool,
    stopped: Notify,
    /// Gets a permit when the worker runs. A worker that has not started is not stopped either.
    started: Arc<Semaphore>,
}

#[async_trait]
impl Worker for Saying {
    fn name(&self) -> &str {
        self.name
    }

    fn stop_order(&self) -> StopOrder {
        self.order
    }

    async fn run(&self) -> Result<(), BoxError> {
        self.started.add_permits(1);
        self.stopped.notified().await;
        if !self.stops {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        say(&format!("{} ends", self.name));
        Ok(())
    }

    fn shutdown(&self) {
        say(&format!("{} stops", self.name));
        self.stopped.notify_one();
    }
}

/// Runs the scenario that the environment selects. The tests below start it; it does nothing otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let stops = scenario == "orderly";
    let timeout = if scenario == "bounded" { Duration::from_secs(1) } else { Duration::from_hours(1) };
    let started = Arc::new(Semaphore::new(0));
    let saying = |name, order, stops| {
        let (stopped, started) = (Notify::new(), Arc::clone(&started));
        Saying { name, order, stops, stopped, started }
    };
    let mut workers = Workers::new()
        .shutdown_timeout(timeout)
        .add(saying("indexer", StopOrder::Last, true))
        .add(saying("orders", StopOrder::First, stops));
    if let Ok(file) = std::env::var(FILE) {
        let store = DynamoStore::embedded_at(&file).await.expect("opens");
        let accounts: Repository<Account> =
            Repository::builder(store).snapshots(SnapshotPolicy::Every(1)).build();
        accounts.execute("ann", Deposit::one(1, "a")).await.expect("accepted");
        workers = workers.flush(&accounts);
    }
    let ended = workers.spawn();
    let ended = async {
        // The handlers of signals are installed when this future is first polled.
        let mut running = std::pin::pin!(ended.run_until_signal());
        let first = futures_util::poll!(&mut running);
        assert!(first.is_pending(), "no signal was sent yet");
        started.acquire_many(2).await.expect("is open").forget();
        say("runs");
        running.await
    };
    match ended.await {
        Ok(()) => say("complete"),
        Err(error) => say(&error.to_string()),
    }
}

/// The process of a scenario, which ends with the test.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(scenario: &str, file: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "signals::scenario", "--nocapture"]).env(SCENARIO, scenario);
        if let Some(file) = file {
            command.env(FILE, file);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut process = Self { child, output };
        process.read_until("runs");
        process
    }

    fn read_until(&mut self, line: &str) {
        let mut text = String::new();
        while text.trim_end() != format!("{MARK}{line}") {
            text.clear();
            assert_ne!(self.output.read_line(&mut text).expect("text"), 0, "the process has ended early");
        }
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for the end. Returns what the process said.
    fn end(mut self) -> (Vec<String>, ExitStatus) {
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("can be asked") {
                break status;
            }
            assert!(asked.elapsed() < MAX_SHUTDOWN, "the process does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut output = String::new();
        self.output.read_to_string(&mut output).expect("text");
        (output.lines().filter_map(|line| line.strip_prefix(MARK)).map(str::to_owned).collect(), status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn sigterm_and_ctrl_c_stop_workers_in_order_and_flush_repositories() {
    for signal in ["TERM", "INT"] {
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("signals-{signal}.db"));
        let _ = std::fs::remove_file(&file);
        let process = Process::start("orderly", file.to_str());
        process.send(signal);
        let (said, status) = process.end();
        assert_eq!(said, ["orders stops", "orders ends", "indexer stops", "indexer ends", "complete"]);
        assert!(status.success(), "{status}");
        let accounts: Repository<Account> =
            Repository::new(DynamoStore::embedded_at(&file).await.expect("opens"));
        let loaded = accounts.load("ann").await.expect("loads");
        assert_eq!(loaded.snapshot, Some(Version::new(1)), "its snapshot was written");
    }
}

#[cfg(unix)]
#[test]
fn a_worker_that_does_not_stop_is_aborted_within_the_bound() {
    let process = Process::start("bounded", None);
    process.send("TERM");
    let (said, _) = process.end();
    let incomplete =
        "the shutdown within 1s was incomplete: `orders` did not stop in time and was aborted".to_owned();
    assert_eq!(said, ["orders stops", "indexer stops", "indexer ends", &incomplete]);
}

/// The first signal leads to a shutdown that may take an hour.
#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_process_at_once() {
    for (first, second) in [("TERM", "INT"), ("INT", "TERM")] {
        let mut process = Process::start("patient", None);
        process.send(first);
        process.read_until("orders stops");
        process.send(second);
        let (said, _) = process.end();
        assert_eq!(
            said,
            ["a second signal was received before all workers had stopped; the others were aborted"]
        );
    }
}
