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
        item.insert(names::CHECKSUM.to_owned(), AttributeValue::N(self.checksum().to_string()));
        item
    }

    /// A CRC-32 by which a change by hand is noticed.
    fn checksum(self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.slices.count().to_be_bytes());
        hasher.update(&self.hash_key);
        hasher.finalize()
    }

    fn from_item(item: &Item) -> Result<Self, StoreError> {
        let damaged = |reason: String| StoreError::damaged("the item with the settings of the feed", reason);
        let number = |name| item.get(name).and_then(|value| value.as_n().ok()?.parse::<u32>().ok());
        let slices = number(names::COUNT).and_then(Slices::new).ok_or_else(|| {
            damaged(format!("its number of slices is missing, or not from 1 to {}", Slices::MAX))
        })?;
        let key = item.get(names::HASH_KEY).and_then(|value| value.as_b().ok());
        let key = key.and_then(|key| HashKey::try_from(key.as_ref()).ok());
        let hash_key = key.ok_or_else(|| damaged("its secret is missing, or not of 16 bytes".to_owned()))?;
        let settings = Self { slices, hash_key };
        if number(names::CHECKSUM) != Some(settings.checksum()) {
            return Err(damaged(
                "its checksum does not match, so that its number of slices or its secret was changed by hand: restore \
                 them"
                    .to_owned(),
            ));
        }
        Ok(settings)
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
        let settings = match self.stored_settings().await? {
            Some(settings) => settings,
            None => self.make_settings().await?,
        };
        match self.slices.filter(|slices| *slices != settings.slices) {
            None => Ok(settings),
            Some(wanted) => Err(StoreError::invalid(format!(
                "the feed of the table `{}` has {} slices, and the store's builder asks for {}: the number cannot be \
                 changed, so leave out `slices`, or ask for as many",
                self.name,
                settings.slices.count(),
                wanted.count(),
            ))),
        }
    }

    /// The settings of the feed, if there is one.
    pub(crate) async fn stored_settings(&self) -> Result<Option<Settings>, StoreError> {
        let (item, _) = self.get(key(names::FEED, names::SETTINGS_KEY)).await?;
        item.as_ref().map(Settings::from_item).transpose()
    }

    async fn make_settings(&self) -> Result<Settings, StoreError> {
        let settings = Settings::new(self.slices.unwrap_or(DEFAULT_SLICES));
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
            None => self.stored_settings().await?.ok_or_else(|| {
                StoreError::damaged("the item with the settings of the feed", "it was deleted meanwhile")
            }),
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
        for name in [names::COUNT, names::HASH_KEY, names::CHECKSUM] {
            let mut item = settings.to_item();
            item.remove(name);
            Settings::from_item(&item).expect_err("missing");
            item.insert(name.to_owned(), AttributeValue::N("0".to_owned()));
            Settings::from_item(&item).expect_err("no count, no key and no checksum");
        }
    }

    #[test]
    fn settings_out_of_bounds_or_changed_by_hand_are_errors() {
        for count in ["4", "9", "4097", "5000000", "4294967295", "4294967296", "-1", "8.5"] {
            let mut item = Settings::new(DEFAULT_SLICES).to_item();
            item.insert(names::COUNT.to_owned(), AttributeValue::N(count.to_owned()));
            let error = Settings::from_item(&item).expect_err(count).to_string();
            assert!(error.starts_with("the item with the settings of the feed is damaged"), "{error}");
        }
        let mut item = Settings::new(DEFAULT_SLICES).to_item();
        item.insert(names::HASH_KEY.to_owned(), AttributeValue::B(Blob::new([0; 16])));
        Settings::from_item(&item).expect_err("another secret");
    }
}
