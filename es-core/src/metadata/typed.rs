//! Application-defined types in metadata.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Metadata;
use crate::event::without_values;

/// An application-defined type that can be stored in metadata, under the type's key.
///
/// ```
/// use es_core::serde::{Deserialize, Serialize};
/// use es_core::metadata::MetadataValue;
/// use es_core::Metadata;
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// #[serde(crate = "es_core::serde")]
/// pub struct Tenant { pub name: String, pub region: u8 }
///
/// impl MetadataValue for Tenant {
///     const KEY: &'static str = "tenant";
/// }
///
/// let metadata = Metadata::new().with_value(&Tenant { name: "acme".into(), region: 2 })?;
/// assert_eq!(metadata.value::<Tenant>()?.map(|tenant| tenant.region), Some(2));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a value of metadata",
    label = "has no key",
    note = "write `impl MetadataValue for {Self} {{ const KEY: &'static str = \"…\"; }}`, and derive `Serialize` and `Deserialize`"
)]
pub trait MetadataValue: Serialize + DeserializeOwned {
    /// The key. It is stored: never change it.
    const KEY: &'static str;
}

/// The error of a metadata value that cannot be converted to or from its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metadata `{key}` does not match its type: {reason}")]
pub struct MetadataError {
    key: &'static str,
    reason: String,
}

impl MetadataError {
    fn new(key: &'static str, error: &serde_json::Error) -> Self {
        // The stored value may be confidential.
        Self { key, reason: without_values(error) }
    }
}

impl Metadata {
    /// Records an application-defined value, replacing an earlier value of the type.
    ///
    /// # Errors
    ///
    /// [`MetadataError`] if the value cannot be represented in JSON, or cannot be read back, such as a NaN.
    pub fn with_value<T: MetadataValue>(self, value: &T) -> Result<Self, MetadataError> {
        let value = serde_json::to_value(value).map_err(|error| MetadataError::new(T::KEY, &error))?;
        T::deserialize(&value).map_err(|error| MetadataError::new(T::KEY, &error))?;
        Ok(self.with_entry(T::KEY, value))
    }

    /// Returns the application-defined value of this type, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`MetadataError`] if the stored value does not match the type.
    pub fn value<T: MetadataValue>(&self) -> Result<Option<T>, MetadataError> {
        let value = self.get(T::KEY).map(T::deserialize);
        value.transpose().map_err(|error| MetadataError::new(T::KEY, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Shop(u8);

    impl MetadataValue for Shop {
        const KEY: &'static str = "shop";
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Rate(f64);

    impl MetadataValue for Rate {
        const KEY: &'static str = "rate";
    }

    #[test]
    fn rejects_what_could_not_be_read_back() {
        let metadata = Metadata::new().with_value(&Rate(0.1)).expect("is a number");
        assert_eq!(metadata.value(), Ok(Some(Rate(0.1))));
        let error = Metadata::new().with_value(&Rate(f64::NAN)).expect_err("is no number in JSON");
        assert_eq!(
            error.to_string(),
            "the metadata `rate` does not match its type: invalid type: null, expected f64"
        );
    }

    #[test]
    fn errors_quote_nothing() {
        assert_eq!(Metadata::new().value::<Shop>(), Ok(None));
        let error = Metadata::new().with_entry("shop", "secret").value::<Shop>().expect_err("is no number");
        assert_eq!(
            error.to_string(),
            "the metadata `shop` does not match its type: invalid type: string, expected u8"
        );
    }
}
