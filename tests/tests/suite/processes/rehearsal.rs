//! A rehearsal of "Backup and restore" in the book, step by step, on the embedded engine.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType, TimeToLiveSpecification,
};
use es_core::feed::{Feed, Position, Slice};
use es_core::prelude::*;
use es_core::process::Reacting;
use es_core::projection::SeekTo;
use es_core::read_model::ReadModel;
use es_core::serde::{Deserialize, Serialize};
use es_core::{StreamId, Version};
use es_dynamo::embedded::Engine;
use es_dynamo::{AuditReport, DynamoStore, DynamoStoreBuilder, Indexer, Reconciler};
use es_tests::domain::{Account, Deposit, Deposited};

use super::support::{Scripted, projector};

type Item = std::collections::HashMap<String, AttributeValue>;
/// Items by their keys.
type Items = BTreeMap<(String, String), Item>;

const SLICE: Slice = Slice::new(0);

/// The number of deposits in an account.
#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "totals", key = account)]
struct Total {
    account: String,
    deposits: u64,
}

#[derive(Clone, Projection)]
#[projection(name = "totals", events(Account(Deposited)))]
struct Totals {
    #[read_model]
    totals: ReadModel<Total>,
}

impl Project<Deposited> for Totals {
    async fn project(&mut self, _: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let account = ctx.id().to_owned();
        let deposits = self.totals.get(&account).await?.map_or(0, |total| total.deposits) + 1;
        Ok(self.totals.put(Total { account, deposits })?)
    }
}

/// An application: accounts, a projection, and a process that pays into the account `payee`.
struct Application {
    store: DynamoStore,
    totals: Projector<Totals>,
    payments: Projector<Reacting<Scripted>>,
}

impl Application {
    fn on(engine: &Engine) -> Self {
        Self::with(DynamoStore::builder().client(engine.client()).streams_client(engine.streams_client()))
    }

    fn with(builder: DynamoStoreBuilder) -> Self {
        let store = builder.build().expect("has clients");
        let totals = Totals { totals: ReadModel::of::<Totals>(&store) };
        Self {
            totals: Projector::new(store.clone(), totals),
            payments: projector(store.clone(), Scripted::new(store.clone())).build(),
            store,
        }
    }

    /// Returns the application after a restart.
    fn restarted(&self) -> Self {
        let streams = self.store.streams_client().expect("is set").clone();
        Self::with(DynamoStore::builder().client(self.store.client().clone()).streams_client(streams))
    }

    /// Asks the process for a payment in each of the accounts.
    async fn ask(&self, accounts: &[&str]) {
        let repository = Repository::<Account>::new(self.store.clone());
        for account in accounts {
            let notes = vec![format!("{account}: pay note")];
            repository.execute(*account, Deposit { cents: 1, notes }).await.expect("accepted");
        }
    }

    /// Runs an indexer and all consumers until all events are handled.
    async fn work(&self) {
        let indexer =
            Indexer::builder(&self.store).poll(Duration::from_millis(20)).build().expect("has a client");
        let consume = async {
            // The payments are events, too.
            for _ in 0..2 {
                self.wait_until_indexed().await;
                self.payments.run_until_caught_up().await.expect("works");
            }
            self.wait_until_indexed().await;
            self.totals.run_until_caught_up().await.expect("works");
            indexer.shutdown();
        };
        let (ended, ()) = tokio::join!(indexer.run(), consume);
        ended.expect("indexes");
    }

    async fn wait_until_indexed(&self) {
        while !self.audit().await.missing.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn audit(&self) -> AuditReport {
        Reconciler::builder(&self.store).build().audit().await.expect("audits")
    }

    async fn reconcile(&self) -> u64 {
        Reconciler::builder(&self.store).build().run().await.expect("reconciles").events_indexed
    }

    async fn deposits(&self, account: &str) -> u64 {
        let account = Repository::<Account>::new(self.store.clone()).load(account).await.expect("loads");
        account.version.get()
    }

    /// Returns all items.
    async fn items(&self) -> Items {
        let scan = self.store.client().scan().table_name(self.store.table_name()).consistent_read(true);
        let items: Vec<Item> =
            scan.into_paginator().items().send().collect::<Result<_, _>>().await.expect("scans");
        let text = |item: &Item, name: &str| item[name].as_s().expect("a key").clone();
        items.into_iter().map(|item| ((text(&item, "pk"), text(&item, "sk")), item)).collect()
    }

    async fn delete(&self, (pk, sk): &(String, String)) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let delete = self.store.client().delete_item().table_name(self.store.table_name());
        delete.key("pk", text(pk)).key("sk", text(sk)).send().await.expect("deletes");
    }

    /// Checks that the read model, the payments, and the feed are those of the events in the table.
    async fn check(&self, accounts: &[&str], asked: u64) {
        let report = self.audit().await;
        assert!(report.is_sound(), "{report:?}");
        let totals = ReadModel::of::<Totals>(&self.store);
        let totals: Vec<Total> = totals.all().await.expect("reads");
        for account in accounts.iter().chain(&["payee"]) {
            let found =
                totals.iter().find(|total| total.account == *account).map_or(0, |total| total.deposits);
            assert_eq!(found, self.deposits(account).await, "{account}");
        }
        assert_eq!(self.deposits("payee").await, asked, "each is paid once");
    }

    /// Asks for two more payments, in the slice or in the children into which it is split now.
    async fn go_on(&self, asked: u64, is_split: bool) {
        if is_split {
            assert_eq!(self.store.slice_tree().await.expect("is known").iter().count(), 1, "it is split");
            self.store.split(SLICE).await.expect("splits");
        }
        self.ask(&["ann", "dan"]).await;
        self.work().await;
        self.check(&["ann", "bob", "cem", "dan"], asked + 2).await;
        let slices = self.store.slice_tree().await.expect("is known").iter().count();
        assert_eq!(slices, if is_split { 3 } else { 1 });
    }
}

/// The state before and after the changes that a restore loses. With `is_split`, they begin with a split.
async fn history(is_split: bool) -> (Items, Items) {
    let engine = Engine::in_memory().expect("starts");
    let application = Application::on(&engine);
    application.store.create_table().await.expect("creates the table");
    application.ask(&["ann", "bob", "cem"]).await;
    application.work().await;
    application.check(&["ann", "bob", "cem"], 3).await;
    let before = application.items().await;
    if is_split {
        application.store.split(SLICE).await.expect("splits");
    }
    application.ask(&["ann", "dan", "bob"]).await;
    application.work().await;
    application.check(&["ann", "bob", "cem", "dan"], 6).await;
    (before, application.items().await)
}

/// Restores items to a new table, which has neither a stream nor a time to live, and sets both again.
async fn restored(items: impl IntoIterator<Item = Item>) -> Application {
    let engine = Engine::in_memory().expect("starts");
    let application = Application::on(&engine);
    let (client, table) = (application.store.client(), application.store.table_name());
    let mut create = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        let attribute = AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .expect("complete");
        let element =
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("complete");
        create = create.attribute_definitions(attribute).key_schema(element);
    }
    create.send().await.expect("creates");
    for item in items {
        client.put_item().table_name(table).set_item(Some(item)).send().await.expect("puts");
    }
    application.store.verify_table().await.expect_err("has no stream");
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewImage)
        .build()
        .expect("complete");
    client.update_table().table_name(table).stream_specification(stream).send().await.expect("updates");
    let expiry =
        TimeToLiveSpecification::builder().enabled(true).attribute_name("ttl").build().expect("complete");
    client
        .update_time_to_live()
        .table_name(table)
        .time_to_live_specification(expiry)
        .send()
        .await
        .expect("updates");
    application.store.verify_table().await.expect("is complete");
    application
}

/// Returns whether a key is that of a page, a summary, or a split.
fn is_of_feed((pk, sk): &(String, String)) -> bool {
    pk.starts_with("$feed#") || (pk == "$feed" && sk.starts_with("S#"))
}

/// The consumers stop, because their checkpoints are of another feed, and continue as the chapter says.
async fn continue_consumers(application: &Application) {
    application.totals.run_until_caught_up().await.expect_err("its checkpoint is of another feed");
    application.totals.reset().await.expect("is no process");
    application.payments.run_until_caught_up().await.expect_err("its checkpoint is of another feed");
    application.payments.reset().await.expect_err("it would pay again");
    application.payments.seek(SLICE, SeekTo::After(Position::NONE)).await.expect("does not match");
    application.work().await;
}

/// Deletes the feed, and rebuilds it after a restart, because the store remembers the deleted feed.
async fn rebuild_feed(application: &Application) -> Application {
    for key in application.items().await.into_keys().filter(is_of_feed) {
        application.delete(&key).await;
    }
    let application = application.restarted();
    assert!(application.reconcile().await >= 6);
    assert!(application.audit().await.is_sound());
    application
}

#[tokio::test]
async fn a_table_restored_to_a_point_behind_its_feed() {
    for is_split in [false, true] {
        let (before, after) = history(is_split).await;
        // The feed and the read models are ahead of the events.
        let is_ahead = |key: &(String, String)| is_of_feed(key) || key.0.starts_with("$doc#projection");
        let events = before.into_iter().filter(|(key, _)| !is_ahead(key));
        let ahead = after.into_iter().filter(|(key, _)| is_ahead(key));
        let application = restored(events.chain(ahead).map(|(_, item)| item)).await;

        for account in ["ann", "bob", "cem", "dan", "payee"] {
            application.deposits(account).await;
        }
        let report = application.audit().await;
        let account = |id: &str| StreamId::new("account", id).expect("valid");
        assert_eq!(report.unfounded.get(&account("ann")), Some(&(Version::new(2), Version::new(1))));
        assert_eq!(report.unfounded.get(&account("dan")), Some(&(Version::new(1), Version::NONE)));
        for stream in report.unfounded.keys() {
            application.delete(&(stream.to_string(), "S#".to_owned())).await;
        }
        let application = rebuild_feed(&application).await;
        continue_consumers(&application).await;
        application.check(&["ann", "bob", "cem", "dan"], 3).await;
        application.go_on(3, is_split).await;
    }
}

#[tokio::test]
async fn a_feed_restored_to_a_point_behind_its_table() {
    for is_split in [false, true] {
        let (before, after) = history(is_split).await;
        let feed = before.into_iter().filter(|(key, _)| is_of_feed(key));
        let rest = after.into_iter().filter(|(key, _)| !is_of_feed(key));
        let application = restored(feed.chain(rest).map(|(_, item)| item)).await;

        let report = application.audit().await;
        assert!(report.unfounded.is_empty() && report.contradicting.is_empty(), "{report:?}");
        assert_eq!(report.missing.len(), 7, "three accounts, the payee, and three diaries: {report:?}");
        assert!(application.reconcile().await >= 6);
        assert!(application.audit().await.is_sound());
        if is_split {
            // The checkpoints of the slice are valid, and those of its children are not.
            let error = application.payments.run_until_caught_up().await.expect_err("stops").to_string();
            assert!(error.contains("slice 0 of the feed no longer has its split at position "), "{error}");
        }
        continue_consumers(&application).await;
        application.check(&["ann", "bob", "cem", "dan"], 6).await;
        application.go_on(6, is_split).await;
    }
}

#[tokio::test]
async fn a_table_restored_to_a_time_before_a_split() {
    let (before, _) = history(true).await;
    let application = restored(before.into_values()).await;
    assert!(application.audit().await.is_sound());
    application.check(&["ann", "bob", "cem"], 3).await;
    application.go_on(3, true).await;
}

/// As in a replica after a failover: the children of a slice are there, and the page that closes it is not.
#[tokio::test]
async fn a_restored_feed_that_lacks_only_the_end_of_a_slice() {
    let (_, after) = history(true).await;
    let closes = |item: &Item| item.get("f") == Some(&AttributeValue::N("2".to_owned()));
    let is_page = |key: &(String, String)| key.0 == "$feed#0" && key.1.starts_with("P#");
    let (closing, rest): (Vec<_>, Vec<_>) =
        after.into_iter().partition(|(key, item)| is_page(key) && closes(item));
    assert_eq!(closing.len(), 1);
    let application = restored(rest.into_iter().map(|(_, item)| item)).await;
    let report = application.audit().await;
    let expected = "of the feed has pages, although slice 0, its parent, is not split";
    assert!(report.disordered.iter().any(|problem| problem.contains(expected)), "{report:?}");
    let error = application.store.split(SLICE).await.expect_err("a child has pages").to_string();
    assert!(error.contains("cannot be split"), "{error}");
    let application = rebuild_feed(&application).await;
    continue_consumers(&application).await;
    application.check(&["ann", "bob", "cem", "dan"], 6).await;
    application.go_on(6, true).await;
}
