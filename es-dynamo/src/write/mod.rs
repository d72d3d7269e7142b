//! Writing a set: commits, claims, a marker and the caller's own writes in one transaction.

mod cancelled;
mod items;

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use es_core::store::{Claim, Holder, MarkerRead, OnceKey, WriteError, WriteSet, Written};
use es_core::{Cost, StoreError};

use crate::capacity;
use crate::error::{outcome_unknown, translate};
use crate::item::{Item, claim_key, holder_of, marker_from, marker_key};
use crate::store::Table;
use crate::transact::{Cancelled, MOST_ITEMS, TRANSACTION_LIMIT, Transacted};
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
        let Cancelled { reasons, is_outcome_unknown } = match self.transact(items).await? {
            Transacted::Done(cost) => return Ok(written.at_cost(cost)),
            Transacted::Cancelled(cancelled) => cancelled,
        };
        let why = self.why(&purposes, &reasons, written.at_cost(Cost::write(units))).await;
        match why {
            Err(error) if is_outcome_unknown => Err(still_possible(error)),
            why => why,
        }
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
        let cost = capacity::of_read(output.consumed_capacity())?;
        Ok((output.item, cost))
    }
}

/// Why the last attempt was cancelled, if an earlier one may still be carried out: it may have been sent and not have
/// arrived yet.
fn still_possible(error: WriteError) -> WriteError {
    let reason = match error {
        // Commits stay where they are, and markers until they expire: nothing that has met one is ever carried out.
        WriteError::Conflict(_) | WriteError::Done(_) => return error,
        WriteError::Store(error) => return outcome_unknown(error).into(),
        // A claim can be given back, and the condition of a joined write can come true.
        WriteError::Claimed(claimed) => claimed.to_string(),
        WriteError::Refused(refused) => refused.to_string(),
        other => other.to_string(),
    };
    outcome_unknown(StoreError::Backend(reason.into())).into()
}
