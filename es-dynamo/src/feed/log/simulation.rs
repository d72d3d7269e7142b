//! A table in memory, which is fast enough for thousands of simulated logs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use es_core::feed::{Position, Slice, SliceTree, Slices};
use es_core::testing::{Fault, Faults};
use es_core::{Cost, StoreError, StreamId, Version};
use uuid::Uuid;

use super::marks::{HashKey, Mark, StreamHash};
use super::page::{LogPage, damaged};
use super::reference::{CommitTag, Names, Reference};
use super::storage::{PageQuery, Pages, PutPage, PutPart, Storage, StoredRoot};
use super::summary::Shape;
use super::summary::node::{Child, Node, NodeId, Root};
use super::summary::part::{Kind, PartKey, Scope, decode_marks};
use crate::streams::item::append_items;
use crate::table::{Consistency, Item, check_format};

/// Returns a reference to a commit of `events` events, starting at the version `first`.
pub(crate) fn reference(
    aggregate: &str,
    id: impl Display,
    first: u64,
    events: u64,
    names: &[&str],
) -> Reference {
    Reference {
        tag: CommitTag(first as u32),
        stream: StreamId::new(aggregate, id).expect("a stream"),
        first: Version::new(first),
        last: Version::new(first + events - 1),
        names: Names::These(names.iter().map(|name| Arc::from(*name)).collect()),
    }
}

/// Returns the item of a reference. If it has an even number of events, it has two commits.
pub(crate) fn image(commit: &Reference) -> Item {
    use es_core::ExpectedVersion;
    use es_core::event::EventData;
    use es_core::store::{Append, NewCommit};

    let Names::These(names) = &commit.names else { panic!("the names are known") };
    let event = |index: u64| {
        let name = names[index as usize % names.len()].to_string();
        EventData::new(name, 1, "{}")
    };
    let new_commit = |id: u128, events| {
        let id = es_core::event::CommitId::new(Uuid::from_u128(id));
        NewCommit::new(id, chrono::DateTime::UNIX_EPOCH, events)
    };
    let mut events: Vec<_> = (0..commit.events()).map(event).collect();
    let id = commit.tag.0.into();
    let following = match events.len() % 2 {
        0 => Some(new_commit(id + (1 << 32), events.split_off(events.len() / 2))),
        _ => None,
    };
    let append = Append::new(commit.stream.clone(), ExpectedVersion::Any, new_commit(id, events));
    append_items(&append.with_following(following), commit.first).expect("is small").remove(0)
}

/// A table. Clones share its content, not their faults.
#[derive(Clone)]
pub(crate) struct SimulatedTable {
    pub(crate) content: Arc<Mutex<Content>>,
    faults: Option<Faults>,
    /// Whether the process has a version without splits, which knows only pages of format 1.
    is_old: bool,
}

#[derive(Default)]
pub(crate) struct Content {
    pub(crate) streams: HashMap<StreamId, Vec<Reference>>,
    pub(crate) logs: BTreeMap<Slice, BTreeMap<Position, LogPage>>,
    /// The slices that are listed as split.
    pub(crate) splits: BTreeSet<Slice>,
    /// Pages that were written too early.
    pub(crate) early_pages: Vec<String>,
    pub(crate) roots: HashMap<Slice, Root>,
    /// The parts of summaries, each with the number of the job that wrote it.
    pub(crate) parts: HashMap<(Slice, PartKey), (u64, Vec<u8>)>,
    /// The number of parts that were not written because of another job.
    pub(crate) refused_parts: u64,
}

impl SimulatedTable {
    pub(crate) fn new() -> Self {
        Self { content: Arc::default(), faults: None, is_old: false }
    }

    /// Returns a handle on the table whose requests fail according to `faults`.
    pub(crate) fn with(&self, faults: Faults) -> Self {
        Self { content: Arc::clone(&self.content), faults: Some(faults), is_old: self.is_old }
    }

    /// Returns a handle on the table for a process that has a version without splits.
    pub(crate) fn old(&self) -> Self {
        Self { is_old: true, ..self.clone() }
    }

    /// Returns the slices according to the logs.
    pub(crate) fn tree(&self) -> SliceTree {
        self.content.lock().expect("no panic before").tree()
    }

    /// Appends a commit of `events` events to a stream.
    pub(crate) fn commit(&self, stream: &StreamId, events: u64) -> Reference {
        let mut content = self.content.lock().expect("no panic before");
        let commits = content.streams.entry(stream.clone()).or_default();
        let head = commits.last().map_or(Version::NONE, |last| last.last);
        let commit = reference(stream.aggregate(), stream.id(), head.next().get(), events, &["Happened"]);
        commits.push(commit.clone());
        commit
    }

    /// Returns the version of the last event of a stream.
    pub(crate) fn head(&self, stream: &StreamId) -> Version {
        let content = self.content.lock().expect("no panic before");
        let commits = content.streams.get(stream).and_then(|commits| commits.last());
        commits.map_or(Version::NONE, |last| last.last)
    }

    /// Executes a request, unless a fault prevents it.
    pub(crate) async fn request<T>(&self, execute: impl FnOnce(&mut Content) -> T) -> Result<T, StoreError> {
        let lost = |what: &str| Err(StoreError::unavailable(what));
        // Other tasks may run between any two requests.
        tokio::task::yield_now().await;
        let fault = self.faults.as_ref().and_then(Faults::next);
        match fault {
            Some(Fault::RequestLost | Fault::InternalError) => return lost("the request was lost"),
            Some(Fault::Throttled) => return Err(StoreError::Throttled("on purpose".into())),
            Some(Fault::Delayed(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        let response = execute(&mut self.content.lock().expect("no panic before"));
        match fault {
            Some(Fault::AnswerLost) => lost("the response was lost"),
            _ => Ok(response),
        }
    }

    /// Checks that every event is indexed once and in order. Returns the number of events.
    pub(crate) fn check(&self) -> Result<u64, String> {
        let content = self.content.lock().expect("no panic before");
        if let Some(page) = content.early_pages.first() {
            return Err(page.clone());
        }
        let tree = content.tree();
        let mut marks: HashMap<&StreamId, Version> = HashMap::new();
        let mut indexed = 0;
        // Parents are first.
        for (slice, log) in &content.logs {
            let (mut next, mut is_closed) = (Position::new(1), false);
            for page in log.values() {
                if page.first != next || is_closed {
                    return Err(format!("slice {slice}: position {next} is followed by {}", page.first));
                }
                (next, is_closed) = (page.last().next(), page.closes());
                for reference in &page.references {
                    if !tree.path(&reference.stream).any(|holder| holder == *slice) {
                        return Err(format!("{} is in slice {slice}", reference.stream));
                    }
                    let mark = marks.entry(&reference.stream).or_default();
                    if reference.first != mark.next() {
                        return Err(format!("{}: {} follows {mark}", reference.stream, reference.first));
                    }
                    *mark = reference.last;
                    let stored = content.streams.get(&reference.stream);
                    if !stored.is_some_and(|stored| stored.contains(reference)) {
                        return Err(format!("{}: {} is not stored", reference.stream, reference.first));
                    }
                    indexed += reference.events();
                }
            }
        }
        for (stream, commits) in &content.streams {
            let head = commits.last().map_or(Version::NONE, |last| last.last);
            let mark = marks.get(stream).copied().unwrap_or_default();
            if mark != head {
                return Err(format!("{stream}: indexed up to {mark} of {head}"));
            }
        }
        Ok(indexed)
    }

    /// Checks that the parts to which the stored summaries refer are sound, and that they contain the watermarks of the
    /// log.
    pub(crate) fn check_summaries(&self, key: HashKey) -> Result<(), String> {
        let content = self.content.lock().expect("no panic before");
        for (slice, root) in &content.roots {
            let scope = Scope { slice: *slice, key, shape: Shape::USED };
            let mut found = HashMap::new();
            content.collect(&scope, NodeId::ROOT, &root.node, &mut found)?;
            let pages = content.logs.get(slice).into_iter().flat_map(|log| log.values());
            let mut expected = HashMap::new();
            for reference in
                pages.take_while(|page| page.last() <= root.through).flat_map(|page| &page.references)
            {
                let mark = Mark { version: reference.last, tag: reference.tag };
                expected.insert(StreamHash::of(&key, &reference.stream), mark);
            }
            if found != expected {
                return Err(format!("the summary through {} differs from the log", root.through));
            }
        }
        Ok(())
    }
}

impl Content {
    fn tree(&self) -> SliceTree {
        let initial = self.logs.values().flat_map(BTreeMap::values).next().map(|page| page.slices);
        let mut tree = SliceTree::new(initial.unwrap_or(Slices::new(1).expect("not zero")));
        for (slice, log) in &self.logs {
            if let Some((_, last)) = log.last_key_value().filter(|(_, last)| last.closes()) {
                tree.close(*slice, last.last()).expect("its parent is closed");
            }
        }
        tree
    }

    /// Records a page of a slice whose parent is not closed, or not listed as split.
    fn examine(&mut self, page: &LogPage) {
        let Some(parent) = page.slices.parent(page.slice) else { return };
        let last = self.logs.get(&parent).and_then(BTreeMap::last_key_value);
        let is_closed = last.is_some_and(|(_, last)| last.closes());
        if !is_closed || !self.splits.contains(&parent) {
            let listed = self.splits.contains(&parent);
            self.early_pages.push(format!(
                "a page of slice {}, when its parent was closed: {is_closed}, listed: {listed}",
                page.slice
            ));
        }
    }

    /// Adds the watermarks of a node and its descendants, newer ones over older ones.
    fn collect(
        &self,
        scope: &Scope,
        id: NodeId,
        node: &Node,
        marks: &mut HashMap<StreamHash, Mark>,
    ) -> Result<(), String> {
        let open = |key: PartKey, part: Uuid| {
            let bytes = self.parts.get(&(scope.slice, key)).map(|(_, bytes)| &**bytes);
            let missing = || format!("the summary refers to {key:?}, which is missing or different");
            scope.open(key, part, bytes.unwrap_or_default()).ok_or_else(missing)
        };
        for (index, child) in (0..).zip(&node.children) {
            let Some(Child { id: version, slot, fullest }) = *child else { continue };
            let child = id.child(scope.shape.fanout, index);
            let key = PartKey { node: child, kind: Kind::Node, slot, index: 0 };
            let node = Node::decode(open(key, version)?, scope.shape.fanout).ok_or("a malformed node")?;
            if fullest as usize != node.fullest() {
                return Err(format!("{child:?} has {} runs, not {fullest}", node.fullest()));
            }
            self.collect(scope, child, &node, marks)?;
        }
        for run in &node.runs {
            for index in 0..run.chunks {
                let key = PartKey { node: id, kind: Kind::Marks, slot: run.slot, index };
                marks.extend(decode_marks(open(key, run.id)?).ok_or("a malformed chunk")?);
            }
            for index in 0..scope.filters(run.chunks) {
                open(PartKey { node: id, kind: Kind::Filter, slot: run.slot, index }, run.id)?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Storage for SimulatedTable {
    async fn put_page(&self, page: &LogPage) -> Result<PutPage, StoreError> {
        // Encoded and decoded, as in a table.
        let page = LogPage::from_item(page.slice, &page.to_item())?;
        self.request(|content| {
            content.examine(&page);
            let log = content.logs.entry(page.slice).or_default();
            match log.get(&page.first) {
                Some(found) if found.id == page.id => PutPage::Written,
                Some(_) => PutPage::Taken,
                None => {
                    log.insert(page.first, page);
                    PutPage::Written
                }
            }
        })
        .await
    }

    async fn pages(
        &self,
        slice: Slice,
        query: PageQuery,
        limit: u32,
        _: Consistency,
    ) -> Result<Pages, StoreError> {
        // Pages are short, so that there are several.
        let limit = limit.min(7) as usize;
        self.request(|content| {
            let log = content.logs.entry(slice).or_default();
            let mut pages: Vec<LogPage> = match query {
                PageQuery::After(position) => {
                    log.range(position.next()..).take(limit + 1).map(|(_, page)| page.clone()).collect()
                }
                PageQuery::Until(position) => {
                    log.range(..=position).rev().take(limit + 1).map(|(_, page)| page.clone()).collect()
                }
            };
            let more = pages.len() > limit;
            pages.truncate(limit);
            let unknown = pages.iter().filter(|_| self.is_old).find_map(|page| {
                let reason = check_format(&page.to_item()).err()?;
                Some(damaged(slice, page.first, reason))
            });
            unknown.map_or(Ok(Pages { pages, more, cost: Cost::ZERO }), Err)
        })
        .await?
    }

    async fn splits(&self) -> Result<BTreeSet<Slice>, StoreError> {
        self.request(|content| content.splits.clone()).await
    }

    async fn put_split(&self, slice: Slice) -> Result<(), StoreError> {
        self.request(|content| content.splits.insert(slice)).await.map(drop)
    }

    async fn commits(
        &self,
        stream: &StreamId,
        after: Version,
        until: Version,
        limit: usize,
    ) -> Result<Vec<Reference>, StoreError> {
        self.request(|content| {
            let commits = content.streams.get(stream).map_or(&[][..], Vec::as_slice);
            let wanted = commits.iter().filter(|commit| commit.first > after && commit.first <= until);
            wanted.take(limit.min(5)).cloned().collect()
        })
        .await
    }

    async fn commit_until(&self, stream: &StreamId, version: Version) -> Result<Option<Mark>, StoreError> {
        self.request(|content| {
            let mut commits = content.streams.get(stream)?.iter().rev();
            let commit = commits.find(|commit| commit.first <= version)?;
            Some(Mark { version: commit.last, tag: commit.tag })
        })
        .await
    }

    async fn root(&self, scope: &Scope) -> Result<StoredRoot, StoreError> {
        self.request(|content| {
            content.roots.get(&scope.slice).cloned().map_or(StoredRoot::None, StoredRoot::Root)
        })
        .await
    }

    async fn put_root(&self, scope: &Scope, expected: Option<Uuid>, root: &Root) -> Result<bool, StoreError> {
        self.request(|content| {
            let found = content.roots.get(&scope.slice).map(|root| root.id);
            let is_replaced = found == expected;
            if is_replaced {
                content.roots.insert(scope.slice, root.clone());
            }
            is_replaced || found == Some(root.id)
        })
        .await
    }

    async fn parts(
        &self,
        slice: Slice,
        keys: &[PartKey],
        _: Consistency,
    ) -> Result<HashMap<PartKey, Vec<u8>>, StoreError> {
        self.request(|content| {
            let part = |key: &PartKey| Some((*key, content.parts.get(&(slice, *key))?.1.clone()));
            keys.iter().filter_map(part).collect()
        })
        .await
    }

    async fn put_part(
        &self,
        slice: Slice,
        key: PartKey,
        job: u64,
        bytes: Vec<u8>,
    ) -> Result<PutPart, StoreError> {
        self.request(|content| match content.parts.get(&(slice, key)) {
            Some((found, stored)) if *found >= job && *stored != bytes => {
                content.refused_parts += 1;
                PutPart::Refused(*found)
            }
            _ => {
                content.parts.insert((slice, key), (job, bytes));
                PutPart::Written
            }
        })
        .await
    }
}

/// Returns a runtime with paused time, which advances when all tasks are idle.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime")
}

/// The maximum delay of a request.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(120);
