//! The commits and claims of the raw table, read with the SDK or SQL only.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::BoxError;
use es_core::serde::Deserialize;
use es_dynamo::DynamoStore;
use es_postgres::PostgresStore;
use es_postgres::sqlx::{self, AssertSqlSafe};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::{Summary, digest};
use crate::store::Store;

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
    pub(crate) async fn scan(store: &Store) -> Result<Self, BoxError> {
        let mut table = match store {
            Store::Dynamo(store) => Self::scan_items(store).await?,
            Store::Postgres(store) => Self::select(store).await?,
        };
        for commits in table.streams.values_mut() {
            commits.sort_by_key(|commit| commit.first);
        }
        Ok(table)
    }

    async fn select(store: &PostgresStore) -> Result<Self, BoxError> {
        let mut table = Self { streams: BTreeMap::new(), holders: HashMap::new() };
        // In one snapshot.
        let mut transaction =
            store.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let schema = store.schema();
        let sql = format!("SELECT stream, first, last, id::text, events::text FROM {schema}.commits");
        let rows = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *transaction).await?;
        for (stream, first, last, id, events) in rows {
            let (stream, first, last, events): (String, i64, i64, String) = (stream, first, last, events);
            let events: Vec<StoredEvent<'_>> = serde_json::from_str(&events)?;
            let events = events.iter().map(|event| {
                Ok(Event { name: event.t.to_owned(), payload: serde_json::from_str(event.p.get())? })
            });
            let events = events.collect::<Result<_, serde_json::Error>>()?;
            let commit = Commit { first: first as u64, last: last as u64, id, events };
            table.streams.entry(stream).or_default().push(commit);
        }
        let sql = format!("SELECT value, stream FROM {schema}.claims WHERE name = 'handle'");
        let rows: Vec<(String, String)> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *transaction).await?;
        table.holders.extend(rows);
        Ok(table)
    }

    async fn scan_items(store: &DynamoStore) -> Result<Self, BoxError> {
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

/// An event in a row of PostgreSQL.
#[derive(Deserialize)]
#[serde(crate = "es_core::serde")]
struct StoredEvent<'a> {
    t: &'a str,
    #[serde(borrow)]
    p: &'a RawValue,
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
