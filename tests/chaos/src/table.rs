//! The commits and claims of the raw table, read with the SDK only.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::BoxError;
use es_dynamo::DynamoStore;
use serde_json::Value;

use crate::domain::{Summary, digest};

/// The commits of all streams, and the holders of handles.
pub(crate) struct Table {
    pub(crate) streams: BTreeMap<String, Vec<Commit>>,
    pub(crate) holders: HashMap<String, String>,
}

pub(crate) struct Commit {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) id: String,
    pub(crate) events: Vec<Event>,
}

pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) payload: Value,
}

impl Event {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.payload[field].as_str().unwrap_or_default()
    }

    /// Returns whether this is a deposit. All deposits are of one cent.
    fn is_deposit(&self) -> bool {
        self.name == "Deposited" && self.payload["cents"] == 1
    }
}

impl Table {
    pub(crate) async fn scan(store: &DynamoStore) -> Result<Self, BoxError> {
        let mut table = Self { streams: BTreeMap::new(), holders: HashMap::new() };
        let request = store.client().scan().table_name(store.table_name()).consistent_read(true);
        let mut pages = request.into_paginator().items().send();
        while let Some(item) = pages.next().await {
            let item = item?;
            let (pk, sk) = (text(&item, "pk")?, text(&item, "sk")?);
            if let Some(handle) = pk.strip_prefix("$claim#handle#") {
                table.holders.insert(handle.to_owned(), text(&item, "h")?.to_owned());
            } else if let Some(first) = sk.strip_prefix("E#").filter(|_| !pk.starts_with('$')) {
                let commit = Commit {
                    first: first.parse()?,
                    last: attribute(&item, "lv")?.as_n().map_err(|_| "not a number")?.parse()?,
                    id: text(&item, "id")?.to_owned(),
                    events: events(attribute(&item, "ev")?)?,
                };
                table.streams.entry(pk.to_owned()).or_default().push(commit);
            }
        }
        for commits in table.streams.values_mut() {
            commits.sort_by_key(|commit| commit.first);
        }
        Ok(table)
    }

    /// Returns the ids of all accounts.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &str> {
        self.streams.keys().filter_map(|stream| stream.strip_prefix("account#"))
    }

    /// Returns the events of a stream, each with its commit.
    pub(crate) fn events(&self, stream: &str) -> impl Iterator<Item = (&Commit, &Event)> + use<'_> {
        let commits = self.streams.get(stream).map_or(&[][..], Vec::as_slice);
        commits.iter().flat_map(|commit| commit.events.iter().map(move |event| (commit, event)))
    }

    /// Returns the deposits in an account.
    pub(crate) fn deposits(&self, account: &str) -> impl Iterator<Item = &Event> + use<'_> {
        let events = self.events(&format!("account#{account}")).map(|(_, event)| event);
        events.filter(|event| event.is_deposit())
    }

    /// Returns the state of an account at each version from 0, or an error if it was overdrawn.
    pub(crate) fn states(&self, account: &str) -> Result<Vec<Summary>, String> {
        let mut states = vec![Summary::default()];
        let mut state = Summary::default();
        for (_, event) in self.events(&format!("account#{account}")) {
            match event.name.as_str() {
                "Deposited" => state.cents += u64::from(event.is_deposit()),
                "Withdrawn" => {
                    state.cents =
                        state.cents.checked_sub(1).ok_or_else(|| format!("{account} was overdrawn"))?;
                }
                _ => state.handle = Some(event.text("handle").to_owned()),
            }
            state.digest = digest(state.digest, event.text("note"));
            states.push(state.clone());
        }
        Ok(states)
    }
}

type Item = HashMap<String, AttributeValue>;

fn attribute<'a>(item: &'a Item, name: &str) -> Result<&'a AttributeValue, BoxError> {
    Ok(item.get(name).ok_or_else(|| format!("an item without `{name}`"))?)
}

fn text<'a>(item: &'a Item, name: &str) -> Result<&'a str, BoxError> {
    Ok(attribute(item, name)?.as_s().map_err(|_| format!("`{name}` is not a text"))?)
}

fn events(value: &AttributeValue) -> Result<Vec<Event>, BoxError> {
    let mut events = Vec::new();
    for event in value.as_l().map_err(|_| "`ev` is not a list")? {
        let event = event.as_m().map_err(|_| "an event is not a map")?;
        let payload = serde_json::from_str(text(event, "p")?)?;
        events.push(Event { name: text(event, "t")?.to_owned(), payload });
    }
    Ok(events)
}
