//! The rest of the story: a projection and a process, which follow the feed.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use es_core::event::CommitId;
use es_core::feed::Feed;
use es_core::read_model::Traces;
use es_core::workers::{RunningWorkers, Workers};
use es_core::{Aggregate, Projector, Repository, StreamId};
use es_dynamo::Indexer;

use crate::domain::stock::{Article, Receive};
use crate::domain::wallet::PayIn;
use crate::domain::{Line, Money, Order, OrderId, PlaceOrder};
use crate::fulfillment::{FulfillOrders, Fulfillment};
use crate::overview::{OrderRow, Overview};
use crate::report;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The time that a customer has to pay. It is short, because the story waits for it.
const TIME_TO_PAY: Duration = Duration::from_millis(500);

/// The maximum time to wait for the projection and the process.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Customers with the money in their wallets and the number of bowls that they order: one can pay, one orders more
/// bowls than there are, and one has too little money.
const CUSTOMERS: [(&str, Money, u32); 3] =
    [("Dora", Money::cents(5_000), 2), ("Emil", Money::cents(40_000), 30), ("Finn", Money::cents(100), 1)];

/// The article that the customers order.
const ARTICLE: &str = "bowl";

/// The workers that run in the background.
struct Background {
    overview: Projector<Overview>,
    traces: Projector<Traces>,
    workers: RunningWorkers,
}

/// Tells this part of the story. The first new order has the number `first`.
pub async fn tell(
    store: &Arc<dyn Feed>,
    indexer: Option<Indexer>,
    orders: &Repository<Order>,
    first: OrderId,
) -> Result<()> {
    let shop = FulfillOrders {
        orders: orders.clone(),
        stock: Repository::new(store.clone()),
        wallets: Repository::new(store.clone()),
        time_to_pay: TIME_TO_PAY,
    };
    let background = Background::start(store, indexer, &shop);
    look_at_all_orders(store, &background, orders, first).await?;
    let commit = order_with_wallets(&shop, first).await?;
    look_at_the_wallets_orders(store, &background, &shop, first).await?;
    look_at_a_trace(store, &background, first, commit).await?;
    rebuild(&background.overview).await?;
    // Each worker finishes its current work: first the projection and the process, then the indexer.
    Ok(background.workers.shutdown().await?)
}

impl Background {
    /// Starts the workers. Each could run in a separate process.
    fn start(store: &Arc<dyn Feed>, indexer: Option<Indexer>, shop: &FulfillOrders) -> Self {
        // Keeps the read models up to date.
        let overview = Projector::new(store.clone(), Overview::new(store));
        // Lists everything that a command has caused.
        let traces = Projector::new(store.clone(), Traces::new(store));
        let workers = Workers::new()
            .add(overview.clone())
            .add(traces.clone())
            // Runs the process.
            .add(Projector::of_process(store.clone(), shop.clone()))
            .flush(&shop.orders);
        let workers = match indexer {
            // Adds the commits in the table's stream to the feed.
            Some(indexer) => workers.add(indexer),
            None => workers,
        };
        Self { overview, traces, workers: workers.spawn() }
    }
}

/// Waits until the read models include all current events of the aggregate.
async fn wait_for<A: Aggregate>(
    background: &Background,
    aggregates: &Repository<A>,
    id: &A::Id,
) -> Result<()> {
    let stream = StreamId::new(A::NAME, id)?;
    let version = aggregates.version(id).await?;
    Ok(background.overview.wait_for(&stream, version, MAX_WAIT).await?)
}

/// Queries across all orders.
async fn look_at_all_orders(
    store: &Arc<dyn Feed>,
    background: &Background,
    orders: &Repository<Order>,
    first: OrderId,
) -> Result<()> {
    report::chapter("All orders: a projection keeps two read models");
    // Read models lag behind the commands. There may also be orders of earlier runs.
    for number in OrderId::FIRST.0..first.0 {
        wait_for(background, orders, &OrderId(number)).await?;
    }
    let overview = Overview::new(store);
    for row in overview.orders.find(OrderRow::BY_CUSTOMER, "Ann").all().await? {
        report::line(&format!("Ann, {}: order {} is {}", row.placed, row.order, row.status));
    }
    for day in overview.revenue.all().await? {
        report::line(&format!("{}: {} paid, {} in all", day.day, day.orders, day.revenue));
    }
    Ok(())
}

/// Three customers with wallets place orders. The process does the rest. Returns the commit of the first order.
async fn order_with_wallets(shop: &FulfillOrders, first: OrderId) -> Result<CommitId> {
    report::chapter("Customers with wallets order, and a process does the rest");
    shop.stock.execute(&Article(ARTICLE.to_owned()), Receive { pieces: 2 }).await?;
    for (customer, amount, _) in CUSTOMERS {
        shop.wallets.execute(&customer.to_owned(), PayIn { amount }).await?;
    }
    let mut commits = Vec::new();
    for (order, (customer, _, bowls)) in (first.0..).map(OrderId).zip(CUSTOMERS) {
        let lines = vec![Line::new(bowls, ARTICLE, Money::cents(12_00))];
        let place = PlaceOrder { customer: customer.to_owned(), lines };
        let done = shop.orders.execute(&order, place).await?;
        commits.extend(done.commit);
        report::line(&format!("{customer} places order {order}: {bowls} bowls"));
    }
    Ok(*commits.first().ok_or("no order was placed")?)
}

/// Waits until the process has finished each order, and until the read models include the result.
async fn look_at_the_wallets_orders(
    store: &Arc<dyn Feed>,
    background: &Background,
    shop: &FulfillOrders,
    first: OrderId,
) -> Result<()> {
    let fulfillments: Repository<Fulfillment> = Repository::new(store.clone());
    let overview = Overview::new(store);
    for (order, (customer, ..)) in (first.0..).map(OrderId).zip(CUSTOMERS) {
        tokio::time::timeout(MAX_WAIT, fulfilled_or_given_up(&fulfillments, order)).await??;
        wait_for(background, &shop.orders, &order).await?;
        wait_for(background, &shop.wallets, &customer.to_owned()).await?;
        wait_for(background, &fulfillments, &order).await?;
        let row = overview.orders.get(&order.to_string()).await?.ok_or("the row is there")?;
        report::line(&format!("{customer}'s order {} is {}", row.order, row.status));
    }
    wait_for(background, &shop.stock, &Article(ARTICLE.to_owned())).await
}

/// Waits until the process has recorded the end of the order.
async fn fulfilled_or_given_up(fulfillments: &Repository<Fulfillment>, order: OrderId) -> Result<()> {
    loop {
        let fulfillment = fulfillments.load(&order).await?;
        if fulfillment.exists() && fulfillment.state.waiting.is_none() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lists everything that the first of these orders has caused, across the aggregates.
async fn look_at_a_trace(
    store: &Arc<dyn Feed>,
    background: &Background,
    first: OrderId,
    commit: CommitId,
) -> Result<()> {
    report::chapter(&format!("Everything that order {first} has caused"));
    let fulfillments: Repository<Fulfillment> = Repository::new(store.clone());
    let last = fulfillments.version(&first).await?;
    let stream = StreamId::new(Fulfillment::NAME, first)?;
    background.traces.wait_for(&stream, last, MAX_WAIT).await?;
    for caused in Traces::new(store).commits(&commit.to_string(), 100).await? {
        report::line(&format!("{}, from version {}", caused.stream, caused.first));
    }
    Ok(())
}

/// Rebuilds both read models from the first event, while the old ones are still being read.
async fn rebuild(overview: &Projector<Overview>) -> Result<()> {
    report::chapter("The read models are rebuilt, and readers switch to the new ones");
    overview.rebuild().await?;
    loop {
        let Some(progress) = overview.rebuild_progress().await? else { break };
        report::progress(progress.finished(), progress.total());
        if progress.lag() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    overview.switch().await?;
    report::line("switched; all slices are up to date");
    Ok(())
}
