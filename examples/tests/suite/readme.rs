//! The snippets of the README. Each is a part of this file or of the quick start, so it compiles and runs.

use std::process::Command;
use std::time::Duration;

use es_core::prelude::*;
use es_core::testing::given;
use es_core::{MemoryStore, StreamId, Workers};
use serde::{Deserialize, Serialize};

#[event]
pub struct Opened {
    pub number: String,
    pub owner: String,
}

#[event]
pub struct Moved {
    pub cents: i64,
}

#[derive(Aggregate, Debug, Default, PartialEq)]
#[aggregate(name = "account", id = String, events(Opened, Moved))]
pub struct Account {
    balance: i64,
}

pub struct Open {
    pub number: String,
    pub owner: String,
}

pub struct Move {
    pub cents: i64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("only {balance} cents are left")]
pub struct Overdrawn {
    pub balance: i64,
}

#[handlers]
impl Account {
    #[apply]
    fn opened(&mut self, _: &Opened) {}

    #[apply]
    fn moved(&mut self, event: &Moved) {
        self.balance += event.cents;
    }

    #[handle]
    fn open(&self, command: &Open) -> Events<Self> {
        let opened = Opened { number: command.number.clone(), owner: command.owner.clone() };
        // At most one account has this number; a second one gets an error that names the first.
        Events::from(opened).claim("number", &command.number)
    }

    #[handle]
    fn move_money(&self, command: &Move) -> Result<Moved, Overdrawn> {
        if self.balance + command.cents < 0 {
            return Err(Overdrawn { balance: self.balance });
        }
        Ok(Moved { cents: command.cents })
    }
}

fn open(number: &str, owner: &str) -> Open {
    Open { number: number.to_owned(), owner: owner.to_owned() }
}

#[tokio::test]
async fn several_aggregates_change_together() -> Result<(), BoxError> {
    let store = MemoryStore::new();
    let accounts: Repository<Account> = Repository::new(store.clone());
    accounts.execute("ann", open("1", "Ann")).await?;
    let taken = accounts.execute("bob", open("1", "Bob")).await.expect_err("is Ann's number");
    assert_eq!(taken.claimed().and_then(|claimed| Some(claimed.holder.as_ref()?.id())), Some("ann"));

    // A message that may be delivered twice: the second delivery returns the first outcome.
    accounts.once("message-4711").execute("ann", Move { cents: 500 }).await?;

    // All or nothing, over aggregates of any types.
    Transaction::new(&store)
        .execute(&accounts, "ann", Move { cents: -300 })
        .execute(&accounts, "bob", Move { cents: 300 })
        .commit()
        .await?;

    assert_eq!(accounts.load("bob").await?.state.balance, 300);
    Ok(())
}

#[derive(Clone, Row, Serialize, Deserialize)]
#[row(name = "accounts", key = account, index(by_owner(owner, account)))]
pub struct AccountRow {
    account: String,
    owner: String,
}

#[derive(Clone, Projection)]
#[projection(name = "accounts", events(Account(Opened)))]
pub struct Accounts {
    #[read_model]
    rows: ReadModel<AccountRow>,
}

#[handlers]
impl Accounts {
    #[project]
    async fn opened(&mut self, event: &Opened, ctx: &EventContext) -> Result<(), BoxError> {
        Ok(self.rows.put(AccountRow { account: ctx.id().to_owned(), owner: event.owner.clone() })?)
    }
}

#[tokio::test]
async fn a_projection_keeps_rows() -> Result<(), BoxError> {
    let store = MemoryStore::new();
    let accounts: Repository<Account> = Repository::new(store.clone());
    let rows = ReadModel::of::<Accounts>(&store);
    let projector = Projector::new(store, Accounts { rows: rows.clone() });

    let workers = Workers::new().add(projector.clone()).flush(&accounts).spawn();

    let stream = StreamId::new(Account::NAME, "ann")?;

    let done = accounts.execute("ann", open("1", "Ann")).await?;
    projector.wait_for(&stream, done.version, Duration::from_secs(30)).await?; // read your own write
    assert_eq!(rows.find(AccountRow::BY_OWNER, "Ann").all().await?.len(), 1);

    workers.shutdown().await?; // or `run_until_signal`, which waits for SIGTERM or Ctrl-C

    Ok(())
}

#[test]
fn rules_are_tested_without_a_store() {
    given::<Account>([Moved { cents: 500 }])
        .when(Move { cents: -200 })
        .then([Moved { cents: -200 }])
        .when(Move { cents: -400 })
        .then_error(Overdrawn { balance: 300 });
}

#[test]
fn the_quick_start_runs() {
    let output = Command::new(env!("CARGO_BIN_EXE_quickstart")).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(printed, "300 cents at version 2: 2 requests, 1 RCU, 1 WCU\n");
}

#[test]
fn the_readme_quotes_code_that_runs() {
    let unindented =
        |code: &str| code.lines().map(|line| format!("{}\n", line.trim_start())).collect::<String>();
    let readme = include_str!("../../../README.md");
    let quick_start = include_str!("../../quickstart/main.rs");
    let sources = unindented(quick_start) + &unindented(include_str!("readme.rs"));

    let blocks: Vec<_> =
        readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 3, "the snippets are gone");
    for block in &blocks {
        // The README may omit paragraphs.
        for paragraph in block.split("\n\n") {
            let code = unindented(paragraph);
            assert!(sources.contains(&code), "this is not quoted from code that runs:\n{paragraph}");
        }
    }
    let (_, quoted) = quick_start.split_once("\n\n").expect("begins with a comment");
    assert_eq!(blocks.first().map(|block| block.trim_end()), Some(quoted.trim_end()));
}
