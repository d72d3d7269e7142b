//! A hand-written loop on the same table: a Query, a fold, and a conditional PutItem, with the checks that a careful
//! author would write.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use serde::{Deserialize, Serialize};

use crate::canned::{Canned, TEXT_BYTES};

#[derive(Serialize, Deserialize)]
struct Noted {
    text: String,
}

#[derive(Default)]
struct Notebook {
    notes: u64,
    last: String,
}

pub async fn commands(canned: &Canned, count: u32, events: usize) {
    let client = canned.client();
    for _ in 0..count {
        let (state, version) = load(&client, "notebook#a").await;
        let new: Vec<_> = (0..events).map(|_| Noted { text: "x".repeat(TEXT_BYTES) }).collect();
        append(&client, "notebook#a", version, &new).await;
        std::hint::black_box((state.notes, &state.last));
    }
}

async fn load(client: &Client, stream: &str) -> (Notebook, u64) {
    let mut state = Notebook::default();
    let mut version = 0;
    let mut from = None;
    loop {
        let output = client
            .query()
            .table_name("events")
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":pk", AttributeValue::S(stream.to_owned()))
            .expression_attribute_values(":from", AttributeValue::S("E#000000000001".to_owned()))
            .expression_attribute_values(":to", AttributeValue::S("E#999999999999".to_owned()))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .set_exclusive_start_key(from)
            .send()
            .await
            .expect("answers");
        for item in output.items.unwrap_or_default() {
            version = item["lv"].as_n().expect("a number").parse().expect("a number");
            for event in item["ev"].as_l().expect("a list") {
                let event = event.as_m().expect("a map");
                match event["t"].as_s().expect("a text").as_str() {
                    "Noted" => {
                        let payload = event["p"].as_s().expect("a text");
                        let noted: Noted = serde_json::from_str(payload).expect("JSON");
                        state.notes += 1;
                        state.last = noted.text;
                    }
                    other => panic!("unknown event {other}"),
                }
            }
        }
        from = output.last_evaluated_key;
        if from.is_none() {
            return (state, version);
        }
    }
}

async fn append(client: &Client, stream: &str, version: u64, events: &[Noted]) {
    let list = events
        .iter()
        .map(|event| {
            AttributeValue::M(HashMap::from([
                ("t".to_owned(), AttributeValue::S("Noted".to_owned())),
                ("p".to_owned(), AttributeValue::S(serde_json::to_string(event).expect("JSON"))),
            ]))
        })
        .collect();
    let last = version + events.len() as u64;
    client
        .put_item()
        .table_name("events")
        .item("pk", AttributeValue::S(stream.to_owned()))
        .item("sk", AttributeValue::S(format!("E#{:012}", version + 1)))
        .item("lv", AttributeValue::N(last.to_string()))
        .item("id", AttributeValue::S(uuid::Uuid::now_v7().to_string()))
        .item("at", AttributeValue::N("1800000000000".to_owned()))
        .item("ev", AttributeValue::L(list))
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .expect("writes");
}
