//! The steps of a lane, without requests.

use std::sync::Arc;
use std::time::Duration;

use super::state::{Ended, Failure, PATIENCE, State, Step, Ticket};
use crate::clock::SystemClock;
use crate::cost::Cost;
use crate::event::{CommitId, EventData};
use crate::prelude::*;
use crate::repository::loading::Fold;
use crate::repository::retry::Deadline;
use crate::store::{MAX_GROUP_COMMITS, NewCommit, StoreError};
use crate::version::Version;

#[event]
struct Counted {}

#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "counter", id = String, events(Counted))]
struct Counter {
    count: u64,
}

impl Apply<Counted> for Counter {
    fn apply(&mut self, _: &Counted) {
        self.count += 1;
    }
}

/// A lane whose head has left its first state.
fn lane(members: usize) -> (State<Counter>, Vec<Ticket>) {
    let mut lane = State::new();
    let tickets = (0..members).map(|_| lane.join(Deadline::after(None, &SystemClock))).collect();
    lane.take_over(Some(Fold::new()));
    (lane, tickets)
}

/// Decides on one event, if the member may decide.
fn accept(lane: &mut State<Counter>, ticket: Ticket) -> bool {
    accept_bytes(lane, ticket, 2)
}

fn accept_bytes(lane: &mut State<Counter>, ticket: Ticket, bytes: usize) -> bool {
    let Some(state) = lane.start_decision(ticket) else { return false };
    let mut after = state.try_clone().expect("can be copied");
    after.state.count += 1;
    after.version = after.version.next();
    let payload = format!("\"{}\"", "x".repeat(bytes - 2));
    let events = vec![EventData::new("Counted", 1, payload)];
    let id = CommitId::new(uuid::Uuid::from_u128(u128::from(ticket) + 1));
    let commit = NewCommit::new(id, chrono::DateTime::UNIX_EPOCH, events);
    lane.accept(ticket, commit, Arc::new(after))
}

fn refuse(lane: &mut State<Counter>, ticket: Ticket) -> bool {
    lane.start_decision(ticket).is_some() && lane.refuse(ticket)
}

/// Returns the commits of the next write.
fn write(lane: &mut State<Counter>, ticket: Ticket) -> Option<Vec<NewCommit>> {
    match lane.next_step(ticket)? {
        Step::Write { commits, .. } => Some(commits),
        other => panic!("{other:?}"),
    }
}

fn is_recorded(ended: Option<Ended>) -> bool {
    matches!(ended, Some(Ended::Recorded { .. }))
}

#[test]
fn members_decide_in_order_after_a_new_base() {
    let (mut lane, tickets) = lane(3);
    assert!(!accept(&mut lane, tickets[1]), "the first one has not decided yet");
    for ticket in &tickets {
        assert!(accept(&mut lane, *ticket));
    }
    let commits = write(&mut lane, tickets[0]).expect("all have decided");
    assert_eq!(commits.len(), 3);
    assert!(commits.is_sorted_by_key(|commit| commit.id.as_uuid()));
}

#[test]
fn a_member_that_is_not_polled_is_passed_over() {
    let (mut lane, tickets) = lane(3);
    let mut turns = 0;
    while !matches!(lane.next_step(tickets[1]), Some(Step::WakeAll)) {
        assert!(!accept(&mut lane, tickets[1]));
        turns += 1;
        assert!(turns < 10, "it is waited for without end");
    }
    assert!(accept(&mut lane, tickets[1]) && accept(&mut lane, tickets[2]));
    let commits = loop {
        match lane.next_step(tickets[1]) {
            Some(Step::Write { commits, .. }) => break commits,
            step => assert!(matches!(step, Some(Step::PollAgain)), "{step:?}"),
        }
    };
    assert_eq!(commits.len(), 2);
}

#[test]
fn a_decision_that_takes_too_long_does_not_count() {
    let (mut lane, tickets) = lane(2);
    let hanging = lane.start_decision(tickets[0]).expect("may decide");
    lane.next_step(tickets[1]);
    lane.ticks += PATIENCE;
    // The order of arrival is given up first.
    while !matches!(lane.next_step(tickets[1]), Some(Step::WakeAll)) {}
    assert!(accept(&mut lane, tickets[1]));
    assert!(!lane.refuse(tickets[0]), "another member has decided meanwhile");
    drop(hanging);
    assert!(accept(&mut lane, tickets[0]));
    assert_eq!(write(&mut lane, tickets[0]).expect("both").len(), 2);
}

#[test]
fn a_head_that_does_not_go_on_is_given_up() {
    let mut lane = State::<Counter>::new();
    let ticket = lane.join(Deadline::after(None, &SystemClock));
    assert!(lane.next_step(ticket).is_none() && lane.start_decision(ticket).is_none());
    lane.ticks += PATIENCE;
    assert!(matches!(lane.next_step(ticket), Some(Step::Load { .. })));
    lane.set_base(Fold::new(), 0);
    let mut late = Fold::new();
    late.version = Version::new(7);
    lane.take_over(Some(late));
    assert!(lane.start_decision(ticket).expect("may decide").version.is_none(), "it comes too late");
}

#[test]
fn writes_are_limited() {
    let (mut lane, tickets) = lane(MAX_GROUP_COMMITS + 1);
    assert!(tickets.iter().all(|ticket| accept(&mut lane, *ticket)));
    let commits = write(&mut lane, 0).expect("writes");
    assert_eq!(commits.len(), MAX_GROUP_COMMITS);
    lane.recorded(&commits);
    assert!(tickets[..MAX_GROUP_COMMITS].iter().all(|ticket| is_recorded(lane.take_end(*ticket))));
    assert_eq!(write(&mut lane, 0).expect("writes").len(), 1);

    let (mut lane, tickets) = self::lane(6);
    for (ticket, kilobytes) in tickets.iter().zip([500, 1, 200, 120, 1, 200]) {
        assert!(accept_bytes(&mut lane, *ticket, kilobytes * 1024));
    }
    for expected in [1, 2, 2, 1] {
        let commits = write(&mut lane, 0).expect("writes");
        assert_eq!(commits.len(), expected);
        lane.recorded(&commits);
    }
}

#[test]
fn a_rejection_needs_a_request_that_was_sent_after_the_command_began() {
    // The head's write may have been sent before.
    let (mut lane, tickets) = lane(2);
    assert!(refuse(&mut lane, tickets[0]) && accept(&mut lane, tickets[1]));
    assert!(lane.take_end(tickets[0]).is_none());
    let commits = write(&mut lane, tickets[0]).expect("writes");
    // Arrives while the write is in flight: its result does not prove that the state is current now.
    let late = lane.join(Deadline::after(None, &SystemClock));
    assert!(refuse(&mut lane, late));
    lane.recorded(&commits);
    assert!(matches!(lane.take_end(tickets[0]), Some(Ended::Confirmed { .. })));
    assert!(lane.take_end(late).is_none());
    assert!(matches!(lane.next_step(late), Some(Step::Confirm { .. })));
    let request = lane.next_request();
    lane.confirmed(request);
    assert!(matches!(lane.take_end(late), Some(Ended::Confirmed { .. })));
}

#[test]
fn a_rejection_on_commits_that_are_not_recorded_is_void() {
    let (mut lane, tickets) = lane(2);
    assert!(accept(&mut lane, tickets[0]) && refuse(&mut lane, tickets[1]));
    write(&mut lane, tickets[0]).expect("writes");
    // Decides on the state that the write will leave.
    let next = lane.join(Deadline::after(None, &SystemClock));
    assert!(accept(&mut lane, next));
    lane.fail_sent(Failure::Store(StoreError::unavailable("an outage")));
    assert!(matches!(lane.take_end(tickets[0]), Some(Ended::Failed { .. })));
    for ticket in [tickets[1], next] {
        assert!(matches!(lane.take_end(ticket), Some(Ended::Again)));
        assert_eq!(lane.start_decision(ticket).expect("may decide").state.count, 0);
        assert!(lane.refuse(ticket));
    }
}

#[test]
fn a_commit_that_is_taken_out_voids_what_was_decided_on_it() {
    let (mut lane, tickets) = lane(4);
    assert!(accept(&mut lane, tickets[0]) && accept(&mut lane, tickets[1]));
    assert!(refuse(&mut lane, tickets[2]) && accept(&mut lane, tickets[3]));
    assert!(!lane.give_up(tickets[1]), "its commit was not sent");
    lane.leave(tickets[1]);
    for ticket in &tickets[2..] {
        assert!(matches!(lane.take_end(*ticket), Some(Ended::Again)));
    }
    assert_eq!(lane.start_decision(tickets[2]).expect("may decide").state.count, 1);
    assert!(lane.refuse(tickets[2]) && accept(&mut lane, tickets[3]));
    assert_eq!(write(&mut lane, tickets[3]).expect("writes").len(), 2);
    assert!(lane.give_up(tickets[0]), "its commit may be recorded");
}

#[test]
fn the_first_member_that_is_left_carries_the_cost() {
    let (mut lane, tickets) = lane(3);
    assert!(tickets.iter().all(|ticket| accept(&mut lane, *ticket)));
    let commits = write(&mut lane, tickets[0]).expect("writes");
    lane.leave(tickets[0]);
    lane.add_cost(Cost::write(2.0));
    lane.recorded(&commits);
    let cost = |ended: Option<Ended>| match ended {
        Some(Ended::Recorded { commits: 3, cost }) => cost,
        other => panic!("{other:?}"),
    };
    assert_eq!(cost(lane.take_end(tickets[1])), Cost::write(2.0));
    assert_eq!(cost(lane.take_end(tickets[2])), Cost::ZERO);
}

#[test]
fn attempts_are_counted_for_each_member() {
    let (mut lane, tickets) = lane(1);
    let lose = |lane: &mut State<Counter>, most: u32| {
        let (losers, _) = lane.lost();
        lane.next_round();
        lane.end_losers(&losers, |rounds, _| {
            (rounds >= most).then(|| Failure::Store(StoreError::unavailable("all attempts are used")))
        });
        lane.set_base(Fold::new(), 0);
    };
    assert!(accept(&mut lane, tickets[0]));
    write(&mut lane, tickets[0]).expect("writes");
    lose(&mut lane, 2);
    assert!(matches!(lane.take_end(tickets[0]), Some(Ended::Again)));

    let late = lane.join(Deadline::after(Some(Duration::from_secs(1)), &SystemClock));
    assert!(accept(&mut lane, tickets[0]) && accept(&mut lane, late));
    write(&mut lane, late).expect("writes");
    lose(&mut lane, 2);
    assert!(matches!(lane.take_end(tickets[0]), Some(Ended::Failed { .. })));
    assert!(matches!(lane.take_end(late), Some(Ended::Again)), "this was its first attempt");
}
