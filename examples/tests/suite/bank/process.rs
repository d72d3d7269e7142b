//! The bank as a process, and its shutdown.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bank::domain::Account;
use es_core::{Repository, Version};
use es_dynamo::DynamoStore;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Api, id};

/// The maximum time for the shutdown of a process on a busy machine. Usually, it takes less than a second.
const MAX_SHUTDOWN: Duration = Duration::from_secs(120);

/// A bank in a separate process, which ends with the test.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    api: Api,
}

/// The output of a process after its address.
struct Ended {
    output: String,
    errors: String,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bank"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let address =
            line.split("http://").nth(1).and_then(|rest| rest.split(". ").next()).expect("an address");
        let api = Api::new(address.parse().expect("an address"));
        Self { child, output, api }
    }

    /// Sends the signal `INT`, as Ctrl-C does, or `TERM`, and waits until the process has ended.
    ///
    /// # Panics
    ///
    /// Panics if the process does not end in time, or fails.
    fn stop(mut self, signal: &str) -> Ended {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.expect("kill runs").success());
        let asked = Instant::now();
        while self.child.try_wait().expect("can be asked").is_none() {
            assert!(asked.elapsed() < MAX_SHUTDOWN, "{signal} does not end it");
            std::thread::sleep(Duration::from_millis(10));
        }
        let (mut output, mut errors) = (String::new(), String::new());
        self.output.read_to_string(&mut output).expect("text");
        self.child.stderr.take().expect("its errors").read_to_string(&mut errors).expect("text");
        assert!(self.child.wait().expect("it ends").success());
        Ended { output, errors }
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
async fn the_bank_opens_closes_and_keeps_its_accounts() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bank-example");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("bank.db");
    let file = file.to_str().expect("a path in UTF-8");

    let first = Process::start(&["--file", file]);
    let ann = first.api.account("Ann", "DE100001", 500).await;
    let health = first.api.get("/health").send().await.expect(200);
    let names: Vec<_> = health["workers"]
        .as_array()
        .expect("workers")
        .iter()
        .filter_map(|worker| worker["name"].as_str())
        .collect();
    assert_eq!((names, &health["healthy"]), (vec!["$ids.account", "indexer"], &Value::Bool(true)));
    let ended = first.stop("INT");
    assert!(ended.output.contains("curl") && ended.output.contains("no new requests"), "{}", ended.output);
    assert_eq!(ended.errors, "");

    let second = Process::start(&["--file", file]);
    assert_eq!(second.api.balance(&ann).await, 500);
    second.stop("TERM");
}

/// Returns what Prometheus scrapes.
fn scraped(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("is sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

#[cfg(unix)]
#[tokio::test]
async fn prometheus_can_scrape_the_bank() {
    let mut process = Process::start(&["--metrics", "127.0.0.1:0"]);
    let mut line = String::new();
    while !line.starts_with("Metrics for Prometheus: ") {
        line.clear();
        assert!(process.output.read_line(&mut line).expect("a line") > 0, "the address is not printed");
    }
    let address =
        line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics\n")).expect("an address");
    let ann = process.api.account("Ann", "DE100001", 500).await;
    process.api.deposit(&ann, 1).send().await.expect(200);
    let deposit = r#"aggregate="account",command="Deposit""#;
    let expected = [
        "# TYPE es_command_duration histogram".to_owned(),
        format!("es_command_outcome{{{deposit},outcome=\"accepted\"}} 2"),
        format!("es_command_duration_count{{{deposit}}} 2"),
        format!("es_command_attempts_bucket{{{deposit},le=\"1\"}} 2"),
        r#"es_capacity_sum{operation="PutItem"}"#.to_owned(),
        r#"es_projection_slices{projection="$ids.account"} 1"#.to_owned(),
        r#"es_projection_stopped{projection="$ids.account",slice="0"} 0"#.to_owned(),
        "es_indexer_lag 0".to_owned(),
    ];
    let started = Instant::now();
    loop {
        let text = scraped(address);
        let missing: Vec<_> = expected.iter().filter(|line| !text.contains(line.as_str())).collect();
        if missing.is_empty() {
            break;
        }
        // The worker of the projection may not have started yet.
        assert!(started.elapsed() < MAX_SHUTDOWN, "{missing:?} are missing in:\n{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(process.stop("TERM").errors, "");
}

/// The domain and the API are those of the other tests; here, they meet transactions, claims, idempotency keys, and the
/// feed of PostgreSQL.
#[cfg(unix)]
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_bank_keeps_its_accounts_in_postgresql() {
    let url = std::env::var("ES_POSTGRES_URL").expect("ES_POSTGRES_URL is the address of a server");
    let first = Process::start(&["--postgres", &url]);
    let number = format!("DE{}", Uuid::new_v4().simple());
    let ann = first.api.account("Ann", &number, 500).await;
    let bob = first.api.account("Bob", &Uuid::new_v4().simple().to_string(), 0).await;
    for _ in 0..2 {
        first.api.transfer(&ann, &bob, 200).key("rent").send().await.expect(200);
    }
    first.api.transfer(&ann, &bob, 301).send().await.expect_problem(422, "overdrawn");
    let again = json!({ "owner": "Eve", "number": number });
    first.api.post("/accounts", &again).send().await.expect_problem(409, "number-taken");
    first.stop("TERM");

    let second = Process::start(&["--postgres", &url]);
    assert_eq!((second.api.balance(&ann).await, second.api.balance(&bob).await), (300, 200));
    let started = Instant::now();
    loop {
        let page = second.api.get("/accounts?limit=200").send().await.expect(200);
        if page["accounts"].as_array().expect("an array").iter().any(|account| account == id(&bob)) {
            break;
        }
        assert!(started.elapsed() < MAX_SHUTDOWN, "the projection does not list the account: {page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let health = second.api.get("/health").send().await.expect(200);
    assert_eq!(
        (&health["healthy"], health["workers"].as_array().map(Vec::len)),
        (&Value::Bool(true), Some(1))
    );
    second.stop("TERM");
}

#[cfg(unix)]
#[tokio::test]
async fn signals_end_the_bank_in_bounded_time_whatever_its_clients_do() {
    for signal in ["INT", "TERM"] {
        let process = Process::start(&["--shutdown-timeout", "1"]);
        let mut half_sent = Vec::new();
        for text in ["", "POST /transfers HTTP/1.1\r\nhost: bank\r\ncontent-length: 9\r\n\r\n{", "GET /acc"] {
            let mut stream = TcpStream::connect(process.api.address()).expect("connects");
            stream.write_all(text.as_bytes()).expect("is sent");
            half_sent.push(stream);
        }
        // Connections are accepted in order, so the earlier ones are open after this response.
        process.api.get("/nothing").send().await.expect_problem(404, "about:blank");
        process.stop(signal);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn to_trust_the_actor_takes_a_flag_and_gives_a_warning() {
    for (arguments, actor) in [(&[][..], Value::Null), (&["--trust-actor-header"], "ann".into())] {
        let process = Process::start(arguments);
        let ann = process.api.account("Ann", "DE100001", 0).await;
        process.api.deposit(&ann, 1).header("x-actor", "ann").send().await.expect(200);
        assert_eq!(process.api.history(&ann).await[1]["actor"], actor);
        let ended = process.stop("TERM");
        assert_eq!(ended.errors.contains("WARNING: --trust-actor-header"), !arguments.is_empty());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_bank_that_closes_has_written_its_snapshots() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bank-snapshots.db");
    let _ = std::fs::remove_file(&file);
    let path = file.to_str().expect("a path in UTF-8");
    let process = Process::start(&["--file", path]);
    let ann = process.api.account("Ann", "DE100001", 0).await;
    for _ in 0..19 {
        process.api.deposit(&ann, 1).send().await.expect(200);
    }
    // After the last command, a snapshot is due.
    assert_eq!(process.stop("TERM").errors, "");
    let store = DynamoStore::embedded_at(&file).await.expect("opens");
    let accounts: Repository<Account> = Repository::new(store);
    let loaded = accounts.load(&id(&ann).parse().expect("an id")).await.expect("loaded");
    assert_eq!((loaded.snapshot, loaded.state.balance.in_cents()), (Some(Version::new(20)), 19));
}

#[test]
fn help_names_every_option() {
    let output = Command::new(env!("CARGO_BIN_EXE_bank")).arg("--help").output().expect("the example runs");
    let text = String::from_utf8_lossy(&output.stdout);
    for option in [
        "--port <PORT>",
        "--file <PATH>",
        "--endpoint <URL>",
        "--aws",
        "--postgres <URL>",
        "--table <NAME>",
        "--trust-actor-header",
        "--max-connections <COUNT>",
        "--metrics <ADDRESS>",
        "--shutdown-timeout <SECONDS>",
    ] {
        assert!(text.contains(option), "{option} is missing in:\n{text}");
    }
}
