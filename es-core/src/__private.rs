//! What the macros expand to. Not part of the public interface: it may change in any version.

use std::fmt;

use futures_core::future::BoxFuture;

pub use std::convert::From;
pub use std::option::Option;
pub use std::primitive::{bool, str};
pub use std::result::Result;
pub use std::string::String;
pub use std::sync::LazyLock;
pub use std::vec::Vec;

pub use serde::{self, Deserialize, Serialize};

pub use crate::event::family::{decode_variant, encode_variant};
pub use crate::event::kind::{
    assert_belongs, assert_distinct, assert_follows, assert_retired, concat_kinds, count_kinds,
};
pub use crate::event::upcast::{UpcastFrom, decode_previous, unknown_name, unknown_version};
pub use crate::event::{EncodeError, EventKind, Field, decode_json, encode_json};
pub use crate::read_model::for_macros::{
    KeyKind, KeyProbe, KnownKind, NoOrder, RowKinds, SomeOrder, UnknownKind, index_place, key_text,
    require_key,
};
pub use crate::schema::Types;
pub use crate::schema::probe::{DescribeNothing, DescribeSchema, Probe};

use crate::event::{DecodeError, Event, EventData};
use crate::feed::EventFilter;
use crate::process::{React, Reactor};
use crate::projection::{EventContext, ProjectError, Stage};

/// An event inside another type: one of an aggregate's events, or an earlier version of an event.
///
/// All that an expansion needs of a type that the user names goes through this one trait, without further
/// bounds. Then a type that is no event is reported once, as that, and not again for each trait it lacks.
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
    /// The `Debug` form of a stored event.
    fn decoded_text(stored: &EventData) -> Result<String, DecodeError>;
    fn knows(name: &str) -> bool;

    fn copy(&self) -> Self;
    fn same(&self, other: &Self) -> bool;
    /// Shows the event as the content of the variant `name`.
    fn show(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result;

    /// An event stored before the version `T`, of which `Self` is the version before.
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

/// A filter that takes these events of an aggregate, too.
pub fn with_kinds(filter: EventFilter, aggregate: &'static str, kinds: &'static [EventKind]) -> EventFilter {
    filter.with_kinds(aggregate, kinds)
}

/// A read model of a projection.
pub fn stage<S: Stage>(stage: &mut S) -> &mut dyn Stage {
    stage
}

/// Lets a process react to an event. What it gives back says nothing about the process, so that a missing
/// `React` is missed here, and not once more where it is waited for.
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

/// The error for a timeout that the process listed when it was scheduled, and lists no longer.
pub fn no_timeout(event: &EventData) -> ProjectError {
    ProjectError::Handler(crate::process::unlisted(event.name()).into())
}
