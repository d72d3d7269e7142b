//! Tools that all macros share, independent of aggregates, events, and rows.
//!
//! | module | job |
//! |---|---|
//! | `errors` | collects the mistakes of an item, to report all of them at once |
//! | `grammar` | parses the keys of an attribute |
//! | `derive` | reads the item of a derive, its attribute, and its stored name |
//! | `serde` | the JSON form of a type, as its serde attributes define it |
//! | `personal` | the fields with personal data, and their subjects |
//! | `spans` | generated code whose errors point at the user's code |
//! | `tokens` | tokens as text, and without the invisible groups of macros |

pub(crate) mod derive;
pub(crate) mod errors;
pub(crate) mod grammar;
pub(crate) mod personal;
pub(crate) mod serde;
pub(crate) mod spans;
pub(crate) mod tokens;
