//! Writing a set: commits, claims, a marker and the caller's own writes in one transaction.

mod cancelled;
mod items;

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use es_core::store::{Claim, Holder, MarkerRead, OnceKey, WriteError, WriteSet, Written};
use es_core::{Cost, StoreError};

use crate::capacity;
use crate::error::translate;
use crate::item::{Item, claim_key, holder_of, marker_from, marker_key};
use crate::store::Table;
use crate::transact::{MOST_ITEMS, TRANSACTION_LIMIT, Transacted};
use items::Transaction;

impl Table {
    pub(crate) async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        let written = set.checked()?;
        let Transaction { items, purposes, bytes, units } = self.transaction(set)?;
        if items.len() > MOST_ITEMS {
            return Err(StoreError::too_many_items(items.len(), MOST_ITEMS).into());
        }
        if bytes > TRANSACTION_LIMIT {
            let what = format!("a transaction of {} items", items.len());
            return Err(StoreError::too_large(what, bytes, TRANSACTION_LIMIT).into());
        }
        let reasons = match self.transact(items).await? {
            Transacted::Done(cost) => return Ok(written.at_cost(cost)),
            Transacted::Cancelled(reasons) => reasons,
        };
        self.why(&purposes, &reasons, written.at_cost(Cost::write(units))).await
    }

    pub(crate) async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        let (item, cost) = self.get(claim_key(claim)).await?;
        Ok(Holder::new(item.map(|item| holder_of(claim, &item)).transpose()?, cost))
    }

    pub(crate) async fn marker(&self, key: &OnceKey) -> Result<MarkerRead, StoreError> {
        let (item, cost) = self.get(marker_key(key)).await?;
        Ok(MarkerRead::new(item.map(|item| marker_from(&item)).transpose()?, cost))
    }

    /// The item with a key, strongly consistent.
    pub(crate) async fn get(&self, key: Item) -> Result<(Option<Item>, Cost), StoreError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| translate(&self.name, error))?;
        let cost = capacity::of_read(output.consumed_capacity());
        Ok((output.item, cost))
    }
}
