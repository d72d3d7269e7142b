//! Support for the code that the macros generate. Not part of the public API: it may change in any version.

pub use std::fmt;

use futures_core::future::BoxFuture;

pub use std::borrow::{Borrow, Cow, ToOwned};
pub use std::clone::Clone;
pub use std::cmp::{Eq, Ord, Ordering, PartialEq, PartialOrd};
pub use std::convert::{AsRef, From, Infallible, Into};
pub use std::hash::{Hash, Hasher};
pub use std::marker::Copy;
pub use std::option::Option;
pub use std::primitive::{bool, str};
pub use std::result::Result;
pub use std::str::FromStr;
pub use std::string::String;
pub use std::sync::LazyLock;
pub use std::vec::Vec;

pub use serde::{self, Deserialize, Serialize};

pub use crate::aggregate::probes::{Cloned, NotCloned};
pub use crate::aggregate::{CloneProbe, Lists as AggregateLists};
pub use crate::event::family::{decode_variant, encode_variant};
pub use crate::event::kind::{
    assert_belongs, assert_distinct, assert_follows, assert_retired, concat_kinds, count_kinds,
};
pub use crate::event::upcast::{UpcastFrom, decode_previous, unknown_name, unknown_version};
pub use crate::event::{DecodeError, EncodeError, EventData, EventKind, Field, decode_json, encode_json};
pub use crate::personal::{bind as bind_personal, bind_of_row as bind_personal_of_row};
pub use crate::process::Lists as ProcessLists;
pub use crate::process::instance::{instance_by, instance_of_stream, instance_with};
pub use crate::projection::Lists as ProjectionLists;
pub use crate::read_model::for_macros::{
    KeyKind, KeyProbe, KnownKind, NoOrder, RowKinds, SomeOrder, UnknownKind, index_place, key_text,
    require_key,
};
pub use crate::read_model::{IndexPlace, ReadModelError, RowIndex};
pub use crate::schema::Types;
pub use crate::schema::probe::{DescribeNothing, DescribeSchema, Probe};
pub use crate::snapshot::probes::{EqualityProbe, Equatable, NotEquatable};
pub use crate::snapshot::{Fingerprint, SnapshotPolicy, Snapshots};

use crate::event::Event;
use crate::feed::EventFilter;
use crate::ids::{IdSource, RandomIds};
use crate::process::{React, Reactor};
use crate::projection::{BoxError, EventContext, ProjectError, Stage};

/// A type that the user names as an event: an event of an aggregate, or the previous version of an event.
///
/// Generated code uses such a type only through this trait, so that a type that is not an event is reported once,
/// instead of once for each missing trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "write `#[event]` above the definition of `{Self}`"
)]
pub trait Member: Sized {
    const KINDS: &'static [EventKind];

    fn kind(&self) -> &'static EventKind;
    fn encode(&self) -> Result<String, EncodeError>;
    fn decode(stored: &EventData) -> Result<Self, DecodeError>;
    /// Returns the `Debug` form of a stored event.
    fn decoded_text(stored: &EventData) -> Result<String, DecodeError>;
    fn knows(name: &str) -> bool;

    fn copy(&self) -> Self;
    fn same(&self, other: &Self) -> bool;
    /// Formats the event as the content of the variant `name`.
    fn show(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result;

    /// Decodes an event that was stored before the version of `T`. `Self` is the previous version.
    fn decode_previous<T: UpcastFrom<Self>>(stored: &EventData) -> Result<T, DecodeError>;
}

#[diagnostic::do_not_recommend]
impl<E: Event> Member for E {
    const KINDS: &'static [EventKind] = E::KINDS;

    fn kind(&self) -> &'static EventKind {
        Event::kind(self)
    }

    fn encode(&self) -> Result<String, EncodeError> {
        Event::encode(self)
    }

    fn decode(stored: &EventData) -> Result<Self, DecodeError> {
        Event::decode(stored)
    }

    fn decoded_text(stored: &EventData) -> Result<String, DecodeError> {
        <E as Event>::decode(stored).map(|event| format!("{event:?}"))
    }

    fn knows(name: &str) -> bool {
        <E as Event>::knows(name)
    }

    fn copy(&self) -> Self {
        self.clone()
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_tuple(name).field(self).finish()
    }

    fn decode_previous<T: UpcastFrom<Self>>(stored: &EventData) -> Result<T, DecodeError> {
        decode_previous::<E, T>(stored)
    }
}

/// Returns a new UUID for an id.
pub fn new_uuid() -> uuid::Uuid {
    RandomIds.new_id()
}

/// Returns the items as a vector. `Vec::from` would require the prelude.
pub fn vec_of<T, const N: usize>(items: [T; N]) -> Vec<T> {
    items.into()
}

/// Adds events of an aggregate to a filter.
pub fn with_kinds(filter: EventFilter, aggregate: &'static str, kinds: &'static [EventKind]) -> EventFilter {
    filter.with_kinds(aggregate, kinds)
}

/// Returns a read model of a projection.
pub fn stage<S: Stage>(stage: &mut S) -> &mut dyn Stage {
    stage
}

/// Calls `React::react`. The type of the future does not depend on `React`, so a missing implementation is reported at
/// the call, and not again at its `.await`.
pub fn react<'a, P, E>(
    process: &'a P,
    event: &'a E,
    ctx: &'a EventContext,
    reactor: &'a mut Reactor<P::State>,
) -> BoxFuture<'a, Result<(), ProjectError>>
where
    P: React<E>,
    E: Sync,
{
    Box::pin(reactor.react(process, event, ctx))
}

/// Accepts `Result` and aliases of it, also those that do not have the error type as an argument.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the `Result` of the standard library",
    label = "not a `Result`",
    note = "write `Result<…, …>` with both types"
)]
pub trait AnyResult {
    type Error;
}

impl<T, E> AnyResult for Result<T, E> {
    type Error = E;
}

/// A return type of methods with `#[project]`.
#[diagnostic::on_unimplemented(
    message = "a `#[project]` method cannot return `{Self}`",
    label = "neither `()` nor a `Result<(), _>`",
    note = "write `Result<(), BoxError>`, or no return type if the method cannot fail"
)]
pub trait Projected {
    fn projected(self) -> Result<(), BoxError>;
}

impl Projected for () {
    fn projected(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Projected for Result<(), E> {
    fn projected(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

/// Returns the error for a timeout that the process no longer lists.
pub fn no_timeout(event: &EventData) -> ProjectError {
    ProjectError::Handler(crate::process::unlisted(event.name()).into())
}
