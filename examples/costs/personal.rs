//! The cost of personal data: of all requests to DynamoDB and to KMS, also those for the keys.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use es_core::StoreError;
use es_core::personal::{Personal, SealedStore, Subject, SubjectKey};
use es_core::prelude::*;
use es_dynamo::DynamoStore;
use es_dynamo::keyring::{DynamoKeyring, LocalMasterKey, MasterKey};

use crate::metered::Meter;
use crate::row;

/// An event with a payload of about 200 bytes, of which about 20 are personal.
#[event]
struct Addressed {
    customer: String,
    #[personal(subject = customer)]
    name: Personal<String>,
    text: String,
}

#[derive(Aggregate, Default)]
#[aggregate(name = "letter", id = String, events(Addressed))]
struct Letter;

struct Address {
    customer: String,
}

#[handlers]
impl Letter {
    #[apply]
    fn addressed(&mut self, _: &Addressed) {}

    #[handle]
    fn address(&self, command: &Address) -> Addressed {
        let name = "Ann of the Long Names".to_owned().into();
        Addressed { customer: command.customer.clone(), name, text: "x".repeat(80) }
    }
}

/// Counts its calls. With a key in KMS, each one is a request.
#[derive(Clone, Debug)]
struct Counted {
    key: LocalMasterKey,
    calls: Arc<AtomicU32>,
}

#[async_trait]
impl MasterKey for Counted {
    fn id(&self) -> &str {
        self.key.id()
    }

    async fn generate(&self, table: &str, subject: &Subject) -> Result<(SubjectKey, String), StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.key.generate(table, subject).await
    }

    async fn wrap(&self, table: &str, subject: &Subject, key: &SubjectKey) -> Result<String, StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.key.wrap(table, subject, key).await
    }

    async fn unwrap(&self, table: &str, subject: &Subject, wrapped: &str) -> Result<SubjectKey, StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.key.unwrap(table, subject, wrapped).await
    }
}

/// Prints the rows of personal data.
pub(super) async fn rows(meter: &Meter) -> Result<(), Box<dyn Error>> {
    for (is_in_kms, suffix) in [(false, ""), (true, ", master key in KMS")] {
        let store = DynamoStore::embedded().await?;
        let calls = Arc::new(AtomicU32::new(0));
        let master_key = Counted { key: LocalMasterKey::new([7; 32]), calls: Arc::clone(&calls) };
        let keyring = || DynamoKeyring::builder(store.client(), master_key.clone()).build();
        keyring().create_table().await?;
        let letters =
            || -> Repository<Letter> { Repository::new(SealedStore::new(store.clone(), keyring())) };
        let here = letters();
        for (letter, letters, what) in [
            ("1", here.clone(), "first of its subject"),
            ("2", here, "next of its subject"),
            ("3", letters(), "next of its subject, in a new process"),
        ] {
            calls.store(0, Ordering::Relaxed);
            let address = letters.execute(letter, Address { customer: "17".to_owned() });
            let (done, mut cost) = meter.measure(address).await;
            done?;
            cost.requests += if is_in_kms { calls.load(Ordering::Relaxed) } else { 0 };
            row(&format!("personal data on a new aggregate, {what}{suffix}"), 1, cost);
        }
    }
    Ok(())
}
