//! The commits of this process, of which its indexers learn from the store rather than from the table's stream.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use es_core::store::{Append, Appended};
use es_core::{StreamId, Version};
use event_listener::Event;

use super::log::hint::Hint;
use super::log::reference::{CommitTag, Reference};
use super::log::summary::bounded::Bounded;

/// The maximum number of waiting hints. The stream has records of the commits beyond it.
const MAX_WAITING: usize = 10_000;

/// The number of indexed commits that are remembered until their stream records arrive.
const MAX_INDEXED: u64 = 20_000;

/// The commits of this process. All of them are only hints: the table's stream has records of the same commits.
#[derive(Debug)]
pub(crate) struct Committed {
    state: Mutex<State>,
    /// Notified when a commit was added.
    added: Event,
    /// The number of indexers that follow the commits. Without any, commits are not remembered.
    followers: AtomicUsize,
}

#[derive(Debug)]
struct State {
    /// The commits that no indexer has taken yet.
    waiting: Vec<Hint>,
    /// The last versions and the tags of commits that are in the feed.
    indexed: Bounded<(StreamId, Version), CommitTag>,
}

impl Default for Committed {
    fn default() -> Self {
        let state = State { waiting: Vec::new(), indexed: Bounded::new(MAX_INDEXED) };
        Self { state: Mutex::new(state), added: Event::new(), followers: AtomicUsize::new(0) }
    }
}

impl Committed {
    /// Adds the commits of a successful append, if an indexer of this process follows them.
    pub(crate) fn add(&self, append: &Append, appended: &Appended) {
        if self.followers.load(Ordering::Relaxed) > 0 {
            self.add_hint(match appended.repeated {
                false => Hint::Commit(Reference::appended(append, appended)),
                true => Hint::UpTo(append.stream().clone(), appended.last),
            });
        }
    }

    pub(crate) fn add_hint(&self, hint: Hint) {
        let mut state = self.state();
        if state.waiting.len() < MAX_WAITING {
            state.waiting.push(hint);
        }
        drop(state);
        self.added.notify(usize::MAX);
    }

    /// Starts to follow the commits.
    pub(crate) fn follow(self: &Arc<Self>) -> Follower {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Follower(Arc::clone(self))
    }

    /// Records that the commits of these hints are in the feed.
    pub(crate) fn set_indexed<'a>(&self, hints: impl IntoIterator<Item = &'a Hint>) {
        let mut state = self.state();
        for commit in hints.into_iter().filter_map(Hint::commit) {
            state.indexed.insert((commit.stream.clone(), commit.last), commit.tag, 1);
        }
    }

    /// Returns whether this process has already added the commit of a hint to the feed. It may return `false` for such
    /// a commit, and never returns `true` for another one.
    pub(crate) fn is_indexed(&self, hint: &Hint) -> bool {
        hint.commit().is_some_and(|commit| {
            let key = (commit.stream.clone(), commit.last);
            self.state().indexed.get(&key) == Some(&commit.tag)
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An indexer that follows the commits of its process, until it is dropped.
pub(crate) struct Follower(Arc<Committed>);

impl Follower {
    /// Waits until at least `count` commits are waiting.
    pub(crate) async fn wait_for(&self, count: usize) {
        loop {
            // Before the check, so that no commit between the two is missed.
            let added = self.0.added.listen();
            if self.0.state().waiting.len() >= count {
                return;
            }
            added.await;
        }
    }

    /// Takes the waiting commits.
    pub(crate) fn take(&self) -> Vec<Hint> {
        std::mem::take(&mut self.0.state().waiting)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.0.followers.fetch_sub(1, Ordering::Relaxed) == 1 {
            // The next indexer finds these commits in the stream.
            self.0.state().waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use es_core::event::{CommitId, EventData};
    use es_core::store::NewCommit;
    use es_core::{Cost, ExpectedVersion};
    use uuid::Uuid;

    use super::*;
    use crate::feed::log::reference::Names;
    use crate::streams::item::append_items;

    fn commit(events: &[(&str, usize)]) -> NewCommit {
        let event = |(name, bytes): &(&str, usize)| {
            EventData::new((*name).to_owned(), 1, format!("\"{}\"", "x".repeat(*bytes)))
        };
        let id = CommitId::new(Uuid::new_v4());
        NewCommit::new(id, chrono::DateTime::UNIX_EPOCH, events.iter().map(event).collect())
    }

    /// Returns an append after three events, and its response.
    fn appended(first: NewCommit, following: Vec<NewCommit>) -> (Append, Appended) {
        let stream = StreamId::new("order", "1").expect("valid");
        let version = ExpectedVersion::Exact(Version::new(3));
        let append = Append::new(stream, version, first).with_following(following);
        let last = Version::new(3 + append.events());
        (append, Appended::new(Version::new(4), last, Cost::ZERO))
    }

    fn hint(append: &Append, appended: &Appended) -> Hint {
        let commits = Arc::new(Committed::default());
        let follower = commits.follow();
        commits.add(append, appended);
        follower.take().pop().expect("a hint")
    }

    #[test]
    fn hints_are_those_of_the_stream_records() {
        let groups = [
            (commit(&[("Placed", 1), ("Paid", 1), ("Placed", 1)]), vec![]),
            (commit(&[("Placed", 1)]), vec![commit(&[("Paid", 1)]), commit(&[("Sent", 1), ("Paid", 1)])]),
        ];
        for (first, following) in groups {
            let (append, appended) = appended(first, following);
            let image = append_items(&append, appended.first).expect("is small").remove(0);
            assert_eq!(hint(&append, &appended), Hint::at(append.stream().clone(), image));
            let (stream, last) = (append.stream().clone(), appended.last);
            assert_eq!(hint(&append, &appended.repeated()), Hint::UpTo(stream, last));
        }
        // A commit of several items.
        let (append, appended) = appended(commit(&[("Placed", 300_000), ("Paid", 300_000)]), vec![]);
        let images = append_items(&append, appended.first).expect("fits into a transaction");
        assert_eq!(images.len(), 2);
        let (Hint::Commit(found), Hint::Part(expected)) =
            (hint(&append, &appended), Hint::at(append.stream().clone(), images[0].clone()))
        else {
            panic!("the parts are {images:?}")
        };
        assert_eq!(Reference { names: Names::Any, ..found }, expected);
    }

    #[test]
    fn only_followed_commits_are_kept_and_only_the_same_commit_is_indexed() {
        let commits = Arc::new(Committed::default());
        let (append, response) = appended(commit(&[("Placed", 1)]), vec![]);
        commits.add(&append, &response);
        let follower = commits.follow();
        assert!(follower.take().is_empty(), "no indexer would have taken it");
        for _ in 0..=MAX_WAITING {
            commits.add(&append, &response);
        }
        let hints = follower.take();
        assert_eq!(hints.len(), MAX_WAITING);
        assert!(!commits.is_indexed(&hints[0]));
        commits.set_indexed(&hints[..1]);
        assert!(commits.is_indexed(&hints[0]));
        let (other, response) = appended(commit(&[("Placed", 1)]), vec![]);
        assert!(!commits.is_indexed(&hint(&other, &response)), "another commit at the same version");
        commits.add(&append, &response);
        drop(follower);
        assert!(commits.follow().take().is_empty(), "found in the stream by the next indexer");
    }
}
