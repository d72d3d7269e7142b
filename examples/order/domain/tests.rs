//! Tests of the rules, without a store.

use chrono::NaiveDate;
use es_core::testing::{AnyCommand, SchemaLock, check_laws, given};
use es_core::{Events, events};
use proptest::prelude::*;

use super::events::{
    LineAdded, LineRemoved, OrderCancelled, OrderDelivered, OrderPaid, OrderPlaced, OrderReturned,
    OrderShipped,
};
use super::stock::{StockReceived, StockReleased, StockReserved};
use super::wallet::{MoneyGivenBack, MoneyPaidIn, MoneyTaken};
use super::*;
use crate::fulfillment::{FulfillOrders, Fulfilled, Fulfillment, GivenUp, PaymentOverdue, WaitingForMoney};
use crate::overview::{DayRow, OrderRow};

fn line(quantity: u32, article: &str) -> Line {
    Line::new(quantity, article, Money::cents(100))
}

fn placed() -> OrderPlaced {
    OrderPlaced { customer: "Ann".to_owned(), lines: vec![line(2, "tea"), line(1, "cup")] }
}

fn paid() -> OrderPaid {
    OrderPaid { amount: Money::cents(300), reference: "r".to_owned() }
}

fn shipped() -> OrderShipped {
    OrderShipped { carrier: "c".to_owned(), tracking: "t".to_owned() }
}

fn wrong(status: Status, wanted: &'static str) -> OrderError {
    OrderError::WrongStatus { status, wanted }
}

#[test]
fn an_order_needs_lines_with_pieces() {
    let place = |lines| PlaceOrder { customer: "Ann".to_owned(), lines };
    let new = || given::<Order>(Events::none());
    new().when(place(placed().lines)).then([placed()]);
    new().when(place(vec![])).then_error(OrderError::NoLines);
    new().when(place(vec![line(0, "tea")])).then_error(OrderError::NoPieces("tea".to_owned()));
    given::<Order>([placed()]).when(place(placed().lines)).then_error(wrong(Status::Placed, "placed"));
}

#[test]
fn lines_change_until_it_is_paid() {
    let remove = |article: &str| RemoveLine { article: article.to_owned() };
    given::<Order>([placed()])
        .when(AddLine(line(1, "pot")))
        .then([LineAdded { line: line(1, "pot") }])
        .when(remove("tea"))
        .then([LineRemoved { article: "tea".to_owned() }])
        .when(remove("tea"))
        .then_error(OrderError::NotOrdered("tea".to_owned()));
    given::<Order>([placed()])
        .and([LineRemoved { article: "tea".to_owned() }])
        .when(remove("cup"))
        .then_error(OrderError::NoLines);
    given::<Order>(events![placed(), paid()])
        .when(AddLine(line(1, "pot")))
        .then_error(wrong(Status::Paid, "changed"));
}

#[test]
fn it_is_paid_whole_and_once() {
    let pay = |cents| Pay { amount: Money::cents(cents) };
    let reference = "00000000-0000-0000-0000-000000000001".to_owned(); // the first id of a test
    given::<Order>([placed()])
        .when(pay(300))
        .then([OrderPaid { amount: Money::cents(300), reference }])
        .when(pay(300))
        .then_error(wrong(Status::Paid, "paid"));
    let (total, offered) = (Money::cents(300), Money::cents(299));
    given::<Order>([placed()]).when(pay(299)).then_error(OrderError::WrongAmount { total, offered });
}

#[test]
fn carriers_may_report_an_arrival_twice() {
    given::<Order>(events![placed(), paid(), shipped()])
        .when(Deliver)
        .then([OrderDelivered])
        .when(Deliver)
        .then_nothing();
    given::<Order>(events![placed(), paid()]).when(Deliver).then_error(wrong(Status::Paid, "delivered"));
}

#[test]
fn what_was_paid_is_paid_back() {
    let reason = || "late".to_owned();
    let cancelled = |refund| OrderCancelled { reason: reason(), refund: Money::cents(refund) };
    let cancel = || Cancel { reason: reason() };
    given::<Order>([placed()]).when(cancel()).then([cancelled(0)]);
    given::<Order>(events![placed(), paid()])
        .when(cancel())
        .then([cancelled(300)])
        .when(cancel())
        .then_nothing();
    given::<Order>(events![placed(), paid(), shipped()])
        .when(cancel())
        .then_error(wrong(Status::Shipped, "cancelled"));
    given::<Order>(events![placed(), paid(), shipped(), OrderDelivered])
        .when(Return { reason: reason() })
        .then([OrderReturned { reason: reason(), refund: Money::cents(300) }]);
}

fn lines() -> impl Strategy<Value = Line> {
    (0..3_u32, "(tea|cup|pot)").prop_map(|(quantity, article)| line(quantity, &article))
}

fn commands() -> impl Strategy<Value = AnyCommand<Order>> {
    let text = || "[a-z]{0,3}";
    prop_oneof![
        (text(), prop::collection::vec(lines(), 0..3))
            .prop_map(|(customer, lines)| AnyCommand::new(PlaceOrder { customer, lines })),
        lines().prop_map(|line| AnyCommand::new(AddLine(line))),
        "(tea|cup|pot)".prop_map(|article| AnyCommand::new(RemoveLine { article })),
        (0..6_u64).prop_map(|n| AnyCommand::new(Pay { amount: Money::cents(100 * n) })),
        (text(), text()).prop_map(|(carrier, tracking)| AnyCommand::new(Ship { carrier, tracking })),
        Just(AnyCommand::new(Deliver)),
        text().prop_map(|reason| AnyCommand::new(Cancel { reason })),
        text().prop_map(|reason| AnyCommand::new(Return { reason })),
    ]
}

#[test]
fn laws_hold_for_orders() {
    check_laws::<Order>(OrderId(1001), commands());
}

/// Checks that stored events stay readable. The lock file is under version control.
#[test]
fn the_schema_is_locked() {
    let samples = events![
        placed(),
        LineAdded { line: line(1, "pot") },
        LineRemoved { article: "tea".to_owned() },
        paid(),
        shipped(),
        OrderDelivered,
        OrderCancelled { reason: "late".to_owned(), refund: Money::cents(300) },
        OrderReturned { reason: "broken".to_owned(), refund: Money::cents(300) },
    ];
    let (order, pieces, amount) = (1001, 2, Money::cents(300));
    let day = NaiveDate::default();
    SchemaLock::at("order/schema.json")
        .aggregate::<Order>(samples)
        .aggregate::<Stock>(events![
            StockReceived { pieces },
            StockReserved { order, pieces },
            StockReleased { order },
        ])
        .aggregate::<Wallet>(events![
            MoneyPaidIn { amount },
            MoneyTaken { amount },
            MoneyGivenBack { amount },
        ])
        .aggregate::<Fulfillment>(events![
            WaitingForMoney { customer: "Ann".to_owned(), lines: vec![line(1, "pot")] },
            Fulfilled,
            GivenUp,
        ])
        .process::<FulfillOrders>(|timeouts| timeouts.sample(PaymentOverdue))
        .rows([OrderRow {
            order: "1001".to_owned(),
            customer: "Ann".to_owned(),
            placed: day,
            status: Status::Paid,
        }])
        .rows([DayRow { day, orders: 1, revenue: amount }])
        .check();
}
