//! The story: an application that uses the domain. [`whole_shop`] adds a projection and a process.

use std::error::Error;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};

use es_core::{ExecuteError, Handle, Metadata, Outcome, Repository, StoreError, Version};
use tokio::sync::Barrier;

use crate::domain::{
    AddLine, Cancel, Deliver, Line, Money, Order, OrderError, OrderId, Pay, PlaceOrder, RemoveLine, Return,
    Ship, Status,
};
use crate::place::Opened;
use crate::{report, whole_shop};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Tells the whole story.
pub async fn tell(Opened { store, indexer }: Opened) -> Result<()> {
    // An application needs only a repository, which is cheap to clone.
    let orders: Repository<Order> = Repository::new(store.clone());

    let id = go_on_from_earlier_runs(&orders).await?;
    order_and_change_ones_mind(&orders, id).await?;
    break_the_rules(&orders, id).await?;
    race(&orders, id).await?;
    pay_and_ship(&orders, id).await?;
    reload_from_a_snapshot(&orders, id).await?;
    look_back(&orders, id).await?;
    cancel_another(&orders, OrderId(id.0 + 1)).await?;
    whole_shop::tell(&store, indexer, &orders, OrderId(id.0 + 2)).await?;
    println!();
    Ok(())
}

/// Finds the first free order number. Orders of earlier runs are returned by the customer.
async fn go_on_from_earlier_runs(orders: &Repository<Order>) -> Result<OrderId> {
    let mut id = OrderId::FIRST;
    let mut earlier = None;
    while orders.exists(&id).await? {
        let order = orders.load(&id).await?;
        if order.state.status == Status::Delivered {
            earlier = Some((id, order));
        }
        id = OrderId(id.0 + 1);
    }
    if let Some((earlier, order)) = earlier {
        report::chapter(&format!("An earlier run delivered order {earlier}, which is returned now"));
        report::state("as it was found", &order.state, order.cost);
        execute(orders, earlier, "ann", Return { reason: "does not fit".to_owned() }).await?;
    }
    Ok(id)
}

/// Commands, their events, and their costs.
async fn order_and_change_ones_mind(orders: &Repository<Order>, id: OrderId) -> Result<()> {
    report::chapter(&format!("Ann orders, and changes her mind (order {id})"));
    let lines = vec![Line::new(1, "teapot", Money::cents(24_90)), Line::new(6, "cup", Money::cents(4_50))];
    execute(orders, id, "ann", PlaceOrder { customer: "Ann".to_owned(), lines }).await?;
    execute(orders, id, "ann", AddLine(Line::new(2, "tea, 100 g", Money::cents(7_20)))).await?;
    execute(orders, id, "ann", RemoveLine { article: "cup".to_owned() }).await
}

/// A rejected command records nothing, and the caller gets the domain's error.
async fn break_the_rules(orders: &Repository<Order>, id: OrderId) -> Result<()> {
    report::chapter("Rules that can be broken");
    refuse(orders, id, Ship { carrier: "DHL".to_owned(), tracking: "-".to_owned() }).await?;
    refuse(orders, id, Pay { amount: Money::cents(1) }).await?;
    refuse(orders, id, RemoveLine { article: "cup".to_owned() }).await?;
    refuse(orders, id, PlaceOrder { customer: "Ann".to_owned(), lines: Vec::new() }).await
}

/// Two clients decide on the same version. The slower one gets a conflict, reads the new events, and decides again:
/// nothing is lost, and no lock is needed.
async fn race(orders: &Repository<Order>, id: OrderId) -> Result<()> {
    report::chapter("Two clients change the same order at the same time");
    let both_have_read = Barrier::new(2);
    let add = async |who: &str, line: Line| {
        let command = AddLine(line);
        let first_time = AtomicBool::new(true);
        let outcome = orders
            .with_metadata(Metadata::new().with_actor(who))
            .decide(&id, async |order, ctx| {
                // An async decision can wait. This one waits until the other client has loaded the order, too.
                if first_time.swap(false, Ordering::Relaxed) {
                    both_have_read.wait().await;
                }
                order.handle(&command, ctx)
            })
            .await?;
        Ok::<_, ExecuteError<OrderError>>((command, outcome))
    };
    let (ann, bob) = tokio::join!(
        add("ann", Line::new(1, "strainer", Money::cents(3_10))),
        add("bob", Line::new(1, "sugar bowl", Money::cents(9_00))),
    );
    let mut both = [ann?, bob?];
    both.sort_by_key(|(_, outcome)| outcome.version);
    for (command, outcome) in both {
        report::done(&command, &outcome);
    }
    // Snapshots are written in the background. The story waits for this one, so that all runs have the same output.
    orders.flush().await;
    Ok(())
}

/// The rest of an order's life. The carrier's second report has no effect.
async fn pay_and_ship(orders: &Repository<Order>, id: OrderId) -> Result<()> {
    report::chapter("Paid, shipped, delivered");
    let amount = orders.load(&id).await?.state.total();
    execute(orders, id, "bank", Pay { amount }).await?;
    let tracking = format!("TRACK-{id}");
    execute(orders, id, "depot", Ship { carrier: "DHL".to_owned(), tracking }).await?;
    execute(orders, id, "dhl", Deliver).await?;
    execute(orders, id, "dhl", Deliver).await
}

/// A load starts from the newest snapshot, and folds only the events after it.
async fn reload_from_a_snapshot(orders: &Repository<Order>, id: OrderId) -> Result<()> {
    report::chapter("A reload from a snapshot");
    let order = orders.load(&id).await?;
    let from = match order.snapshot {
        Some(version) => format!("from the snapshot at version {version} to version {}", order.version),
        None => format!("without a snapshot to version {}", order.version),
    };
    report::state(&from, &order.state, order.cost);
    Ok(())
}

/// Events are kept permanently, so past states can be queried.
async fn look_back(orders: &Repository<Order>, id: OrderId) -> Result<()> {
    let now = orders.load(&id).await?.version;
    let then = Version::new(now.get() - 2);
    report::chapter(&format!("Two versions ago: version {then}"));
    let past = orders.load_at(&id, then).await?;
    report::state("as it was", &past.state, past.cost);

    report::chapter("The whole history: version, time, event, actor, id");
    let mut history = orders.history(&id);
    while let Some(recorded) = history.next().await {
        report::event(&recorded?);
    }
    Ok(())
}

/// Another order, which is cancelled in time.
async fn cancel_another(orders: &Repository<Order>, id: OrderId) -> Result<()> {
    report::chapter(&format!("Another order, cancelled in time (order {id})"));
    let lines = vec![Line::new(1, "kettle", Money::cents(39_00))];
    execute(orders, id, "carl", PlaceOrder { customer: "Carl".to_owned(), lines }).await?;
    execute(orders, id, "carl", Cancel { reason: "ordered twice".to_owned() }).await?;
    refuse(orders, id, Pay { amount: Money::cents(39_00) }).await
}

/// Executes a command, and prints the outcome.
async fn execute<C>(orders: &Repository<Order>, id: OrderId, who: &str, command: C) -> Result<()>
where
    C: Clone + Debug,
    Order: Handle<C, Error = OrderError>,
{
    let outcome: Outcome<Order> =
        orders.with_metadata(Metadata::new().with_actor(who)).execute(&id, command.clone()).await?;
    report::done(&command, &outcome);
    Ok(())
}

/// Sends a command that breaks a rule, and prints the rejection.
async fn refuse<C>(orders: &Repository<Order>, id: OrderId, command: C) -> Result<()>
where
    C: Clone + Debug,
    Order: Handle<C, Error = OrderError>,
{
    match orders.execute(&id, command.clone()).await {
        Err(error @ ExecuteError::Rejected(_)) => {
            report::rejected(&command, &error);
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err(StoreError::invalid(format!("the shop should have rejected {command:?}")).into()),
    }
}
