//! A hand-written loop on the SDK: a Query, a fold, and a conditional PutItem, and again after a lost race.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use es_benches::Failure;
use es_benches::tables::Item;
use uuid::Uuid;

use crate::domain::Deposited;

/// The maximum number of attempts, as in the framework.
const ATTEMPTS: usize = 16;

#[derive(Clone)]
pub struct ByHand {
    pub client: Client,
    pub table: String,
}

impl ByHand {
    /// Executes a command that creates its account.
    pub async fn create(&self, id: &str) -> Result<(), Failure> {
        match self.put(id, 0).await? {
            true => Ok(()),
            false => Err("the account exists".into()),
        }
    }

    /// Executes a command: again after each lost race, as a careful author would write it.
    pub async fn execute(&self, id: &str) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            let version = self.load(id).await?;
            if self.put(id, version).await? {
                return Ok(());
            }
        }
        Err("every attempt ended with a conflict".into())
    }

    /// Loads the account, and returns its version.
    pub async fn load(&self, id: &str) -> Result<u64, Failure> {
        let (mut version, mut balance, mut from) = (0, 0, None);
        loop {
            let output = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
                .expression_attribute_values(":pk", AttributeValue::S(format!("raw#{id}")))
                .expression_attribute_values(":from", AttributeValue::S(key(1)))
                .expression_attribute_values(":to", AttributeValue::S(key(999_999_999_999)))
                .consistent_read(true)
                .set_exclusive_start_key(from)
                .send()
                .await?;
            for item in output.items.unwrap_or_default() {
                version = item["lv"].as_n().map_err(|_| "no version")?.parse()?;
                for event in item["ev"].as_l().map_err(|_| "no events")? {
                    let payload =
                        event.as_m().map_err(|_| "no event")?["p"].as_s().map_err(|_| "no payload")?;
                    balance += serde_json::from_str::<Deposited>(payload)?.cents;
                }
            }
            from = output.last_evaluated_key;
            if from.is_none() {
                std::hint::black_box(balance);
                return Ok(version);
            }
        }
    }

    /// Writes the next commit, and returns whether it has won the race.
    pub async fn put(&self, id: &str, version: u64) -> Result<bool, Failure> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(commit(&format!("raw#{id}"), version + 1)))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        match put {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(refused) if refused.is_conditional_check_failed_exception() => Ok(false),
                _ => Err(error.into()),
            },
        }
    }
}

/// Returns the commits of a stream, one for each event.
pub fn commits(stream: &str, events: u64) -> impl Iterator<Item = Item> {
    (1..=events).map(move |version| commit(stream, version))
}

/// Returns a commit of one event, as the framework stores it.
fn commit(stream: &str, version: u64) -> Item {
    let event = AttributeValue::M(HashMap::from([
        ("t".to_owned(), AttributeValue::S("Deposited".to_owned())),
        ("p".to_owned(), AttributeValue::S(Deposited::new().json())),
    ]));
    let now = chrono::Utc::now().timestamp_millis();
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(stream.to_owned())),
        ("sk".to_owned(), AttributeValue::S(key(version))),
        ("lv".to_owned(), AttributeValue::N(version.to_string())),
        ("id".to_owned(), AttributeValue::S(Uuid::now_v7().to_string())),
        ("at".to_owned(), AttributeValue::N(now.to_string())),
        ("ev".to_owned(), AttributeValue::L(vec![event])),
    ])
}

fn key(version: u64) -> String {
    format!("E#{version:012}")
}
