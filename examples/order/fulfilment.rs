//! A process: what happens by itself when an order is placed.
//!
//! It sets the articles aside, takes the money, and ships. Whoever has not paid enough in advance gets some
//! time. When an article is sold out, or the time is over, the process undoes what it has done, and calls the
//! order off. What it does is done once, whatever crashes in between.

use std::time::Duration;

use es_core::prelude::*;

use crate::domain::events::OrderPlaced;
use crate::domain::stock::{Article, Release, Reserve, SoldOut};
use crate::domain::wallet::{Take, TooLittle};
use crate::domain::{Cancel, Money, Order, OrderId, Pay, Ship, Stock, Wallet};

/// The articles of an order are set aside; the money is still to come.
#[event]
pub struct ReservedForPayment {
    /// Who has to pay.
    pub customer: String,
    /// What is set aside.
    pub articles: Vec<String>,
    /// What it costs.
    pub amount: Money,
}

/// The order was paid and shipped: nothing is left to do.
#[event]
pub struct Fulfilled;

/// The order was called off: nothing is left to do.
#[event]
pub struct GivenUp;

/// The time to pay is over: an event that the process schedules for itself.
#[event]
pub struct PaymentOverdue;

/// What the process remembers of one order.
#[derive(Aggregate, Clone, Debug, Default, PartialEq)]
#[aggregate(name = "fulfilment", id = OrderId, events(ReservedForPayment, Fulfilled, GivenUp))]
pub struct Fulfilment {
    /// What waits for the money.
    pub waiting: Option<ReservedForPayment>,
}

impl Apply<ReservedForPayment> for Fulfilment {
    fn apply(&mut self, event: &ReservedForPayment) {
        self.waiting = Some(event.clone());
    }
}

impl Apply<Fulfilled> for Fulfilment {
    fn apply(&mut self, _: &Fulfilled) {
        self.waiting = None;
    }
}

impl Apply<GivenUp> for Fulfilment {
    fn apply(&mut self, _: &GivenUp) {
        self.waiting = None;
    }
}

/// The process.
#[derive(Clone, Process)]
#[process(
    name = "fulfilment",
    state = Fulfilment,
    events(Order(OrderPlaced)),
    timeouts(PaymentOverdue)
)]
pub struct FulfilOrders {
    /// To ship them, or call them off.
    pub orders: Repository<Order>,
    /// To set articles aside.
    pub stock: Repository<Stock>,
    /// To take the money.
    pub wallets: Repository<Wallet>,
    /// How long a customer may take to pay.
    pub time_to_pay: Duration,
}

impl FulfilOrders {
    async fn ship(&self, reaction: &mut Reaction<'_, Fulfilment>, amount: Money) -> Result<(), BoxError> {
        let order = *reaction.id();
        reaction.execute(&self.orders, &order, Pay { amount }).await?;
        let ship = Ship { carrier: "DHL".to_owned(), tracking: format!("TRACK-{order}") };
        reaction.execute(&self.orders, &order, ship).await?;
        Ok(())
    }

    /// The compensation: puts everything back, and calls the order off.
    async fn give_up(
        &self,
        reaction: &mut Reaction<'_, Fulfilment>,
        reserved: &[String],
        reason: &str,
    ) -> Result<(), BoxError> {
        let order = *reaction.id();
        for article in reserved {
            reaction.execute(&self.stock, &Article(article.clone()), Release { order }).await?;
        }
        reaction.execute(&self.orders, &order, Cancel { reason: reason.to_owned() }).await?;
        Ok(())
    }
}

impl React<OrderPlaced> for FulfilOrders {
    fn instance(&self, _: &OrderPlaced, ctx: &EventContext) -> Option<OrderId> {
        ctx.id().parse().ok().map(OrderId)
    }

    async fn react(
        &self,
        event: &OrderPlaced,
        reaction: &mut Reaction<'_, Fulfilment>,
    ) -> Result<Events<Fulfilment>, BoxError> {
        let order = *reaction.id();
        let mut reserved = Vec::new();
        for line in &event.lines {
            let reserve = Reserve { order, pieces: line.quantity };
            match reaction.ask(&self.stock, &Article(line.article.clone()), reserve).await? {
                Ok(_) => reserved.push(line.article.clone()),
                Err(SoldOut { left }) => {
                    let reason = format!("{} is sold out: {left} left", line.article);
                    self.give_up(reaction, &reserved, &reason).await?;
                    return Ok(GivenUp.into());
                }
            }
        }
        let amount = event.lines.iter().map(|line| line.price.times(line.quantity)).sum();
        match reaction.ask(&self.wallets, &event.customer, Take { amount }).await? {
            Ok(_) => {
                self.ship(reaction, amount).await?;
                Ok(Fulfilled.into())
            }
            Err(TooLittle { .. }) => {
                reaction.schedule(self.time_to_pay, PaymentOverdue)?;
                let customer = event.customer.clone();
                Ok(ReservedForPayment { customer, articles: reserved, amount }.into())
            }
        }
    }
}

impl React<PaymentOverdue> for FulfilOrders {
    fn instance(&self, _: &PaymentOverdue, ctx: &EventContext) -> Option<OrderId> {
        ctx.id().parse().ok().map(OrderId)
    }

    async fn react(
        &self,
        _: &PaymentOverdue,
        reaction: &mut Reaction<'_, Fulfilment>,
    ) -> Result<Events<Fulfilment>, BoxError> {
        let Some(waiting) = reaction.state().waiting.clone() else { return Ok(Events::none()) };
        let take = Take { amount: waiting.amount };
        match reaction.ask(&self.wallets, &waiting.customer, take).await? {
            Ok(_) => {
                self.ship(reaction, waiting.amount).await?;
                Ok(Fulfilled.into())
            }
            Err(TooLittle { balance }) => {
                let reason = format!("not paid in time: {balance} of {}", waiting.amount);
                self.give_up(reaction, &waiting.articles, &reason).await?;
                Ok(GivenUp.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use es_core::MemoryStore;

    use super::*;
    use crate::domain::stock::Receive;
    use crate::domain::wallet::PayIn;
    use crate::domain::{Line, PlaceOrder, Status};

    struct Shop {
        store: MemoryStore,
        process: FulfilOrders,
    }

    impl Shop {
        /// Three cups on the shelf, and 10 euros in Ann's wallet.
        async fn new(time_to_pay: Duration) -> Result<Self, BoxError> {
            let store = MemoryStore::new();
            let process = FulfilOrders {
                orders: Repository::new(store.clone()),
                stock: Repository::new(store.clone()),
                wallets: Repository::new(store.clone()),
                time_to_pay,
            };
            process.stock.execute(&cup(), Receive { pieces: 3 }).await?;
            process.wallets.execute(&"Ann".to_owned(), PayIn { amount: Money::cents(10_00) }).await?;
            Ok(Self { store, process })
        }

        async fn order(&self, order: u32, cups: u32) -> Result<Order, BoxError> {
            let lines = vec![Line::new(cups, "cup", Money::cents(4_00))];
            let place = PlaceOrder { customer: "Ann".to_owned(), lines };
            self.process.orders.execute(&OrderId(order), place).await?;
            self.run().await?;
            Ok(self.process.orders.load(&OrderId(order)).await?.state)
        }

        async fn run(&self) -> Result<(), BoxError> {
            let projector = Projector::of_process(self.store.clone(), self.process.clone());
            Ok(projector.run_until_caught_up().await?)
        }

        async fn free_cups(&self) -> Result<u32, BoxError> {
            Ok(self.process.stock.load(&cup()).await?.state.free)
        }
    }

    fn cup() -> Article {
        Article("cup".to_owned())
    }

    #[tokio::test]
    async fn ships_what_is_there_and_paid() -> Result<(), BoxError> {
        let shop = Shop::new(Duration::from_hours(1)).await?;
        assert_eq!(shop.order(1, 2).await?.status, Status::Shipped);
        assert_eq!(shop.free_cups().await?, 1);
        Ok(())
    }

    #[tokio::test]
    async fn calls_off_what_is_sold_out() -> Result<(), BoxError> {
        let shop = Shop::new(Duration::from_hours(1)).await?;
        assert_eq!(shop.order(1, 4).await?.status, Status::Cancelled);
        assert_eq!(shop.free_cups().await?, 3);
        Ok(())
    }

    #[tokio::test]
    async fn waits_for_the_money_until_the_time_is_over() -> Result<(), BoxError> {
        let shop = Shop::new(Duration::from_millis(20)).await?;
        assert_eq!(shop.order(1, 3).await?.status, Status::Placed);
        assert_eq!(shop.free_cups().await?, 0);
        tokio::time::sleep(Duration::from_millis(30)).await;
        shop.run().await?;
        assert_eq!(shop.process.orders.load(&OrderId(1)).await?.state.status, Status::Cancelled);
        assert_eq!(shop.free_cups().await?, 3);
        Ok(())
    }
}
