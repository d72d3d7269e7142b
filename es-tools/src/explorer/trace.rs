//! A trace: everything that one command has caused, as a tree.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use es_core::StreamId;
use es_core::event::CommitId;
use es_core::projection::{Projection, registered};
use es_core::read_model::{TracedCommit, Traces};
use es_core::store::Commit;
use futures_util::{StreamExt, stream};
use maud::{Markup, html};

use super::Shared;
use super::page::{Base, Page, Problem, Shown, time};
use super::stream::commits;
use crate::output::counted;

/// The maximum number of commits that a page shows.
const COMMITS: usize = 500;

/// How many commits are read concurrently.
const READS_AT_ONCE: usize = 8;

/// A commit of the trace, or the reason why it cannot be read.
struct Node {
    stream: StreamId,
    traced: TracedCommit,
    commit: Result<Commit, String>,
}

/// The commits of a trace by the commit whose event has caused them.
struct Tree {
    nodes: HashMap<CommitId, Node>,
    /// The commits in the order of their times, by their cause. Those that begin the trace have none.
    caused: BTreeMap<Option<CommitId>, Vec<CommitId>>,
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(base): Extension<Base>,
    Path(name): Path<String>,
) -> Shown {
    let found = shared.traces.commits(&name, COMMITS).await?;
    if found.is_empty() {
        return Err(missing(&shared, &name).await?);
    }
    let (trace, count) = (found[0].trace.clone(), found.len());
    let nodes: Vec<Node> =
        stream::iter(found).map(|traced| read(&shared, traced)).buffered(READS_AT_ONCE).collect().await;
    let tree = Tree::of(nodes);
    let content = html! {
        p { (counted(count as u64, "commit")) ", each below the one whose event has caused it." }
        @if count == COMMITS { p.note { "Later commits of the trace are not shown." } }
        ol.trace { (tree.branches(&base, None)) }
    };
    Ok(Page::new(format!("Trace {trace}"), content))
}

async fn missing(shared: &Shared, name: &str) -> Result<Problem, Problem> {
    let runs = registered(&*shared.store).await?.into_iter().any(|one| one.name == Traces::NAME);
    Ok(Problem::not_found(match runs {
        true => {
            format!("There is no trace {name}, or the projection {} has not handled it yet.", Traces::NAME)
        }
        false => format!(
            "Traces need the projection {}, which has not run on this store: run es_core::read_model::Traces with a Projector.",
            Traces::NAME
        ),
    }))
}

async fn read(shared: &Shared, traced: TracedCommit) -> Node {
    let found = commits(shared, &traced.stream, traced.first, traced.first).await;
    let commit = match found {
        Ok(found) => {
            found.into_iter().find(|commit| commit.id == traced.commit).ok_or("the commit is gone".to_owned())
        }
        Err(problem) => Err(problem.text().to_owned()),
    };
    Node { stream: traced.stream.clone(), traced, commit }
}

impl Tree {
    fn of(nodes: Vec<Node>) -> Self {
        let known: HashMap<CommitId, usize> =
            nodes.iter().enumerate().map(|(index, node)| (node.traced.commit, index)).collect();
        let mut caused: BTreeMap<Option<CommitId>, Vec<CommitId>> = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let cause = node.cause();
            // Only an earlier commit is a cause, so that metadata with a circle is shown, too.
            let cause = cause.filter(|cause| known.get(cause).is_some_and(|earlier| *earlier < index));
            caused.entry(cause).or_default().push(node.traced.commit);
        }
        Self { nodes: nodes.into_iter().map(|node| (node.traced.commit, node)).collect(), caused }
    }

    fn branches(&self, base: &Base, cause: Option<CommitId>) -> Markup {
        let caused = self.caused.get(&cause).map_or(&[][..], Vec::as_slice);
        html! {
            @for id in caused {
                @if let Some(node) = self.nodes.get(id) {
                    li {
                        (node.described(base))
                        @if self.caused.contains_key(&Some(*id)) { ol { (self.branches(base, Some(*id))) } }
                    }
                }
            }
        }
    }
}

impl Node {
    /// Returns the commit whose event has caused this one.
    fn cause(&self) -> Option<CommitId> {
        let causation = self.commit.as_ref().ok()?.metadata.causation()?;
        causation.split_once('/').map_or(causation, |(commit, _)| commit).parse().ok()
    }

    fn described(&self, base: &Base) -> Markup {
        let TracedCommit { first, time: at, .. } = &self.traced;
        html! {
            a href={ (base.stream(&self.stream)) "?from=" (first) } { (self.stream) } " "
            @match &self.commit {
                Ok(commit) => {
                    @for (version, _, event) in commit.numbered() {
                        a.event href=(base.to(&["streams", self.stream.as_str(), &version.to_string()])) { (event.name()) } " "
                    }
                    @if let Some(actor) = commit.metadata.actor() { "by " (actor) " " }
                }
                Err(error) => span.problem { (error) " " }
            }
            (time(*at))
        }
    }
}
