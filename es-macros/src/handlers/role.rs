//! The attributes of methods, and what the methods that they mark look like.

use proc_macro2::Span;

/// What a method does with its first parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Apply,
    Handle,
    Project,
    React,
}

/// The forms of `self` that a method may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver {
    Value,
    Shared,
    Mutable,
}

impl Role {
    pub(super) const ALL: [Self; 4] = [Self::Apply, Self::Handle, Self::Project, Self::React];

    /// Returns the name of the attribute.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Handle => "handle",
            Self::Project => "project",
            Self::React => "react",
        }
    }

    /// Returns the method as a message names it.
    pub(super) fn method(self) -> String {
        let article = if self == Self::Apply { "an" } else { "a" };
        format!("{article} `#[{}]` method", self.name())
    }

    /// Returns the noun for the first parameter.
    pub(super) const fn subject(self) -> &'static str {
        if matches!(self, Self::Handle) { "command" } else { "event" }
    }

    /// Returns the second parameter, which is optional.
    pub(super) const fn context(self) -> Option<&'static str> {
        match self {
            Self::Apply => None,
            Self::Handle => Some("ctx: &Context<Self>"),
            Self::Project => Some("ctx: &EventContext"),
            Self::React => Some("reaction: &mut Reaction<'_, State>"),
        }
    }

    /// Returns the receiver to suggest.
    pub(super) const fn receiver(self) -> &'static str {
        match self {
            Self::Apply | Self::Project => "&mut self",
            Self::Handle | Self::React => "&self",
        }
    }

    pub(super) const fn accepts(self, receiver: Receiver) -> bool {
        match self {
            Self::Apply => matches!(receiver, Receiver::Mutable),
            Self::Handle | Self::React => matches!(receiver, Receiver::Shared),
            Self::Project => matches!(receiver, Receiver::Mutable | Receiver::Shared),
        }
    }

    /// Returns the reason for the receiver.
    pub(super) const fn reason_for_receiver(self) -> &'static str {
        match self {
            Self::Apply => "changes the state",
            Self::Handle => "decides on the state and cannot change it, which is what its events do",
            Self::Project => "uses the fields of the projection",
            Self::React => "cannot change the process, which remembers only the events of its state",
        }
    }

    /// Returns why the method cannot have more parameters, and what to do instead.
    pub(super) const fn reason_for_parameters(self) -> &'static str {
        match self {
            Self::Apply => "the event: record what applying it requires in the event",
            Self::Handle => "the command and the context: put other values into the command",
            Self::Project => "the event and its context: put other values into fields of the projection",
            Self::React => "the event and the reaction: put other values into fields of the process",
        }
    }

    /// Returns why the method cannot be `async`, if it cannot, and what to do instead.
    pub(super) const fn reason_for_sync(self) -> Option<&'static str> {
        match self {
            Self::Apply => Some(
                "state depends on nothing but its events: call the service before the decision, and record the result \
                 in the event",
            ),
            Self::Handle => Some(
                "a decision depends on nothing but the state and the command, and may run again: pass a decision that \
                 calls a service to `Repository::decide`, as an async closure",
            ),
            Self::Project | Self::React => None,
        }
    }
}

/// The attribute of a method.
pub(super) struct Mark {
    pub(super) role: Role,
    pub(super) span: Span,
}
