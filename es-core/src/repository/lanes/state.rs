//! The state of a lane: its members, their decisions, and the commits that wait to be written.
//!
//! Nothing here waits or sends requests. Each method is one step, taken under the lane's lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use crate::cost::Cost;
use crate::repository::ExecuteError;
use crate::repository::loading::Fold;
use crate::repository::retry::Deadline;
use crate::repository::snapshots::SnapshotInfo;
use crate::store::{Conflict, MAX_GROUP_BYTES, MAX_GROUP_COMMITS, NewCommit, StoreError};
use crate::version::Version;

/// After how many ticks of the lane's timer its members stop waiting for a command that does not go on: for the head,
/// and for a handler that does not return.
pub(super) const PATIENCE: u64 = 2;

/// How many turns without progress a lane gives to members that have not decided yet.
const GATHERING_TURNS: u32 = 3;

/// The number of a member in its lane, in the order of arrival.
pub(super) type Ticket = u64;

/// The end of a command's part in a lane, or of one of its decisions.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Its commit is recorded, together with others: this many in all.
    Recorded {
        commits: usize,
        cost: Cost,
    },
    /// Its decision to record nothing was made on a state that is known to be current.
    Confirmed {
        cost: Cost,
    },
    /// The state on which it was decided was not recorded, or has changed: it must be decided again.
    Again,
    Failed {
        failure: Failure,
        cost: Cost,
    },
    /// It must be executed without the lane.
    Alone,
}

/// Why a group was not recorded.
#[derive(Debug)]
pub(crate) enum Failure {
    Conflict(Conflict),
    Store(StoreError),
}

impl<E> From<Failure> for ExecuteError<E> {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Conflict(conflict) => Self::Conflict(conflict),
            Failure::Store(error) => error.into(),
        }
    }
}

impl Failure {
    /// Returns a copy, for several commands that fail together.
    fn duplicate(&mut self) -> Self {
        match self {
            Self::Conflict(conflict) => Self::Conflict(conflict.clone()),
            Self::Store(error) => Self::Store(error.duplicate()),
        }
    }
}

/// What a member waits for.
#[derive(Debug)]
enum Status {
    /// To decide, for the first time or again.
    Undecided { again: bool },
    /// For the write of its commit, which is in the queue.
    Queued,
    /// For the result of that write.
    Sent,
    /// For a proof that the state at this version, on which it decided to record nothing, was current.
    Refused(Version),
    /// For nothing.
    Done(Ended),
}

struct Record {
    status: Status,
    waker: Option<Waker>,
    deadline: Deadline,
    /// The number of the last request that was sent before it arrived.
    began: u64,
    /// How many conflicts of its writes were followed by a read.
    rounds: u32,
}

/// A commit that waits to be written.
struct Queued<A> {
    ticket: Ticket,
    commit: NewCommit,
    bytes: u64,
    /// The state that it was decided on.
    before: Arc<Fold<A>>,
}

/// The commits that are being written.
struct Sent<A> {
    tickets: Vec<Ticket>,
    after: Arc<Fold<A>>,
    request: u64,
}

/// The recorded state that the commits of the lane follow.
pub(super) struct Base<A> {
    pub(super) fold: Arc<Fold<A>>,
    pub(super) snapshot: SnapshotInfo,
    /// The number of the last request that has shown this state to be current; 0 if none has.
    confirmed: u64,
}

/// A time in which members decide before the next write.
///
/// One member, the leader, is polled again and again. Once it has had some turns without progress, the others have had
/// theirs, or are not polled.
struct Gathering {
    /// Whether the members decide in the order of their arrival: after each new base.
    is_ordered: bool,
    leader: Option<Ticket>,
    turns: u32,
    /// The tick at which it began.
    since: u64,
}

impl Gathering {
    fn new(is_ordered: bool, since: u64) -> Self {
        Self { is_ordered, leader: None, turns: 0, since }
    }
}

/// Whether the members have decided, or had the time to.
enum Gathered {
    Yes,
    No {
        leads: bool,
    },
    /// Those before the first one that is not polled have. From now on, the others decide in any order.
    InOrder,
}

/// A request to send.
#[derive(Debug)]
pub(super) enum Step {
    /// Load the state.
    Load { deadline: Deadline },
    /// Write these commits after this version.
    Write { after: Version, commits: Vec<NewCommit>, deadline: Deadline },
    /// Read whether the state is current.
    Confirm { deadline: Deadline },
    /// Nothing, but poll this member again after the others.
    PollAgain,
    /// Nothing, but poll all members.
    WakeAll,
}

pub(super) struct State<A> {
    members: BTreeMap<Ticket, Record>,
    next_ticket: Ticket,
    undecided: BTreeSet<Ticket>,
    refused: usize,
    /// The tick since which the members wait for the head; `None` if they do not.
    head: Option<u64>,
    base: Option<Base<A>>,
    /// The state after all commits of the lane; `None` while it is being loaded or read again.
    tip: Option<Arc<Fold<A>>>,
    queue: VecDeque<Queued<A>>,
    sent: Option<Sent<A>>,
    /// The member that decides, and the tick since when.
    deciding: Option<(Ticket, u64)>,
    /// Whether other members wait to decide.
    contended: bool,
    gathering: Option<Gathering>,
    /// The number of requests that were sent.
    requests: u64,
    /// How many ticks the timer has made.
    pub(super) ticks: u64,
    /// How many conflicts were followed without a read, and how many with one, since the last write that succeeded.
    followed: u32,
    rounds: u32,
    /// What the requests cost, until an outcome carries it.
    cost: Cost,
}

impl<A> State<A> {
    pub(super) fn new() -> Self {
        Self {
            members: BTreeMap::new(),
            next_ticket: 0,
            undecided: BTreeSet::new(),
            refused: 0,
            head: Some(0),
            base: None,
            tip: None,
            queue: VecDeque::new(),
            sent: None,
            deciding: None,
            contended: false,
            gathering: None,
            requests: 0,
            ticks: 0,
            followed: 0,
            rounds: 0,
            cost: Cost::ZERO,
        }
    }

    // Members

    pub(super) fn join(&mut self, deadline: Deadline) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let status = Status::Undecided { again: false };
        let began = self.requests;
        self.members.insert(ticket, Record { status, waker: None, deadline, began, rounds: 0 });
        self.undecided.insert(ticket);
        ticket
    }

    /// Removes a member, and returns whether the others must be woken. Its commit stays in the queue, because others
    /// may have been decided after it.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        self.cancel(ticket);
        self.set(ticket, Status::Done(Ended::Alone));
        self.members.remove(&ticket);
        let Some(gathering) = &mut self.gathering else { return false };
        gathering.leader.take_if(|leader| *leader == ticket);
        true
    }

    fn set(&mut self, ticket: Ticket, status: Status) {
        let Some(record) = self.members.get_mut(&ticket) else { return };
        match status {
            Status::Undecided { .. } => self.undecided.insert(ticket),
            _ => self.undecided.remove(&ticket),
        };
        let is_refused = |status: &Status| usize::from(matches!(status, Status::Refused(_)));
        self.refused = self.refused + is_refused(&status) - is_refused(&record.status);
        record.status = status;
    }

    /// Ends a member's part, and lets it carry what the requests have cost.
    fn end(&mut self, ticket: Ticket, ended: impl FnOnce(Cost) -> Ended) {
        if self.members.contains_key(&ticket) {
            let cost = std::mem::take(&mut self.cost);
            self.set(ticket, Status::Done(ended(cost)));
        }
    }

    pub(super) fn set_waker(&mut self, ticket: Ticket, waker: &Waker) {
        let Some(record) = self.members.get_mut(&ticket) else { return };
        match &mut record.waker {
            Some(registered) => registered.clone_from(waker),
            None => record.waker = Some(waker.clone()),
        }
    }

    /// Returns the wakers of all members, in the order of their arrival.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        self.members.values_mut().filter_map(|record| record.waker.take()).collect()
    }

    /// Returns the end of the member's last decision, if it has one.
    pub(super) fn take_end(&mut self, ticket: Ticket) -> Option<Ended> {
        let record = self.members.get_mut(&ticket)?;
        match &mut record.status {
            Status::Undecided { again } => std::mem::take(again).then_some(Ended::Again),
            Status::Done(ended) => Some(std::mem::replace(ended, Ended::Alone)),
            Status::Queued | Status::Sent | Status::Refused(_) => None,
        }
    }

    pub(super) fn add_cost(&mut self, cost: Cost) {
        self.cost += cost;
    }

    // Decisions

    /// Lets a member decide on the state after all others, if there is one and no other member decides.
    pub(super) fn start_decision(&mut self, ticket: Ticket) -> Option<Arc<Fold<A>>> {
        let tip = self.tip.as_ref()?;
        if self.is_ordered() && self.undecided.first() != Some(&ticket) {
            self.contended = true;
            return None;
        }
        match self.deciding {
            Some((other, since)) if other != ticket && self.ticks < since + PATIENCE => {
                self.contended = true;
                return None;
            }
            _ => self.deciding = Some((ticket, self.ticks)),
        }
        Some(Arc::clone(tip))
    }

    fn is_ordered(&self) -> bool {
        self.gathering.as_ref().is_some_and(|gathering| gathering.is_ordered)
    }

    /// Returns the wakers of the members that wait because another one decided, and may decide now.
    pub(super) fn take_deciders(&mut self) -> Vec<Waker> {
        let may_decide = match (self.contended, self.is_ordered()) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => {
                self.contended = false;
                usize::MAX
            }
        };
        let undecided = self.undecided.iter().take(may_decide);
        undecided.filter_map(|ticket| self.members.get_mut(ticket)?.waker.take()).collect()
    }

    /// Ends a decision without a result.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.deciding.take_if(|(deciding, _)| *deciding == ticket);
    }

    /// Ends a decision, and returns whether it counts: not if another member has decided meanwhile.
    fn end_decision(&mut self, ticket: Ticket) -> bool {
        if let Some(gathering) = &mut self.gathering {
            gathering.turns = 0;
        }
        self.deciding.take_if(|(deciding, _)| *deciding == ticket).is_some()
    }

    /// Queues the commit of a member, which leads to the state `after`.
    pub(super) fn accept(&mut self, ticket: Ticket, commit: NewCommit, after: Arc<Fold<A>>) -> bool {
        if !self.end_decision(ticket) {
            return false;
        }
        let Some(before) = self.tip.replace(after) else { return false };
        let bytes = commit.bytes();
        self.queue.push_back(Queued { ticket, commit, bytes, before });
        self.set(ticket, Status::Queued);
        true
    }

    /// Notes that a member has nothing to record.
    pub(super) fn refuse(&mut self, ticket: Ticket) -> bool {
        if !self.end_decision(ticket) {
            return false;
        }
        let (Some(tip), Some(base)) = (&self.tip, &self.base) else { return false };
        let (version, confirmed) = (tip.version, base.confirmed);
        let is_recorded = version == base.fold.version;
        self.set(ticket, Status::Refused(version));
        if is_recorded && self.members.get(&ticket).is_some_and(|record| record.began < confirmed) {
            self.end(ticket, |cost| Ended::Confirmed { cost });
        }
        true
    }

    /// Takes a member out whose deadline has passed, and returns whether its commit may be recorded nevertheless.
    pub(super) fn give_up(&mut self, ticket: Ticket) -> bool {
        let sent = |record: &Record| matches!(record.status, Status::Sent);
        if self.members.get(&ticket).is_some_and(sent) {
            return true;
        }
        let Some(index) = self.queue.iter().position(|queued| queued.ticket == ticket) else { return false };
        // Later decisions depend on this commit, so they are made again.
        let removed: Vec<_> = self.queue.drain(index..).collect();
        let before = Arc::clone(&removed[0].before);
        let depends =
            |status: &Status| matches!(status, Status::Refused(version) if *version > before.version);
        let refused = self.tickets(depends);
        for ticket in removed.iter().map(|queued| queued.ticket).chain(refused) {
            self.set(ticket, Status::Undecided { again: true });
        }
        (self.tip, self.deciding) = (Some(before), None);
        self.gathering = Some(Gathering::new(true, self.ticks));
        false
    }

    fn tickets(&self, wanted: impl Fn(&Status) -> bool) -> Vec<Ticket> {
        let wanted = self.members.iter().filter(|(_, record)| wanted(&record.status));
        wanted.map(|(ticket, _)| *ticket).collect()
    }

    // Requests

    /// Takes over from the head, with its state if that is known.
    pub(super) fn take_over(&mut self, fold: Option<Fold<A>>) {
        // The lane may have stopped waiting for the head already.
        if self.head.take().is_some()
            && let Some(fold) = fold
        {
            self.set_base(fold, 0);
        }
    }

    /// Returns the next request to send, if there is one, while none is in flight. The member `ticket` asks.
    pub(super) fn next_step(&mut self, ticket: Ticket) -> Option<Step> {
        match self.head {
            Some(since) if self.ticks < since + PATIENCE => return None,
            _ => self.head = None,
        }
        let Some(base) = &self.base else {
            let deadline = self.latest_deadline(|status| matches!(status, Status::Undecided { .. }))?;
            return Some(Step::Load { deadline });
        };
        let after = base.fold.version;
        if self.gathering.is_some() || !self.queue.is_empty() {
            match self.gather(ticket) {
                Gathered::No { leads } => return leads.then_some(Step::PollAgain),
                Gathered::InOrder => return Some(Step::WakeAll),
                Gathered::Yes => {}
            }
        }
        if !self.queue.is_empty() {
            return self.send(after);
        }
        let deadline = self.latest_deadline(|status| matches!(status, Status::Refused(_)))?;
        Some(Step::Confirm { deadline })
    }

    /// Returns the number of a request that is sent now.
    pub(super) fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Returns the latest deadline of these members, if there are any.
    fn latest_deadline(&self, wanted: impl Fn(&Status) -> bool) -> Option<Deadline> {
        let wanted = self.members.values().filter(|record| wanted(&record.status));
        wanted.map(|record| record.deadline).reduce(Deadline::later)
    }

    /// Gives members that have not decided yet the time to do so.
    fn gather(&mut self, ticket: Ticket) -> Gathered {
        if self.undecided.is_empty() {
            self.gathering = None;
            return Gathered::Yes;
        }
        let (now, asks) = (self.ticks, self.members.get(&ticket));
        let may_lead = asks.is_some_and(|record| !matches!(record.status, Status::Done(_)));
        let gathering = self.gathering.get_or_insert(Gathering::new(false, now));
        let leads = may_lead && *gathering.leader.get_or_insert(ticket) == ticket;
        gathering.turns += u32::from(leads);
        if gathering.turns <= GATHERING_TURNS && now == gathering.since {
            return Gathered::No { leads };
        }
        if gathering.is_ordered {
            // The next in order is not polled.
            *gathering = Gathering::new(false, now);
            return Gathered::InOrder;
        }
        Gathered::Yes
    }

    /// Takes as many commits from the queue as one append may have.
    fn send(&mut self, after: Version) -> Option<Step> {
        self.gathering = None;
        let request = self.next_request();
        let (mut tickets, mut commits, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = self.queue.pop_front_if(|next| {
            commits.is_empty() || commits.len() < MAX_GROUP_COMMITS && bytes + next.bytes <= MAX_GROUP_BYTES
        }) {
            bytes += next.bytes;
            tickets.push(next.ticket);
            commits.push(next.commit);
        }
        for ticket in &tickets {
            self.set(*ticket, Status::Sent);
        }
        // If the members of the group have left, those that were decided after it wait for the write.
        let deadline = self.latest_deadline(|status| matches!(status, Status::Sent));
        let deadline = deadline.or_else(|| self.latest_deadline(|_| true))?;
        let after_all = self.queue.front().map(|next| &next.before).or(self.tip.as_ref());
        if let Some(state) = after_all.cloned() {
            self.sent = Some(Sent { tickets, after: state, request });
        }
        Some(Step::Write { after, commits, deadline })
    }

    // Results

    pub(super) fn base(&self) -> Option<(Arc<Fold<A>>, SnapshotInfo)> {
        self.base.as_ref().map(|base| (Arc::clone(&base.fold), base.snapshot))
    }

    /// Ends the members whose commits are recorded, and returns the new base.
    pub(super) fn recorded(&mut self, commits: &[NewCommit]) -> Option<(Arc<Fold<A>>, SnapshotInfo)> {
        let (Sent { tickets, after, request }, base) = (self.sent.take()?, self.base.as_mut()?);
        (self.followed, self.rounds) = (0, 0);
        commits.iter().for_each(|commit| base.snapshot.add(&commit.events));
        (base.fold, base.confirmed) = (after, request);
        for ticket in tickets {
            self.end(ticket, |cost| Ended::Recorded { commits: commits.len(), cost });
        }
        self.confirm(request);
        self.base()
    }

    pub(super) fn set_snapshot(&mut self, snapshot: SnapshotInfo) {
        if let Some(base) = &mut self.base {
            base.snapshot = snapshot;
        }
    }

    /// Ends the members whose decision to record nothing is known to be current by the request number `request`.
    fn confirm(&mut self, request: u64) {
        let Some(version) = self.base.as_ref().map(|base| base.fold.version) else { return };
        if self.refused == 0 {
            return;
        }
        let stands = |record: &Record| {
            matches!(record.status, Status::Refused(refused) if refused <= version) && record.began < request
        };
        let stand: Vec<_> =
            self.members.iter().filter(|(_, record)| stands(record)).map(|(ticket, _)| *ticket).collect();
        for ticket in stand {
            self.end(ticket, |cost| Ended::Confirmed { cost });
        }
    }

    /// Notes that the base is current, by the request number `request`.
    pub(super) fn confirmed(&mut self, request: u64) {
        if let Some(base) = &mut self.base {
            base.confirmed = request;
        }
        self.confirm(request);
    }

    /// Replaces the base by a state that was loaded or followed. All members decide again.
    pub(super) fn set_base(&mut self, fold: Fold<A>, confirmed: u64) {
        let snapshot = fold.snapshot;
        self.base = Some(Base { fold: Arc::new(fold), snapshot, confirmed });
        self.decide_again();
    }

    /// Returns to the base: decisions on commits that were not recorded are void.
    fn decide_again(&mut self) {
        self.suspend();
        self.tip = self.base.as_ref().map(|base| Arc::clone(&base.fold));
        self.gathering = Some(Gathering::new(true, self.ticks));
    }

    /// Voids all decisions, and lets no member decide until there is a new base.
    fn suspend(&mut self) {
        self.queue.clear();
        (self.sent, self.tip, self.deciding, self.gathering) = (None, None, None, None);
        for ticket in
            self.tickets(|status| matches!(status, Status::Queued | Status::Sent | Status::Refused(_)))
        {
            self.set(ticket, Status::Undecided { again: true });
        }
    }

    /// Voids all decisions after a conflict. Returns the members whose commits were written in vain, and how many
    /// conflicts were followed before.
    pub(super) fn lost(&mut self) -> (Vec<Ticket>, u32) {
        let losers = self.sent.take().map(|sent| sent.tickets).unwrap_or_default();
        losers.iter().for_each(|ticket| self.set(*ticket, Status::Undecided { again: true }));
        self.suspend();
        (losers, self.followed)
    }

    /// Goes on after commits that another writer has recorded.
    pub(super) fn follow(&mut self, fold: Fold<A>) {
        self.followed += 1;
        self.set_base(fold, 0);
    }

    /// Returns how many conflicts in a row were followed by a read, with this one.
    pub(super) fn next_round(&mut self) -> u32 {
        (self.followed, self.rounds) = (0, self.rounds + 1);
        self.rounds
    }

    /// Counts an attempt of the members that lost a race, and ends those for which `failure` returns one.
    pub(super) fn end_losers(
        &mut self,
        losers: &[Ticket],
        failure: impl Fn(u32, Deadline) -> Option<Failure>,
    ) {
        for ticket in losers {
            let Some(record) = self.members.get_mut(ticket) else { continue };
            record.rounds += 1;
            if let Some(failure) = failure(record.rounds, record.deadline) {
                self.end(*ticket, |cost| Ended::Failed { failure, cost });
            }
        }
    }

    /// Returns whether a member waits for a state to decide on.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// Fails the members whose commits are being written. The others decide again.
    pub(super) fn fail_sent(&mut self, mut failure: Failure) {
        let tickets = self.sent.take().map(|sent| sent.tickets).unwrap_or_default();
        self.fail(&tickets, &mut failure);
        self.decide_again();
    }

    /// Forgets the state: the next member loads it.
    pub(super) fn forget(&mut self) {
        self.suspend();
        self.base = None;
    }

    /// Fails the members that wait for a load, and forgets the state that it was to replace.
    pub(super) fn fail_undecided(&mut self, mut failure: Failure) {
        self.forget();
        let waiting = self.tickets(|status| matches!(status, Status::Undecided { .. }));
        self.fail(&waiting, &mut failure);
    }

    /// Fails the members that wait for a proof that their state was current.
    pub(super) fn fail_refused(&mut self, mut failure: Failure) {
        let waiting = self.tickets(|status| matches!(status, Status::Refused(_)));
        self.fail(&waiting, &mut failure);
    }

    fn fail(&mut self, tickets: &[Ticket], failure: &mut Failure) {
        for ticket in tickets {
            let failure = failure.duplicate();
            self.end(*ticket, |cost| Ended::Failed { failure, cost });
        }
    }

    /// Lets the members whose commits are being written be executed alone, because one of them makes the write fail.
    /// The others decide again.
    pub(super) fn part_sent(&mut self) {
        for ticket in self.sent.take().map(|sent| sent.tickets).unwrap_or_default() {
            self.set(ticket, Status::Done(Ended::Alone));
        }
        self.decide_again();
    }

    /// Lets all members be executed alone after a panic, and forgets the state. The outcome of a write in flight is
    /// unknown.
    pub(super) fn part(&mut self) {
        let panicked = StoreError::unavailable("a panic interrupted the write");
        self.fail_sent(Failure::Store(panicked));
        self.forget();
        for ticket in self.tickets(|status| !matches!(status, Status::Done(_))) {
            self.set(ticket, Status::Done(Ended::Alone));
        }
    }
}
