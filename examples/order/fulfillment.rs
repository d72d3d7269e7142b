//! A process: the steps that follow automatically when a customer with a wallet places an order.
//!
//! It takes the money, reserves the articles, and ships. A customer with too little money in the wallet gets some time.
//! If an article is sold out, or the time is over, the process compensates its earlier commands and cancels the order.
//! Each command takes effect once, whatever crashes in between.

use std::time::Duration;

use es_core::prelude::*;

use crate::domain::events::OrderPlaced;
use crate::domain::stock::{Release, Reserve, SoldOut};
use crate::domain::wallet::{GiveBack, Take, WalletError};
use crate::domain::{Cancel, Line, Money, Order, OrderId, Pay, Ship, Stock, Wallet};

/// The wallet contains too little money: the order waits for a payment.
#[event]
pub struct WaitingForMoney {
    /// The customer, who has to pay.
    pub customer: String,
    /// The ordered lines.
    pub lines: Vec<Line>,
}

/// The order was paid and shipped.
#[event]
pub struct Fulfilled;

/// The order was cancelled.
#[event]
pub struct GivenUp;

/// The time to pay is over: a timeout, which the process schedules for itself.
#[event]
pub struct PaymentOverdue;

/// The state of the process for one order.
#[derive(Aggregate, Clone, Debug, Default, PartialEq)]
#[aggregate(name = "fulfillment", id = OrderId, events(WaitingForMoney, Fulfilled, GivenUp))]
pub struct Fulfillment {
    /// The order that waits for a payment.
    pub waiting: Option<WaitingForMoney>,
}

#[handlers]
impl Fulfillment {
    #[apply]
    fn waiting_for_money(&mut self, event: &WaitingForMoney) {
        self.waiting = Some(event.clone());
    }

    #[apply]
    fn fulfilled(&mut self, _: &Fulfilled) {
        self.waiting = None;
    }

    #[apply]
    fn given_up(&mut self, _: &GivenUp) {
        self.waiting = None;
    }
}

/// The process.
#[derive(Clone, Debug, Process)]
#[process(
    name = "fulfillment",
    state = Fulfillment,
    events(Order(OrderPlaced)),
    timeouts(PaymentOverdue)
)]
pub struct FulfillOrders {
    /// The orders, to pay, ship, or cancel them.
    pub orders: Repository<Order>,
    /// The stock, to reserve articles.
    pub stock: Repository<Stock>,
    /// The wallets, to take the money.
    pub wallets: Repository<Wallet>,
    /// The time that a customer has to pay.
    pub time_to_pay: Duration,
}

#[handlers]
impl FulfillOrders {
    #[react]
    async fn placed(
        &self,
        event: &OrderPlaced,
        reaction: &mut Reaction<'_, Fulfillment>,
    ) -> Result<Events<Fulfillment>, BoxError> {
        let take = Take { amount: total(&event.lines) };
        match reaction.ask(&self.wallets, &event.customer, take).await? {
            Ok(_) => self.fulfill(reaction, &event.customer, &event.lines).await,
            Err(WalletError::NoWallet) => Ok(Events::none()),
            Err(WalletError::TooLittle { .. }) => {
                reaction.schedule(self.time_to_pay, PaymentOverdue)?;
                let (customer, lines) = (event.customer.clone(), event.lines.clone());
                Ok(WaitingForMoney { customer, lines }.into())
            }
        }
    }

    #[react]
    async fn overdue(
        &self,
        _: &PaymentOverdue,
        reaction: &mut Reaction<'_, Fulfillment>,
    ) -> Result<Events<Fulfillment>, BoxError> {
        let Some(waiting) = reaction.state().waiting.clone() else { return Ok(Events::none()) };
        let take = Take { amount: total(&waiting.lines) };
        match reaction.ask(&self.wallets, &waiting.customer, take).await? {
            Ok(_) => self.fulfill(reaction, &waiting.customer, &waiting.lines).await,
            Err(error) => self.give_up(reaction, format!("not paid in time: {error}")).await,
        }
    }

    /// Reserves all articles and ships them, or undoes it all.
    async fn fulfill(
        &self,
        reaction: &mut Reaction<'_, Fulfillment>,
        customer: &str,
        lines: &[Line],
    ) -> Result<Events<Fulfillment>, BoxError> {
        let order = *reaction.id();
        let amount = total(lines);
        for (index, line) in lines.iter().enumerate() {
            let reserve = Reserve { order, pieces: line.quantity };
            if let Err(SoldOut { left }) = reaction.ask(&self.stock, line.article.as_str(), reserve).await? {
                for reserved in &lines[..index] {
                    reaction.execute(&self.stock, reserved.article.as_str(), Release { order }).await?;
                }
                reaction.execute(&self.wallets, customer, GiveBack { amount }).await?;
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
        reaction: &mut Reaction<'_, Fulfillment>,
        reason: String,
    ) -> Result<Events<Fulfillment>, BoxError> {
        let order = *reaction.id();
        reaction.execute(&self.orders, &order, Cancel { reason }).await?;
        Ok(GivenUp.into())
    }
}

fn total(lines: &[Line]) -> Money {
    lines.iter().map(|line| line.price.times(line.quantity)).sum()
}

#[cfg(test)]
mod tests {
    use es_core::testing::{TestStore, react};

    use super::*;
    use crate::domain::events::OrderCancelled;
    use crate::domain::stock::{StockReceived, StockReserved};
    use crate::domain::wallet::{MoneyGivenBack, MoneyPaidIn, MoneyTaken};

    const HOUR: Duration = Duration::from_hours(1);

    fn process(store: &TestStore) -> FulfillOrders {
        FulfillOrders {
            orders: Repository::new(store.clone()),
            stock: Repository::new(store.clone()),
            wallets: Repository::new(store.clone()),
            time_to_pay: HOUR,
        }
    }

    fn cups(pieces: u32) -> OrderPlaced {
        let lines = vec![Line::new(pieces, "cup", Money::cents(4_00))];
        OrderPlaced { customer: "Ann".to_owned(), lines }
    }

    fn cancelled(reason: &str) -> OrderCancelled {
        OrderCancelled { reason: reason.to_owned(), refund: Money::default() }
    }

    #[tokio::test]
    async fn ships_what_is_there_and_paid() {
        react(process)
            .given::<Stock>("cup", [StockReceived { pieces: 3 }])
            .await
            .given::<Wallet>("Ann", [MoneyPaidIn { amount: Money::cents(10_00) }])
            .await
            .when::<Order>("1", cups(2))
            .await
            .then_events::<Wallet>("Ann", [MoneyTaken { amount: Money::cents(8_00) }])
            .then_events::<Stock>("cup", [StockReserved { order: 1, pieces: 2 }])
            .then_events::<Fulfillment>("1", [Fulfilled]);
    }

    #[tokio::test]
    async fn gives_the_money_back_for_what_is_sold_out() {
        react(process)
            .given::<Stock>("cup", [StockReceived { pieces: 3 }])
            .await
            .given::<Wallet>("Ann", [MoneyPaidIn { amount: Money::cents(20_00) }])
            .await
            .when::<Order>("1", cups(4))
            .await
            .then_events::<Wallet>(
                "Ann",
                events![
                    MoneyTaken { amount: Money::cents(16_00) },
                    MoneyGivenBack { amount: Money::cents(16_00) }
                ],
            )
            .then_nothing::<Stock>("cup")
            .then_events::<Order>("1", [cancelled("cup is sold out: 3 left")])
            .then_events::<Fulfillment>("1", [GivenUp]);
    }

    #[tokio::test]
    async fn waits_for_the_money_until_the_time_is_over() {
        react(process)
            .given::<Wallet>("Ann", [MoneyPaidIn { amount: Money::cents(1_00) }])
            .await
            .when::<Order>("1", cups(2))
            .await
            .then_state(&OrderId(1), |state| assert!(state.waiting.is_some()))
            .later(HOUR)
            .await
            .then_events::<Order>("1", [cancelled("not paid in time: there are 1.00 EUR in the wallet")])
            .then_events::<Fulfillment>("1", [GivenUp]);
    }

    #[tokio::test]
    async fn leaves_customers_without_a_wallet_alone() {
        react(process)
            .when::<Order>("2", cups(1))
            .await
            .then_nothing::<Fulfillment>("2")
            .later(HOUR)
            .await
            .then_nothing::<Order>("2");
    }
}
