//! What the macros expand to. Not part of the public interface: it may change in any version.

pub use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use crate::event::family::{decode_variant, encode_variant};
pub use crate::event::kind::{assert_follows, assert_unique, concat_kinds, count_kinds};
pub use crate::event::{EventKind, Field, decode_json, encode_json};
