//! The settings of a feed: made once, and never changed.

use std::sync::Arc;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use es_core::StoreError;
use es_core::feed::Slices;
use uuid::Uuid;

use super::index::FeedIndex;
use super::marks::HashKey;
use crate::attempts::watched;
use crate::capacity;
use crate::item::{Item, key};
use crate::names;
use crate::store::Table;
use crate::transact::PLACE_IS_FREE;

/// How many slices a feed has unless the builder says otherwise.
pub(crate) const DEFAULT_SLICES: Slices = Slices::new(8).expect("not zero");

/// What is the same for all of a feed, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) slices: Slices,
    pub(crate) hash_key: HashKey,
}

impl Settings {
    /// New ones, with a secret of their own.
    pub(crate) fn new(slices: Slices) -> Self {
        Self { slices, hash_key: Uuid::new_v4().into_bytes() }
    }

    fn to_item(self) -> Item {
        let mut item = key(names::FEED, names::SETTINGS_KEY);
        item.insert(names::COUNT.to_owned(), AttributeValue::N(self.slices.count().to_string()));
        item.insert(names::HASH_KEY.to_owned(), AttributeValue::B(Blob::new(self.hash_key)));
        item
    }

    fn from_item(item: &Item) -> Result<Self, StoreError> {
        let count = item.get(names::COUNT).and_then(|value| value.as_n().ok()?.parse().ok());
        let key = item.get(names::HASH_KEY).and_then(|value| value.as_b().ok());
        let key = key.and_then(|key| HashKey::try_from(key.as_ref()).ok());
        match (count.and_then(Slices::new), key) {
            (Some(slices), Some(hash_key)) => Ok(Self { slices, hash_key }),
            _ => Err(StoreError::damaged(
                "the item with the settings of the feed",
                "its slices or its secret are missing",
            )),
        }
    }
}

impl Table {
    /// The feed of the table; its settings are made when there are none.
    pub(crate) async fn feed(&self) -> Result<&FeedIndex, StoreError> {
        self.feed
            .get_or_try_init(async || Ok(FeedIndex::new(self.settings().await?, Arc::clone(&self.grown))))
            .await
    }

    async fn settings(&self) -> Result<Settings, StoreError> {
        let place = key(names::FEED, names::SETTINGS_KEY);
        if let (Some(item), _) = self.get(place.clone()).await? {
            return Settings::from_item(&item);
        }
        let settings = Settings::new(self.slices);
        let put = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(settings.to_item()))
            .condition_expression(PLACE_IS_FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let found = match watched(put.send()).await {
            Ok(output) => return capacity::of_write(output.consumed_capacity()).map(|_| settings),
            Err(failed) => failed.condition(&self.name)?.item,
        };
        // Another one was faster.
        match found {
            Some(item) => Settings::from_item(&item),
            None => match self.get(place).await? {
                (Some(item), _) => Settings::from_item(&item),
                (None, _) => Err(StoreError::damaged(
                    "the item with the settings of the feed",
                    "it was deleted meanwhile",
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_as_they_were() {
        let settings = Settings::new(DEFAULT_SLICES);
        assert_eq!(Settings::from_item(&settings.to_item()).expect("sound"), settings);
        for name in [names::COUNT, names::HASH_KEY] {
            let mut item = settings.to_item();
            item.remove(name);
            Settings::from_item(&item).expect_err("missing");
            item.insert(name.to_owned(), AttributeValue::N("0".to_owned()));
            Settings::from_item(&item).expect_err("no count, and no key");
        }
    }
}
