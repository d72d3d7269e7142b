//! Read models: keys, indexes, queries.

use chrono::{DateTime, TimeDelta, Utc};
use es_core::MemoryStore;
use es_core::clock::{Clock, ManualClock};
use es_core::documents::{DocumentQuery, Documents};
use es_core::prelude::*;
use es_core::read_model::{AggregateIds, ReadModelError};
use es_core::serde::{Deserialize, Serialize};
use es_tests::domain::{Account, Deposit, Deposited};

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

/// Changes its rows as the notes of deposits say.
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

/// Returns the rows after these instructions, in one batch or in one batch each.
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
    let red = things.find(Thing::BY_COLOR, &Color::Red).all().await.expect("rows");
    // By rank, and then by time; every second time has a fraction of a second.
    assert_eq!(numbers(&red), [3, 10, -1, 1, 2]);
    let last = things.find(Thing::BY_COLOR, &Color::Red).descending().limit(2).page().await.expect("rows");
    assert_eq!(numbers(&last.rows), [2, 1]);
    let next = things.find(Thing::BY_COLOR, &Color::Red).descending().limit(2).after(last.next).page().await;
    assert_eq!(numbers(&next.expect("rows").rows), [-1, 10]);
    let high = things.find(Thing::BY_COLOR, &Color::Red).only(&11).all().await.expect("rows");
    assert_eq!(numbers(&high), [-1, 1, 2]);
    let none = things.find(Thing::BY_COLOR, &Color::Red).only(&2).all().await.expect("rows");
    assert!(none.is_empty());
    let even = things.find(Thing::BY_FLAG, &true).limit(1).all().await.expect("rows");
    assert_eq!(numbers(&even), [10, 2, 4], "all pages, by name");
    assert_eq!(
        things.find(Thing::BY_FLAG, &true).only("thing 1").all().await.expect("rows"),
        [],
        "not thing 10"
    );
    assert_eq!(things.find(Thing::BY_OWNER, &None).all().await.expect("rows").len(), 6);
    assert_eq!(things.all().await.expect("rows").len(), 6);
    assert_eq!(things.get(&-1).await.expect("a row").expect("there").rank, 11);
    assert_eq!(things.get(&99).await.expect("no row"), None);
}

#[tokio::test(start_paused = true)]
async fn ranges_bound_the_next_order_field() {
    let (_, things) =
        after(&["red 3", "red -1", "red 2", "red 10", "red 1", "blue 4", "raise 1", "raise -1", "raise 2"])
            .await;
    // Red things by rank: 3 and 10 have 1; -1, 1, and 2 have 11.
    let red = || things.find(Thing::BY_COLOR, &Color::Red);
    let at = |number: i64| thing(number, Color::Red, 0).at;
    let cases = [
        (red().from(&1), vec![3, 10, -1, 1, 2]),
        (red().from(&2), vec![-1, 1, 2]),
        (red().from(&11), vec![-1, 1, 2]),
        (red().from(&12), vec![]),
        (red().until(&11), vec![3, 10, -1, 1, 2]),
        (red().until(&1), vec![3, 10]),
        (red().until(&0), vec![]),
        (red().before(&11), vec![3, 10]),
        (red().before(&1), vec![]),
        (red().between(&-5, &10), vec![3, 10]),
        (red().between(&1, &11), vec![3, 10, -1, 1, 2]),
        (red().between(&11, &1), vec![]),
        (red().from(&1).from(&5).until(&11).descending(), vec![2, 1, -1]),
    ];
    for (query, expected) in cases {
        let described = format!("{query:?}");
        assert_eq!(numbers(&query.limit(1).all().await.expect("rows")), expected, "{described}");
    }
    // With a fixed rank, by time.
    let high = || red().only(&11);
    let cases = [
        (high().from(&at(1)), vec![1, 2]),
        (high().until(&at(1)), vec![-1, 1]),
        (high().before(&at(1)), vec![-1]),
        (high().between(&at(0), &at(1)), vec![1]),
        (red().from(&5).only(&1).from(&at(0)), vec![]),
    ];
    for (query, expected) in cases {
        assert_eq!(numbers(&query.all().await.expect("rows")), expected);
    }
    assert_eq!(numbers(&high().only(&at(2)).all().await.expect("rows")), [2]);
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_range_stay_within_it() {
    let (_, things) = after(&["red 2", "red 4", "red 6", "red 8", "red 10"]).await;
    let names = |down: bool| {
        let query = things.find(Thing::BY_FLAG, &true).between("thing 2", "thing 6").limit(1);
        if down { query.descending() } else { query }
    };
    for (down, expected) in [(false, [2, 4, 6]), (true, [6, 4, 2])] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = names(down).after(after).page().await.expect("a page");
            seen.extend(numbers(&page.rows));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_has_every_row_once() {
    let orders: Vec<_> = (0..60).map(|number| format!("red {number}")).collect();
    let (_, things) = after(&orders.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for limit in [1, 7, 59, 60, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = things.rows().limit(limit).after(after).page().await.expect("a page");
            assert!(page.next.is_none() || page.rows.len() == limit as usize, "{}", page.rows.len());
            seen.extend(numbers(&page.rows));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..60), "{limit}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_ids_of_an_aggregate_are_listed_once_each() {
    let store = MemoryStore::new();
    for account in ["ada", "bob", "ümit"] {
        deposit(&store, account, &["a", "b"]).await;
        deposit(&store, account, &["c"]).await;
    }
    let ids = AggregateIds::<Account>::new(&store);
    assert_eq!(AggregateIds::<Account>::NAME, "$ids.account");
    projector(store.clone(), ids.clone()).build().run_until_caught_up().await.expect("works");
    let first = ids.page(2, None).await.expect("a page");
    let second = ids.page(2, first.next).await.expect("a page");
    let mut all = [first.rows, second.rows].concat();
    all.sort_unstable();
    assert_eq!(all, ["ada", "bob", "ümit"]);
    assert!(ids.rows().get("ada").await.expect("is read").is_some());
}

#[tokio::test(start_paused = true)]
async fn an_id_is_listed_with_the_time_of_the_first_commit() {
    let store = MemoryStore::new();
    let clock = ManualClock::at(DateTime::UNIX_EPOCH + TimeDelta::days(20_000));
    let accounts: Repository<Account> = Repository::builder(store.clone()).clock(clock.clone()).build();
    let first = clock.now();
    for _ in 0..3 {
        accounts.execute("ada", Deposit::one(1, "a")).await.expect("accepted");
        clock.advance(TimeDelta::minutes(1));
    }
    let ids = AggregateIds::<Account>::new(&store);
    projector(store, ids.clone()).build().run_until_caught_up().await.expect("works");
    let row = ids.rows().get("ada").await.expect("is read").expect("a row");
    assert_eq!((row.id.as_str(), row.created), ("ada", first));
}

#[tokio::test(start_paused = true)]
async fn a_page_goes_on_where_the_one_before_ended() {
    let (_, things) = after(&["red 1", "red 2", "red 3", "red 4", "red 5"]).await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page =
            things.find(Thing::BY_COLOR, &Color::Red).limit(2).after(after).page().await.expect("a page");
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
    assert_eq!(numbers(&things.find(Thing::BY_COLOR, &Color::Blue).all().await.expect("rows")), [1]);
    assert!(things.find(Thing::BY_COLOR, &Color::Red).all().await.expect("rows").is_empty());
    assert!(
        things.find(Thing::BY_OWNER, &Some("ada".to_owned())).all().await.expect("rows").is_empty(),
        "blue takes the owner"
    );
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
async fn rows_are_read_only_outside_a_projection() {
    let (_, mut things) = after(&["red 1"]).await;
    for error in [things.put(thing(1, Color::Red, 1)), things.delete(&1)] {
        let error = error.expect_err("no worker writes it");
        assert!(matches!(error, ReadModelError::NotInProjection { .. }));
        assert!(error.to_string().contains("put `#[read_model]` on the field"), "{error}");
    }
}
