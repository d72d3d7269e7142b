//! What the macros expand to. Not part of the public interface: it may change in any version.

pub use std::convert::From;
pub use std::option::Option;
pub use std::primitive::str;
pub use std::result::Result;
pub use std::string::String;

pub use serde::{self, Deserialize, Serialize};

pub use crate::event::family::{decode_variant, encode_variant};
pub use crate::event::kind::{assert_follows, assert_unique, concat_kinds, count_kinds};
pub use crate::event::upcast::{decode_previous, unknown_name, unknown_version};
pub use crate::event::{EncodeError, EventKind, Field, decode_json, encode_json};
