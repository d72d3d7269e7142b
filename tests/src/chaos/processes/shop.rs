//! A shop: a process fulfills orders from a stock and wallets.

use std::collections::BTreeMap;
use std::time::Duration;

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

use crate::chaos::user_code::Misbehavior;

/// The quantity of each article of an order.
pub const PIECES: u32 = 1;
/// The price of an order.
pub const PRICE: u32 = 10;
/// The time limit for the payment of an order.
pub const PATIENCE: Duration = Duration::from_secs(8);

#[event]
pub struct Placed {
    pub articles: Vec<String>,
    pub wallet: String,
}
#[event]
pub struct Shipped;
#[event]
pub struct CalledOff;

#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "order", id = String, events(Placed, Shipped, CalledOff))]
pub struct Order {
    pub shipped: u32,
    pub called_off: u32,
}

impl Apply<Placed> for Order {
    fn apply(&mut self, _: &Placed) {}
}
impl Apply<Shipped> for Order {
    fn apply(&mut self, _: &Shipped) {
        self.shipped += 1;
    }
}
impl Apply<CalledOff> for Order {
    fn apply(&mut self, _: &CalledOff) {
        self.called_off += 1;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("ended before")]
pub struct Ended;

pub struct Place {
    pub articles: Vec<String>,
    pub wallet: String,
}
impl Handle<Place> for Order {
    type Error = Ended;
    fn handle(&self, command: &Place, ctx: &Context<Self>) -> Result<Events<Self>, Ended> {
        if ctx.exists() {
            return Ok(Events::none());
        }
        Ok(Placed { articles: command.articles.clone(), wallet: command.wallet.clone() }.into())
    }
}

/// Records each execution, so that a repetition would be noticed.
pub struct Ship;
impl Handle<Ship> for Order {
    type Error = Ended;
    fn handle(&self, _: &Ship, _: &Context<Self>) -> Result<Events<Self>, Ended> {
        Ok(Shipped.into())
    }
}

/// Records each execution, like `Ship`.
pub struct CallOff;
impl Handle<CallOff> for Order {
    type Error = Ended;
    fn handle(&self, _: &CallOff, _: &Context<Self>) -> Result<Events<Self>, Ended> {
        Ok(CalledOff.into())
    }
}

#[event]
pub struct Received {
    pub pieces: u32,
}
#[event]
pub struct Reserved {
    pub order: String,
}
#[event]
pub struct Released {
    pub order: String,
}

#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "stock", id = String, events(Received, Reserved, Released))]
pub struct Stock {
    pub received: u32,
    pub free: u32,
    /// The numbers of reservations and releases, by order.
    pub orders: BTreeMap<String, (u32, u32)>,
}

impl Apply<Received> for Stock {
    fn apply(&mut self, event: &Received) {
        self.received += event.pieces;
        self.free += event.pieces;
    }
}
impl Apply<Reserved> for Stock {
    fn apply(&mut self, event: &Reserved) {
        self.free -= PIECES;
        self.orders.entry(event.order.clone()).or_default().0 += 1;
    }
}
impl Apply<Released> for Stock {
    fn apply(&mut self, event: &Released) {
        self.free += PIECES;
        self.orders.entry(event.order.clone()).or_default().1 += 1;
    }
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("sold out")]
pub struct SoldOut;

pub struct Receive;
impl Handle<Receive> for Stock {
    type Error = SoldOut;
    fn handle(&self, _: &Receive, _: &Context<Self>) -> Result<Events<Self>, SoldOut> {
        Ok(Received { pieces: PIECES }.into())
    }
}

pub struct Reserve(pub String);
impl Handle<Reserve> for Stock {
    type Error = SoldOut;
    fn handle(&self, command: &Reserve, _: &Context<Self>) -> Result<Events<Self>, SoldOut> {
        if self.free < PIECES {
            return Err(SoldOut);
        }
        Ok(Reserved { order: command.0.clone() }.into())
    }
}

pub struct Release(pub String);
impl Handle<Release> for Stock {
    type Error = SoldOut;
    fn handle(&self, command: &Release, _: &Context<Self>) -> Result<Events<Self>, SoldOut> {
        Ok(Released { order: command.0.clone() }.into())
    }
}

#[event]
pub struct PaidIn {
    /// The order that waits for it, if any.
    pub order: String,
}
#[event]
pub struct Taken {
    pub order: String,
}

#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "wallet", id = String, events(PaidIn, Taken))]
pub struct Wallet {
    pub paid_in: u32,
    /// The number of payments, by order.
    pub taken: BTreeMap<String, u32>,
}

impl Wallet {
    pub fn balance(&self) -> u32 {
        self.paid_in - PRICE * self.taken.values().sum::<u32>()
    }
}

impl Apply<PaidIn> for Wallet {
    fn apply(&mut self, _: &PaidIn) {
        self.paid_in += PRICE;
    }
}
impl Apply<Taken> for Wallet {
    fn apply(&mut self, event: &Taken) {
        *self.taken.entry(event.order.clone()).or_default() += 1;
    }
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("too little")]
pub struct TooLittle;

pub struct PayIn(pub String);
impl Handle<PayIn> for Wallet {
    type Error = TooLittle;
    fn handle(&self, command: &PayIn, _: &Context<Self>) -> Result<Events<Self>, TooLittle> {
        Ok(PaidIn { order: command.0.clone() }.into())
    }
}

pub struct Take(pub String);
impl Handle<Take> for Wallet {
    type Error = TooLittle;
    fn handle(&self, command: &Take, _: &Context<Self>) -> Result<Events<Self>, TooLittle> {
        if self.balance() < PRICE {
            return Err(TooLittle);
        }
        Ok(Taken { order: command.0.clone() }.into())
    }
}

/// A customer cancelled an order.
#[event]
pub struct Regretted {
    pub order: String,
}

/// The desk at which customers cancel orders.
#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "desk", id = String, events(Regretted))]
pub struct Desk;

impl Apply<Regretted> for Desk {
    fn apply(&mut self, _: &Regretted) {}
}

pub struct Regret(pub String);
impl Handle<Regret> for Desk {
    type Error = Ended;
    fn handle(&self, command: &Regret, _: &Context<Self>) -> Result<Events<Self>, Ended> {
        Ok(Regretted { order: command.0.clone() }.into())
    }
}

#[event]
pub struct Waiting {
    pub articles: Vec<String>,
    pub wallet: String,
}
/// The order will not be paid, and will be called off.
#[event]
pub struct Dropped;
#[event]
pub struct Finished;
#[event]
pub struct Overdue;

#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "fulfillment", id = String, events(Waiting, Dropped, Finished))]
pub struct Fulfillment {
    pub waiting: Option<Waiting>,
    pub dropped: u32,
    pub finished: u32,
}

impl Apply<Waiting> for Fulfillment {
    fn apply(&mut self, event: &Waiting) {
        self.waiting = Some(event.clone());
    }
}
impl Apply<Dropped> for Fulfillment {
    fn apply(&mut self, _: &Dropped) {
        self.dropped += 1;
    }
}
impl Apply<Finished> for Fulfillment {
    fn apply(&mut self, _: &Finished) {
        self.waiting = None;
        self.finished += 1;
    }
}

/// The process. An instance reacts to events from several slices: of the order, the wallet, and the desk.
#[derive(Clone, Process)]
#[process(
    name = "fulfillment",
    state = Fulfillment,
    events(Order(Placed), Wallet(PaidIn), Desk(Regretted)),
    timeouts(Overdue)
)]
pub struct Fulfill {
    pub orders: Repository<Order>,
    pub stock: Repository<Stock>,
    pub wallets: Repository<Wallet>,
    pub misbehavior: Misbehavior,
}

impl Fulfill {
    async fn give_up(
        &self,
        reaction: &mut Reaction<'_, Fulfillment>,
        articles: &[String],
    ) -> Result<Events<Fulfillment>, BoxError> {
        let order = reaction.id().clone();
        for article in articles {
            reaction.execute(&self.stock, article, Release(order.clone())).await?;
            self.misbehavior.may_strike().await;
        }
        reaction.execute(&self.orders, &order, CallOff).await?;
        Ok(Finished.into())
    }
}

impl React<Placed> for Fulfill {
    fn instance(&self, _: &Placed, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(
        &self,
        event: &Placed,
        reaction: &mut Reaction<'_, Fulfillment>,
    ) -> Result<Events<Fulfillment>, BoxError> {
        let order = reaction.id().clone();
        let mut reserved = Vec::new();
        for article in &event.articles {
            self.misbehavior.may_strike().await;
            match reaction.ask(&self.stock, article, Reserve(order.clone())).await? {
                Ok(_) => reserved.push(article.clone()),
                Err(SoldOut) => return self.give_up(reaction, &reserved).await,
            }
        }
        match reaction.ask(&self.wallets, &event.wallet, Take(order.clone())).await? {
            Ok(_) => {
                reaction.execute(&self.orders, &order, Ship).await?;
                self.misbehavior.may_strike().await;
                Ok(Finished.into())
            }
            Err(TooLittle) => {
                reaction.schedule(PATIENCE, Overdue)?;
                Ok(Waiting { articles: reserved, wallet: event.wallet.clone() }.into())
            }
        }
    }
}

impl React<PaidIn> for Fulfill {
    fn instance(&self, event: &PaidIn, _: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(event.order.clone()))
    }

    async fn react(
        &self,
        _: &PaidIn,
        reaction: &mut Reaction<'_, Fulfillment>,
    ) -> Result<Events<Fulfillment>, BoxError> {
        let Some(waiting) = reaction.state().waiting.clone() else { return Ok(Events::none()) };
        if reaction.state().dropped > 0 {
            return Ok(Events::none());
        }
        let order = reaction.id().clone();
        match reaction.ask(&self.wallets, &waiting.wallet, Take(order.clone())).await? {
            Ok(_) => {
                reaction.execute(&self.orders, &order, Ship).await?;
                Ok(Finished.into())
            }
            Err(TooLittle) => Ok(Events::none()),
        }
    }
}

/// Reacts without commands.
impl React<Regretted> for Fulfill {
    fn instance(&self, event: &Regretted, _: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(event.order.clone()))
    }

    async fn react(
        &self,
        _: &Regretted,
        reaction: &mut Reaction<'_, Fulfillment>,
    ) -> Result<Events<Fulfillment>, BoxError> {
        self.misbehavior.may_strike().await;
        let state = reaction.state();
        Ok(if state.waiting.is_some() && state.dropped == 0 { Dropped.into() } else { Events::none() })
    }
}

impl React<Overdue> for Fulfill {
    fn instance(&self, _: &Overdue, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(
        &self,
        _: &Overdue,
        reaction: &mut Reaction<'_, Fulfillment>,
    ) -> Result<Events<Fulfillment>, BoxError> {
        self.misbehavior.may_strike().await;
        match reaction.state().waiting.clone() {
            Some(waiting) => self.give_up(reaction, &waiting.articles).await,
            None => Ok(Events::none()),
        }
    }
}
