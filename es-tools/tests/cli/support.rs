//! A file with a small bank, and running the binary on it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use es_core::RetryPolicy;
use es_core::prelude::*;
use es_core::projection::WaitError;
use es_dynamo::{DynamoStore, Reconciler};
use serde_json::Value;

#[event]
pub(crate) struct Deposited {
    pub(crate) cents: u64,
}

#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "account", id = String, events(Deposited))]
pub(crate) struct Account;

pub(crate) struct Deposit(pub(crate) u64);

#[handlers]
impl Account {
    #[apply]
    fn deposited(&mut self, _: &Deposited) {}

    #[handle]
    fn deposit(&self, command: &Deposit) -> Deposited {
        Deposited { cents: command.0 }
    }
}

/// Fails at deposits of this amount.
pub(crate) const POISON: u64 = 13;

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Deposited)))]
pub(crate) struct Mails;

#[handlers]
impl Mails {
    #[project]
    async fn deposited(&mut self, event: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        if event.cents == POISON { Err("there is no such template".into()) } else { Ok(()) }
    }
}

/// A file of the embedded engine in a directory for one test.
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    pub(crate) fn new(test: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("es-cli").join(test);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("creates the directory");
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Opens the store, which is created if the file does not exist.
    pub(crate) async fn store(&self) -> DynamoStore {
        DynamoStore::embedded_at(self.path("events.db")).await.expect("opens")
    }

    /// Records these deposits of the account `id`.
    pub(crate) async fn deposit(&self, id: &str, deposits: &[u64]) {
        let accounts: Repository<Account> = Repository::new(self.store().await);
        for cents in deposits {
            let metadata = Metadata::new().with_actor("bank");
            accounts.with_metadata(metadata).execute(id, Deposit(*cents)).await.expect("accepted");
        }
    }

    /// Adds all commits to the feed, and runs the projection until it has handled them or has stopped.
    pub(crate) async fn project(&self) -> Result<(), WaitError> {
        let store = self.store().await;
        Reconciler::builder(&store).build().run().await.expect("runs");
        let builder = Projector::builder(store, Mails).retry(RetryPolicy::never());
        builder.restart(RetryPolicy::never()).build().run_until_caught_up().await
    }

    /// Runs the binary on the file.
    pub(crate) fn es(&self, arguments: &[&str]) -> Ran {
        self.es_with(arguments, &[])
    }

    /// Runs the binary on the file, with these additional environment variables.
    pub(crate) fn es_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        Ran::of(self.command(arguments).envs(environment.iter().copied()))
    }

    /// Runs the binary on the file, with this standard output.
    pub(crate) fn es_to(&self, arguments: &[&str], output: Stdio) -> Ran {
        Ran::of(self.command(arguments).stdout(output))
    }

    /// Runs the binary on the file, with this text on standard input.
    pub(crate) fn es_from(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        // The process may end before it has read everything.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        Ran::new(&command, child.wait_with_output().expect("ends"))
    }

    /// Returns the command that runs the binary on the file.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let file = self.path("events.db");
        let file = file.to_str().expect("a path in UTF-8");
        let mut command = Command::new(env!("CARGO_BIN_EXE_es"));
        command.args(["--file", file]).args(arguments).env_remove("ES_DYNAMO_TABLE");
        command.current_dir(&self.directory);
        command
    }
}

/// Parses one line of JSON after the other.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Runs the binary on a server, with these environment variables and no other settings of AWS.
pub(crate) fn es_remotely(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_es"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_REGION", "eu-west-1").envs(environment.iter().copied());
    Ran::of(&mut command)
}

/// A process that has ended.
pub(crate) struct Ran {
    arguments: String,
    output: Output,
}

impl Ran {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().expect("starts");
        Self::new(command, output)
    }

    pub(crate) fn new(command: &Command, output: Output) -> Self {
        let arguments: Vec<_> = command.get_args().map(std::ffi::OsStr::to_string_lossy).collect();
        Self { arguments: arguments.join(" "), output }
    }

    /// Returns the text on standard output, after a check of the exit code.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> String {
        let (out, errors) = (self.text(), self.errors());
        assert_eq!(self.output.status.code(), Some(code), "es {}\n{out}{errors}", self.arguments);
        out
    }

    #[track_caller]
    pub(crate) fn succeeds(&self) -> String {
        self.exits(0)
    }

    /// Returns the JSON on standard output of a command that succeeds.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = self.succeeds();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("es {}: {error}: {text}", self.arguments))
    }

    /// Returns the text on standard error, after a check that the command failed with this code.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) -> String {
        self.exits(code);
        self.errors()
    }

    fn text(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).expect("UTF-8")
    }

    fn errors(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).expect("UTF-8")
    }
}
