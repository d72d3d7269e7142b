//! The messages of the schema lock for a change that makes stored orders unreadable, and for the same change in a new
//! version.

use std::panic::catch_unwind;

use es_core::testing::SchemaLock;
use es_core::{Aggregate, Events};

macro_rules! applies {
    ($($event:ty),*) => {
        $(impl es_core::Apply<$event> for Order {
            fn apply(&mut self, _: &$event) {}
        })*
    };
}

/// Defines an order with another `OrderPlaced`, and all other events unchanged.
macro_rules! order {
    () => {
        use super::super::events::*;
        use super::super::*;

        #[derive(es_core::Aggregate, Default)]
        #[aggregate(
            name = "order",
            id = OrderId,
            events(OrderPlaced, LineAdded, LineRemoved, OrderPaid, OrderShipped, OrderDelivered, OrderCancelled, OrderReturned)
        )]
        pub(super) struct Order;

        applies!(
            OrderPlaced,
            LineAdded,
            LineRemoved,
            OrderPaid,
            OrderShipped,
            OrderDelivered,
            OrderCancelled,
            OrderReturned
        );
    };
}

/// Renames the field `customer` to `client`.
mod careless {
    order!();

    #[es_core::event]
    pub(super) struct OrderPlaced {
        pub(super) client: String,
        pub(super) lines: Vec<Line>,
    }
}

/// Makes the same change in a new version.
mod careful {
    order!();

    #[es_core::event]
    pub(super) struct OrderPlacedV1 {
        pub(super) customer: String,
        pub(super) lines: Vec<Line>,
    }

    #[es_core::event(version = 2, previous = OrderPlacedV1)]
    pub(super) struct OrderPlaced {
        pub(super) client: String,
        pub(super) lines: Vec<Line>,
    }

    impl From<OrderPlacedV1> for OrderPlaced {
        fn from(old: OrderPlacedV1) -> Self {
            Self { client: old.customer, lines: old.lines }
        }
    }
}

/// Returns the message of the example's schema lock for `A`.
fn said_to<A: Aggregate>() -> String {
    // Use a copy, because `UPDATE_SCHEMA` may write to the file.
    let copy = std::env::temp_dir().join(format!("schema-{}.json", uuid::Uuid::new_v4()));
    std::fs::copy("order/schema.json", &copy).expect("can be copied");
    let failure = catch_unwind(|| SchemaLock::at(&copy).aggregate::<A>(Events::none()).check());
    let _ = std::fs::remove_file(copy);
    match failure {
        Ok(()) => String::new(),
        Err(failure) => *failure.downcast().expect("is a text"),
    }
}

fn is_compared() -> bool {
    std::env::var_os("UPDATE_SCHEMA").is_none()
}

#[test]
fn a_careless_change_is_found() {
    let said = said_to::<careless::Order>();
    for expected in [
        "`OrderPlaced` of `order` in version 1 has been stored as {",
        "which can no longer be read:",
        "missing field `client`",
        "keep the old struct as `OrderPlacedV1`, and write `#[event(version = 2, previous = OrderPlacedV1)]`",
    ] {
        assert!(said.contains(expected), "not in the message: {expected}\n{said}");
    }
    let shape = "the shape of `OrderPlaced` of `order` has changed, and its version is still 1:";
    assert!(!is_compared() || said.contains(shape) && said.contains("customer"), "{said}");
    assert!(!said.contains("OrderPaid"), "only one event has changed: {said}");
}

#[test]
fn a_new_version_is_only_to_be_added() {
    let said = said_to::<careful::Order>();
    let new = "`OrderPlaced` of `order` in version 2 is not in the schema lock yet";
    assert!(!is_compared() || said.contains(new), "{said}");
    assert!(!said.contains("can no longer be read") && !said.contains("has changed"), "{said}");
}
