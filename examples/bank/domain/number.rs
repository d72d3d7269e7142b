//! Account numbers.

use serde::Deserialize;

/// A number that is well formed. It has one spelling only, because claims are compared byte by byte:
/// `de12 3456` and `DE123456` are the same number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AccountNumber(String);

impl AccountNumber {
    /// The number's one spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no account number.
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
