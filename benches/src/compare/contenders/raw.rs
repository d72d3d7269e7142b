//! A hand-written loop: one Query to load, and one conditional PutItem to record. This is the lower bound of the cost.
//!
//! It writes the same items as the framework, so both load the same streams.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

use super::{Contender, Failure, Layout};
use crate::domain::{Account, Deposit, Deposited};
use crate::tables::{self, Item};

pub struct Raw {
    client: Client,
    table: String,
}

impl Raw {
    pub fn new(client: &Client, prefix: &str) -> Self {
        Self { client: client.clone(), table: table(prefix) }
    }

    async fn state(&self, stream: &str) -> Result<(Account, u64), Failure> {
        let mut account = Account::default();
        let mut version = 0;
        let mut from = None;
        loop {
            let output = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
                .expression_attribute_values(":pk", AttributeValue::S(stream.to_owned()))
                .expression_attribute_values(":from", AttributeValue::S(key(1)))
                .expression_attribute_values(":to", AttributeValue::S(key(999_999_999_999)))
                .consistent_read(true)
                .set_exclusive_start_key(from)
                .send()
                .await?;
            for item in output.items.unwrap_or_default() {
                version = item["lv"].as_n().map_err(|_| "no version")?.parse()?;
                for event in item["ev"].as_l().map_err(|_| "no events")? {
                    let event = event.as_m().map_err(|_| "no event")?;
                    match event["t"].as_s().map_err(|_| "no name")?.as_str() {
                        "Deposited" => {
                            let payload = event["p"].as_s().map_err(|_| "no payload")?;
                            account.add(&serde_json::from_str(payload)?);
                        }
                        other => return Err(format!("unknown event {other}").into()),
                    }
                }
            }
            from = output.last_evaluated_key;
            if from.is_none() {
                return Ok((account, version));
            }
        }
    }
}

#[async_trait]
impl Contender for Raw {
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure> {
        let stream = stream(id);
        let (mut account, version) = self.state(&stream).await?;
        let events: Vec<_> = Deposit { times: events }.events().collect();
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(commit(&stream, version + 1, &events)))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await?;
        // Like the other contenders, returns the new state.
        events.iter().for_each(|event| account.add(event));
        std::hint::black_box(account);
        Ok(())
    }

    async fn load(&self, id: &str) -> Result<Account, Failure> {
        Ok(self.state(&stream(id)).await?.0)
    }
}

fn table(prefix: &str) -> String {
    Layout::Commits.tables(prefix).remove(0)
}

fn stream(id: &str) -> String {
    format!("account#{id}")
}

fn key(version: u64) -> String {
    format!("E#{version:012}")
}

fn commit(stream: &str, first: u64, events: &[Deposited]) -> Item {
    let list = events
        .iter()
        .map(|event| {
            AttributeValue::M(HashMap::from([
                ("t".to_owned(), AttributeValue::S("Deposited".to_owned())),
                ("p".to_owned(), AttributeValue::S(event.json())),
            ]))
        })
        .collect();
    let last = first - 1 + events.len() as u64;
    let now = chrono::Utc::now().timestamp_millis();
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(stream.to_owned())),
        ("sk".to_owned(), AttributeValue::S(key(first))),
        ("lv".to_owned(), AttributeValue::N(last.to_string())),
        ("id".to_owned(), AttributeValue::S(Uuid::now_v7().to_string())),
        ("at".to_owned(), AttributeValue::N(now.to_string())),
        ("ev".to_owned(), AttributeValue::L(list)),
    ])
}

pub async fn fill(client: &Client, prefix: &str, id: &str, events: u64) -> Result<(), Failure> {
    let stream = stream(id);
    let items = (1..=events).map(|version| commit(&stream, version, &[Deposited::new()]));
    tables::fill(client, &table(prefix), items).await
}
