//! Rows and batches that are larger than a transaction.

use es_core::prelude::*;
use es_core::projection::OnFailure;
use es_core::serde::{Deserialize, Serialize};
use es_core::{MemoryStore, RetryPolicy};
use es_tests::domain::{Account, Deposited};

use super::support::{deposit, projector};

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "pages", key = name, index(by_kind(kind)))]
struct Page {
    name: String,
    kind: String,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "words", key = name)]
struct Word {
    name: String,
}

/// `pages:2:70` puts two pages of 70 KB, and `words:99` puts 99 words. In the account `away`, the first attempt fails.
#[derive(Clone, Projection)]
#[projection(name = "library", events(Account(Deposited)))]
struct Library {
    #[read_model]
    pages: ReadModel<Page>,
    #[read_model]
    words: ReadModel<Word>,
    is_away: bool,
}

impl Library {
    fn new(store: &MemoryStore) -> Self {
        Self { pages: ReadModel::of::<Self>(store), words: ReadModel::of::<Self>(store), is_away: false }
    }
}

impl Project<Deposited> for Library {
    async fn project(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let mut numbers = event.note.split(':').skip(1).map(str::parse::<usize>);
        let mut number = || numbers.next().unwrap_or(Ok(0));
        let (count, kilobytes) = (number()?, number()?);
        if self.is_away {
            return Err("the service is away".into());
        }
        for index in 0..count {
            let name = format!("{}/{}/{index}", ctx.id(), ctx.version());
            match event.note.starts_with("pages") {
                true => {
                    let text = "x".repeat(kilobytes * 1024);
                    self.pages.put(Page { name, kind: "page".to_owned(), text })?;
                }
                false => self.words.put(Word { name })?,
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_over_the_limit_is_the_fault_of_its_event() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["pages:1:399", "pages:1:400", "pages:1:1"]).await;
    let library = Library::new(&store);
    let projector = projector(store.clone(), library.clone()).build();
    let error = projector.run_until_caught_up().await.expect_err("it is too large").to_string();
    assert!(error.contains("`Deposited` at version 2 of `account#ada`"), "{error}");
    assert!(error.contains("the row `ada/2/0` of `pages`") && error.contains("409600"), "{error}");
    let (slice, _) = projector.progress().await.expect("progress").stopped().next().expect("has stopped");
    projector.skip(slice).await.expect("there is an event to skip");
    projector.run_until_caught_up().await.expect("goes on");
    assert_eq!(library.pages.all().await.expect("rows").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_large_rows_takes_several_checkpoints() {
    let store = MemoryStore::new();
    // 8.4 MB, including the copies in the index.
    deposit(&store, "ada", &["pages:1:70"; 60]).await;
    let library = Library::new(&store);
    projector(store.clone(), library.clone()).build().run_until_caught_up().await.expect("works");
    assert_eq!(library.pages.all().await.expect("rows").len(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_writes_too_much_is_named() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["pages:1:1", "pages:20:120"]).await;
    let projector = projector(store.clone(), Library::new(&store)).build();
    let error = projector.run_until_caught_up().await.expect_err("it is too much").to_string();
    assert!(error.contains("`Deposited` at version 2 of `account#ada`"), "{error}");
    assert!(error.contains("change fewer or smaller rows for one event"), "{error}");
}

/// The maximum number of documents, and one more, when handled for the first time and when replayed.
#[tokio::test(start_paused = true)]
async fn a_replayed_event_may_change_as_much_as_any_other() {
    for (count, fits) in [(98, true), (99, false)] {
        let store = MemoryStore::new();
        let note = format!("words:{count}");
        for account in ["first", "second"] {
            deposit(&store, account, &[&note]).await;
        }
        let library = Library::new(&store);
        let run = async |is_away| {
            let projection = Library { is_away, ..library.clone() };
            let builder = projector(store.clone(), projection).on_failure(OnFailure::Park);
            let projector = builder.retry(RetryPolicy::never()).build();
            if is_away {
                projector.run_until_caught_up().await.expect("parks");
                assert_eq!(projector.parked().await.expect("parked").len(), 2);
            }
            projector.replay_parked().await.expect("ordered");
            projector.run_until_caught_up().await.expect("works");
            projector.parked().await.expect("parked").len()
        };
        if fits {
            run(true).await;
        }
        // The first time if nothing was parked, and otherwise replayed.
        let left = run(false).await;
        assert_eq!(left, if fits { 0 } else { 2 }, "{count} documents");
        assert_eq!(library.words.all().await.expect("rows").len(), if fits { 196 } else { 0 });
    }
}
