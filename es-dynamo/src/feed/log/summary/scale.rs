//! The costs of a writer with up to a hundred million streams, whose summary is generated rather than stored.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use es_core::feed::{Position, Slice, Slices};
use es_core::{Cost, StoreError, StreamId, Version};
use tokio::time::Instant;
use uuid::Uuid;

use super::Shape;
use super::node::{Child, Node, NodeId, Place, Root, Run};
use super::part::{Kind, PartKey, Scope, encode_marks, filter_bytes, set_bits};
use super::tree::Tree;
use crate::feed::log::hint::Hint;
use crate::feed::log::marks::{Mark, StreamHash};
use crate::feed::log::page::{LogPage, MAX_COMMITS};
use crate::feed::log::reference::{CommitTag, Reference};
use crate::feed::log::settings::Settings;
use crate::feed::log::simulation::{reference, runtime};
use crate::feed::log::storage::{PageQuery, Pages, PutPage, PutPart, Storage, StoredRoot};
use crate::feed::log::writer::Writer;
use crate::table::responses::write_units;
use crate::table::{Consistency, item_size};

const SLICE: Slice = Slice::new(0);
const SHAPE: Shape = Shape::DEFAULT;

/// The time of a request.
const LATENCY: Duration = Duration::from_millis(10);

/// The number of watermarks in a generated run that is not the oldest of a leaf.
const RUN: u64 = SHAPE.run as u64;

/// The number of streams of a leaf at which its parent has another level of children.
const LEAF: u64 = 190_000;

/// The size in bytes of an item's keys and attribute names.
const KEY_BYTES: u64 = 60;

/// Capacity units.
#[derive(Clone, Copy, Debug, Default)]
struct Units {
    read: f64,
    /// For pages.
    pages: f64,
    /// For everything else.
    write: f64,
}

/// A table whose summary has the watermarks of many streams. Parts are generated from their keys when they are read.
struct Generated {
    streams: u64,
    /// The depth of the leaves.
    depth: u8,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    root: Option<Root>,
    /// The parts that were written, each with the number of the job.
    parts: HashMap<PartKey, (u64, Vec<u8>)>,
    pages: Vec<LogPage>,
    /// Watermarks of existing streams, by the runs and chunks that contain them.
    planted: HashMap<(Uuid, u32), Vec<(StreamHash, Mark)>>,
    existing: HashMap<StreamId, Mark>,
    used: Units,
}

fn scope() -> Scope {
    Scope { slice: SLICE, key: settings().hash_key, shape: SHAPE }
}

fn settings() -> Settings {
    Settings { slices: Slices::new(1).expect("not zero"), hash_key: [7; 16] }
}

/// Returns a generator for the content of a part of a node.
fn random(node: NodeId, what: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(node.index ^ u64::from(node.depth) << 40 ^ what << 44)
}

impl Generated {
    /// Returns a table with so many streams, whose log ends with `tail` commits that are not in the summary.
    fn new(streams: u64, tail: u64) -> Self {
        let mut depth = 0;
        while streams / u64::from(SHAPE.fanout).pow(depth) > LEAF {
            depth += 1;
        }
        let table = Self { streams, depth: depth as u8, content: Mutex::default() };
        let commits: Vec<Reference> =
            (0..=tail).map(|id| reference("tail", format!("{id:036}"), 1, 1, &["Noted"])).collect();
        let mut pages = Vec::new();
        let mut first = Position::new(streams);
        for (index, page) in commits[..1].chunks(1).chain(commits[1..].chunks(MAX_COMMITS)).enumerate() {
            let page = LogPage::filled(SLICE, settings().slices, first, page);
            assert!(index > 0 || page.last() == first);
            first = page.last().next();
            pages.push(page);
        }
        let root = Root {
            through: Position::new(streams),
            page: pages[0].id,
            id: Uuid::from_u128(1),
            job: 1,
            open: false,
            node: table.node(NodeId::ROOT),
        };
        {
            let mut content = table.content();
            (content.root, content.pages) = (Some(root), pages);
        }
        table
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("no panic before")
    }

    /// Returns the numbers of watermarks of a node's runs, oldest first.
    fn counts(&self, node: NodeId) -> Vec<u64> {
        let runs = random(node, 0).u64(0..SHAPE.merge_at as u64);
        if node.depth < self.depth {
            return vec![RUN; runs as usize];
        }
        let own = self.streams / u64::from(SHAPE.fanout).pow(self.depth.into());
        let runs = runs.min(own / 2 / RUN);
        let mut counts = vec![own - runs * RUN];
        counts.extend(vec![RUN; runs as usize]);
        counts
    }

    fn node(&self, id: NodeId) -> Node {
        let run = |(slot, count): (u32, u64)| Run {
            id: Uuid::from_u128(
                u128::from(id.index) << 64 | u128::from(id.depth) << 32 | (u128::from(slot) + 2),
            ),
            slot,
            chunks: scope().chunks(count as usize),
        };
        let runs = (0..).zip(self.counts(id)).map(run).collect();
        let child = |index| {
            let child = id.child(SHAPE.fanout, index);
            let fullest = self.node(child).fullest() as u32;
            Some(Child { id: Uuid::from_u128(u128::from(child.index) + 1), slot: 0, fullest })
        };
        let children = match id.depth < self.depth {
            true => (0..u64::from(SHAPE.fanout)).map(child).collect(),
            false => Vec::new(),
        };
        Node { runs, children }
    }

    /// Adds an existing stream to a run of a leaf or, sometimes, of one of its ancestors.
    fn plant(&self, stream: &StreamId, mark: Mark) {
        let hash = StreamHash::of(&settings().hash_key, stream);
        let mut random = fastrand::Rng::with_seed(u64::from(mark.tag.0));
        let mut place = Place::of(hash);
        let mut node = self.node(place.node);
        while !node.children.is_empty() && (node.runs.is_empty() || random.u8(..10) > 0) {
            place = place.in_child(SHAPE.fanout);
            node = self.node(place.node);
        }
        let run = random.choice(&node.runs).expect("a leaf has runs");
        let chunk = place.chunk(run.chunks);
        let mut content = self.content();
        content.planted.entry((run.id, chunk)).or_default().push((hash, mark));
        content.existing.insert(stream.clone(), mark);
    }

    /// Generates a part.
    fn part(&self, content: &Content, key: PartKey) -> Option<Vec<u8>> {
        let (scope, node) = (scope(), key.node);
        if key.kind == Kind::Node {
            let id = Uuid::from_u128(u128::from(node.index) + 1);
            return (node.depth <= self.depth).then(|| scope.seal(key, id, &self.node(node).encode()));
        }
        let counts = self.counts(node);
        let count = *counts.get(key.slot as usize)?;
        let run = self.node(node).runs[key.slot as usize];
        let chunks = match key.kind {
            Kind::Filter => {
                let first = key.index * SHAPE.chunks_per_filter;
                first..run.chunks.min(first + SHAPE.chunks_per_filter)
            }
            _ => key.index..key.index + 1,
        };
        let mut random =
            random(node, u64::from(key.slot) << 10 ^ u64::from(key.index) << 1 ^ key.kind as u64);
        let planted = chunks.clone().filter_map(|chunk| content.planted.get(&(run.id, chunk))).flatten();
        let each = (count as usize).div_ceil(run.chunks as usize);
        if key.kind == Kind::Filter {
            // Half of the bits of a filter are set.
            let mut filter = vec![0; filter_bytes(each * chunks.len())];
            random.fill(&mut filter);
            planted.for_each(|(hash, _)| set_bits(&mut filter, *hash));
            return Some(scope.seal(key, run.id, &filter));
        }
        let span = (u128::from(u64::MAX) + 1) / u128::from(run.chunks);
        let parts = u128::from(u64::from(SHAPE.fanout).pow(node.depth.into()));
        let mut marks: Vec<(StreamHash, Mark)> = (0..each)
            .filter_map(|_| {
                let fraction = span * u128::from(key.index) + u128::from(random.u64(..)) % span;
                let hash = ((u128::from(node.index) << 64 | fraction) / parts) as u64;
                let mut bytes = [0; 12];
                bytes[..8].copy_from_slice(&hash.to_be_bytes());
                random.fill(&mut bytes[8..]);
                let place = Place::within(StreamHash(bytes), node, SHAPE.fanout);
                let is_in_place = (place.node, place.chunk(run.chunks)) == (node, key.index);
                is_in_place.then(|| (StreamHash(bytes), mark(random.u32(1..9))))
            })
            .chain(planted.copied())
            .collect();
        marks.sort_unstable();
        marks.dedup_by_key(|(hash, _)| *hash);
        Some(scope.seal(key, run.id, &encode_marks(&marks)))
    }

    fn take(&self) -> Units {
        std::mem::take(&mut self.content().used)
    }
}

fn mark(version: u32) -> Mark {
    Mark { version: Version::new(version.into()), tag: CommitTag(version) }
}

fn read_units(bytes: u64, consistency: Consistency) -> f64 {
    bytes.div_ceil(4096).max(1) as f64 * if consistency == Consistency::Eventual { 0.5 } else { 1.0 }
}

#[async_trait]
impl Storage for Generated {
    async fn put_page(&self, page: &LogPage) -> Result<PutPage, StoreError> {
        tokio::time::sleep(LATENCY).await;
        let mut content = self.content();
        content.used.pages += write_units(item_size(&page.to_item()));
        content.pages.push(page.clone());
        Ok(PutPage::Written)
    }

    async fn pages(
        &self,
        _: Slice,
        query: PageQuery,
        limit: u32,
        _: Consistency,
    ) -> Result<Pages, StoreError> {
        tokio::time::sleep(LATENCY).await;
        let mut content = self.content();
        let mut pages: Vec<LogPage> = match query {
            PageQuery::After(position) => content
                .pages
                .iter()
                .filter(|page| page.first > position)
                .take(limit as usize)
                .cloned()
                .collect(),
            PageQuery::Until(position) => {
                let pages = content.pages.iter().rev().filter(|page| page.first <= position);
                pages.take(limit as usize).cloned().collect()
            }
        };
        let bytes: u64 = pages.iter().map(|page| item_size(&page.to_item())).sum();
        content.used.read += read_units(bytes, Consistency::Strong);
        pages.truncate(limit as usize);
        Ok(Pages { pages, more: false, cost: Cost::ZERO })
    }

    async fn splits(&self) -> Result<BTreeSet<Slice>, StoreError> {
        Ok(BTreeSet::new())
    }

    async fn put_split(&self, _: Slice) -> Result<(), StoreError> {
        unreachable!("no slice is split")
    }

    async fn commits(
        &self,
        _: &StreamId,
        _: Version,
        _: Version,
        _: usize,
    ) -> Result<Vec<Reference>, StoreError> {
        unreachable!("every hint follows the watermark of its stream")
    }

    async fn commit_until(&self, stream: &StreamId, _: Version) -> Result<Option<Mark>, StoreError> {
        tokio::time::sleep(LATENCY).await;
        let mut content = self.content();
        content.used.read += 1.0;
        Ok(content.existing.get(stream).copied())
    }

    async fn root(&self, _: &Scope) -> Result<StoredRoot, StoreError> {
        tokio::time::sleep(LATENCY).await;
        let mut content = self.content();
        content.used.read += 1.0;
        Ok(content.root.clone().map_or(StoredRoot::None, StoredRoot::Root))
    }

    async fn put_root(&self, _: &Scope, expected: Option<Uuid>, root: &Root) -> Result<bool, StoreError> {
        tokio::time::sleep(LATENCY).await;
        let mut content = self.content();
        assert_eq!(content.root.as_ref().map(|root| root.id), expected, "there is one writer");
        content.used.write += write_units(root.node.encode().len() as u64 + 3 * KEY_BYTES);
        content.root = Some(root.clone());
        Ok(true)
    }

    async fn parts(
        &self,
        _: Slice,
        keys: &[PartKey],
        consistency: Consistency,
    ) -> Result<HashMap<PartKey, Vec<u8>>, StoreError> {
        // Eight requests for 100 parts each run concurrently.
        tokio::time::sleep(LATENCY * 2 * (keys.len() as u32).div_ceil(800)).await;
        let mut content = self.content();
        let part = |key: &PartKey| {
            let written = content.parts.get(key).map(|(_, bytes)| bytes.clone());
            Some((*key, written.or_else(|| self.part(&content, *key))?))
        };
        let found: HashMap<PartKey, Vec<u8>> = keys.iter().filter_map(part).collect();
        content.used.read +=
            found.values().map(|part| read_units(part.len() as u64 + KEY_BYTES, consistency)).sum::<f64>();
        Ok(found)
    }

    async fn put_part(
        &self,
        _: Slice,
        key: PartKey,
        job: u64,
        bytes: Vec<u8>,
    ) -> Result<PutPart, StoreError> {
        tokio::time::sleep(LATENCY).await;
        let mut content = self.content();
        content.used.write += write_units(bytes.len() as u64 + KEY_BYTES);
        let replaced = content.parts.insert(key, (job, bytes));
        assert!(replaced.is_none_or(|(earlier, _)| earlier < job), "a job writes each part once");
        Ok(PutPart::Written)
    }
}

/// Returns hints at the commits of `count` existing streams and of as many new ones, with ids like UUIDs.
fn hints(table: &Generated, name: &str, count: u32) -> Vec<Hint> {
    let commit =
        |id: u32, first: u64| Hint::Commit(reference(name, format!("{id:036}"), first, 1, &["Noted"]));
    let existing = (0..count).map(|id| {
        let hint = commit(id, 8);
        table.plant(hint.stream(), Mark { version: Version::new(7), tag: CommitTag(id) });
        hint
    });
    existing.chain((count..2 * count).map(|id| commit(id, 1))).collect()
}

/// The figures of a table with so many streams.
#[derive(Debug)]
struct Figures {
    streams: u64,
    start: Units,
    start_time: Duration,
    lookups: f64,
    pages: f64,
    summary: Units,
    bytes: u64,
}

/// Measures a writer; its costs of summaries over `jobs` jobs.
async fn measure(streams: u64, jobs: u32) -> Figures {
    // As many commits as possible are not in the summary.
    let table = Arc::new(Generated::new(streams, RUN - 200));
    // All streams are added before any filter is read.
    let first = hints(&table, "first", MAX_COMMITS as u32 / 2);
    let count = 16 * MAX_COMMITS as u32;
    let commits = hints(&table, "then", count / 2);
    let started = Instant::now();
    let mut writer = Writer::with_shape(SLICE, settings(), SHAPE);
    let indexed = writer.index(&*table, first).await.expect("indexes");
    assert_eq!((indexed.events, indexed.pages), (64, 1));
    let (start, start_time) = (table.take(), started.elapsed());

    // The filters are read on first use.
    let mut random = fastrand::Rng::with_seed(streams);
    let mut hash = || {
        let mut hash = [0; 12];
        random.fill(&mut hash);
        StreamHash(hash)
    };
    let root = table.content().root.clone().expect("a root");
    let mut tree = Tree::at(scope(), root);
    for _ in 0..if streams > 1_000_000 { 50 } else { 5 } {
        let some: Vec<_> = (0..128).map(|_| hash()).collect();
        tree.marks(&*table, &some).await.expect("reads").expect("is sound");
    }
    writer.warm(tree);
    table.take();
    for page in commits.chunks(MAX_COMMITS) {
        let indexed = writer.index(&*table, page.to_vec()).await.expect("indexes");
        assert_eq!(indexed.events, page.len() as u64);
    }
    let used = table.take();
    let (lookups, pages) = (used.read / f64::from(count), used.pages / f64::from(count));

    let end = writer.end();
    let mut tree = writer.into_tree();
    for _ in 0..jobs {
        while tree.changed() < SHAPE.run {
            tree.set(hash(), mark(1), end);
        }
        tree.write(&*table, end, Uuid::from_u128(1)).await.expect("writes");
    }
    let Units { read, write, .. } = table.take();
    let marks = f64::from(jobs) * SHAPE.run as f64;
    let summary = Units { read: read / marks, write: write / marks, pages: 0.0 };
    Figures { streams, start, start_time, lookups, pages, summary, bytes: tree.bytes() }
}

/// The number of runs that are written is `ES_SCALE_RUNS`. With few, the costs of merges are not representative.
#[test]
fn costs_and_memory_do_not_depend_on_the_number_of_streams() {
    let runs = std::env::var("ES_SCALE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(2);
    println!(
        "| streams | first page, RCU | first page, ms | lookups, RCU per event | summaries, RCU per event \
         | pages, WCU per event | summaries, WCU per event | all, WCU per event | memory, MB |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for streams in [1_000, 1_000_000, 100_000_000] {
        let figures = runtime().block_on(measure(streams, runs));
        let Figures { start, start_time, lookups, pages, summary, bytes, .. } = figures;
        let all = pages + summary.write + (lookups + summary.read) / 5.0;
        println!(
            "| {} | {} | {} | {lookups:.3} | {:.3} | {pages:.3} | {:.3} | {all:.3} | {:.0} |",
            figures.streams,
            start.read,
            start_time.as_millis(),
            summary.read,
            summary.write,
            bytes as f64 / 1e6,
        );
        assert!(start.read <= 2_000.0 && start_time <= Duration::from_secs(2), "{figures:?}");
        assert!(bytes < 256_000_000, "{figures:?}");
        assert!(all < 0.5, "{figures:?}");
    }
    assert!(Tree::most_bytes(SHAPE) < 256_000_000, "with any number of streams");
}
