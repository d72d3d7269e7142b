//! A hand-written loop: one `SELECT` to load, and one `INSERT` to record. This is the lower bound of the cost.
//!
//! It uses the tables of the framework, so both load the same streams.

use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::{Contender, Subscription};
use crate::Failure;
use crate::domain::Account;

const SELECT: &str = "SELECT last, events::text AS events FROM es.commits WHERE stream = $1 ORDER BY first";

const INSERT: &str = "INSERT INTO es.commits (stream, first, last, id, at, bytes, events) \
     VALUES ($1, $2, $3, $4, $5, $6, $7::json) ON CONFLICT DO NOTHING";

pub struct Raw {
    pool: PgPool,
}

#[derive(Deserialize)]
struct Stored<'a> {
    t: &'a str,
    #[serde(borrow)]
    p: &'a RawValue,
}

impl Raw {
    pub async fn open(url: &str, connections: u32) -> Result<Self, Failure> {
        let options = PgPoolOptions::new().max_connections(connections).test_before_acquire(false);
        Ok(Self { pool: options.connect(url).await? })
    }

    async fn state(&self, stream: &str) -> Result<(Account, i64), Failure> {
        let (mut account, mut version) = (Account::default(), 0);
        for row in sqlx::query(SELECT).bind(stream).fetch_all(&self.pool).await? {
            version = row.try_get("last")?;
            for event in serde_json::from_str::<Vec<Stored<'_>>>(row.try_get("events")?)? {
                match event.t {
                    "Deposited" => account.add(&serde_json::from_str(event.p.get())?),
                    other => return Err(format!("unknown event {other}").into()),
                }
            }
        }
        Ok((account, version))
    }
}

#[async_trait]
impl Contender for Raw {
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure> {
        let stream = format!("account#{id}");
        let (mut account, version) = self.state(&stream).await?;
        let events: Vec<_> = super::deposits(events).events().collect();
        let stored: Vec<_> =
            events.iter().map(|event| format!(r#"{{"t":"Deposited","p":{}}}"#, event.json())).collect();
        let text = format!("[{}]", stored.join(","));
        let insert = sqlx::query(INSERT).bind(stream).bind(version + 1).bind(version + events.len() as i64);
        let insert = insert.bind(Uuid::now_v7()).bind(Utc::now()).bind(text.len() as i32).bind(text);
        if insert.execute(&self.pool).await?.rows_affected() == 0 {
            return Err("the version is taken".into());
        }
        // Like the other contenders, returns the new state.
        events.iter().for_each(|event| account.add(event));
        std::hint::black_box(account);
        Ok(())
    }

    async fn load(&self, id: &str) -> Result<Account, Failure> {
        Ok(self.state(&format!("account#{id}")).await?.0)
    }

    fn subscribe(&self, _: Option<Duration>) -> Option<Subscription> {
        None
    }
}
