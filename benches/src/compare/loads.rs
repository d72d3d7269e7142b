//! Loads of streams of several lengths, without caches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::contenders::{Contender, Failure, Kind, Layout, reason};
use crate::domain::Account;
use crate::engine::Engine;
use crate::meter::{Meter, Usage};
use crate::plan::Plan;
use crate::report::median;

/// All streams are in the same tables, so contenders with the same layout load the same streams.
const PREFIX: &str = "loads";

pub struct Loading {
    pub time: Duration,
    /// The time relative to the raw loop: the median of the ratios of all rounds.
    pub ratio: f64,
    pub usage: Usage,
    /// The number of events in the state, if some are missing.
    pub wrong: Option<u64>,
}

/// The loads by length of the stream.
pub type Loadings = Vec<(u64, Vec<(Kind, Result<Loading, String>)>)>;

pub async fn measure(engine: &Engine, plan: &Plan) -> Loadings {
    let mut loadings = Vec::new();
    for &events in &plan.streams {
        eprintln!("loads: {events} events");
        loadings.push((events, measure_length(engine, plan, events).await));
    }
    loadings
}

async fn measure_length(engine: &Engine, plan: &Plan, events: u64) -> Vec<(Kind, Result<Loading, String>)> {
    let (client, id) = (engine.client(), format!("stream-{events}"));
    let mut filled = Vec::new();
    for layout in Layout::ALL {
        filled.push((layout, fill(engine, plan, layout, &id, events).await));
    }
    // Contenders with snapshots come second, because the snapshots are written in between.
    let mut all = Vec::new();
    for with_snapshots in [false, true] {
        if with_snapshots {
            for (layout, filled) in &mut filled {
                if filled.is_ok() {
                    *filled = layout.fill_snapshot(&client, PREFIX, &id, events).await.map_err(reason);
                }
            }
        }
        // The raw loop is in both groups, because the other contenders are compared with it in the same rounds.
        let kinds = Kind::ALL.into_iter().filter(|kind| {
            *kind == Kind::Raw || !kind.loads_as_another() && kind.has_snapshots() == with_snapshots
        });
        let mut group = Vec::new();
        for kind in kinds {
            let filled = filled.iter().find(|(layout, _)| *layout == kind.layout());
            let opened = match filled {
                Some((_, Err(error))) => Err(error.clone()),
                _ => open(engine, plan, kind, &id, events).await.map_err(reason),
            };
            group.push((kind, opened));
        }
        take_turns(plan, &id, &mut group).await;
        let raw = group[0].1.as_ref().map_or(Vec::new(), |opened| opened.times.clone());
        group.retain(|(kind, _)| *kind != Kind::Raw || !with_snapshots);
        all.extend(group.into_iter().map(|(kind, opened)| (kind, opened.map(|opened| opened.loading(&raw)))));
    }
    all.sort_by_key(|(kind, _)| Kind::ALL.iter().position(|other| other == kind));
    all
}

async fn fill(engine: &Engine, plan: &Plan, layout: Layout, id: &str, events: u64) -> Result<(), String> {
    let client = engine.client();
    let kind =
        Kind::ALL.into_iter().find(|kind| kind.layout() == layout).ok_or("no contender has this layout")?;
    kind.open(&client, PREFIX).await.map_err(reason)?;
    match timeout(plan.limit, layout.fill(&client, PREFIX, id, events)).await {
        Ok(filled) => filled.map_err(reason),
        Err(_) => Err(format!("writing it took over {} s", plan.limit.as_secs())),
    }
}

/// A contender after its first load of the stream.
struct Opened {
    contender: Arc<dyn Contender>,
    usage: Usage,
    wrong: Option<u64>,
    times: Vec<Duration>,
}

impl Opened {
    fn loading(self, raw: &[Duration]) -> Loading {
        let time = median(self.times.iter().map(Duration::as_secs_f64));
        let ratios = self.times.iter().zip(raw).map(|(own, raw)| own.as_secs_f64() / raw.as_secs_f64());
        Loading {
            time: Duration::try_from_secs_f64(time).unwrap_or_default(),
            ratio: median(ratios),
            usage: self.usage,
            wrong: self.wrong,
        }
    }
}

/// Executes the first load, which is metered and verified. Only later loads are timed.
async fn open(engine: &Engine, plan: &Plan, kind: Kind, id: &str, events: u64) -> Result<Opened, Failure> {
    let meter = Meter::default();
    let metered = kind.open(&engine.metered_client(&meter), PREFIX).await?;
    meter.take();
    let Ok(loaded) = timeout(plan.limit, metered.load(id)).await else {
        return Err(format!("over {} s", plan.limit.as_secs()).into());
    };
    let loaded = loaded?;
    Ok(Opened {
        contender: kind.open(&engine.client(), PREFIX).await?,
        usage: meter.take(),
        wrong: (loaded != Account::after(events)).then_some(loaded.deposits),
        times: Vec::new(),
    })
}

/// Times the loads of the contenders in turns. Each round starts with another contender. Short loads are repeated ten
/// times as often.
async fn take_turns(plan: &Plan, id: &str, group: &mut [(Kind, Result<Opened, String>)]) {
    let start = Instant::now();
    for round in 0..plan.rounds * 10 {
        if round >= plan.rounds && start.elapsed() > plan.limit / 20 {
            return;
        }
        for place in 0..group.len() {
            let (_, opened) = &mut group[(place + round) % group.len()];
            let Ok(contender) = opened else { continue };
            let start = Instant::now();
            match contender.contender.load(id).await {
                Ok(_) => contender.times.push(start.elapsed()),
                Err(error) => *opened = Err(reason(error)),
            }
        }
    }
}
