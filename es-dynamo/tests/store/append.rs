//! Appending: requests, and the meaning of a failed condition.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::store::{Append, AppendError, Conflict};
use es_core::{EventStore, ExpectedVersion, StoreError, Version};

use super::support::*;

fn conflict(error: AppendError) -> Conflict {
    match error {
        AppendError::Conflict(conflict) => conflict,
        error => panic!("expected a conflict, got {error:?}"),
    }
}

#[tokio::test]
async fn a_version_that_was_loaded_is_one_request() {
    let Watched { store, wire, .. } = watched().await;
    for version in [0, 2] {
        let append = Append::after_loaded(stream(), Version::new(version), commit(2));
        let appended = store.append(&append).await.expect("appends");
        assert_eq!(place(&appended), (version + 1, version + 2, false));
        assert_eq!(units(appended.cost), (1, 0.0, 1.0));
    }
    assert_eq!(wire.seen(), ["PutItem", "PutItem"]);
}

#[tokio::test]
async fn a_new_stream_is_one_request() {
    for expected in [ExpectedVersion::NoStream, exact(0)] {
        let Watched { store, wire, .. } = watched().await;
        let append = append(expected, 1);
        assert_eq!(place(&store.append(&append).await.expect("appends")), (1, 1, false));
        assert_eq!(wire.seen(), ["PutItem"]);
        assert_eq!(place(&store.append(&append).await.expect("is found")), (1, 1, true));
        assert_eq!(wire.seen(), ["PutItem"]);
    }
}

#[tokio::test]
async fn other_forms_look_at_the_end_first() {
    for expected in [ExpectedVersion::Any, ExpectedVersion::StreamExists, exact(3)] {
        let Watched { store, wire, other, .. } = watched().await;
        grow(&other, &[1, 2]).await;
        let appended = store.append(&append(expected, 1)).await.expect("appends");
        assert_eq!(place(&appended), (4, 4, false));
        assert_eq!(wire.seen(), ["Query", "PutItem"]);
        assert_eq!(units(appended.cost), (2, 1.0, 1.0));
    }
}

#[tokio::test]
async fn one_small_event_is_one_write_unit_and_so_are_five() {
    let Watched { store, .. } = watched().await;
    let mut version = Version::NONE;
    for (events, bytes, write_units) in [(1, 200, 1.0), (5, 100, 1.0), (5, 200, 2.0), (1, 3000, 4.0)] {
        let append = Append::after_loaded(stream(), version, commit_of(events_of(events, bytes)));
        let appended = store.append(&append).await.expect("appends");
        assert_eq!(units(appended.cost), (1, 0.0, write_units), "{events} of {bytes} bytes");
        version = appended.last;
    }
}

/// The commit is recognized by its id, even if the stream has grown since.
#[tokio::test]
async fn a_commit_is_stored_once_in_every_form() {
    let forms: [fn() -> Append; 6] = [
        || append(ExpectedVersion::Any, 2),
        || append(ExpectedVersion::StreamExists, 2),
        || append(exact(3), 2),
        || Append::after_loaded(stream(), Version::new(3), commit(2)),
        || append(ExpectedVersion::NoStream, 3),
        || append(exact(0), 3),
    ];
    for (form, make) in forms.into_iter().enumerate() {
        for others in [&[][..], &[1], &[1, 4, 1]] {
            let Watched { store, wire, other, .. } = watched().await;
            let append = make();
            let is_new = append.expected().allows(Version::NONE) && append.expected() != ExpectedVersion::Any;
            if !is_new {
                grow(&other, &[3]).await;
            }
            wire.once("PutItem", Act::LoseAnswer);
            let error = store.append(&append).await.expect_err("the answer is lost");
            assert!(matches!(error, AppendError::Store(StoreError::Unavailable(_))), "{error:?}");
            assert!(error.is_retryable());
            grow(&other, others).await;
            let before = ends(&other).await;

            let found = store.append(&append).await.unwrap_or_else(|error| panic!("form {form}: {error:?}"));
            let expected = if is_new { (1, 3, true) } else { (4, 5, true) };
            assert_eq!(place(&found), expected, "form {form}, behind {others:?}");
            assert_eq!(ends(&other).await, before, "form {form}, behind {others:?}");
        }
    }
}

/// If another commit has its version, it was not stored, and is appended at the end.
#[tokio::test]
async fn a_commit_that_was_not_stored_goes_to_the_end() {
    for expected in [ExpectedVersion::Any, ExpectedVersion::StreamExists] {
        let Watched { store, wire, other, .. } = watched().await;
        grow(&other, &[1]).await;
        let append = append(expected, 2);
        wire.once("PutItem", Act::Answer(503, refusal("ServiceUnavailable", "later")));
        let error = store.append(&append).await.expect_err("refused");
        assert!(matches!(error, AppendError::Store(StoreError::Unavailable(_))), "{error:?}");
        grow(&other, &[3, 1]).await;
        assert_eq!(place(&store.append(&append).await.expect("appends")), (6, 7, false));
        assert_eq!(place(&store.append(&append).await.expect("is found")), (6, 7, true));
        assert_eq!(ends(&other).await, [(1, 1), (2, 4), (5, 5), (6, 7)]);
    }
}

/// A caller that stops waiting, and appends again while the first request is still in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_of_one_append_may_overlap() {
    for _ in 0..20 {
        let Watched { store, other, .. } = watched().await;
        grow(&other, &[1]).await;
        let append = append(ExpectedVersion::Any, 2);
        let attempts: Vec<_> = (0..6)
            .map(|_| {
                let (store, other, append) = (store.clone(), other.clone(), append.clone());
                tokio::spawn(async move {
                    grow(&other, &[1]).await;
                    place(&store.append(&append).await.expect("appends"))
                })
            })
            .collect();
        let mut places = Vec::new();
        for attempt in attempts {
            places.push(attempt.await.expect("does not panic"));
        }
        let stored = ends(&other).await;
        assert_eq!(stored.iter().filter(|(first, last)| last - first == 1).count(), 1, "{stored:?}");
        assert_eq!(places.iter().filter(|(.., repeated)| !repeated).count(), 1, "{places:?}");
        assert!(places.iter().all(|(first, last, _)| stored.contains(&(*first, *last))), "{places:?}");
    }
}

/// The first attempt is late, loses its version, and moves to another one while the second attempt is in flight.
#[tokio::test]
async fn an_attempt_knows_of_the_place_that_another_one_tries() {
    let Watched { store, wire, other, engine } = watched().await;
    let (second_store, second_wire) =
        watch(&engine, aws_sdk_dynamodb::config::retry::RetryConfig::disabled());
    grow(&other, &[1]).await;
    let append = append(ExpectedVersion::Any, 2);

    // The second attempt has read the end, version 1, and is about to write. Before its write arrives, another writer
    // takes the version, and the first attempt writes after it.
    let first = {
        let (store, other, append) = (store.clone(), other.clone(), append.clone());
        Box::pin(async move {
            grow(&other, &[1]).await;
            assert_eq!(place(&store.append(&append).await.expect("appends")), (3, 4, false));
        })
    };
    second_wire.once("PutItem", Act::After(first));
    let second = second_store.append(&append).await.expect("is found");
    assert_eq!(place(&second), (3, 4, true));
    assert_eq!(ends(&other).await, [(1, 1), (2, 2), (3, 4)]);
    drop(wire);
}

#[tokio::test]
async fn a_conflict_tells_who_was_there() {
    let Watched { store, wire, other, .. } = watched().await;
    grow(&other, &[2, 3]).await;
    // At the first version of another commit, the failed condition returns its item.
    for (append, requests) in [
        (Append::after_loaded(stream(), Version::new(2), commit(1)), &["PutItem"][..]),
        (append(exact(2), 1), &["Query", "GetItem"]),
        (append(exact(3), 1), &["Query", "GetItem"]),
        (append(exact(9), 1), &["Query"]),
    ] {
        let refused = conflict(store.append(&append).await.expect_err("refused"));
        assert_eq!(refused.actual, Some(Version::new(5)), "{append:?}");
        assert_eq!(wire.seen(), requests, "{append:?}");
        assert_eq!(refused.cost.requests as usize, requests.len());
        // At the other versions, there is no commit that could have won the race.
        let winner = refused.commits.first().map(|commit| (commit.first.get(), commit.last().get()));
        assert_eq!(winner, (refused.expected == exact(2)).then_some((3, 5)));
    }
    let refused = conflict(store.append(&append(ExpectedVersion::NoStream, 1)).await.expect_err("refused"));
    assert_eq!(refused.actual, Some(Version::new(2)), "the first commit's end is all that is known");
    assert_eq!(ends(&other).await, [(1, 2), (3, 5)]);
}

/// A failed condition is billed by the larger of the two items, but the response does not contain the units.
#[tokio::test]
async fn a_refused_write_costs_what_it_would_have_written() {
    let Watched { store, other, .. } = watched().await;
    fill(&other, 1, 5000).await;
    for (bytes, write_units) in [(100, 5.0), (5000, 5.0), (9000, 9.0)] {
        let append = Append::after_loaded(stream(), Version::NONE, commit_of(events_of(1, bytes)));
        let refused = conflict(store.append(&append).await.expect_err("refused"));
        assert_eq!(units(refused.cost), (1, 0.0, write_units), "{bytes} bytes");
    }
}

/// Compatible servers that do not return the existing item.
#[tokio::test]
async fn a_server_that_returns_no_old_item_is_asked_for_it() {
    let forget = |body: &mut serde_json::Value| {
        body.as_object_mut().expect("an object").remove("Item").expect("the engine returns it");
    };
    let Watched { store, wire, other, .. } = watched().await;
    let append = Append::after_loaded(stream(), Version::NONE, commit(2));
    store.append(&append).await.expect("appends");
    wire.seen();

    wire.once("PutItem", Act::Change(forget));
    let found = store.append(&append).await.expect("is found");
    assert_eq!(place(&found), (1, 2, true));
    assert_eq!(wire.seen(), ["PutItem", "GetItem"]);
    assert_eq!(found.cost.requests, 2);

    wire.once("PutItem", Act::Change(forget));
    let late = Append::after_loaded(stream(), Version::NONE, commit(1));
    let refused = conflict(store.append(&late).await.expect_err("refused"));
    assert_eq!((refused.actual, refused.cost.requests), (Some(Version::new(2)), 2));
    assert_eq!(ends(&other).await, [(1, 2)]);
}

/// Using an id for two different commits is a bug in the caller, and is reported.
#[tokio::test]
async fn one_id_with_other_events_is_reported() {
    let Watched { store, .. } = watched().await;
    let first = commit(2);
    let mut second = first.clone();
    second.events.pop();
    store.append(&Append::after_loaded(stream(), Version::NONE, first)).await.expect("appends");
    let error = store
        .append(&Append::after_loaded(stream(), Version::NONE, second))
        .await
        .expect_err("is not the same");
    assert!(matches!(error, AppendError::Store(StoreError::Corrupt { .. })), "{error:?}");
    assert!(error.to_string().contains("order#ann"), "{error}");
}

/// If the existing item is not a commit, the result is an error that names the stream, neither a success nor a
/// conflict.
#[tokio::test]
async fn a_damaged_item_at_the_place_is_reported() {
    let Watched { store, other, .. } = watched().await;
    let item = Item::from([
        ("pk".to_owned(), text("order#ann")),
        ("sk".to_owned(), text("E#000000000001")),
        ("id".to_owned(), number("7")),
        ("lv".to_owned(), text("secret")),
    ]);
    put(&other, item).await;
    let error = store
        .append(&Append::after_loaded(stream(), Version::NONE, commit(1)))
        .await
        .expect_err("is damaged");
    assert!(matches!(error, AppendError::Store(StoreError::Corrupt { .. })), "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("order#ann") && !shown.contains("secret"), "{shown}");
}

/// An item whose events cannot be read is still recognized as another commit. The read after the conflict reports it.
#[tokio::test]
async fn a_conflict_leaves_out_a_winner_with_damaged_events() {
    let Watched { store, other, wire, .. } = watched().await;
    let id = uuid::Uuid::from_u128(7).to_string();
    let item = |events| {
        Item::from([
            ("pk".to_owned(), text("order#ann")),
            ("sk".to_owned(), text("E#000000000001")),
            ("id".to_owned(), text(&id)),
            ("lv".to_owned(), number("1")),
            ("at".to_owned(), number("1")),
            ("ev".to_owned(), events),
        ])
    };
    for damaged in [text("secret"), AttributeValue::L(Vec::new()), AttributeValue::L(vec![text("secret")])] {
        put(&other, item(damaged)).await;
        let late = Append::after_loaded(stream(), Version::NONE, commit(1));
        let refused = conflict(store.append(&late).await.expect_err("refused"));
        assert_eq!((refused.actual, refused.commits), (Some(Version::FIRST), vec![]));
        assert_eq!(wire.seen(), ["PutItem"]);
    }
}

/// The limit is exactly that of DynamoDB: a commit at the limit is one item, and one more byte makes it two.
#[tokio::test]
async fn a_commit_fills_an_item_to_the_last_byte() {
    let two_events = |bytes: usize| {
        let mut events = events_of(1, 200_000);
        events.extend(events_of(1, bytes));
        events
    };
    let items = async |bytes: usize| {
        let Watched { store, wire, .. } = watched().await;
        let append = Append::after_loaded(stream(), Version::NONE, commit_of(two_events(bytes)));
        store.append(&append).await.expect("appends");
        wire.seen()
    };
    // pk 2 + 9, sk 2 + 14, lv 2 + 2, id 2 + 36, at 2 + 8, ev 2 + 3; each event 1 + 3 + (2 + 7) + 2 + payload.
    let frame = 11 + 16 + 4 + 38 + 10 + 5 + 2 * 15;
    let fits = 409_600 - frame - 200_000;
    assert_eq!(items(fits).await, ["PutItem"]);
    assert_eq!(items(fits + 1).await, ["TransactWriteItems"]);
}
