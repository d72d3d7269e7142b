//! Account numbers.

use serde::Deserialize;

/// A valid account number in its normalized form. Claims are compared byte by byte, so `de12 3456` and `DE123456` must
/// become the same number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AccountNumber(String);

impl AccountNumber {
    /// Returns the normalized number.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The error of an invalid account number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account number has 6 to 34 letters and digits")]
pub struct InvalidNumber;

impl TryFrom<String> for AccountNumber {
    type Error = InvalidNumber;

    fn try_from(text: String) -> Result<Self, InvalidNumber> {
        let number: String = text.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_uppercase()).collect();
        let well_formed =
            (6..=34).contains(&number.len()) && number.chars().all(|c| c.is_ascii_alphanumeric());
        if well_formed { Ok(Self(number)) } else { Err(InvalidNumber) }
    }
}
