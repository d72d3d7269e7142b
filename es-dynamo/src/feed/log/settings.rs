//! The settings of a feed, which are created once and never change.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use es_core::StoreError;
use es_core::feed::Slices;
use uuid::Uuid;

use super::marks::HashKey;
use crate::table::{Item, check_format, key, names};

/// The default number of initial slices of a new feed.
pub(crate) const DEFAULT_SLICES: Slices = Slices::new(1).expect("not zero");

/// The immutable settings of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) slices: Slices,
    pub(crate) hash_key: HashKey,
}

impl Settings {
    /// Returns new settings, with a new secret.
    pub(crate) fn new(slices: Slices) -> Self {
        Self { slices, hash_key: Uuid::new_v4().into_bytes() }
    }

    pub(crate) fn to_item(self) -> Item {
        let mut item = key(names::FEED, names::SETTINGS_KEY);
        item.insert(names::COUNT.to_owned(), AttributeValue::N(self.slices.count().to_string()));
        item.insert(names::HASH_KEY.to_owned(), AttributeValue::B(Blob::new(self.hash_key)));
        item.insert(names::CHECKSUM.to_owned(), AttributeValue::N(self.checksum().to_string()));
        item
    }

    /// Returns a CRC-32, which detects manual changes.
    fn checksum(self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.slices.count().to_be_bytes());
        hasher.update(&self.hash_key);
        hasher.finalize()
    }

    pub(crate) fn from_item(item: &Item) -> Result<Self, StoreError> {
        let damaged =
            |reason: String| StoreError::corrupt_item("the item with the settings of the feed", reason);
        check_format(item).map_err(damaged)?;
        let number = |name| item.get(name).and_then(|value| value.as_n().ok()?.parse::<u32>().ok());
        let slices = number(names::COUNT).and_then(Slices::new).ok_or_else(|| {
            damaged(format!("its number of slices is missing, or not in the range 1 to {}", Slices::MAX))
        })?;
        let key = item.get(names::HASH_KEY).and_then(|value| value.as_b().ok());
        let key = key.and_then(|key| HashKey::try_from(key.as_ref()).ok());
        let hash_key =
            key.ok_or_else(|| damaged("its secret is missing, or does not have 16 bytes".to_owned()))?;
        let settings = Self { slices, hash_key };
        if number(names::CHECKSUM) != Some(settings.checksum()) {
            return Err(damaged(
                "its checksum does not match, so its number of slices or its secret was changed manually: restore them"
                    .to_owned(),
            ));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_settings_restores_them() {
        let settings = Settings::new(DEFAULT_SLICES);
        assert_eq!(Settings::from_item(&settings.to_item()).expect("sound"), settings);
        for name in [names::COUNT, names::HASH_KEY, names::CHECKSUM] {
            let mut item = settings.to_item();
            item.remove(name);
            Settings::from_item(&item).expect_err("missing");
            item.insert(name.to_owned(), AttributeValue::N("0".to_owned()));
            Settings::from_item(&item).expect_err("invalid");
        }
    }

    #[test]
    fn settings_that_are_out_of_range_or_changed_manually_are_errors() {
        for count in ["0", "4", "9", "4097", "5000000", "4294967295", "4294967296", "-1", "8.5"] {
            let mut item = Settings::new(DEFAULT_SLICES).to_item();
            item.insert(names::COUNT.to_owned(), AttributeValue::N(count.to_owned()));
            let error = Settings::from_item(&item).expect_err(count).to_string();
            assert!(error.starts_with("the item with the settings of the feed is corrupt"), "{error}");
        }
        let mut item = Settings::new(DEFAULT_SLICES).to_item();
        item.insert(names::HASH_KEY.to_owned(), AttributeValue::B(Blob::new([0; 16])));
        Settings::from_item(&item).expect_err("another secret");
    }
}
