//! The rest of the story: what happens beside the commands, as their events come through the feed.

use std::error::Error;
use std::time::Duration;

use es_core::projection::Progress;
use es_core::workers::{RunningWorkers, Workers};
use es_core::{Aggregate, Projector, Repository, StreamId};
use es_dynamo::{DynamoStore, Indexer};

use crate::domain::stock::{Article, Receive};
use crate::domain::wallet::PayIn;
use crate::domain::{Line, Money, Order, OrderId, PlaceOrder};
use crate::fulfillment::{FulfillOrders, Fulfillment};
use crate::overview::{OrderRow, Overview};
use crate::report;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How long a customer may take to pay: not two weeks, as people listen to the story.
const TIME_TO_PAY: Duration = Duration::from_millis(500);

/// How long to wait for something that should happen at once.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The customers with wallets, each with the money in it and the number of bowls that the customer orders: enough
/// of both, more bowls than there are, and less money than it costs.
const CUSTOMERS: [(&str, Money, u32); 3] =
    [("Dora", Money::cents(5_000), 2), ("Emil", Money::cents(40_000), 30), ("Finn", Money::cents(100), 1)];

/// What the customers order.
const ARTICLE: &str = "bowl";

/// What runs beside the commands.
struct Beside {
    overview: Projector<Overview>,
    workers: RunningWorkers,
}

/// Tells it; the first order that is placed has the number `first`.
pub async fn tell(store: &DynamoStore, orders: &Repository<Order>, first: OrderId) -> Result<()> {
    let shop = FulfillOrders {
        orders: orders.clone(),
        stock: Repository::new(store.clone()),
        wallets: Repository::new(store.clone()),
        time_to_pay: TIME_TO_PAY,
    };
    let beside = Beside::start(store, &shop)?;
    look_at_all_orders(store, &beside, orders, first).await?;
    order_with_wallets(&shop, first).await?;
    look_at_the_wallets_orders(store, &beside, &shop, first).await?;
    rebuild(&beside.overview).await?;
    // Each worker finishes its current work: first the projection and the process, then the indexer.
    Ok(beside.workers.shutdown().await?)
}

impl Beside {
    /// Starts the workers. Each could run in a separate process.
    fn start(store: &DynamoStore, shop: &FulfillOrders) -> Result<Self> {
        // Keeps the read models up to date.
        let overview = Projector::new(store.clone(), Overview::new(store));
        let workers = Workers::new()
            .add(overview.clone())
            // Does what follows from an order.
            .add(Projector::of_process(store.clone(), shop.clone()))
            // Brings the events of the table's stream into the feed.
            .add(Indexer::builder(store).build()?)
            .flush(&shop.orders)
            .spawn();
        Ok(Self { overview, workers })
    }
}

/// Waits until the read models include every event that the aggregate has now.
async fn wait_for<A: Aggregate>(beside: &Beside, aggregates: &Repository<A>, id: &A::Id) -> Result<()> {
    let stream = StreamId::new(A::NAME, id)?;
    let version = aggregates.version(id).await?;
    Ok(beside.overview.wait_for(&stream, version, LONGEST_WAIT).await?)
}

/// Questions that no single order can answer.
async fn look_at_all_orders(
    store: &DynamoStore,
    beside: &Beside,
    orders: &Repository<Order>,
    first: OrderId,
) -> Result<()> {
    report::chapter("All orders: a projection keeps two read models");
    // A read model follows the commands with a delay. Earlier runs have left orders, too.
    for number in OrderId::FIRST.0..first.0 {
        wait_for(beside, orders, &OrderId(number)).await?;
    }
    let overview = Overview::new(store);
    for row in overview.orders.find(OrderRow::BY_CUSTOMER, "Ann").all().await? {
        report::line(&format!("Ann, {}: order {} is {}", row.placed, row.order, row.status));
    }
    for day in overview.revenue.all().await? {
        report::line(&format!("{}: {} orders paid, {} in all", day.day, day.orders, day.revenue));
    }
    Ok(())
}

/// Three customers with wallets order. What happens then is the process's business.
async fn order_with_wallets(shop: &FulfillOrders, first: OrderId) -> Result<()> {
    report::chapter("Customers with wallets order, and a process does the rest");
    shop.stock.execute(&Article(ARTICLE.to_owned()), Receive { pieces: 2 }).await?;
    for (customer, amount, _) in CUSTOMERS {
        shop.wallets.execute(&customer.to_owned(), PayIn { amount }).await?;
    }
    for (order, (customer, _, bowls)) in (first.0..).map(OrderId).zip(CUSTOMERS) {
        let lines = vec![Line::new(bowls, ARTICLE, Money::cents(12_00))];
        let place = PlaceOrder { customer: customer.to_owned(), lines };
        shop.orders.execute(&order, place).await?;
        report::line(&format!("{customer} places order {order}: {bowls} bowls"));
    }
    Ok(())
}

/// Waits for the process to finish with each order, and then for the read models to follow.
async fn look_at_the_wallets_orders(
    store: &DynamoStore,
    beside: &Beside,
    shop: &FulfillOrders,
    first: OrderId,
) -> Result<()> {
    let fulfillments: Repository<Fulfillment> = Repository::new(store.clone());
    let overview = Overview::new(store);
    for (order, (customer, ..)) in (first.0..).map(OrderId).zip(CUSTOMERS) {
        tokio::time::timeout(LONGEST_WAIT, fulfilled_or_given_up(&fulfillments, order)).await??;
        wait_for(beside, &shop.orders, &order).await?;
        wait_for(beside, &shop.wallets, &customer.to_owned()).await?;
        wait_for(beside, &fulfillments, &order).await?;
        let row = overview.orders.get(&order.to_string()).await?.ok_or("the row is there")?;
        report::line(&format!("{customer}'s order {} is {}", row.order, row.status));
    }
    wait_for(beside, &shop.stock, &Article(ARTICLE.to_owned())).await
}

/// Waits until the process has recorded how it ended for the order.
async fn fulfilled_or_given_up(fulfillments: &Repository<Fulfillment>, order: OrderId) -> Result<()> {
    loop {
        let fulfillment = fulfillments.load(&order).await?;
        if fulfillment.exists() && fulfillment.state.waiting.is_none() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Both read models from the first event on, beside those that are read meanwhile.
async fn rebuild(overview: &Projector<Overview>) -> Result<()> {
    report::chapter("The read models from zero, and a switch to the new ones");
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
    let Progress { slices, .. } = overview.progress().await?;
    report::line(&format!("switched; {} slices are up to date", slices.len()));
    Ok(())
}
