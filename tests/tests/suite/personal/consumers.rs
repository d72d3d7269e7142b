//! Processes and publishing, before and after a subject is forgotten.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use es_core::documents::{DocumentQuery, Documents};
use es_core::feed::Feed;
use es_core::personal::{Keyring, MemoryKeyring, Personal, SealedStore, Subject};
use es_core::prelude::*;
use es_core::projection::OnFailure;
use es_core::publish::{BatchLimits, CloudEvents, Envelope, PublishError, Publisher, Publishing};
use es_core::testing::{TestStore, project, react, transaction};
use es_core::{MemoryStore, RetryPolicy};

use super::domain::{
    Address, Contact, Customer, DELAY, Directory, Entry, Greet, Greeted, Greeting, Move, Register,
    Registered, SendMail, secret,
};
use crate::processes::support::{Time, projector};

type Sealed = SealedStore<MemoryStore>;

fn sealed() -> (Sealed, MemoryKeyring) {
    let keyring = MemoryKeyring::new();
    (SealedStore::new(MemoryStore::new(), keyring.clone()), keyring)
}

async fn forget(keyring: &MemoryKeyring, id: &str) {
    keyring.forget(&Subject::new(id).expect("valid")).await.expect("forgotten");
}

/// Returns the bodies of documents of the process `greet` as they are stored: the turn, or the timeouts.
async fn documents(store: &MemoryStore, what: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    let slices =
        store.slices().await.expect("slices").iter().map(|slice| format!("process#greet#timers#{slice}"));
    let collections = match what {
        "turn" => vec!["process#greet#turn#17".to_owned()],
        _ => slices.collect(),
    };
    for collection in collections {
        let page = store.documents(&DocumentQuery::new(collection)).await.expect("read");
        bodies.extend(page.documents.into_iter().map(|(_, document)| document.body));
    }
    bodies
}

#[tokio::test(start_paused = true)]
async fn a_process_stores_rejections_and_timeouts_sealed() {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> = Repository::builder(store.clone()).clock(Time).build();
    customers.execute("17", Register { name: secret("17") }).await.expect("accepted");
    let lets_pass = Arc::new(AtomicBool::new(false));
    let process = Greet { customers, lets_pass: Arc::clone(&lets_pass) };
    let projector = projector(store.clone(), process).build();

    // The reaction waits, with the rejection in its turn.
    let work = tokio::spawn({
        let projector = projector.clone();
        async move { projector.run().await }
    });
    let limit = std::time::Duration::from_secs(60);
    let waiting = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            let mut turn = documents(store.inner(), "turn").await;
            turn.retain(|body| body.contains("rejections"));
            if !turn.is_empty() {
                return turn;
            }
        }
    };
    let turn = tokio::time::timeout(limit, waiting).await.expect("a turn with a rejection");
    assert!(turn[0].contains("$sealed") && !turn[0].contains("Planted"), "{}", turn[0]);

    // The timeout is stored.
    lets_pass.store(true, Ordering::SeqCst);
    tokio::time::timeout(limit, projector.caught_up()).await.expect("not late").expect("caught up");
    let timeouts = documents(store.inner(), "timers").await;
    assert_eq!(timeouts.len(), 1);
    assert!(timeouts[0].contains("$sealed") && !timeouts[0].contains("Planted"), "{}", timeouts[0]);

    let greetings: Repository<Greeting> = Repository::new(store);
    let names = async || greetings.load("17").await.expect("loaded").state.names;
    assert_eq!(names().await, [Personal::from(secret("17"))]);

    // The timeout is due after the subject was forgotten.
    forget(&keyring, "17").await;
    tokio::time::sleep(DELAY * 2).await;
    projector.caught_up().await.expect("caught up");
    let second = async {
        while names().await.len() < 2 {
            tokio::time::sleep(DELAY).await;
        }
    };
    tokio::time::timeout(limit, second).await.expect("a second name");
    assert!(names().await.iter().all(Personal::is_forgotten));
    projector.shutdown();
    work.await.expect("no panic").expect("ended");
}

/// Collects the messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broker(Arc<Mutex<Vec<String>>>);

impl Broker {
    /// Returns the messages.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }
}

#[async_trait::async_trait]
impl Publisher for Broker {
    fn limits(&self) -> BatchLimits {
        BatchLimits::default()
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let bodies = batch.iter().map(|envelope| String::from_utf8_lossy(envelope.body()).into_owned());
        self.0.lock().expect("no panic").extend(bodies);
        Ok(vec![Ok(()); batch.len()])
    }
}

/// Publishes events to `broker`.
pub(crate) fn publishing(broker: Broker) -> Publishing<Broker> {
    let source = CloudEvents::source("https://shop.example/customers").expect("an address");
    Publishing::new("to_shipping", broker, source)
}

/// Publishes all events of a store, and returns the payloads in the order of the events.
async fn published(store: impl Feed, reveal: bool) -> Result<Vec<serde_json::Value>, BoxError> {
    let broker = Broker::default();
    let mut publishing = publishing(broker.clone());
    if reveal {
        publishing = publishing.reveal_personal_data();
    }
    let retry = RetryPolicy::never();
    Projector::builder(store, publishing).retry(retry).build().run_until_caught_up().await?;
    Ok(broker
        .bodies()
        .iter()
        .map(|body| serde_json::from_str::<serde_json::Value>(body).expect("JSON")["data"].clone())
        .collect())
}

/// Returns a store with a customer.
async fn customers() -> (Sealed, MemoryKeyring) {
    let (store, keyring) = sealed();
    let customers: Repository<Customer> = Repository::new(store.clone());
    customers.execute("17", Register { name: secret("17") }).await.expect("accepted");
    customers.execute("17", Move { street: secret("17") }).await.expect("accepted");
    customers.execute("17", SendMail).await.expect("accepted");
    (store, keyring)
}

#[tokio::test]
async fn published_events_have_no_personal_fields() {
    // With the keyring, and without it.
    let (store, _) = customers().await;
    for published in
        [published(store.clone(), false).await, published(customers().await.0.inner().clone(), false).await]
    {
        let expected = serde_json::json!([{ "customer": "17", "phones": [] }, { "customer": "17" }, null]);
        assert_eq!(serde_json::Value::from(published.expect("published")), expected);
    }
}

#[tokio::test]
async fn a_publisher_can_reveal_personal_fields() {
    let (store, _) = customers().await;
    let names = serde_json::json!({ "customer": "17", "name": secret("17"), "phones": [secret("17")] });
    let payloads = published(store, true).await.expect("published");
    assert_eq!(payloads[0], names);
    assert_eq!(payloads[1]["address"]["street"], secret("17"));

    let (store, keyring) = customers().await;
    forget(&keyring, "17").await;
    let payloads = published(store, true).await.expect("published");
    assert_eq!(payloads[0], serde_json::json!({ "customer": "17", "phones": [] }), "forgotten");

    let (store, _) = customers().await;
    let error = published(store.inner().clone(), true).await.expect_err("no keyring");
    assert!(error.to_string().contains("its personal data is sealed"), "{error}");
}

/// Puts the names of all customers into the row of one of them.
#[derive(Clone, Projection)]
#[projection(name = "mixed-up", events(Customer(Registered)))]
struct MixedUp {
    #[read_model]
    entries: ReadModel<Entry>,
}

#[handlers]
impl MixedUp {
    #[project]
    async fn registered(&mut self, event: &Registered) -> Result<(), BoxError> {
        let (customer, kind) = ("17".to_owned(), "customer".to_owned());
        Ok(self.entries.put(Entry { customer, kind, name: event.name.clone(), mails: 0 })?)
    }
}

/// The value of a row is forgotten with its subject, so a row does not take the value of another one.
#[tokio::test(start_paused = true)]
async fn a_row_refuses_the_value_of_another_subject() {
    let (store, _) = sealed();
    let customers: Repository<Customer> = Repository::new(store.clone());
    for id in ["17", "18"] {
        customers.execute(id, Register { name: secret(id) }).await.expect("accepted");
    }
    let mixed_up = MixedUp { entries: ReadModel::of::<MixedUp>(&store) };
    let entries = mixed_up.entries.clone();
    let projector = Projector::builder(store, mixed_up).on_failure(OnFailure::Park);
    let projector = projector.retry(RetryPolicy::never()).build();
    projector.run_until_caught_up().await.expect("caught up");

    let parked = projector.parked().await.expect("read");
    assert_eq!((parked.len(), &*parked[0].event.stream), (1, "customer#18"));
    assert!(parked[0].error.contains("`name` belongs to another subject than `17`"), "{}", parked[0].error);
    let rows = entries.all().await.expect("read");
    assert_eq!((rows.len(), rows[0].name.value()), (1, Some(&secret("17"))));
}

fn registered() -> Registered {
    Registered { customer: "17".to_owned(), name: secret("17").into(), phones: Vec::new() }
}

fn forgotten<T>() -> Personal<T> {
    Personal::forgotten(Subject::new("17").expect("valid"))
}

#[tokio::test]
async fn the_kits_of_projections_processes_and_transactions_accept_personal_data_and_forget_it() {
    let entry = |name, mails| Entry { customer: "17".to_owned(), kind: "customer".to_owned(), name, mails };
    project(|store: &TestStore| Directory { entries: ReadModel::of::<Directory>(store) })
        .given::<Customer>("17", [registered()])
        .await
        .then_row(|directory| &directory.entries, "17", entry(secret("17").into(), 0))
        .forgetting("17")
        .then_row(|directory| &directory.entries, "17", entry(forgotten(), 0))
        .given::<Customer>("17", [Contact::Mailed])
        .await
        .then_row(|directory| &directory.entries, "17", entry(forgotten(), 1));

    let greeted = |name| Greeted { customer: "17".to_owned(), name };
    let process = |store: &TestStore| Greet {
        customers: Repository::new(store.clone()),
        lets_pass: Arc::new(AtomicBool::new(true)),
    };
    react(process)
        .when::<Customer>("17", [registered()])
        .await
        .then_events::<Greeting>("17", [greeted(secret("17").into())])
        .forgetting("17")
        .later(DELAY)
        .await
        .then_events::<Greeting>("17", [greeted(forgotten())])
        .then_state(&"17".to_owned(), |state| assert!(state.names.iter().all(Personal::is_forgotten)));

    let relocate = || Move { street: secret("17") };
    let given = || transaction().given::<Customer>("17", [registered()]);
    let address = Address { street: secret("17"), city: "Berlin".to_owned() };
    given()
        .when(|all| all.transaction().execute(&all.repository::<Customer>(), "17", relocate()))
        .then::<Customer>(
            "17",
            [Contact::Moved { customer: "17".to_owned(), address: Some(address.into()) }],
        );
    given()
        .forgetting("17")
        .when(|all| all.transaction().execute(&all.repository::<Customer>(), "17", relocate()))
        .then_failed("the subject `17` was forgotten");
}
