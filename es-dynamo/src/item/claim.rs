//! The item of a claim.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::store::{Claim, NetChange};
use es_core::{StoreError, StreamId};

use super::{Item, key};
use crate::names;

/// The key of a claim.
pub(crate) fn claim_key(claim: &Claim) -> Item {
    key(format!("{}{}#{}", names::CLAIM_PREFIX, claim.name(), claim.value()), names::CLAIM_KEY)
}

/// The item of a claim that `holder` has.
pub(crate) fn claim_item(change: &NetChange<'_>, holder: &StreamId) -> Item {
    let mut item = claim_key(change.claim);
    item.insert(names::HOLDER.to_owned(), AttributeValue::S(holder.as_str().to_owned()));
    item
}

/// The stream that holds a claim, by its item.
pub(crate) fn holder_of(claim: &Claim, item: &Item) -> Result<StreamId, StoreError> {
    let holder = item.get(names::HOLDER).and_then(|value| value.as_s().ok());
    holder.and_then(|holder| holder.parse().ok()).ok_or_else(|| {
        StoreError::invalid(format!("the item of a claim `{}` names no stream that holds it", claim.name()))
    })
}
