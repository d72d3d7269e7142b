//! Uses the macros in a crate that renames es-core, does not depend on serde, and shadows the prelude.

#![deny(warnings, clippy::pedantic, rustdoc::all)]

/// A path to es-core that starts in this crate.
#[doc(hidden)]
pub use sourcing as reexported;

/// Shadows names that the macros must not use.
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
    pub(crate) trait Project {}
    pub(crate) trait Projection {}
    pub(crate) trait React {}
    pub(crate) trait Process {}
    pub(crate) trait Row {}
    pub(crate) trait Schema {}
    pub(crate) trait Send {}
    pub(crate) trait Fn {}
    pub(crate) mod std {}
    pub(crate) mod core {}
}

/// A domain with the shadowed names.
pub mod domain {
    #[allow(unused_imports)]
    use crate::shadows::*;

    /// A struct.
    #[sourcing::event(crate = ::sourcing)]
    pub struct Opened {
        /// A field whose type is shadowed.
        pub owner: ::std::string::String,
    }

    /// The previous version.
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
        /// The number of moves.
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

    /// A part of a row.
    #[derive(
        sourcing::Schema,
        sourcing::serde::Serialize,
        sourcing::serde::Deserialize,
        ::std::clone::Clone,
        ::std::fmt::Debug,
    )]
    #[schema(crate = ::sourcing)]
    #[serde(crate = "sourcing::serde")]
    pub struct Owner {
        /// A field.
        pub name: ::std::string::String,
    }

    /// A row.
    #[derive(
        sourcing::Row,
        sourcing::serde::Serialize,
        sourcing::serde::Deserialize,
        ::std::clone::Clone,
        ::std::fmt::Debug,
    )]
    #[row(crate = ::sourcing, name = "doors", key = door, index(by_moves(moves, door)))]
    #[serde(crate = "sourcing::serde")]
    pub struct DoorRow {
        /// The key.
        pub door: ::std::string::String,
        /// A number.
        pub moves: u64,
        /// A part.
        pub owner: Owner,
    }

    /// A projection.
    #[derive(sourcing::Projection, ::std::clone::Clone, ::std::fmt::Debug)]
    #[projection(crate = ::sourcing, name = "doors", events(Door(Opened, Rung)))]
    pub struct Doors {
        /// Its rows.
        #[read_model]
        pub rows: sourcing::ReadModel<DoorRow>,
    }

    impl sourcing::Project<Opened> for Doors {
        async fn project(
            &mut self,
            event: &Opened,
            ctx: &sourcing::EventContext,
        ) -> ::std::result::Result<(), sourcing::BoxError> {
            let owner = Owner { name: ::std::clone::Clone::clone(&event.owner) };
            let row = DoorRow { door: ::std::string::ToString::to_string(ctx.id()), moves: 0, owner };
            ::std::result::Result::Ok(self.rows.put(row)?)
        }
    }

    impl sourcing::Project<Rung> for Doors {
        async fn project(
            &mut self,
            _: &Rung,
            _: &sourcing::EventContext,
        ) -> ::std::result::Result<(), sourcing::BoxError> {
            ::std::result::Result::Ok(())
        }
    }

    /// A process.
    #[derive(sourcing::Process, ::std::clone::Clone, ::std::fmt::Debug)]
    #[process(crate = ::sourcing, name = "porter", state = Door, events(Door(Opened)), timeouts(Closed))]
    pub struct Porter;

    impl sourcing::React<Opened> for Porter {
        fn instance(
            &self,
            _: &Opened,
            ctx: &sourcing::EventContext,
        ) -> ::std::result::Result<::std::option::Option<::std::string::String>, sourcing::BoxError> {
            ::std::result::Result::Ok(::std::option::Option::Some(::std::string::ToString::to_string(
                ctx.id(),
            )))
        }

        async fn react(
            &self,
            _: &Opened,
            _: &mut sourcing::Reaction<'_, Door>,
        ) -> ::std::result::Result<sourcing::Events<Door>, sourcing::BoxError> {
            ::std::result::Result::Ok(sourcing::Events::none())
        }
    }

    impl sourcing::React<Closed> for Porter {
        fn instance(
            &self,
            _: &Closed,
            ctx: &sourcing::EventContext,
        ) -> ::std::result::Result<::std::option::Option<::std::string::String>, sourcing::BoxError> {
            ::std::result::Result::Ok(::std::option::Option::Some(::std::string::ToString::to_string(
                ctx.id(),
            )))
        }

        async fn react(
            &self,
            _: &Closed,
            _: &mut sourcing::Reaction<'_, Door>,
        ) -> ::std::result::Result<sourcing::Events<Door>, sourcing::BoxError> {
            ::std::result::Result::Ok(sourcing::Events::none())
        }
    }
}

/// A domain without a prelude that defines macros.
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
    /// A module.
    pub mod payment {
        fact!(
            /// The order was paid.
            OrderPaid
        );
    }

    /// A deprecated version, which is still read.
    #[deprecated = "use OrderShipped"]
    #[::sourcing::event(crate = crate::reexported)]
    pub struct OrderShippedV1;

    /// The order was shipped.
    #[allow(deprecated)]
    #[::sourcing::event(crate = crate::reexported, version = 2, previous = OrderShippedV1)]
    pub struct OrderShipped {
        /// A large field.
        pub places: [u64; 32],
    }

    #[allow(deprecated)]
    impl ::std::convert::From<OrderShippedV1> for OrderShipped {
        fn from(_: OrderShippedV1) -> Self {
            Self { places: [0; 32] }
        }
    }

    /// An aggregate whose events begin with its name.
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
        /// The number of events.
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

    /// A row.
    #[derive(
        ::sourcing::Row,
        ::sourcing::Schema,
        ::sourcing::serde::Serialize,
        ::sourcing::serde::Deserialize,
        ::std::clone::Clone,
        ::std::fmt::Debug,
    )]
    #[serde(crate = "::sourcing::serde")]
    #[schema(crate = crate::reexported)]
    #[row(crate = crate::reexported, name = "orders", key = order, index(by_events(events)))]
    pub struct OrderRow {
        /// The key.
        pub order: u64,
        /// A number.
        pub events: u64,
    }

    /// A projection.
    #[derive(::sourcing::Projection, ::std::clone::Clone, ::std::fmt::Debug)]
    #[projection(crate = crate::reexported, name = "orders", events(Order(OrderPlaced, payment::OrderPaid)))]
    pub struct Orders {
        /// Its rows.
        #[read_model]
        pub rows: ::sourcing::ReadModel<OrderRow>,
    }

    impl ::sourcing::Project<OrderPlaced> for Orders {
        async fn project(
            &mut self,
            _: &OrderPlaced,
            _: &::sourcing::EventContext,
        ) -> ::std::result::Result<(), ::sourcing::BoxError> {
            ::std::result::Result::Ok(self.rows.put(OrderRow { order: 1, events: 1 })?)
        }
    }

    impl ::sourcing::Project<payment::OrderPaid> for Orders {
        async fn project(
            &mut self,
            _: &payment::OrderPaid,
            _: &::sourcing::EventContext,
        ) -> ::std::result::Result<(), ::sourcing::BoxError> {
            ::std::result::Result::Ok(())
        }
    }

    /// A process.
    #[derive(::sourcing::Process, ::std::clone::Clone, ::std::fmt::Debug)]
    #[process(crate = crate::reexported, name = "billing", state = Order, events(Order(payment::OrderPaid)))]
    pub struct Billing;

    impl ::sourcing::React<payment::OrderPaid> for Billing {
        fn instance(
            &self,
            _: &payment::OrderPaid,
            _: &::sourcing::EventContext,
        ) -> ::std::result::Result<::std::option::Option<u64>, ::sourcing::BoxError> {
            ::std::result::Result::Ok(::std::option::Option::None)
        }

        async fn react(
            &self,
            _: &payment::OrderPaid,
            _: &mut ::sourcing::Reaction<'_, Order>,
        ) -> ::std::result::Result<::sourcing::Events<Order>, ::sourcing::BoxError> {
            ::std::result::Result::Ok(::sourcing::Events::none())
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::bare::payment::OrderPaid;
    use crate::bare::{Billing, Order, OrderEvent, OrderPlaced, OrderRow, Orders};
    use crate::domain::{Closed, Door, DoorRow, Doors, Opened, Owner, Porter, Rung};
    use sourcing::event::EventData;
    use sourcing::{Aggregate, Event, Events, Process, Projection, Row, events};

    #[test]
    fn works_with_shadowed_names() {
        let decided: Events<Door> = events![Opened { owner: "Ann".into() }, Rung::Often(2), Closed];
        let mut door = Door::default();
        for event in decided.as_slice() {
            let stored = event.to_data().expect("encodes");
            door.apply_event(&Event::decode(&stored).expect("decodes"));
        }
        assert_eq!(door.moved, 2);
        let row = DoorRow { door: "front".into(), moves: 2, owner: Owner { name: "Ann".into() } };
        assert_eq!(row.key().expect("a text"), "front");
        assert_eq!((Doors::NAME, Porter::NAME), ("doors", "porter"));
    }

    #[test]
    fn works_without_a_prelude() {
        let decided: Events<Order> = events![OrderPlaced, OrderPaid];
        let mut order = Order::default();
        for event in decided.as_slice() {
            order.apply_event(event);
        }
        let old = EventData::new("OrderShipped", 1, "null");
        order.apply_event(&OrderEvent::decode(&old).expect("decodes an earlier version"));
        assert_eq!(order.events, 3);
        assert!(OrderRow { order: 7, events: 3 }.key().is_ok());
        assert_eq!((Orders::NAME, Billing::NAME), ("orders", "billing"));
    }
}
