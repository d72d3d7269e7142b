//! A simulated stream, which also does some things that real streams do not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use es_core::StoreError;
use tokio::time::Instant;

use crate::feed::indexer::source::{Records, Shard, SourceError, StreamSource};
use crate::feed::log::hint::Record;
use crate::feed::log::reference::Reference;
use crate::table::{key, names};

/// The retention of records.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A stream. Clones share it.
#[derive(Clone)]
pub(crate) struct SimulatedStream(Arc<Mutex<Content>>);

struct Content {
    random: fastrand::Rng,
    shards: Vec<SimulatedShard>,
    /// Commits that are not visible yet, with the times at which they become visible.
    delayed: Vec<(Instant, Reference)>,
    sequence: u64,
    refuses: bool,
}

#[derive(Default)]
struct SimulatedShard {
    id: u64,
    parent: Option<u64>,
    records: Vec<(Instant, u64, Reference)>,
    /// How many of them have expired.
    trimmed: usize,
    closed: Option<Instant>,
}

impl SimulatedStream {
    pub(crate) fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let shards = vec![SimulatedShard::default()];
        Self(Arc::new(Mutex::new(Content {
            random,
            shards,
            delayed: Vec::new(),
            sequence: 0,
            refuses: true,
        })))
    }

    /// Adds one or two records of a commit, with or without delay.
    pub(crate) fn write(&self, commit: &Reference) {
        let mut content = self.0.lock().expect("no panic before");
        let times = if content.random.u32(0..10) == 0 { 2 } else { 1 };
        for _ in 0..times {
            let delay = match content.random.u32(0..4) {
                0 => Duration::from_secs(content.random.u64(0..3_600)),
                _ => Duration::ZERO,
            };
            content.delayed.push((Instant::now() + delay, commit.clone()));
        }
    }

    /// Closes a shard, and opens one or two children.
    pub(crate) fn split(&self) {
        let mut content = self.0.lock().expect("no panic before");
        let open: Vec<usize> = content.open();
        let parent = open[content.random.usize(..open.len())];
        content.shards[parent].closed = Some(Instant::now());
        let children = content.random.usize(1..=2);
        let (parent, next) = (content.shards[parent].id, content.shards.last().map_or(0, |last| last.id) + 1);
        for id in (next..).take(children) {
            content.shards.push(SimulatedShard { id, parent: Some(parent), ..SimulatedShard::default() });
        }
    }

    /// Stops injecting faults.
    pub(crate) fn heal(&self) {
        self.0.lock().expect("no panic before").refuses = false;
    }

    /// Executes a request, after the effects of the time that has passed.
    async fn request<T>(&self, respond: impl FnOnce(&mut Content) -> T) -> Result<T, StoreError> {
        tokio::task::yield_now().await;
        let mut content = self.0.lock().expect("no panic before");
        content.pass();
        if content.refuses && content.random.u32(0..20) == 0 {
            return Err(StoreError::Throttled("on purpose".into()));
        }
        Ok(respond(&mut content))
    }
}

impl Content {
    fn open(&self) -> Vec<usize> {
        (0..self.shards.len()).filter(|index| self.shards[*index].closed.is_none()).collect()
    }

    fn pass(&mut self) {
        let now = Instant::now();
        // In any order, and in any open shard.
        for (due, commit) in std::mem::take(&mut self.delayed) {
            if due > now {
                self.delayed.push((due, commit));
                continue;
            }
            let open = self.open();
            let shard = open[self.random.usize(..open.len())];
            self.sequence += 1;
            let records = &mut self.shards[shard].records;
            // A late record has the time of its write, and expires with the other records of that time.
            records.push((due, self.sequence, commit));
        }
        for shard in &mut self.shards {
            while shard.records.get(shard.trimmed).is_some_and(|(written, ..)| *written + KEPT < now) {
                shard.trimmed += 1;
            }
        }
        self.shards.retain(|shard| shard.closed.is_none_or(|closed| closed + KEPT >= now));
    }

    fn shard(&self, id: &str) -> Result<&SimulatedShard, SourceError> {
        self.shards.iter().find(|shard| name(shard.id) == id).ok_or(SourceError::Trimmed)
    }
}

fn name(id: u64) -> String {
    format!("shardId-{id:020}")
}

#[async_trait]
impl StreamSource for SimulatedStream {
    async fn shards(&self) -> Result<Vec<Shard>, StoreError> {
        self.request(|content| {
            let mut shards: Vec<Shard> = content
                .shards
                .iter()
                .map(|shard| Shard { id: name(shard.id), parent: shard.parent.map(name) })
                .collect();
            content.random.shuffle(&mut shards);
            shards
        })
        .await
    }

    async fn iterator(&self, shard: &str, after: Option<&str>) -> Result<String, SourceError> {
        let response = self.request(|content| {
            let overlap = if content.refuses { content.random.usize(..=3) } else { 0 };
            let found = content.shard(shard)?;
            let mut index = found.trimmed;
            if let Some(after) = after {
                let after: u64 = after.parse().expect("a sequence number");
                index = found.records.partition_point(|(_, sequence, _)| *sequence <= after);
                if index < found.trimmed {
                    return Err(SourceError::Trimmed);
                }
                // Iterators overlap.
                index = index.saturating_sub(overlap).max(found.trimmed);
            }
            Ok(format!("{shard} {index}"))
        });
        response.await.map_err(SourceError::Store)?
    }

    async fn records(&self, iterator: &str) -> Result<Records, SourceError> {
        let (shard, index) = iterator.split_once(' ').expect("an iterator");
        let response = self.request(|content| {
            if content.refuses && content.random.u32(0..30) == 0 {
                return Err(SourceError::Expired);
            }
            let index: usize = index.parse().expect("an index");
            let most = content.random.usize(1..10);
            let found = content.shard(shard)?;
            if index < found.trimmed {
                return Err(SourceError::Trimmed);
            }
            let records = &found.records[index..found.records.len().min(index + most)];
            let end = index + records.len();
            let is_over = found.closed.is_some() && end == found.records.len();
            let next = (!is_over).then(|| format!("{shard} {end}"));
            let records = records.iter().map(|(_, sequence, commit)| record(*sequence, commit)).collect();
            Ok(Records { records, written: None, next })
        });
        response.await.map_err(SourceError::Store)?
    }
}

/// A record, with an image for half of them.
fn record(sequence: u64, commit: &Reference) -> Record {
    let keys = key(commit.stream.as_str(), names::commit_key(commit.first));
    let image = sequence.is_multiple_of(2).then(|| crate::feed::log::simulation::image(commit));
    Record { sequence: sequence.to_string(), keys, image, is_removal: false }
}
