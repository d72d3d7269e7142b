//! The throughput of subscriptions, and the time from the response to a command until its event is delivered.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::contenders::{Contender, Delivered, Kind, Subscription, reason};
use crate::plan::Plan;
use crate::report::percentile;
use crate::server::{CONNECTIONS, Server};

/// The maximum time to wait for an event.
const MAX_WAIT: Duration = Duration::from_secs(60);

pub struct Flow {
    /// The events per second of a subscription that starts behind.
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// The results of each contender with the interval of its polls.
pub type Flows = Vec<(Kind, Option<Duration>, Result<Flow, String>)>;

pub async fn measure(server: &Server, plan: &Plan) -> Flows {
    let mut all = Vec::new();
    for (kind, poll) in Kind::FEEDS {
        eprintln!("feed: {kind}");
        all.push((kind, poll, flow(server, plan, kind, poll).await.map_err(reason)));
    }
    all
}

async fn flow(server: &Server, plan: &Plan, kind: Kind, poll: Option<Duration>) -> Result<Flow, Failure> {
    let database = server.create("feeds").await?;
    kind.create(&database).await?;
    kind.fill(&database, "filled ", plan.feed_events.div_ceil(10), 10).await?;
    let stored = kind.stored(&database).await?.len();

    let delivered = Delivered::default();
    let contender = kind.open(&database.url(), CONNECTIONS, &delivered).await?;
    let start = Instant::now();
    let subscription = contender.subscribe(poll).ok_or("it has no subscription")?;
    wait(&delivered, &subscription, stored).await?;
    let per_second = stored as f64 / start.elapsed().as_secs_f64();

    let acknowledged = append(plan, &*contender).await?;
    wait(&delivered, &subscription, stored + acknowledged.len()).await?;
    let delivered: HashMap<_, _> = delivered.all().into_iter().collect();
    let mut lags: Vec<_> = acknowledged
        .iter()
        .map(|(id, at)| {
            delivered.get(id).map_or(Duration::MAX, |delivered| delivered.saturating_duration_since(*at))
        })
        .collect();
    lags.sort_unstable();
    drop((subscription, contender));
    server.drop(&database.name).await?;
    Ok(Flow { per_second, p50: percentile(&lags, 0.50), p99: percentile(&lags, 0.99) })
}

/// Appends events at random intervals, and returns when each was acknowledged.
async fn append(plan: &Plan, contender: &dyn Contender) -> Result<Vec<(String, Instant)>, Failure> {
    let (mut random, mut acknowledged) = (fastrand::Rng::with_seed(0), Vec::new());
    for number in 0..plan.lag_events {
        tokio::time::sleep(Duration::from_micros(random.u64(1_000..30_000))).await;
        let id = format!("appended {number}");
        contender.execute(&id, 1).await?;
        acknowledged.push((id, Instant::now()));
    }
    Ok(acknowledged)
}

async fn wait(delivered: &Delivered, subscription: &Subscription, count: usize) -> Result<(), Failure> {
    let start = Instant::now();
    while delivered.count() < count {
        if !subscription.is_running() {
            return Err("the subscription has stopped".into());
        }
        if start.elapsed() > MAX_WAIT {
            return Err(format!("{} of {count} events were delivered", delivered.count()).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
