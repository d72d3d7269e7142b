//! A projection with two read models: what no single order can tell, kept up to date from the events of all.

use chrono::NaiveDate;
use es_core::Schema;
use es_core::feed::Feed;
use es_core::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::events::{
    OrderCancelled, OrderDelivered, OrderPaid, OrderPlaced, OrderReturned, OrderShipped,
};
use crate::domain::{Money, Order, Status};

/// One order, to be found by its customer.
#[derive(Clone, Debug, PartialEq, Row, Schema, Serialize, Deserialize)]
#[row(name = "orders", key = order, index(by_customer(customer, placed)))]
pub struct OrderRow {
    /// Its number.
    pub order: String,
    /// Who ordered.
    pub customer: String,
    /// When.
    pub placed: NaiveDate,
    /// How far it has come.
    pub status: Status,
}

/// What the shop earned on one day.
#[derive(Clone, Debug, PartialEq, Row, Schema, Serialize, Deserialize)]
#[row(name = "revenue", key = day)]
pub struct DayRow {
    /// The day.
    pub day: NaiveDate,
    /// How many orders were paid.
    pub orders: u32,
    /// What came in, less what was paid back.
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

impl Overview {
    /// The read models in `store`.
    pub fn new(store: &(impl Feed + Clone)) -> Self {
        Self { orders: ReadModel::of::<Self>(store), revenue: ReadModel::of::<Self>(store) }
    }

    /// Money that goes back on the day of an event.
    async fn pay_back(&mut self, refund: Money, ctx: &EventContext) -> Result<(), BoxError> {
        let mut day = self.day(ctx).await?;
        day.revenue = day.revenue.less(refund);
        Ok(self.revenue.put(day)?)
    }

    async fn set_status(&mut self, ctx: &EventContext, status: Status) -> Result<(), BoxError> {
        let row = self.orders.get(ctx.id()).await?.ok_or("an order that was never placed")?;
        Ok(self.orders.put(OrderRow { status, ..row })?)
    }

    /// The day of an event, to be changed and put back.
    async fn day(&self, ctx: &EventContext) -> Result<DayRow, BoxError> {
        let day = ctx.time().date_naive();
        let known = self.revenue.get(&day).await?;
        Ok(known.unwrap_or(DayRow { day, orders: 0, revenue: Money::default() }))
    }
}

impl Project<OrderPlaced> for Overview {
    async fn project(&mut self, event: &OrderPlaced, ctx: &EventContext) -> Result<(), BoxError> {
        let row = OrderRow {
            order: ctx.id().to_owned(),
            customer: event.customer.clone(),
            placed: ctx.time().date_naive(),
            status: Status::Placed,
        };
        Ok(self.orders.put(row)?)
    }
}

impl Project<OrderPaid> for Overview {
    async fn project(&mut self, event: &OrderPaid, ctx: &EventContext) -> Result<(), BoxError> {
        let mut day = self.day(ctx).await?;
        day.orders += 1;
        day.revenue = [day.revenue, event.amount].into_iter().sum();
        self.revenue.put(day)?;
        self.set_status(ctx, Status::Paid).await
    }
}

impl Project<OrderShipped> for Overview {
    async fn project(&mut self, _: &OrderShipped, ctx: &EventContext) -> Result<(), BoxError> {
        self.set_status(ctx, Status::Shipped).await
    }
}

impl Project<OrderDelivered> for Overview {
    async fn project(&mut self, _: &OrderDelivered, ctx: &EventContext) -> Result<(), BoxError> {
        self.set_status(ctx, Status::Delivered).await
    }
}

impl Project<OrderCancelled> for Overview {
    async fn project(&mut self, event: &OrderCancelled, ctx: &EventContext) -> Result<(), BoxError> {
        self.pay_back(event.refund, ctx).await?;
        self.set_status(ctx, Status::Cancelled).await
    }
}

impl Project<OrderReturned> for Overview {
    async fn project(&mut self, event: &OrderReturned, ctx: &EventContext) -> Result<(), BoxError> {
        self.pay_back(event.refund, ctx).await?;
        self.set_status(ctx, Status::Returned).await
    }
}
