//! The store in memory with a keyring, before and after a subject is forgotten.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use chrono::TimeDelta;
use es_core::clock::ManualClock;
use es_core::documents::{ChangeSet, DocumentKey, Documents, ExpectedDocument};
use es_core::event::EventData;
use es_core::payloads::{MemoryPayloads, PayloadStore};
use es_core::personal::{KeyState, Keyring, MAX_KEY_AGE, MemoryKeyring, Personal, SealedStore, Subject};
use es_core::prelude::*;
use es_core::repository::Archives;
use es_core::snapshot::SnapshotPolicy;
use es_core::store::{Append, Claim as StoreClaim, EventStore, Read};
use es_core::testing::{SchemaLock, given};
use es_core::{ExpectedVersion, MemoryStore, StoreError, StreamId};
use es_tests::conformance::new_commit;
use flate2::read::GzDecoder;
use futures_util::TryStreamExt;

use super::domain::{
    Claim, Confirm, Contact, Customer, Directory, Entry, Known, Move, Register, Registered, RegisteredV1,
    SendMail, secret,
};
use crate::projections::support::projector;

type Sealed = SealedStore<MemoryStore>;

fn sealed() -> (Sealed, MemoryKeyring) {
    let keyring = MemoryKeyring::new();
    (SealedStore::new(MemoryStore::new(), keyring.clone()), keyring)
}

fn subject(id: &str) -> Subject {
    Subject::new(id).expect("valid")
}

fn stream(id: &str) -> StreamId {
    StreamId::new("customer", id).expect("valid")
}

async fn register(customers: &Repository<Customer>, id: &str) {
    customers.execute(id, Register { name: secret(id) }).await.expect("accepted");
}

/// Returns the events of a stream as they are stored.
async fn stored(store: &MemoryStore, id: &str) -> Vec<EventData> {
    let pages: Vec<_> = store.read(Read::all(stream(id))).try_collect().await.expect("read");
    pages.into_iter().flat_map(|page| page.commits).flat_map(|commit| commit.events).collect()
}

fn name(personal: Option<&Personal<String>>) -> Option<&str> {
    personal.and_then(Personal::value).map(String::as_str)
}

#[tokio::test]
async fn values_are_readable_until_their_subject_is_forgotten() {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> =
        Repository::builder(store.clone()).snapshots(SnapshotPolicy::Every(2)).build();
    register(&customers, "17").await;
    register(&customers, "18").await;
    customers.execute("17", Move { street: secret("17") }).await.expect("accepted");
    customers.flush().await;
    customers.execute("17", SendMail).await.expect("accepted");

    let loaded = customers.load("17").await.expect("loaded");
    assert_eq!(
        (name(loaded.state.name.as_ref()), loaded.snapshot),
        (Some(&*secret("17")), Some(Version::new(2)))
    );
    for event in stored(store.inner(), "17").await {
        assert!(!event.payload().contains("Planted"), "{}", event.payload());
    }

    keyring.forget(&subject("17")).await.expect("forgotten");
    let loaded = customers.load("17").await.expect("loaded");
    assert!(loaded.snapshot.is_some(), "the snapshot is used");
    let Customer { name: Some(forgotten), address: Some(address), mails: 1 } = loaded.state else {
        panic!("the state has its other fields");
    };
    assert!(forgotten.is_forgotten() && address.is_forgotten());
    let past = customers.load_at("17", Version::new(1)).await.expect("loaded");
    assert!(past.state.name.is_some_and(|name| name.is_forgotten()));
    let history = customers.history("17").all().await.expect("read");
    assert_eq!(history.len(), 3);

    // The other subject is not affected.
    let other = customers.load("18").await.expect("loaded");
    assert_eq!(name(other.state.name.as_ref()), Some(&*secret("18")));
}

/// An archive contains sealed values, so that a subject is forgotten in archives, too.
#[tokio::test]
async fn values_in_archives_are_sealed() {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> = Repository::new(store.clone());
    let payloads = MemoryPayloads::new();
    let archives = Archives::new(payloads.clone(), "customers/archives".parse().expect("valid"));
    for id in ["17", "18"] {
        register(&customers, id).await;
        customers.execute(id, Move { street: secret(id) }).await.expect("accepted");
        customers.close(id).await.expect("closed");
        let archive = customers.archive(id, &archives).await.expect("archived").archive.expect("has a name");
        let mut text = String::new();
        let object = payloads.get(&archive).await.expect("read");
        GzDecoder::new(&*object).read_to_string(&mut text).expect("decompressed");
        assert_eq!((text.lines().count(), text.contains("Planted")), (3, false), "{text}");
    }
    keyring.forget(&subject("17")).await.expect("forgotten");
    for (id, expected) in [("17", None), ("18", Some(secret("18")))] {
        customers.restore(id, &archives).await.expect("restored");
        assert!(stored(store.inner(), id).await.iter().all(|event| !event.payload().contains("Planted")));
        let loaded = customers.load(id).await.expect("loaded").state;
        assert_eq!(name(loaded.name.as_ref()), expected.as_deref());
        assert!(loaded.name.is_some());
    }
}

#[tokio::test]
async fn a_repeated_command_has_its_first_outcome_after_its_subject_is_forgotten() {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> = Repository::new(store.clone());
    let once =
        async |key: &str, id: &str| customers.once(key).create(id, Register { name: secret(id) }).await;
    let transact = async |key: &str| {
        let register = Register { name: secret("18") };
        Transaction::new(&store).execute(&customers, "18", register).once(key).commit().await
    };
    let relocate = async |key: &str| customers.once(key).execute("17", Move { street: secret("17") }).await;
    let first = once("message-1", "17").await.expect("accepted");
    relocate("message-3").await.expect("accepted");
    transact("transaction-1").await.expect("accepted");
    for id in ["17", "18"] {
        keyring.forget(&subject(id)).await.expect("forgotten");
    }

    let again = once("message-1", "17").await.expect("the first outcome");
    assert_eq!((again.repeated, again.version), (true, first.version));
    assert!(again.state.name.is_some_and(|name| name.is_forgotten()));
    assert!(transact("transaction-1").await.expect("the first outcome").repeated);
    assert!(relocate("message-3").await.expect("the first outcome").repeated);

    for error in [once("message-2", "17").await, once("message-1", "18").await] {
        assert!(error.expect_err("exists").is_already_exists());
    }
    assert!(transact("transaction-2").await.is_err());
}

#[tokio::test]
async fn nothing_new_is_recorded_about_a_forgotten_subject() {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> =
        Repository::builder(store.clone()).snapshots(SnapshotPolicy::Every(1)).build();
    register(&customers, "17").await;
    keyring.forget(&subject("17")).await.expect("forgotten");

    let error = customers.execute("17", Move { street: secret("17") }).await.expect_err("refused");
    let ExecuteError::Store(error @ StoreError::Invalid { .. }) = error else { panic!("{error}") };
    assert_eq!(
        error.to_string(),
        "the subject `17` was forgotten, so no personal data about it can be recorded: reject the command, or record an \
         event without personal data"
    );
    assert_eq!(stored(store.inner(), "17").await.len(), 1, "nothing was recorded");

    // Events without personal data are recorded, and so are copies of what is forgotten. Snapshots are written.
    customers.execute("17", SendMail).await.expect("accepted");
    customers.execute("17", Confirm).await.expect("accepted");
    customers.flush().await;
    let loaded = customers.load("17").await.expect("loaded");
    assert_eq!((loaded.version, loaded.snapshot), (Version::new(3), Some(Version::new(3))));
    assert!(loaded.state.name.is_some_and(|name| name.is_forgotten()));

    // Not even if it is the first event of a subject without a key.
    keyring.forget(&subject("19")).await.expect("forgotten");
    let error = customers.execute("19", Register { name: secret("19") }).await.expect_err("refused");
    assert!(matches!(error, ExecuteError::Store(StoreError::Invalid { .. })), "{error}");
    assert_eq!(keyring.keys_or_create(&[subject("19")]).await.expect("read"), [KeyState::Forgotten]);
}

/// Personal data is only refused if the command was decided on the latest state. Otherwise, the command has the outcome
/// that it would have without it.
#[tokio::test]
async fn a_forgotten_subject_does_not_hide_an_outdated_state() {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> = Repository::new(store.clone());
    let cached = || -> Repository<Customer> { Repository::builder(store.clone()).cache(10).build() };
    let [stale, second] = [cached(), cached()];
    let transact = || Transaction::new(&store);
    let register = || Register { name: secret("17") };
    let relocate = || Move { street: secret("17") };
    for id in ["17", "18", "19"] {
        stale.execute(id, SendMail).await.expect("accepted");
        second.load(id).await.expect("loaded");
        keyring.forget(&subject(id)).await.expect("forgotten");
    }
    keyring.forget(&subject("20")).await.expect("forgotten");
    let refused = |error: Option<ExecuteError<_>>| {
        let error = error.expect("refused");
        assert!(matches!(error, ExecuteError::Store(StoreError::Invalid { .. })), "{error:?}");
    };
    refused(stale.execute("17", register()).await.err());
    refused(stale.create("20", register()).await.err());

    // An aggregate that exists is not created.
    assert!(stale.create("17", register()).await.expect_err("exists").is_already_exists());
    assert!(stale.once("a").create("17", register()).await.expect_err("exists").is_already_exists());
    let created = transact().create(&stale, "17", register()).execute(&stale, "18", SendMail).commit().await;
    assert!(created.expect_err("exists").is_already_exists());

    // Another process was faster, so that the command is rejected, or the expected version has passed.
    let old = RegisteredV1 { customer: "17".to_owned(), name: secret("17") }.to_data().expect("encoded");
    let append = Append::after_loaded(stream("17"), Version::new(1), new_commit(vec![old]));
    store.append(&append).await.expect("appended");
    let expected = stale.expected_version(ExpectedVersion::Exact(Version::new(1)));
    let error = expected.execute("17", relocate()).await.expect_err("outdated");
    assert!(matches!(error, ExecuteError::Outdated(_)), "{error:?}");
    let error = second.execute("17", register()).await.expect_err("rejected");
    assert_eq!(error.rejection(), Some(&Known { name: secret("17").into() }));

    // Another process has closed the aggregate.
    customers.close("18").await.expect("closed");
    let error = stale.execute("18", register()).await.expect_err("closed");
    assert!(error.closed().is_some(), "{error:?}");
    customers.close("19").await.expect("closed");
    let transaction = transact().execute(&stale, "19", register()).once("b").commit().await;
    let error = transaction.expect_err("closed");
    assert!(error.closed().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_store_without_a_keyring_refuses_personal_data() {
    let store = MemoryStore::new();
    let customers: Repository<Customer> = Repository::new(store.clone());
    let error = customers.execute("17", Register { name: secret("17") }).await.expect_err("refused");
    let ExecuteError::Store(error @ StoreError::Setup { .. }) = error else { panic!("{error}") };
    assert_eq!(
        error.to_string(),
        "personal data cannot be stored without a keyring: create the store with `SealedStore::new(store, keyring)`, and use it \
         for repositories, transactions, projectors, and read models"
    );
    let error = Transaction::new(&store)
        .execute(&customers, "17", Register { name: secret("17") })
        .commit()
        .await
        .expect_err("refused");
    assert!(matches!(error, ExecuteError::Store(StoreError::Setup { .. })), "{error}");
    customers.execute("17", SendMail).await.expect("has no personal data");
    let error = customers.execute("17", Claim { email: secret("17") }).await.expect_err("refused");
    assert!(matches!(error, ExecuteError::Store(StoreError::Setup { .. })), "{error}");
    let claim = StoreClaim::personal("email", secret("17")).expect("valid");
    assert!(store.claim_holder(&claim).await.is_err(), "it is not looked up in plain text");
    assert_eq!(stored(&store, "17").await.len(), 1);
}

#[tokio::test]
async fn stored_values_need_the_keyring_with_which_they_were_written() {
    let (store, _) = sealed();
    register(&Repository::new(store.clone()), "17").await;

    let without: Repository<Customer> = Repository::new(store.inner().clone());
    let error = without.load("17").await.expect_err("sealed");
    assert_eq!(
        error.to_string(),
        "the stream `customer#17` cannot be read at version 1: the payload of the event `Registered` (schema version 2) does not \
         match its type: its personal data is sealed: read it through a `SealedStore` with the keyring"
            .to_owned()
            + &error.to_string()[error.to_string().rfind(" at line").unwrap_or(error.to_string().len())..]
    );

    let other = SealedStore::new(store.inner().clone(), MemoryKeyring::new());
    let error = Repository::<Customer>::new(other).load("17").await.expect_err("another keyring");
    assert!(error.to_string().starts_with("the keyring has no key of the subject `17`"), "{error}");
    assert!(error.is_transient(), "consumers wait until the keyring is set up");
}

#[tokio::test]
async fn a_value_that_is_copied_to_another_place_cannot_be_read() {
    let (store, _) = sealed();
    let customers: Repository<Customer> = Repository::new(store.clone());
    register(&customers, "17").await;
    register(&customers, "19").await;
    let event = stored(store.inner(), "17").await.remove(0);
    let other = stored(store.inner(), "19").await.remove(0);

    // To another stream, to another field, and to another event.
    let renamed = EventData::new("Registered", 2, event.payload().replace("\"phones\"", "\"others\""));
    let swapped = event.payload().replace("\"name\"", "\"x\"").replace("\"phones\":[", "\"name\":");
    let swapped = EventData::new("Registered", 2, swapped.replacen("}}]", "}}", 1));
    let other = EventData::new("Other", 1, other.payload());
    for (id, event) in [("18", event.clone()), ("17", swapped), ("19", other)] {
        let append = Append::new(stream(id), ExpectedVersion::Any, new_commit(vec![event]));
        store.inner().append(&append).await.expect("appended");
        let error = customers.load(id).await.expect_err("is bound to its place");
        assert!(
            matches!(error, StoreError::Corrupt { .. })
                && error.to_string().contains("copied from another place"),
            "{error}"
        );
    }
    // A field that was renamed in storage, but is not read.
    let append = Append::new(stream("20"), ExpectedVersion::Any, new_commit(vec![renamed]));
    store.inner().append(&append).await.expect("appended");
    assert!(customers.load("20").await.is_err());

    // To a document.
    let key = DocumentKey::new("customer#17", "Registered");
    let set = ChangeSet::new(uuid::Uuid::from_u128(2));
    let set = set.put(key.clone(), ExpectedDocument::Any, event.payload());
    store.inner().change(&set).await.expect("changed");
    let error = store.document(&key).await.expect_err("is bound to its place");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn events_from_before_a_field_was_personal_are_upcast() {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> = Repository::new(store.clone());
    let old = RegisteredV1 { customer: "17".to_owned(), name: "Ann".to_owned() }.to_data().expect("encoded");
    let append = Append::new(stream("17"), ExpectedVersion::NoStream, new_commit(vec![old]));
    store.append(&append).await.expect("appended");
    let loaded = customers.load("17").await.expect("loaded");
    assert_eq!(name(loaded.state.name.as_ref()), Some("Ann"));

    // A copy of it is personal data of its subject.
    customers.execute("17", Confirm).await.expect("accepted");
    assert!(!stored(store.inner(), "17").await[1].payload().contains("Ann"));
    keyring.forget(&subject("17")).await.expect("forgotten");
    let loaded = customers.load("17").await.expect("loaded");
    assert!(loaded.state.name.is_some_and(|name| name.is_forgotten()));
}

#[tokio::test]
async fn a_claim_on_personal_data_is_a_keyed_digest() {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> = Repository::new(store.clone());
    register(&customers, "17").await;
    customers.execute("17", Claim { email: "ann@example.com".to_owned() }).await.expect("free");
    let error =
        customers.execute("18", Claim { email: "ann@example.com".to_owned() }).await.expect_err("taken");
    let claimed = error.claimed().expect("claimed");
    assert_eq!(claimed.holder, Some(stream("17")));

    let holder = customers.personal_claim_holder("email", "ann@example.com").await.expect("read");
    assert_eq!(holder, Some(stream("17")));
    let personal = StoreClaim::personal("email", "ann@example.com").expect("valid");
    let plain = StoreClaim::new("email", "ann@example.com").expect("valid");
    assert_eq!(store.claim_holder(&personal).await.expect("read").stream, Some(stream("17")));
    assert_eq!(store.inner().claim_holder(&plain).await.expect("read").stream, None, "not in plain text");
    let digest = claimed.claim.value();
    assert!(!digest.contains("ann") && digest.len() == 43, "{digest}");

    // Another keyring has another digest.
    let other = SealedStore::new(store.inner().clone(), MemoryKeyring::new());
    assert_eq!(other.claim_holder(&personal).await.expect("read").stream, None);
    keyring.forget(&subject("17")).await.expect("forgotten");
    assert_eq!(
        store.claim_holder(&personal).await.expect("read").stream,
        Some(stream("17")),
        "the claim remains"
    );
}

#[tokio::test]
async fn a_cached_state_does_not_outlive_its_keys() {
    let (store, keyring) = sealed();
    let clock = ManualClock::at(chrono::DateTime::UNIX_EPOCH);
    let customers: Repository<Customer> = Repository::builder(store).cache(10).clock(clock.clone()).build();
    register(&customers, "17").await;
    keyring.forget(&subject("17")).await.expect("forgotten");

    clock.advance(TimeDelta::from_std(MAX_KEY_AGE).expect("short") - TimeDelta::seconds(1));
    let loaded = customers.load("17").await.expect("loaded");
    assert!(loaded.state.name.is_some_and(|name| !name.is_forgotten()), "from the cache");
    // Commands and loads in between do not keep the state alive.
    customers.execute("17", SendMail).await.expect("accepted");
    clock.advance(TimeDelta::seconds(1));
    let loaded = customers.load("17").await.expect("loaded");
    assert!(loaded.state.name.is_some_and(|name| name.is_forgotten()));
    assert_eq!(loaded.state.mails, 1);
}

#[tokio::test]
async fn a_cached_state_does_not_outlive_its_keys_if_the_clock_was_ahead() {
    let (store, keyring) = sealed();
    let clock = ManualClock::at(chrono::DateTime::UNIX_EPOCH + TimeDelta::days(3_650));
    let customers: Repository<Customer> = Repository::builder(store).cache(10).clock(clock.clone()).build();
    register(&customers, "17").await;
    clock.set(chrono::DateTime::UNIX_EPOCH);
    keyring.forget(&subject("17")).await.expect("forgotten");
    clock.advance(TimeDelta::from_std(MAX_KEY_AGE).expect("short"));
    let loaded = customers.load("17").await.expect("loaded");
    assert!(loaded.state.name.is_some_and(|name| name.is_forgotten()));
}

#[tokio::test(start_paused = true)]
async fn rows_give_forgotten_also_after_a_rebuild() {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> = Repository::new(store.clone());
    for id in ["17", "18"] {
        register(&customers, id).await;
    }
    let directory = Directory { entries: ReadModel::of::<Directory>(&store) };
    let entries = directory.entries.clone();
    let projector = projector(store.clone(), directory).build();
    projector.run_until_caught_up().await.expect("caught up");
    let names = async || -> BTreeMap<String, Option<String>> {
        let rows = entries.all().await.expect("read");
        rows.into_iter().map(|row| (row.customer, row.name.into_value())).collect()
    };
    assert_eq!(names().await["17"], Some(secret("17")));

    keyring.forget(&subject("17")).await.expect("forgotten");
    let expected = BTreeMap::from([("17".to_owned(), None), ("18".to_owned(), Some(secret("18")))]);
    assert_eq!(names().await, expected);
    // A row that is read, changed, and written again stays forgotten.
    customers.execute("17", SendMail).await.expect("accepted");
    projector.run_until_caught_up().await.expect("caught up");
    assert_eq!(names().await, expected);
    projector.reset().await.expect("reset");
    projector.run_until_caught_up().await.expect("caught up");
    assert_eq!(names().await, expected);
}

#[tokio::test]
async fn reserved_names_cannot_be_stored() {
    let (store, _) = sealed();
    let payload = r#"{"a":{"$sealed":{"subject":"17"}}}"#;
    let append =
        Append::new(stream("17"), ExpectedVersion::Any, new_commit(vec![EventData::new("A", 1, payload)]));
    let error = store.append(&append).await.expect_err("refused");
    assert!(error.to_string().contains("`$sealed` is reserved"), "{error}");
    let set = ChangeSet::new(uuid::Uuid::from_u128(1)).put(
        DocumentKey::new("notes", "a"),
        ExpectedDocument::Any,
        payload,
    );
    assert!(store.change(&set).await.is_err());
}

#[tokio::test]
async fn a_rejection_with_personal_data_reaches_the_caller() {
    let (store, _) = sealed();
    let customers: Repository<Customer> = Repository::new(store);
    register(&customers, "17").await;
    let error = customers.execute("17", Register { name: secret("17") }).await.expect_err("rejected");
    assert_eq!(error.rejection(), Some(&Known { name: secret("17").into() }));
    assert!(!format!("{error} {error:?}").contains("Planted"));
    let moved = Contact::Moved { customer: "17".to_owned(), address: None };
    assert!(moved.to_data().is_ok());
}

#[test]
fn a_scenario_can_forget_a_subject() {
    let register = || Register { name: secret("17") };
    let customer = given::<Customer>(Events::none()).id("17".to_owned()).after(register());
    let name = |customer: &Customer| customer.name.as_ref().is_some_and(|name| !name.is_forgotten());
    assert!(name(customer.state()));
    let customer = customer.forgetting("18");
    assert!(name(customer.state()), "another subject");
    let customer = customer.forgetting("17");
    assert!(!name(customer.state()));
    customer
        .when(Confirm)
        .then_events(|events| assert_eq!(events.len(), 1))
        .when(SendMail)
        .then([Contact::Mailed]);

    let relocated = std::panic::catch_unwind(|| {
        let customer =
            given::<Customer>(Events::none()).id("17".to_owned()).after(register()).forgetting("17");
        let _ = customer.when(Move { street: secret("17") }).then_events(|_| {});
    });
    let message = *relocated.expect_err("records a new value").downcast::<String>().expect("a text");
    assert!(message.contains("the subject `17` was forgotten"), "{message}");
}

#[test]
fn the_schema_lock_has_samples_of_personal_data() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/personal/schema.json");
    let lock = |path: &Path| {
        let registered =
            Registered { customer: "17".to_owned(), name: "Ann".to_owned().into(), phones: Vec::new() };
        let rows = [Entry {
            customer: "17".to_owned(),
            kind: "customer".to_owned(),
            name: Personal::of(subject("17"), "Ann".to_owned()),
            mails: 0,
        }];
        let lock = SchemaLock::at(path).aggregate::<Customer>(events![registered, Contact::Mailed]);
        lock.rows(rows)
    };
    lock(&path).check();
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(text.contains("Personal<String> #[personal(subject=customer)]"), "{text}");
    assert!(text.contains("Ann") && !text.contains("$transit"), "samples can be read by another process");

    let altered = std::env::temp_dir().join(format!("es-personal-{}.json", uuid::Uuid::new_v4()));
    std::fs::write(&altered, text.replace("\\\"Ann\\\"", "5")).expect("written");
    let changed = std::panic::catch_unwind(|| lock(&altered).check());
    std::fs::remove_file(&altered).expect("removed");
    let message = *changed.expect_err("has changed").downcast::<String>().expect("a text");
    assert!(message.contains("the personal value does not match its type"), "{message}");
}
