//! `es projection` and `es process`.

use es_core::documents::{DocumentQuery, Documents};
use es_core::prelude::*;
use es_core::projection::WaitError;
use es_core::read_model::AggregateIds;
use es_dynamo::Reconciler;
use serde_json::json;

use crate::support::{Account, POISON, Place};

/// A projection that has stopped at the second of three events.
async fn stopped(test: &str) -> Place {
    let place = Place::new(test);
    place.es(&["table", "create", "--slices", "1"]).succeeds();
    place.deposit("ann", &[1, POISON, 2]).await;
    let stopped = place.project().await.expect_err("stops");
    assert!(matches!(stopped, WaitError::Stopped { .. }), "{stopped}");
    place
}

#[tokio::test]
async fn a_poison_event_is_found_parked_and_replayed() {
    let place = stopped("parked").await;

    let list = place.es(&["projection", "list"]).succeeds();
    let row: Vec<&str> = list.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row, ["mails", "1", "2", "0", "1", "stopped"], "{list}");
    let progress = place.es(&["projection", "progress", "mails", "--check"]).exits(3);
    let event = "the event `Deposited` at version 2 of `account#ann` (position 2)";
    assert!(progress.contains(&format!("{event}: there is no such template")), "{progress}");
    let advice =
        "`projection retry mails` handles the event again after a fix; `park` and `skip` go on without it\n";
    assert!(progress.ends_with(advice), "{progress}");
    let value = place.es(&["projection", "progress", "mails", "--json"]).json();
    let slice = &value["active"]["slices"][0];
    assert_eq!(
        (&slice["position"], &slice["end"], &slice["status"]),
        (&json!(1), &json!(3), &json!("stopped"))
    );
    assert_eq!(slice["failure"]["event"]["stream"], "account#ann");

    let dry = place.es(&["--dry-run", "projection", "park", "mails", "0"]).succeeds();
    assert_eq!(dry, format!("would park {event}\n"));
    place.es(&["projection", "progress", "mails", "--check"]).exits(3);
    let parked = place.es(&["projection", "park", "mails", "0"]).succeeds();
    assert_eq!(parked, format!("done: park {event}\n"));
    let not_stopped = place.es(&["projection", "park", "mails", "0"]).fails(1);
    assert!(not_stopped.contains("slice 0 has not stopped at an event"), "{not_stopped}");

    place.project().await.expect("goes on");
    let all = place.es(&["projection", "parked", "mails", "--json"]).json();
    let positions: Vec<_> =
        all.as_array().expect("a list").iter().map(|one| &one["event"]["position"]).collect();
    assert_eq!(positions, [2, 3], "the later event of the stream waits for it");
    let progress = place.es(&["projection", "progress", "mails", "--check"]).exits(3);
    let advice = "`projection parked mails` shows the parked events, and why they failed\n";
    assert!(progress.ends_with(advice), "{progress}");

    let replay = place.es(&["projection", "replay", "mails"]).succeeds();
    assert_eq!(replay, "done: replay 2 parked events of `mails`\n");
    place.project().await.expect("replays");
    // The first one fails again.
    assert!(place.es(&["projection", "parked", "mails"]).succeeds().contains("there is no such template"));

    let unconfirmed = place.es(&["projection", "discard", "mails", "0", "--position", "2"]).fails(4);
    assert!(unconfirmed.contains(&format!("discard {event}")), "{unconfirmed}");
    place.es(&["projection", "discard", "mails", "0", "--position", "2", "--yes"]).succeeds();
    let again = place.es(&["projection", "discard", "mails", "0", "--position", "2", "--yes"]).fails(1);
    assert!(again.contains("no such event is parked in slice 0"), "{again}");
    place.es(&["projection", "replay", "mails"]).succeeds();
    place.project().await.expect("replays");
    assert_eq!(place.es(&["projection", "parked", "mails"]).succeeds(), "nothing is parked\n");
    place.es(&["projection", "progress", "mails", "--check"]).succeeds();
}

#[tokio::test]
async fn a_poison_event_is_skipped_after_a_confirmation() {
    let place = stopped("skipped").await;
    let unconfirmed = place.es(&["projection", "skip", "mails", "0"]).fails(4);
    assert!(unconfirmed.contains("this would skip the event `Deposited` at version 2"), "{unconfirmed}");
    place.project().await.expect_err("has not been skipped");
    place.es(&["projection", "skip", "mails", "0", "--yes"]).succeeds();
    place.project().await.expect("goes on");
    let value = place.es(&["projection", "progress", "mails", "--json"]).json();
    let slice = &value["active"]["slices"][0];
    assert_eq!((&slice["position"], &slice["skipped"]), (&json!(3), &json!(1)));
    // A checkpoint that is valid does not move.
    let seek = place.es(&["projection", "seek", "mails", "0", "--after", "1", "--yes"]).fails(1);
    assert!(seek.contains("fits the feed"), "{seek}");
}

#[tokio::test]
async fn a_stopped_slice_is_retried() {
    let place = stopped("retried").await;
    assert_eq!(place.es(&["projection", "retry", "mails"]).succeeds(), "done: retry slice 0 of `mails`\n");
    let value = place.es(&["projection", "list", "--json"]).json();
    assert_eq!((&value[0]["state"], &value[0]["stopped_slices"]), (&json!("ok"), &json!([])));
    let nothing = place.es(&["projection", "retry", "mails"]).fails(1);
    assert!(nothing.contains("no slice of `mails` has stopped"), "{nothing}");
}

#[tokio::test]
async fn a_projection_is_paused_rebuilt_and_reset() {
    let place = Place::new("rebuilt");
    place.es(&["table", "create", "--slices", "1"]).succeeds();
    assert_eq!(place.es(&["projection", "list"]).succeeds(), "no projection has run on this store\n");
    place.deposit("ann", &[1, 2]).await;
    place.project().await.expect("handles all");
    let state = || place.es(&["projection", "list", "--json"]).json()[0]["state"].clone();

    place.es(&["projection", "pause", "mails"]).succeeds();
    assert_eq!(state(), "paused");
    place.es(&["projection", "resume", "mails", "--dry-run"]).succeeds();
    assert_eq!(state(), "paused", "a dry run changes nothing");
    place.es(&["projection", "resume", "mails"]).succeeds();
    assert_eq!(state(), "ok");

    let none = place.es(&["projection", "switch", "mails"]).fails(1);
    assert!(none.contains("the projection is not being rebuilt"), "{none}");
    place.es(&["projection", "rebuild", "mails"]).succeeds();
    assert_eq!(state(), "rebuilding");
    let early = place.es(&["projection", "switch", "mails"]).fails(1);
    assert!(early.contains("wait until it has caught up"), "{early}");
    place.es(&["projection", "cancel-rebuild", "mails"]).succeeds();
    place.es(&["projection", "rebuild", "mails"]).succeeds();
    place.project().await.expect("builds");
    place.es(&["projection", "switch", "mails"]).succeeds();
    let value = place.es(&["projection", "progress", "mails", "--json"]).json();
    assert_eq!((&value["active"]["build"], &value["rebuild"]), (&json!(3), &json!(null)));

    place.es(&["projection", "reset", "mails"]).fails(4);
    place.es(&["projection", "reset", "mails", "--yes"]).succeeds();
    let value = place.es(&["projection", "progress", "mails", "--json"]).json();
    assert_eq!((&value["active"]["build"], &value["active"]["lag"]), (&json!(4), &json!(2)));
}

#[tokio::test]
async fn an_incomplete_build_is_activated_on_demand_only() {
    let place = stopped("anyway").await;
    place.es(&["projection", "rebuild", "mails"]).succeeds();
    // The event is parked in the active build, and then in the new one.
    for build in ["active", "new"] {
        place.project().await.expect_err(build);
        place.es(&["projection", "park", "mails", "0"]).succeeds();
    }
    place.project().await.expect("goes on in both");
    let refused = place.es(&["projection", "switch", "mails"]).fails(1);
    assert!(refused.contains("is incomplete") && refused.contains("`switch --anyway`"), "{refused}");
    place.es(&["projection", "switch", "mails", "--anyway"]).succeeds();
    let value = place.es(&["projection", "progress", "mails", "--json"]).json();
    assert_eq!((&value["active"]["build"], &value["rebuild"]), (&json!(2), &json!(null)));
}

/// Lists the accounts in rows, with a projection that starts or continues.
async fn list_accounts(place: &Place) {
    let store = place.store().await;
    Reconciler::builder(&store).build().run().await.expect("runs");
    let ids = AggregateIds::<Account>::new(&store);
    Projector::new(store, ids).run_until_caught_up().await.expect("handles all");
}

/// Returns the number of rows of each build.
async fn rows(place: &Place) -> [usize; 2] {
    let store = place.store().await;
    let mut rows = [0, 0];
    for (build, bucket) in (1..=2).flat_map(|build| (0..16).map(move |bucket| (build, bucket))) {
        let query = DocumentQuery::new(format!("read#$ids.account#{build}#ids#r#{bucket}"));
        rows[build - 1] += store.documents(&query).await.expect("a page").documents.len();
    }
    rows
}

#[tokio::test]
async fn replaced_builds_and_a_retired_projection_are_deleted() {
    const NAME: &str = "$ids.account";
    let place = Place::new("removed");
    place.es(&["table", "create", "--slices", "1"]).succeeds();
    place.deposit("ann", &[1]).await;
    place.deposit("bob", &[2]).await;
    list_accounts(&place).await;
    let none = place.es(&["projection", "delete-replaced", NAME]).succeeds();
    assert_eq!(none, format!("`{NAME}` has no replaced builds\n"));
    let reset = place.es(&["--yes", "projection", "reset", NAME]).succeeds();
    let kept = "The data of the replaced build 1 is stored until you delete it";
    assert!(reset.ends_with(&format!("{kept}: `projection delete-replaced {NAME}`.\n")), "{reset}");
    list_accounts(&place).await;
    assert_eq!(rows(&place).await, [2, 2]);

    let change = format!("delete the data of the replaced build 1 of `{NAME}`");
    let delete = ["projection", "delete-replaced", NAME];
    let dry = place.es(&[&["--dry-run"], &delete[..]].concat()).succeeds();
    assert_eq!(dry, format!("would {change}\n"));
    assert!(place.es(&delete).fails(4).contains(&format!("this would {change}, which cannot be undone")));
    assert_eq!(rows(&place).await, [2, 2]);
    let done = place.es(&[&["--yes", "--json"], &delete[..]].concat()).json();
    assert_eq!(done, json!({ "name": NAME, "done": change, "deleted_rows": 2 }));
    assert_eq!(rows(&place).await, [0, 2]);

    let change =
        format!("remove `{NAME}`: its checkpoints, its rows in `ids`, and its parked events, of all builds");
    let remove = ["projection", "remove", NAME];
    let dry = place.es(&[&["--json", "--dry-run"], &remove[..]].concat()).json();
    assert_eq!(dry, json!({ "dry_run": true, "change": change }));
    place.es(&remove).fails(4);
    assert_eq!(rows(&place).await, [0, 2]);
    let removed = place.es(&[&["--yes"], &remove[..]].concat()).succeeds();
    assert_eq!(removed, format!("done: {change} (2 rows)\n"));
    assert_eq!(rows(&place).await, [0, 0]);
    assert_eq!(place.es(&["projection", "list", "--json"]).json(), json!([]));
    place.es(&[&["--yes"], &remove[..]].concat()).fails(1);

    list_accounts(&place).await;
    assert_eq!(rows(&place).await, [2, 0], "it starts again at the first event");
}

#[tokio::test]
async fn a_misspelled_name_changes_nothing() {
    let place = stopped("misspelled").await;
    for command in ["pause", "retry", "reset", "progress", "delete-replaced", "remove"] {
        let unknown = place.es(&["--yes", "projection", command, "mail"]).fails(1);
        assert!(unknown.contains("no projection `mail` has run on the table `events`"), "{unknown}");
    }
    let other = place.es(&["process", "pause", "mails"]).fails(1);
    assert!(other.contains("`mails` is a projection: use the commands of `projection`"), "{other}");
    assert_eq!(place.es(&["process", "list", "--json"]).json(), json!([]));
    assert_eq!(place.es(&["projection", "list", "--json"]).json().as_array().map(Vec::len), Some(1));
}
