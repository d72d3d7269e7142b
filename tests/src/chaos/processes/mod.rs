//! Simulations of a process under faults: workers die at any request, stall, and lose the store for longer than a
//! lease; reactions panic and hang; wall clocks step. Other workers take over. Money and goods arrive meanwhile, so
//! that a command that was rejected once would be accepted later.

#[allow(missing_docs, missing_debug_implementations)] // a domain like any other
pub mod shop;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use es_core::documents::{DocumentQuery, Documents};
use es_core::feed::Feed;
use es_core::process::Reacting;
use es_core::testing::Faults;
use es_core::{Projector, Repository, RetryPolicy, StoreError, StreamId};
use fastrand::Rng;
use futures_util::future::{Either, join, join_all, select};
use tokio::time::sleep;

use self::shop::{Desk, Fulfill, Order, PATIENCE, PayIn, Place, Receive, Regret, Stock, Wallet};
use super::client::SeededIds;
use super::divert::{Divert, Sent};
use super::faults;
use super::projections::{VirtualTime, mortal};
use super::slow::Slow;
use super::user_code::Misbehavior;

const ORDERS: usize = 8;
const ARTICLES: [&str; 2] = ["cup", "pot"];
const WALLETS: [&str; 2] = ["ann", "bob"];
const WORKERS: usize = 3;
/// The duration of the faults.
pub const STORM: Duration = Duration::from_secs(20);

/// The time limit of a reaction: longer than its requests take, unless several of them are late.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum duration of an outage for all workers: longer than the longest lease, and than an order waits.
const OUTAGE: Duration = Duration::from_secs(10);

/// The maximum delay of a request.
const LATEST: Duration = Duration::from_secs(4);

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessReport {
    /// Shipped orders.
    pub shipped: u64,
    /// Orders dropped while they waited for their payment.
    pub dropped: u64,
    /// Orders called off.
    pub called_off: u64,
    /// Articles returned to the stock.
    pub released: u64,
    /// Workers that died.
    pub deaths: u64,
    /// Requests with a fault.
    pub faults: u64,
    /// Reactions that panicked or hung.
    pub interruptions: u64,
    /// Requests during an outage.
    pub unreached: u64,
    /// Slices that were split.
    pub splits: u64,
}

impl std::ops::AddAssign for ProcessReport {
    fn add_assign(&mut self, other: Self) {
        self.shipped += other.shipped;
        self.dropped += other.dropped;
        self.called_off += other.called_off;
        self.released += other.released;
        self.deaths += other.deaths;
        self.faults += other.faults;
        self.interruptions += other.interruptions;
        self.unreached += other.unreached;
        self.splits += other.splits;
    }
}

/// Returns a process on a store. All of its parts share a clock and take ids from a seed.
///
/// A stopped slice stays stopped. If reactions panic and hang, many attempts are allowed; otherwise only a few, so that
/// a transient condition that is mistaken for a failure stops the slice.
fn projector<S: Feed + Clone>(
    store: S,
    lease: Duration,
    clock: VirtualTime,
    misbehavior: Option<&Misbehavior>,
    random: &mut Rng,
) -> Projector<Reacting<Fulfill>> {
    let retry = RetryPolicy::default().with_max_delay(Duration::from_millis(200));
    let process = Fulfill {
        misbehavior: misbehavior.cloned().unwrap_or_default(),
        orders: repository(&store, clock, random),
        stock: repository(&store, clock, random),
        wallets: repository(&store, clock, random),
    };
    Projector::process_builder(store, process)
        .lease(lease)
        .poll(Duration::from_millis(100))
        .batch(random.u32(1..10))
        .retry(retry.with_max_attempts(if misbehavior.is_some() { 1_000 } else { 2 }))
        .restart(RetryPolicy::never())
        .handler_timeout(if misbehavior.is_some() { HANDLER_TIMEOUT } else { STORM * 10 })
        .clock(clock)
        .ids(SeededIds::new(random.fork()))
        .build()
}

fn repository<A: es_core::Aggregate>(
    store: &(impl Feed + Clone),
    clock: VirtualTime,
    random: &mut Rng,
) -> Repository<A> {
    let retry = RetryPolicy::default().with_max_attempts(4).with_max_delay(Duration::from_millis(50));
    let ids = SeededIds::new(random.fork());
    Repository::builder(store.clone()).retry(retry).clock(clock).ids(ids).build()
}

/// Runs one seed, and checks the result.
///
/// `open` returns the store of a worker, with the given faults. `truth` is that store without faults.
///
/// # Errors
///
/// The violation found by the check.
pub async fn run<S: Feed + Clone, T: Feed + Clone>(
    seed: u64,
    truth: S,
    open: impl Fn(Faults) -> T,
) -> Result<ProcessReport, String> {
    let mut random = Rng::with_seed(seed);
    // For the delays between attempts.
    fastrand::seed(seed);
    let clock = VirtualTime::new(TimeDelta::zero());
    let mut report = ProcessReport::default();
    let misbehavior = random.bool().then(|| Misbehavior::new(random.f64() * 0.3, random.fork()));
    // Affects all workers: requests time out or are refused. Many events and timeouts occur meanwhile.
    let outage = Faults::seeded(random.u64(..));
    let outage = if random.bool() { outage.internal_errors(1.0) } else { outage.refusals(1.0) };
    let begins = STORM.mul_f64(random.f64());
    let lasts = if random.bool() { OUTAGE.mul_f64(random.f64()) } else { Duration::ZERO };
    let is_out = move |_: Sent<'_>| (begins..begins + lasts).contains(&clock.elapsed());
    let workers = (0..WORKERS).map(|_| {
        let mut random = random.fork();
        let (open, outage, misbehavior) = (&open, &outage, misbehavior.as_ref());
        async move {
            let (mut deaths, mut injected) = (0, 0);
            while clock.elapsed() < STORM {
                let seed = random.u64(..);
                let faults = faults(&mut random, seed).crash_after(random.u64(1..200));
                // Some workers consider others dead that are alive.
                let lease = Duration::from_millis(random.u64(50..2_000));
                let late = if random.bool() { random.f64() * 0.05 } else { 0.0 };
                let unreached = open(outage.clone());
                let store: Arc<dyn Feed> = Arc::new(Divert::to(open(faults.clone()), unreached, is_out));
                let store: Arc<dyn Feed> = Arc::new(Slow::new(store, late, LATEST, random.fork()));
                // By less than the skew that a repository warns about.
                let time = clock.stepping(STORM, Duration::from_secs(30), &mut random);
                let worker = projector(store, lease, time, misbehavior, &mut random);
                let life = sleep(Duration::from_millis(random.u64(1..6_000)));
                let work = mortal(worker.run(), random.u32(100..100_000), lease, random.fork());
                match select(pin!(work), pin!(life)).await {
                    Either::Left((Some(Err(error)), _)) => return Err(format!("a worker ended: {error}")),
                    Either::Left((Some(Ok(())), _)) => return Err("a worker ended".to_owned()),
                    Either::Left((None, _)) | Either::Right(_) => deaths += 1,
                }
                injected += faults.injected();
                sleep(Duration::from_millis(random.u64(1..500))).await;
            }
            Ok((deaths, injected))
        }
    });
    let workers: Vec<_> = workers.collect();
    let world = world(&truth, clock, random.fork());
    let splits = split(&truth, random.fork());
    for lived in join(join_all(workers), join(world, splits)).await.0 {
        let (deaths, injected) = lived?;
        report.deaths += deaths;
        report.faults += injected;
    }
    report.unreached = outage.requests();
    if let Some(misbehavior) = &misbehavior {
        report.interruptions = misbehavior.interruptions();
        misbehavior.end();
    }
    finish(&truth, clock, &mut random).await?;
    check(&truth, clock, &mut random, report).await
}

/// Splits up to three slices with orders, if the store supports it.
async fn split(store: &impl Feed, mut random: Rng) {
    for _ in 0..random.u8(..4) {
        sleep(STORM.mul_f64(random.f64() / 3.0)).await;
        let order = StreamId::new("order", random.usize(..ORDERS)).expect("is valid");
        let tree = store.slice_tree().await.expect("is known");
        match store.split(tree.of(&order)).await {
            Ok(_) | Err(StoreError::Invalid { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The events outside of the process.
async fn world<S: Feed + Clone>(store: &S, clock: VirtualTime, mut random: Rng) {
    let orders: Repository<Order> = repository(store, clock, &mut random);
    let stock: Repository<Stock> = repository(store, clock, &mut random);
    let wallets: Repository<Wallet> = repository(store, clock, &mut random);
    let desk: Repository<Desk> = repository(store, clock, &mut random);
    let fulfillments: Repository<shop::Fulfillment> = repository(store, clock, &mut random);
    let mut placed = 0;
    while placed < ORDERS || clock.elapsed() < STORM / 2 {
        // Sometimes several at a time.
        if random.bool() {
            sleep(Duration::from_millis(random.u64(1..1_500))).await;
        }
        match random.u8(..9) {
            0..3 => {
                let article = ARTICLES[random.usize(..ARTICLES.len())].to_owned();
                stock.execute(&article, Receive).await.expect("receives");
            }
            3 | 4 => {
                let wallet = WALLETS[random.usize(..WALLETS.len())].to_owned();
                // Possibly before the order is placed.
                let order = format!("{}", random.usize(placed.saturating_sub(2)..=placed));
                wallets.execute(&wallet, PayIn(order)).await.expect("pays in");
            }
            5 => {
                let order = format!("{}", random.usize(placed.saturating_sub(2)..=placed));
                desk.execute(&format!("desk-{}", random.u8(..3)), Regret(order)).await.expect("regrets");
            }
            6 => {
                // A waiting order is paid and cancelled at the same time.
                let order = random.usize(..=placed).to_string();
                let state = fulfillments.load(&order).await.expect("loads").state;
                if let Some(waiting) = state.waiting {
                    wallets.execute(&waiting.wallet, PayIn(order.clone())).await.expect("pays in");
                    sleep(Duration::from_millis(random.u64(..100))).await;
                    desk.execute(&format!("desk-{}", random.u8(..3)), Regret(order)).await.expect("regrets");
                }
            }
            _ if placed < ORDERS => {
                let wallet = WALLETS[random.usize(..WALLETS.len())].to_owned();
                let articles =
                    ARTICLES[random.usize(..ARTICLES.len())..].iter().map(|text| (*text).to_owned());
                let place = Place { articles: articles.collect(), wallet };
                orders.execute(&placed.to_string(), place).await.expect("places");
                placed += 1;
            }
            _ => {}
        }
    }
}

/// Runs one worker without faults and without an operator until no work is left: no slice may have stopped.
async fn finish<S: Feed + Clone>(store: &S, clock: VirtualTime, random: &mut Rng) -> Result<(), String> {
    let worker = projector(store.clone(), Duration::from_secs(1), clock, None, random);
    let progress = worker.progress().await.map_err(|error| error.to_string())?;
    if let Some((slice, failure)) = progress.stopped().next() {
        return Err(format!("slice {slice} has stopped: {failure}"));
    }
    let patience = sleep(PATIENCE * 20);
    let wait = async {
        worker.caught_up().await.map_err(|error| error.to_string())?;
        // Events that the store has not indexed yet, and timeouts that are not due yet.
        sleep(PATIENCE * 5).await;
        worker.shutdown();
        Ok::<_, String>(())
    };
    let work = join(worker.run(), wait);
    match select(pin!(work), pin!(patience)).await {
        Either::Left(((worked, waited), _)) => {
            worked.map_err(|error| error.to_string())?;
            waited
        }
        Either::Right(_) => Err(format!("never finished: {:?}", worker.progress().await)),
    }
}

async fn check<S: Feed + Clone>(
    store: &S,
    clock: VirtualTime,
    random: &mut Rng,
    mut report: ProcessReport,
) -> Result<ProcessReport, String> {
    let orders: Repository<Order> = repository(store, clock, random);
    let stock: Repository<Stock> = repository(store, clock, random);
    let wallets: Repository<Wallet> = repository(store, clock, random);
    let fulfillments: Repository<shop::Fulfillment> = repository(store, clock, random);
    let load = |error: StoreError| error.to_string();
    let mut taken = std::collections::BTreeMap::<String, u32>::new();
    for wallet in WALLETS {
        for (order, times) in wallets.load(&wallet.to_owned()).await.map_err(load)?.state.taken {
            *taken.entry(order).or_default() += times;
        }
    }
    for number in 0..ORDERS {
        let id = number.to_string();
        let order = orders.load(&id).await.map_err(load)?.state;
        let paid = taken.get(&id).copied().unwrap_or_default();
        if order.shipped + order.called_off != 1 || paid != order.shipped {
            return Err(format!("order {id}: {order:?}, paid {paid} times"));
        }
        let fulfillment = fulfillments.load(&id).await.map_err(load)?.state;
        let is_strange = fulfillment.dropped > 1 || (fulfillment.dropped == 1 && order.shipped == 1);
        if fulfillment.finished != 1 || fulfillment.waiting.is_some() || is_strange {
            return Err(format!("order {id}: {fulfillment:?}"));
        }
        report.dropped += u64::from(fulfillment.dropped);
        for article in ARTICLES {
            let stock = stock.load(&article.to_owned()).await.map_err(load)?.state;
            let (reserved, released) = stock.orders.get(&id).copied().unwrap_or_default();
            let as_it_should =
                if order.shipped == 1 { reserved <= 1 && released == 0 } else { reserved == released };
            if reserved > 1 || !as_it_should {
                return Err(format!(
                    "order {id}, {order:?}: {article} {reserved} times reserved, {released} released"
                ));
            }
            report.released += u64::from(released);
        }
        report.shipped += u64::from(order.shipped);
        report.called_off += u64::from(order.called_off);
        nothing_in(store, format!("process#fulfillment#turn#{id}")).await?;
    }
    let tree = store.slice_tree().await.map_err(load)?;
    for slice in tree.iter() {
        report.splits += u64::from(tree.is_closed(slice));
        nothing_in(store, format!("process#fulfillment#timers#{slice}")).await?;
    }
    Ok(report)
}

async fn nothing_in(store: &impl Documents, collection: String) -> Result<(), String> {
    let left = store.documents(&DocumentQuery::new(&collection)).await.map_err(|error| error.to_string())?;
    if left.documents.is_empty() { Ok(()) } else { Err(format!("{collection} is not empty: {left:?}")) }
}
