//! A process: what happens by itself when a customer with a wallet places an order.
//!
//! It takes the money, sets the articles aside, and ships. Whoever has too little in the wallet gets some time.
//! When an article is sold out, or the time is over, the process undoes what it has done, and calls the order
//! off. What it does is done once, whatever crashes in between.

use std::time::Duration;

use es_core::prelude::*;

use crate::domain::events::OrderPlaced;
use crate::domain::stock::{Article, Release, Reserve, SoldOut};
use crate::domain::wallet::{GiveBack, Take, WalletError};
use crate::domain::{Cancel, Line, Money, Order, OrderId, Pay, Ship, Stock, Wallet};

/// There was too little money: the order waits for more.
#[event]
pub struct WaitingForMoney {
    /// Who has to pay.
    pub customer: String,
    /// What was ordered.
    pub lines: Vec<Line>,
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
#[aggregate(name = "fulfilment", id = OrderId, events(WaitingForMoney, Fulfilled, GivenUp))]
pub struct Fulfilment {
    /// What waits for the money.
    pub waiting: Option<WaitingForMoney>,
}

impl Apply<WaitingForMoney> for Fulfilment {
    fn apply(&mut self, event: &WaitingForMoney) {
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
#[derive(Clone, Debug, Process)]
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

impl React<OrderPlaced> for FulfilOrders {
    fn instance(&self, _: &OrderPlaced, ctx: &EventContext) -> Option<OrderId> {
        ctx.id().parse().ok().map(OrderId)
    }

    async fn react(
        &self,
        event: &OrderPlaced,
        reaction: &mut Reaction<'_, Fulfilment>,
    ) -> Result<Events<Fulfilment>, BoxError> {
        let take = Take { amount: total(&event.lines) };
        match reaction.ask(&self.wallets, &event.customer, take).await? {
            Ok(_) => self.fulfil(reaction, &event.customer, &event.lines).await,
            Err(WalletError::NoWallet) => Ok(Events::none()),
            Err(WalletError::TooLittle { .. }) => {
                reaction.schedule(self.time_to_pay, PaymentOverdue)?;
                let (customer, lines) = (event.customer.clone(), event.lines.clone());
                Ok(WaitingForMoney { customer, lines }.into())
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
        let take = Take { amount: total(&waiting.lines) };
        match reaction.ask(&self.wallets, &waiting.customer, take).await? {
            Ok(_) => self.fulfil(reaction, &waiting.customer, &waiting.lines).await,
            Err(error) => self.give_up(reaction, format!("not paid in time: {error}")).await,
        }
    }
}

impl FulfilOrders {
    /// Sets everything aside and ships it, or undoes it all.
    async fn fulfil(
        &self,
        reaction: &mut Reaction<'_, Fulfilment>,
        customer: &str,
        lines: &[Line],
    ) -> Result<Events<Fulfilment>, BoxError> {
        let order = *reaction.id();
        let amount = total(lines);
        for (index, line) in lines.iter().enumerate() {
            let reserve = Reserve { order, pieces: line.quantity };
            if let Err(SoldOut { left }) = reaction.ask(&self.stock, &article(line), reserve).await? {
                for reserved in &lines[..index] {
                    reaction.execute(&self.stock, &article(reserved), Release { order }).await?;
                }
                reaction.execute(&self.wallets, &customer.to_owned(), GiveBack { amount }).await?;
                return self.give_up(reaction, format!("{} is sold out: {left} left", line.article)).await;
            }
        }
        reaction.execute(&self.orders, &order, Pay { amount }).await?;
        let ship = Ship { carrier: "DHL".to_owned(), tracking: format!("TRACK-{order}") };
        reaction.execute(&self.orders, &order, ship).await?;
        Ok(Fulfilled.into())
    }

    async fn give_up(
        &self,
        reaction: &mut Reaction<'_, Fulfilment>,
        reason: String,
    ) -> Result<Events<Fulfilment>, BoxError> {
        let order = *reaction.id();
        reaction.execute(&self.orders, &order, Cancel { reason }).await?;
        Ok(GivenUp.into())
    }
}

fn total(lines: &[Line]) -> Money {
    lines.iter().map(|line| line.price.times(line.quantity)).sum()
}

fn article(line: &Line) -> Article {
    Article(line.article.clone())
}

#[cfg(test)]
mod tests {
    use es_core::MemoryStore;

    use super::*;
    use crate::domain::stock::Receive;
    use crate::domain::wallet::PayIn;
    use crate::domain::{PlaceOrder, Status};

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
        let pay_in = PayIn { amount: Money::cents(10_00) };
        shop.process.wallets.execute(&"Ann".to_owned(), pay_in).await?;
        assert_eq!(shop.order(1, 4).await?.status, Status::Cancelled);
        assert_eq!(shop.free_cups().await?, 3);
        let wallet = shop.process.wallets.load(&"Ann".to_owned()).await?;
        assert_eq!(wallet.state.balance, Money::cents(20_00));
        Ok(())
    }

    #[tokio::test]
    async fn waits_for_the_money_until_the_time_is_over() -> Result<(), BoxError> {
        let shop = Shop::new(Duration::from_millis(20)).await?;
        assert_eq!(shop.order(1, 3).await?.status, Status::Placed);
        tokio::time::sleep(Duration::from_millis(30)).await;
        shop.run().await?;
        assert_eq!(shop.process.orders.load(&OrderId(1)).await?.state.status, Status::Cancelled);
        Ok(())
    }

    #[tokio::test]
    async fn leaves_customers_without_a_wallet_alone() -> Result<(), BoxError> {
        let shop = Shop::new(Duration::ZERO).await?;
        let lines = vec![Line::new(1, "cup", Money::cents(4_00))];
        let place = PlaceOrder { customer: "Bob".to_owned(), lines };
        shop.process.orders.execute(&OrderId(2), place).await?;
        shop.run().await?;
        assert_eq!(shop.process.orders.load(&OrderId(2)).await?.state.status, Status::Placed);
        Ok(())
    }
}
