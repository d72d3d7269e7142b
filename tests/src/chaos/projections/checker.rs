//! The check: compares the result of the projection with the feed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use es_core::Projector;
use es_core::ReadModel;
use es_core::documents::{DocumentQuery, Documents};
use es_core::feed::{EventFilter, Feed, FeedRead, Position};
use es_core::projection::{OnFailure, ProjectorError, SliceStatus, WaitError};
use es_core::testing::Faults;
use fastrand::Rng;
use tokio::time::{sleep, timeout};

use super::ledger::{Counter, Ledger, Mark, Place, Seen};
use super::worker::projector;
use super::{LEASE, Run};

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Events in the feed that the projection handles.
    pub events: u64,
    /// Workers that died.
    pub died: u64,
    /// Workers that were shut down.
    pub ended: u64,
    /// Handlers that failed.
    pub failures: u64,
    /// Handlers that panicked or hung.
    pub interruptions: u64,
    /// Stopped slices, as found by the operator.
    pub stops: u64,
    /// Events parked at the end.
    pub parked: u64,
    /// Events that may have been skipped.
    pub skipped: u64,
    /// Resets of the projection.
    pub resets: u64,
    /// Switches to a new build.
    pub switches: u64,
    /// Events handled more than once.
    pub repeated: u64,
    /// Slices that were split.
    pub splits: u64,
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.died += other.died;
        self.ended += other.ended;
        self.failures += other.failures;
        self.interruptions += other.interruptions;
        self.stops += other.stops;
        self.parked += other.parked;
        self.skipped += other.skipped;
        self.resets += other.resets;
        self.switches += other.switches;
        self.repeated += other.repeated;
        self.splits += other.splits;
    }
}

/// The versions of the events that the projection handles, by account.
type Events = BTreeMap<String, Vec<u64>>;

/// The time limit of the check.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets one worker finish, and checks the result.
pub(super) async fn check(run: &Run, skipped: &BTreeSet<Place>, random: &mut Rng) -> Result<Report, String> {
    // Longer than late requests take: events that fail now stay parked.
    let projector = projector(run, LEASE * 20, random, Faults::seeded(0));
    let worker = tokio::spawn({
        let projector = projector.clone();
        async move { projector.run().await }
    });
    let wait = async {
        projector.resume().await.map_err(|error| error.to_string())?;
        if run.on_failure == OnFailure::Stop {
            run.trouble.end();
        }
        finish(&projector).await?;
        let events = events(run).await?;
        let parked = check_rows(run, &projector, &events, skipped).await?;
        run.trouble.end();
        projector.replay_parked().await.map_err(|error| error.to_string())?;
        finish(&projector).await?;
        // Heartbeats of dead workers are deleted, even if some of the requests are late.
        sleep(LEASE * 20).await;
        if projector.rebuild_progress().await.map_err(|error| error.to_string())?.is_some() {
            while projector.switch().await.is_err() {
                let _ = projector.replay_parked().await;
                if let Some(stopped) = projector.rebuild_progress().await.ok().flatten() {
                    for (slice, _) in stopped.stopped() {
                        let _ = projector.retry(slice).await;
                    }
                }
                sleep(LEASE).await;
            }
            projector.replay_parked().await.map_err(|error| error.to_string())?;
            finish(&projector).await?;
        }
        projector.delete_replaced().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((events, parked))
    };
    let (events, parked) = match timeout(PATIENCE, wait).await {
        Ok(waited) => waited?,
        Err(_) => {
            let (progress, new) = (projector.progress().await, projector.rebuild_progress().await);
            return Err(format!("it does not end: {progress:?}, {new:?}"));
        }
    };
    check_signs(run).await?;
    projector.shutdown();
    worker.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let still_parked = check_rows(run, &projector, &events, skipped).await?;
    if still_parked > 0 {
        return Err(format!("{still_parked} events stay parked although none fails"));
    }
    check_slices(&projector).await?;
    check_documents(run).await?;
    let handled = run.trouble.sink();
    check_sink(&handled, &events, skipped)?;
    let events = events.values().map(|versions| versions.len() as u64).sum();
    let tree = run.truth.slice_tree().await.map_err(|error| error.to_string())?;
    Ok(Report {
        events,
        parked,
        skipped: skipped.len() as u64,
        failures: run.trouble.failures(),
        interruptions: run.trouble.interruptions(),
        splits: tree.iter().filter(|slice| tree.is_closed(*slice)).count() as u64,
        repeated: (handled.len() as u64).saturating_sub(events),
        ..Report::default()
    })
}

/// Waits until everything is handled, and retries stopped slices.
async fn finish(projector: &Projector<Ledger>) -> Result<(), String> {
    loop {
        match projector.caught_up().await {
            Ok(()) => return Ok(()),
            Err(WaitError::Stopped { slice, .. }) => match projector.retry(slice).await {
                Ok(()) | Err(ProjectorError::Invalid { .. }) => {}
                Err(error) => return Err(error.to_string()),
            },
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Reads the feed.
async fn events(run: &Run) -> Result<Events, String> {
    let filter = EventFilter::none().with_events("account", ["Deposited", "Withdrawn"]);
    let mut events = Events::new();
    for slice in run.truth.slice_tree().await.map_err(|error| error.to_string())?.iter() {
        let read = FeedRead::new(slice, Position::NONE).limit(10_000);
        for entry in run.truth.read_feed(&read).await.map_err(|error| error.to_string())?.entries {
            for (event, version) in entry.commit.events.iter().zip(entry.commit.first.get()..) {
                if filter.takes(&entry.stream, event.name()) {
                    events.entry(entry.stream.id().to_owned()).or_default().push(version);
                }
            }
        }
    }
    Ok(events)
}

/// Checks that every event is in the rows once and in order, unless it is parked. Returns the number of parked events.
async fn check_rows(
    run: &Run,
    projector: &Projector<Ledger>,
    events: &Events,
    skipped: &BTreeSet<Place>,
) -> Result<u64, String> {
    let text = |error: es_core::read_model::ReadModelError| error.to_string();
    let mut parked: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let active = projector.progress().await.map_err(|error| error.to_string())?.build;
    let all = projector.parked().await.map_err(|error| error.to_string())?;
    for event in all.into_iter().filter(|event| event.build == active) {
        let account = event.event.stream.trim_start_matches("account#").to_owned();
        parked.entry(account).or_default().insert(event.event.version.get());
    }
    let seen: ReadModel<Seen> = ReadModel::of::<Ledger>(&run.truth);
    let marks: ReadModel<Mark> = ReadModel::of::<Ledger>(&run.truth);
    let counters: ReadModel<Counter> = ReadModel::of::<Ledger>(&run.truth);
    let mut handled = 0;
    for (account, versions) in events {
        let aside = parked.get(account);
        let row = seen.get(account).await.map_err(text)?.map(|seen| seen.versions).unwrap_or_default();
        let is_expected = |version: &u64| {
            let skipped = skipped.contains(&(account.clone(), *version));
            !aside.is_some_and(|aside| aside.contains(version)) && (!skipped || row.contains(version))
        };
        let expected: Vec<u64> = versions.iter().copied().filter(is_expected).collect();
        if row != expected {
            return Err(format!("{account} has {versions:?} and parked {aside:?}, seen were {row:?}"));
        }
        let marked: Vec<u64> = marks
            .find(Mark::BY_ACCOUNT, account)
            .all()
            .await
            .map_err(text)?
            .iter()
            .map(|mark| mark.version)
            .collect();
        if marked != expected {
            return Err(format!("{account} has {expected:?}, marked are {marked:?}"));
        }
        handled += row.len();
    }
    let all = marks.all().await.map_err(text)?.len();
    let counted: u64 = counters.all().await.map_err(text)?.iter().map(|counter| counter.events).sum();
    if all != handled || counted != handled as u64 {
        return Err(format!("{handled} events were handled, {all} are marked and {counted} counted"));
    }
    let mut listed = 0;
    for odd in [false, true] {
        for row in seen.find(Seen::BY_PARITY, &odd).all().await.map_err(text)? {
            let current = seen.get(&row.account).await.map_err(text)?;
            if current.is_none_or(|current| current.versions != row.versions || current.odd != odd) {
                return Err(format!("{} is listed in a state that it has left", row.account));
            }
            listed += 1;
        }
    }
    if listed != seen.all().await.map_err(text)?.len() {
        return Err(format!("{listed} rows are listed in an index, of another number"));
    }
    Ok(parked.values().map(|aside| aside.len() as u64).sum())
}

async fn check_slices(projector: &Projector<Ledger>) -> Result<(), String> {
    let progress = projector.progress().await.map_err(|error| error.to_string())?;
    if let Some(slice) = progress.slices.iter().find(|slice| slice.position != slice.end || slice.parked != 0)
    {
        return Err(format!("a slice is not at its end: {slice:?}"));
    }
    match progress.slices.iter().find(|slice| slice.is_closed != (slice.status == SliceStatus::Finished)) {
        Some(slice) => Err(format!("a slice that was split is not finished, or another one is: {slice:?}")),
        None => Ok(()),
    }
}

/// Checks that the heartbeats of dead workers are deleted: only that of the check's worker is left.
async fn check_signs(run: &Run) -> Result<(), String> {
    let all = run.truth.documents(&DocumentQuery::new("projection#ledger")).await;
    let all = all.map_err(|error| error.to_string())?.documents;
    let signs: Vec<_> = all.iter().filter(|(name, _)| name.starts_with("worker#")).collect();
    if signs.len() > 1 { Err(format!("there is one worker, and these signs: {signs:?}")) } else { Ok(()) }
}

/// Checks that replaced builds are deleted.
async fn check_documents(run: &Run) -> Result<(), String> {
    let error = |error: es_core::StoreError| error.to_string();
    let all = run.truth.documents(&DocumentQuery::new("projection#ledger")).await.map_err(error)?;
    let mut builds = BTreeSet::new();
    for (name, _) in &all.documents {
        let build = name.strip_prefix("slice#").and_then(|slot| slot.split('#').next());
        builds.extend(build.map(str::to_owned));
    }
    if builds.len() > 1 {
        return Err(format!("there are several builds: {builds:?}"));
    }
    let active: u32 = builds.first().and_then(|build| build.parse().ok()).ok_or("there is no build")?;
    for build in (1..active + 3).filter(|build| *build != active) {
        for collection in
            ["marks#r#0", "marks#r#7", "seen#r#3", "counters#r#5", "marks#i#by_account#account-1"]
        {
            let query = DocumentQuery::new(format!("read#ledger#{build}#{collection}"));
            if !run.truth.documents(&query).await.map_err(error)?.documents.is_empty() {
                return Err(format!(
                    "rows of build {build} are left in `{collection}`, the active one is {active}"
                ));
            }
        }
    }
    Ok(())
}

/// Checks that every event was handled at least once, and its first time in order.
fn check_sink(handled: &[Place], events: &Events, skipped: &BTreeSet<Place>) -> Result<(), String> {
    for (account, versions) in events {
        let mut first = Vec::new();
        for (_, version) in handled.iter().filter(|(of, _)| of == account) {
            if !first.contains(version) {
                first.push(*version);
            }
        }
        // An event that was skipped in one build may be handled later in another.
        let counts = |version: &&u64| !skipped.contains(&(account.clone(), **version));
        let (first, all): (Vec<_>, Vec<_>) =
            (first.iter().filter(counts).collect(), versions.iter().filter(counts).collect());
        if first != all {
            return Err(format!("{account} has {all:?}, a sink first saw {first:?}"));
        }
    }
    Ok(())
}
