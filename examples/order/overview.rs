//! A projection with two read models, kept up to date from the events of all orders.

use chrono::NaiveDate;
use es_core::Schema;
use es_core::feed::Feed;
use es_core::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::events::{
    OrderCancelled, OrderDelivered, OrderPaid, OrderPlaced, OrderReturned, OrderShipped,
};
use crate::domain::{Money, Order, Status};

/// An order, which can be found by its customer.
#[derive(Clone, Debug, PartialEq, Row, Schema, Serialize, Deserialize)]
#[row(name = "orders", key = order, index(by_customer(customer, placed)))]
pub struct OrderRow {
    /// The number of the order.
    pub order: String,
    /// The customer's name.
    pub customer: String,
    /// The day on which the order was placed.
    pub placed: NaiveDate,
    /// The status of the order.
    pub status: Status,
}

/// The revenue of one day.
#[derive(Clone, Debug, PartialEq, Row, Schema, Serialize, Deserialize)]
#[row(name = "revenue", key = day)]
pub struct DayRow {
    /// The day.
    pub day: NaiveDate,
    /// The number of paid orders.
    pub orders: u32,
    /// The payments less the refunds.
    pub revenue: Money,
}

/// Orders by customer, and revenue by day.
#[derive(Clone, Debug, Projection)]
#[projection(
    name = "overview",
    events(Order(OrderPlaced, OrderPaid, OrderShipped, OrderDelivered, OrderCancelled, OrderReturned))
)]
pub struct Overview {
    /// The orders.
    #[read_model]
    pub orders: ReadModel<OrderRow>,
    /// The days.
    #[read_model]
    pub revenue: ReadModel<DayRow>,
}

#[handlers]
impl Overview {
    /// Returns the projection with its read models in `store`.
    pub fn new(store: &(impl Feed + Clone)) -> Self {
        Self { orders: ReadModel::of::<Self>(store), revenue: ReadModel::of::<Self>(store) }
    }

    /// Subtracts a refund from the revenue of the event's day.
    async fn pay_back(&mut self, refund: Money, ctx: &EventContext) -> Result<(), BoxError> {
        let mut day = self.day(ctx).await?;
        day.revenue = day.revenue.less(refund);
        Ok(self.revenue.put(day)?)
    }

    async fn set_status(&mut self, ctx: &EventContext, status: Status) -> Result<(), BoxError> {
        let row = self.orders.get(ctx.id()).await?.ok_or("an order that was never placed")?;
        Ok(self.orders.put(OrderRow { status, ..row })?)
    }

    /// Returns the row of the event's day.
    async fn day(&self, ctx: &EventContext) -> Result<DayRow, BoxError> {
        let day = ctx.time().date_naive();
        let known = self.revenue.get(&day).await?;
        Ok(known.unwrap_or(DayRow { day, orders: 0, revenue: Money::default() }))
    }

    #[project]
    async fn placed(&mut self, event: &OrderPlaced, ctx: &EventContext) -> Result<(), BoxError> {
        let row = OrderRow {
            order: ctx.id().to_owned(),
            customer: event.customer.clone(),
            placed: ctx.time().date_naive(),
            status: Status::Placed,
        };
        Ok(self.orders.put(row)?)
    }

    #[project]
    async fn paid(&mut self, event: &OrderPaid, ctx: &EventContext) -> Result<(), BoxError> {
        let mut day = self.day(ctx).await?;
        day.orders += 1;
        day.revenue = [day.revenue, event.amount].into_iter().sum();
        self.revenue.put(day)?;
        self.set_status(ctx, Status::Paid).await
    }

    #[project]
    async fn shipped(&mut self, _: &OrderShipped, ctx: &EventContext) -> Result<(), BoxError> {
        self.set_status(ctx, Status::Shipped).await
    }

    #[project]
    async fn delivered(&mut self, _: &OrderDelivered, ctx: &EventContext) -> Result<(), BoxError> {
        self.set_status(ctx, Status::Delivered).await
    }

    #[project]
    async fn cancelled(&mut self, event: &OrderCancelled, ctx: &EventContext) -> Result<(), BoxError> {
        self.pay_back(event.refund, ctx).await?;
        self.set_status(ctx, Status::Cancelled).await
    }

    #[project]
    async fn returned(&mut self, event: &OrderReturned, ctx: &EventContext) -> Result<(), BoxError> {
        self.pay_back(event.refund, ctx).await?;
        self.set_status(ctx, Status::Returned).await
    }
}
