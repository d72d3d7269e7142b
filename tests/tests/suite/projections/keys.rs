//! Keys and indexes of any text, length, and time.

use chrono::{DateTime, FixedOffset, NaiveDate};
use es_core::prelude::*;
use es_core::read_model::ReadModelError;
use es_core::serde::{Deserialize, Serialize};
use es_core::{MemoryStore, StreamId};
use es_tests::domain::{Account, Deposited};

use super::support::{deposit, projector};

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(
    name = "notes",
    key = name,
    index(by_text(text)),
    index(by_account(account, text, name))
)]
struct Note {
    name: String,
    account: String,
    text: String,
}

/// Stores the text of each deposit, in rows with the longest possible name.
#[derive(Clone, Projection)]
#[projection(name = "notes", events(Account(Deposited)))]
struct Notes {
    #[read_model]
    notes: ReadModel<Note>,
}

impl Project<Deposited> for Notes {
    async fn project(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let (account, text) = (ctx.id().to_owned(), event.note.clone());
        let name = format!("{account}/{text}");
        Ok(self.notes.put(Note { name, account, text })?)
    }
}

async fn notes(account: &str, texts: &[&str]) -> ReadModel<Note> {
    let store = MemoryStore::new();
    deposit(&store, account, texts).await;
    let notes: ReadModel<Note> = ReadModel::of::<Notes>(&store);
    projector(store, Notes { notes: notes.clone() }).build().run_until_caught_up().await.expect("works");
    notes
}

#[tokio::test(start_paused = true)]
async fn texts_of_any_length_and_characters_can_be_keys() {
    let account = "ü".repeat(StreamId::MAX_ID_BYTES / 2);
    let long = |end: &str| format!("{}{end}", "x".repeat(3000));
    let texts = ["", "a\u{1}b", "a\u{1}c", "\u{0}", "line\nbreak", "ab", &long("1"), &long("2")];
    let notes = notes(&account, &texts).await;
    for text in texts {
        let name = format!("{account}/{text}");
        let note = Note { name: name.clone(), account: account.clone(), text: text.to_owned() };
        assert_eq!(notes.get(&name).await.expect("a row"), Some(note.clone()), "{text:?}");
        assert_eq!(notes.find(Note::BY_TEXT, text).page().await.expect("a page").rows.first(), Some(&note));
        let only = notes.find(Note::BY_ACCOUNT, &account).only(text).all().await;
        assert_eq!(only.expect("rows"), [note], "{text:?}");
    }
    let found = notes.find(Note::BY_ACCOUNT, &account).all().await.expect("rows");
    let mut expected = texts.to_vec();
    expected.sort_unstable();
    let found: Vec<_> = found.iter().map(|note| &*note.text).collect();
    assert_eq!(found[..6], expected[..6]);
    assert_eq!(found.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_page_token_of_another_query_is_an_error() {
    let notes = notes("ada", &["a", "b", "c"]).await;
    let query = || notes.find(Note::BY_ACCOUNT, "ada").limit(1);
    let listing = notes.rows().limit(1).page().await.expect("a page").next.expect("there are more");
    let page = query().page().await.expect("a page");
    let token = page.next.expect("there are more");
    assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    let next = query().after(Some(token.clone())).limit(2).page().await.expect("a page");
    assert_eq!(next.rows.iter().map(|note| &*note.text).collect::<Vec<_>>(), ["b", "c"]);

    let mistakes = [
        query().after(Some("nonsense".to_owned())),
        query().after(Some(String::new())),
        query().after(Some(token[1..].to_owned())),
        query().after(Some(token.to_uppercase())),
        query().after(Some(listing)),
        query().after(Some(token.clone())).descending(),
        query().after(Some(token.clone())).from("a"),
        query().after(Some(token.clone())).until("z"),
        query().after(Some(token.clone())).before("z"),
        notes.find(Note::BY_ACCOUNT, "bob").after(Some(token.clone())),
    ];
    for query in mistakes {
        let error = query.page().await.expect_err("is no token of the query");
        assert!(matches!(error, ReadModelError::PageToken { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the page token does not belong to this query of `notes`: pass the `next` of a page of the same query, \
             or `None`"
        );
    }
    let only =
        query().after(Some(token.clone())).only("b").page().await.expect_err("is no token of the query");
    assert!(matches!(only, ReadModelError::PageToken { .. }), "{only:?}");
    let mistakes = [
        notes.rows().after(Some(token.clone())).page().await.map(drop),
        notes.find(Note::BY_TEXT, "a").after(Some(token.clone())).page().await.map(drop),
    ];
    for mistake in mistakes {
        let error = mistake.expect_err("is no token of the query");
        assert!(matches!(error, ReadModelError::PageToken { .. }), "{error:?}");
    }
    // Every digit is significant.
    for place in 0..token.len() {
        let other = if token.as_bytes()[place] == b'0' { "1" } else { "0" };
        let mut changed = token.clone();
        changed.replace_range(place..=place, other);
        let error = query().after(Some(changed)).page().await.expect_err("is changed");
        assert!(matches!(error, ReadModelError::PageToken { .. }), "{error:?}");
    }
}

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "moments", key = text, index(at(time)), index(in_order(all, time)), index(by_day(all, day)))]
struct Moment {
    text: String,
    all: u8,
    time: DateTime<FixedOffset>,
    day: NaiveDate,
    ratio: f64,
}

/// Each deposit has a time as its note.
#[derive(Clone, Projection)]
#[projection(name = "moments", events(Account(Deposited)))]
struct Moments {
    #[read_model]
    moments: ReadModel<Moment>,
    ratio: f64,
}

impl Project<Deposited> for Moments {
    async fn project(&mut self, event: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        let time: DateTime<FixedOffset> = event.note.parse()?;
        let (text, day, ratio) = (event.note.clone(), time.date_naive(), self.ratio);
        Ok(self.moments.put(Moment { text, all: 1, time, day, ratio })?)
    }
}

#[tokio::test(start_paused = true)]
async fn times_are_compared_by_instant_in_every_year() {
    const TIMES: [&str; 7] = [
        "-0100-01-01T00:00:00Z",
        "-0044-03-15T12:00:00Z",
        "0001-01-01T00:00:00Z",
        "2030-01-01T02:00:00+02:00",
        "2030-01-01T00:00:00.5Z",
        "+10000-01-01T00:00:00Z",
        "+262142-12-31T23:59:59Z",
    ];
    let store = MemoryStore::new();
    let mut shuffled = TIMES.to_vec();
    shuffled.rotate_left(3);
    shuffled.push("2030-01-01T00:00:00Z");
    deposit(&store, "ada", &shuffled).await;
    let moments: ReadModel<Moment> = ReadModel::of::<Moments>(&store);
    let projection = Moments { moments: moments.clone(), ratio: 0.5 };
    projector(store, projection).build().run_until_caught_up().await.expect("works");
    let in_order = moments.find(Moment::IN_ORDER, &1).all().await.expect("rows");
    let texts: Vec<_> = in_order.iter().map(|row| &*row.text).collect();
    let others: Vec<_> = texts.iter().copied().filter(|text| *text != "2030-01-01T00:00:00Z").collect();
    assert_eq!(others, TIMES);
    // Two of the times are on the same day.
    let by_day = moments.find(Moment::BY_DAY, &1).all().await.expect("rows");
    assert_eq!(by_day.len(), 8);
    assert!(by_day.is_sorted_by_key(|row| row.day), "{by_day:?}");
    for zone in ["2030-01-01T00:00:00Z", "2030-01-01T05:30:00+05:30"] {
        let time: DateTime<FixedOffset> = zone.parse().expect("a time");
        assert_eq!(moments.find(Moment::AT, &time).all().await.expect("rows").len(), 2, "{zone}");
        let from = moments.find(Moment::IN_ORDER, &1).from(&time).all().await.expect("rows");
        assert_eq!(from.len(), 5, "{zone}");
        let before = moments.find(Moment::IN_ORDER, &1).before(&time).all().await.expect("rows");
        assert_eq!(before.len(), 3, "{zone}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_back_is_the_fault_of_its_event() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["2030-01-01T00:00:00Z"]).await;
    let moments: ReadModel<Moment> = ReadModel::of::<Moments>(&store);
    let projection = Moments { moments: moments.clone(), ratio: f64::NAN };
    let projector = projector(store, projection).build();
    let error = projector.run_until_caught_up().await.expect_err("is no number").to_string();
    assert!(error.contains("`Deposited` at version 1 of `account#ada`"), "{error}");
    assert!(error.contains("a row of `moments` cannot be stored: it cannot be decoded again"), "{error}");
    assert!(moments.all().await.expect("can be read").is_empty());
}
