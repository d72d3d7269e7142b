//! Read models: keys, indexes, queries.

use chrono::{DateTime, TimeDelta, Utc};
use es_core::documents::{DocumentQuery, Documents};
use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};
use es_core::{MemoryStore, ReadModelError};
use es_tests::domain::{Account, Deposited};

use super::support::{deposit, projector};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
enum Color {
    Red,
    Blue,
}

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(
    name = "things",
    key = number,
    index(by_color(color, rank, at)),
    index(by_flag(flag, name)),
    index(by_owner(owner))
)]
struct Thing {
    number: i64,
    color: Color,
    rank: i32,
    at: DateTime<Utc>,
    flag: bool,
    name: String,
    owner: Option<String>,
    weight: f64,
}

fn thing(number: i64, color: Color, rank: i32) -> Thing {
    let at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(number * 500);
    let name = format!("thing {number}");
    Thing { number, color, rank, at, flag: number % 2 == 0, name, owner: None, weight: 0.5 }
}

/// Does with its rows what the notes of deposits say.
#[derive(Clone, Projection)]
#[projection(name = "things", events(Account(Deposited)))]
struct Things {
    #[read_model]
    things: ReadModel<Thing>,
}

impl Project<Deposited> for Things {
    async fn project(&mut self, event: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        let (what, number) = event.note.split_once(' ').ok_or("two words")?;
        let number: i64 = number.parse()?;
        let found = self.things.get(&number).await?;
        match (what, found) {
            ("red", _) => self.things.put(thing(number, Color::Red, 1))?,
            ("blue", _) => self.things.put(thing(number, Color::Blue, -1))?,
            ("delete", _) => self.things.delete(&number)?,
            ("raise", Some(found)) => self.things.put(Thing { rank: found.rank + 10, ..found })?,
            ("own", Some(found)) => self.things.put(Thing { owner: Some("ada".to_owned()), ..found })?,
            (other, _) => return Err(format!("{other} {number} is nothing to do").into()),
        }
        Ok(())
    }
}

/// The rows after these orders, in one batch or in one for each.
async fn after(orders: &[&str]) -> (MemoryStore, ReadModel<Thing>) {
    let store = MemoryStore::new();
    let things: ReadModel<Thing> = ReadModel::of::<Things>(&store);
    let projector = projector(store.clone(), Things { things: things.clone() }).build();
    for (index, order) in orders.iter().enumerate() {
        deposit(&store, "ada", &[order]).await;
        if index % 3 == 2 {
            projector.run_until_caught_up().await.expect("works");
        }
    }
    projector.run_until_caught_up().await.expect("works");
    (store, things)
}

fn numbers(rows: &[Thing]) -> Vec<i64> {
    rows.iter().map(|row| row.number).collect()
}

#[tokio::test(start_paused = true)]
async fn an_index_lists_in_the_order_of_its_fields() {
    let (_, things) =
        after(&["red 3", "red -1", "red 2", "red 10", "red 1", "blue 4", "raise 1", "raise -1", "raise 2"])
            .await;
    let red = things.find("by_color", &Color::Red).all().await.expect("rows");
    // By rank, and then by time, of which every other one is between two seconds.
    assert_eq!(numbers(&red), [3, 10, -1, 1, 2]);
    let last = things.find("by_color", &Color::Red).descending().limit(2).page().await.expect("rows");
    assert_eq!(numbers(&last.rows), [2, 1]);
    let next = things.find("by_color", &Color::Red).descending().limit(2).after(last.next).page().await;
    assert_eq!(numbers(&next.expect("rows").rows), [-1, 10]);
    let high = things.find("by_color", &Color::Red).only(&11).all().await.expect("rows");
    assert_eq!(numbers(&high), [-1, 1, 2]);
    let none = things.find("by_color", &Color::Red).only(&2).all().await.expect("rows");
    assert!(none.is_empty());
    let even = things.find("by_flag", &true).limit(1).all().await.expect("rows");
    assert_eq!(numbers(&even), [10, 2, 4], "all pages, by name");
    assert_eq!(things.find("by_flag", &true).only("thing 1").all().await.expect("rows"), [], "not thing 10");
    assert_eq!(things.find("by_owner", &None::<String>).all().await.expect("rows").len(), 6);
    assert_eq!(things.all().await.expect("rows").len(), 6);
    assert_eq!(things.get(&-1).await.expect("a row").expect("there").rank, 11);
    assert_eq!(things.get(&99).await.expect("no row"), None);
}

#[tokio::test(start_paused = true)]
async fn a_page_goes_on_where_the_one_before_ended() {
    let (_, things) = after(&["red 1", "red 2", "red 3", "red 4", "red 5"]).await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = things.find("by_color", &Color::Red).limit(2).after(after).page().await.expect("a page");
        seen.extend(numbers(&page.rows));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_moves_leaves_nothing_behind() {
    let (store, things) =
        after(&["red 1", "red 2", "own 1", "blue 1", "delete 2", "delete 7", "blue 5", "delete 5"]).await;
    assert_eq!(numbers(&things.find("by_color", &Color::Blue).all().await.expect("rows")), [1]);
    assert!(things.find("by_color", &Color::Red).all().await.expect("rows").is_empty());
    assert!(things.find("by_owner", "ada").all().await.expect("rows").is_empty(), "blue takes the owner");
    assert_eq!(things.get(&2).await.expect("no row"), None);
    let mut documents = 0;
    for collection in [
        "i#by_color#Red",
        "i#by_color#Blue",
        "i#by_flag#0",
        "i#by_flag#1",
        "i#by_owner#\u{2}\u{2}",
        "i#by_owner#ada",
    ] {
        let query = DocumentQuery::new(format!("read#things#1#things#{collection}"));
        documents += store.documents(&query).await.expect("a page").documents.len();
    }
    assert_eq!(documents, 3, "one for each index of the one row");
}

#[tokio::test(start_paused = true)]
async fn a_projection_sees_its_changes_before_they_are_written() {
    let (_, things) = after(&["red 1", "raise 1", "own 1"]).await;
    let row = things.get(&1).await.expect("a row").expect("there");
    assert_eq!((row.rank, row.owner.as_deref()), (11, Some("ada")));
}

#[tokio::test(start_paused = true)]
async fn mistakes_in_asking_are_named() {
    let (_, mut things) = after(&["red 1"]).await;
    let error = things.find("by_hue", &Color::Red).all().await.expect_err("no such index");
    assert_eq!(error.to_string(), "`things` has no index `by_hue` (known: by_color, by_flag, by_owner)");
    let error = things.get(&0.5).await.expect_err("no key");
    assert!(error.to_string().contains("a number that is not an integer"), "{error}");
    let error = things.find("by_owner", &vec![1]).all().await.expect_err("no key");
    assert!(error.to_string().contains("cannot have a list in a key"), "{error}");
    for error in [things.put(thing(1, Color::Red, 1)), things.delete(&1)] {
        let error = error.expect_err("nobody writes it");
        assert!(matches!(error, ReadModelError::NotInProjection { .. }));
        assert!(error.to_string().contains("put `#[read_model]` on the field"), "{error}");
    }
}
