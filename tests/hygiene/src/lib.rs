//! The macros in a crate that renames es-core, depends on no serde, and shadows the prelude.

#![deny(warnings)]

/// Shadows what the macros must not rely on.
mod shadows {
    #![allow(dead_code)]
    pub(crate) struct Result;
    pub(crate) struct Option;
    pub(crate) struct Vec;
    pub(crate) struct String;
    pub(crate) struct Box;
    pub(crate) struct Some;
    pub(crate) struct None;
    pub(crate) struct Ok;
    pub(crate) struct Err;
    pub(crate) trait Default {}
    pub(crate) trait Clone {}
    pub(crate) trait Debug {}
    pub(crate) trait PartialEq {}
    pub(crate) trait From {}
    pub(crate) trait Into {}
    pub(crate) trait Iterator {}
    pub(crate) trait Event {}
    pub(crate) trait Aggregate {}
    pub(crate) trait Serialize {}
    pub(crate) mod es_core {}
    pub(crate) mod serde {}
    pub(crate) mod std {}
    pub(crate) mod core {}
}

/// A domain among the shadows.
pub mod domain {
    #[allow(unused_imports)]
    use crate::shadows::*;

    /// A struct.
    #[sourcing::event(crate = ::sourcing)]
    pub struct Opened {
        /// A field of a type that is not what it seems.
        pub owner: ::std::string::String,
    }

    /// The version before the next.
    #[sourcing::event(crate = ::sourcing)]
    pub struct ClosedV1;

    /// An upcast.
    #[sourcing::event(crate = ::sourcing, version = 2, previous = ClosedV1, alias = "Shut")]
    pub struct Closed;

    impl ::std::convert::From<ClosedV1> for Closed {
        fn from(_: ClosedV1) -> Self {
            Self
        }
    }

    /// A family.
    #[sourcing::event(crate = ::sourcing)]
    pub enum Rung {
        /// A variant.
        Once,
        /// Another.
        Often(u8),
    }

    /// An aggregate.
    #[derive(sourcing::Aggregate, ::std::default::Default, ::std::fmt::Debug)]
    #[aggregate(
        crate = ::sourcing,
        name = "door",
        id = ::std::string::String,
        events(Opened, Closed, Rung),
        retired("Painted"),
        snapshot(every = 2),
    )]
    #[derive(sourcing::serde::Serialize, sourcing::serde::Deserialize)]
    #[serde(crate = "sourcing::serde")]
    pub struct Door {
        /// How often it was moved.
        pub moved: u64,
    }

    impl sourcing::Apply<Opened> for Door {
        fn apply(&mut self, _: &Opened) {
            self.moved += 1;
        }
    }

    impl sourcing::Apply<Closed> for Door {
        fn apply(&mut self, _: &Closed) {
            self.moved += 1;
        }
    }

    impl sourcing::Apply<Rung> for Door {
        fn apply(&mut self, _: &Rung) {}
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::{Closed, Door, Opened, Rung};
    use sourcing::{Aggregate, Event, Events, events};

    #[test]
    fn works_all_the_same() {
        let decided: Events<Door> = events![Opened { owner: "Ann".into() }, Rung::Often(2), Closed];
        let mut door = Door::default();
        for event in decided.as_slice() {
            let stored = event.to_data().expect("encodes");
            door.apply_event(&Event::decode(&stored).expect("decodes"));
        }
        assert_eq!(door.moved, 2);
    }
}
