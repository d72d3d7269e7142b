//! The macros in a crate that renames es-core, depends on no serde, and shadows the prelude.

#![deny(warnings, clippy::pedantic, rustdoc::all)]

/// Found by a path that starts in this crate.
#[doc(hidden)]
pub use sourcing as reexported;

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
    pub(crate) trait Display {}
    pub(crate) trait Handle {}
    pub(crate) trait Apply {}
    pub(crate) trait Member {}
    pub(crate) struct EventData;
    pub(crate) struct EventKind;
    pub(crate) struct DecodeError;
    pub(crate) struct Snapshots;
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

/// A domain without a prelude, behind macros of its own.
#[no_implicit_prelude]
pub mod bare {
    macro_rules! fact {
        ($(#[$attribute:meta])* $name:ident) => {
            $(#[$attribute])*
            #[::sourcing::event(crate = ::sourcing)]
            pub struct $name;
        };
    }

    fact!(
        /// The order was placed.
        OrderPlaced
    );
    /// What is paid.
    pub mod payment {
        fact!(
            /// The order was paid.
            OrderPaid
        );
    }

    /// Of a version that nobody should use any more, and that is read all the same.
    #[deprecated = "use OrderShipped"]
    #[::sourcing::event(crate = crate::reexported)]
    pub struct OrderShippedV1;

    /// The order was shipped.
    #[allow(deprecated)]
    #[::sourcing::event(crate = crate::reexported, version = 2, previous = OrderShippedV1)]
    pub struct OrderShipped {
        /// A large one beside small ones.
        pub places: [u64; 32],
    }

    #[allow(deprecated)]
    impl ::std::convert::From<OrderShippedV1> for OrderShipped {
        fn from(_: OrderShippedV1) -> Self {
            Self { places: [0; 32] }
        }
    }

    /// An aggregate whose events all start with its own name.
    #[derive(
        ::sourcing::Aggregate,
        ::std::default::Default,
        ::sourcing::serde::Serialize,
        ::sourcing::serde::Deserialize,
        ::std::fmt::Debug,
    )]
    #[serde(crate = "::sourcing::serde")]
    #[aggregate(
        crate = crate::reexported,
        name = "order",
        id = u64,
        events(OrderPlaced, payment::OrderPaid, OrderShipped),
        retired("OrderLost"),
        snapshot,
    )]
    pub struct Order {
        /// How many events there were.
        pub events: u64,
    }

    impl ::sourcing::Apply<OrderPlaced> for Order {
        fn apply(&mut self, _: &OrderPlaced) {
            self.events += 1;
        }
    }

    impl ::sourcing::Apply<payment::OrderPaid> for Order {
        fn apply(&mut self, _: &payment::OrderPaid) {
            self.events += 1;
        }
    }

    impl ::sourcing::Apply<OrderShipped> for Order {
        fn apply(&mut self, _: &OrderShipped) {
            self.events += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::bare::payment::OrderPaid;
    use crate::bare::{Order, OrderEvent, OrderPlaced};
    use crate::domain::{Closed, Door, Opened, Rung};
    use sourcing::{Aggregate, Event, EventData, Events, events};

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

    #[test]
    fn works_without_a_prelude() {
        let decided: Events<Order> = events![OrderPlaced, OrderPaid];
        let mut order = Order::default();
        for event in decided.as_slice() {
            order.apply_event(event);
        }
        let old = EventData::new("OrderShipped", 1, "null");
        order.apply_event(&OrderEvent::decode(&old).expect("an earlier version is read"));
        assert_eq!(order.events, 3);
    }
}
