//! How a reaction determines the instance of its process.

use std::str::FromStr;

use crate::projection::{BoxError, EventContext};

/// An id that can be parsed from a stream id. Implemented for all ids with `FromStr`.
#[diagnostic::on_unimplemented(
    message = "the instance cannot be named after the event's aggregate, because `{Self}` does not implement `FromStr`",
    label = "requires `impl FromStr for {Self}`",
    note = "implement `FromStr` for `{Self}`, or name the instance as in `#[react(instance = |event| event.order_id)]`"
)]
pub trait StreamInstance: Sized {
    fn of_stream(ctx: &EventContext) -> Result<Self, BoxError>;
}

#[diagnostic::do_not_recommend]
impl<I: FromStr<Err: Into<BoxError>>> StreamInstance for I {
    fn of_stream(ctx: &EventContext) -> Result<Self, BoxError> {
        Ok(ctx.id_as()?)
    }
}

/// A return type of the function in `#[react(instance = …)]`: the id `I` of an instance, an `Option` if the event may
/// concern no instance, or a `Result` of one of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name an instance whose id is a `{I}`",
    label = "neither `{I}` nor `Option<{I}>`, nor a `Result` with one of these",
    note = "return the id of the process's state, as in `#[react(instance = |event| event.order_id)]`"
)]
pub trait IntoInstance<I> {
    fn into_instance(self) -> Result<Option<I>, BoxError>;
}

impl<I> IntoInstance<I> for I {
    fn into_instance(self) -> Result<Option<I>, BoxError> {
        Ok(Some(self))
    }
}

impl<I> IntoInstance<I> for Option<I> {
    fn into_instance(self) -> Result<Self, BoxError> {
        Ok(self)
    }
}

impl<I, E: Into<BoxError>> IntoInstance<I> for Result<I, E> {
    fn into_instance(self) -> Result<Option<I>, BoxError> {
        self.map(Some).map_err(Into::into)
    }
}

impl<I, E: Into<BoxError>> IntoInstance<I> for Result<Option<I>, E> {
    fn into_instance(self) -> Result<Option<I>, BoxError> {
        self.map_err(Into::into)
    }
}

/// Returns the instance with the id of the event's aggregate.
///
/// # Errors
///
/// Fails if the id of the aggregate is not an id of the process.
pub fn instance_of_stream<I: StreamInstance>(ctx: &EventContext) -> Result<Option<I>, BoxError> {
    I::of_stream(ctx).map(Some)
}

/// Returns the instance that a function determines from the event.
///
/// # Errors
///
/// Returns the error of the function.
pub fn instance_by<E, R: IntoInstance<I>, I>(
    event: &E,
    name: impl FnOnce(&E) -> R,
) -> Result<Option<I>, BoxError> {
    name(event).into_instance()
}

/// Returns the instance that a function determines from the event and its context.
///
/// # Errors
///
/// Returns the error of the function.
pub fn instance_with<E, R: IntoInstance<I>, I>(
    event: &E,
    ctx: &EventContext,
    name: impl FnOnce(&E, &EventContext) -> R,
) -> Result<Option<I>, BoxError> {
    name(event, ctx).into_instance()
}
