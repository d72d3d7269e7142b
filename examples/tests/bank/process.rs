//! The bank as a process, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use bank::Bank;
use bank::domain::Account;
use es_core::{Repository, Version};

use crate::client::{Api, Server, id, store};

/// A bank in a process of its own, which ends with the test.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    api: Api,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bank"))
            .args(arguments)
            .stdout(Stdio::piped())
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

    /// Ends it as Ctrl-C does; gives the rest of what it told.
    fn interrupt(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
        let mut told = String::new();
        self.output.read_to_string(&mut told).expect("text");
        assert!(self.child.wait().expect("it ends").success());
        told
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
    let told = first.interrupt();
    assert!(told.contains("curl") && told.contains("no more requests"), "{told}");

    let second = Process::start(&["--file", file]);
    assert_eq!(second.api.balance(&ann).await, 500);
    second.interrupt();
}

#[tokio::test]
async fn a_bank_that_closes_has_written_its_snapshots() {
    let store = store().await;
    let server = Server::start(Bank::new(store.clone())).await;
    let ann = server.api.account("Ann", "DE100001", 0).await;
    for _ in 0..19 {
        server.api.deposit(&ann, 1).send().await.expect(200);
    }
    // The last command made it time for one.
    server.stop().await;
    let accounts: Repository<Account> = Repository::new(store);
    let loaded = accounts.load(&id(&ann).parse().expect("an id")).await.expect("loaded");
    assert_eq!((loaded.snapshot, loaded.state.balance.in_cents()), (Some(Version::new(20)), 19));
}

#[test]
fn help_names_every_option() {
    let output = Command::new(env!("CARGO_BIN_EXE_bank")).arg("--help").output().expect("the example runs");
    let text = String::from_utf8_lossy(&output.stdout);
    for option in ["--port <PORT>", "--file <PATH>", "--endpoint <URL>", "--aws", "--table <NAME>"] {
        assert!(text.contains(option), "{option} is missing in:\n{text}");
    }
}
