//! Loads of streams of several lengths, without caches and snapshots.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::contenders::{Contender, Delivered, Kind, Opened, reason};
use crate::costs::Results;
use crate::domain::Account;
use crate::plan::Plan;
use crate::report::median;
use crate::server::Server;

/// The most loads of one stream by one contender.
const MAX_LOADS: usize = 50;

pub struct Loading {
    pub time: Duration,
    /// The time relative to the raw loop: the median of the ratios of all turns.
    pub ratio: f64,
}

/// The loads by length of the stream.
pub type Loadings = Vec<(u64, Results<Loading>)>;

pub async fn measure(server: &Server, plan: &Plan) -> Result<Loadings, Failure> {
    let mut opened = Vec::new();
    for kind in Kind::STORES {
        opened.push((kind, open(server, plan, kind).await.map_err(reason)));
    }
    let mut loadings = Vec::new();
    for &events in &plan.streams {
        eprintln!("loads: {events} events");
        loadings.push((events, measure_length(plan, &opened, events).await));
    }
    drop(opened);
    for kind in Kind::STORES {
        server.drop(&database(kind)).await?;
    }
    Ok(loadings)
}

fn database(kind: Kind) -> String {
    format!("loads_{kind:?}").to_lowercase()
}

async fn open(server: &Server, plan: &Plan, kind: Kind) -> Result<Arc<dyn Contender>, Failure> {
    let database = server.create(&database(kind)).await?;
    kind.create(&database).await?;
    for &events in &plan.streams {
        kind.fill(&database, &format!("stream-{events}-"), 1, events).await?;
    }
    kind.open(&database.url(), 2, &Delivered::default()).await
}

/// The contenders load the stream in turns.
async fn measure_length(plan: &Plan, opened: &[Opened], events: u64) -> Results<Loading> {
    let id = format!("stream-{events}-1");
    let mut times: Vec<Result<Vec<f64>, String>> =
        opened.iter().map(|(_, opened)| opened.as_ref().map(|_| Vec::new()).map_err(Clone::clone)).collect();
    let start = Instant::now();
    for turn in 0..=MAX_LOADS {
        if turn > 1 && start.elapsed() > plan.loading * opened.len() as u32 {
            break;
        }
        for ((_, opened), times) in opened.iter().zip(&mut times) {
            let (Ok(contender), Ok(so_far)) = (opened, &mut *times) else { continue };
            match load(&**contender, &id, events).await {
                // The first load is the warm-up.
                Ok(seconds) if turn > 0 => so_far.push(seconds),
                Ok(_) => {}
                Err(error) => *times = Err(reason(error)),
            }
        }
    }
    let raw = times[0].clone().unwrap_or_default();
    let loading = |times: Vec<f64>| Loading {
        time: Duration::from_secs_f64(median(times.iter().copied())),
        ratio: median(times.iter().zip(&raw).map(|(own, raw)| own / raw)),
    };
    opened.iter().zip(times).map(|((kind, _), times)| (*kind, times.map(loading))).collect()
}

async fn load(contender: &dyn Contender, id: &str, events: u64) -> Result<f64, Failure> {
    let start = Instant::now();
    let account = contender.load(id).await?;
    let seconds = start.elapsed().as_secs_f64();
    if account != Account::after(events) {
        return Err(format!("the state has {} of {events} events", account.deposits).into());
    }
    Ok(seconds)
}
