//! A transaction on its way: load, decide, write, and again.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::participant::{AnyOutcome, Undecided};
use super::{Committed, Rejection, Transaction, TransactionError};
use crate::cost::Cost;
use crate::ids::{IdSource, RandomIds};
use crate::repository::error::KeyReused;
use crate::repository::report::{Numbers, Report};
use crate::repository::retrying::{Deadline, Retrying};
use crate::repository::writing::Sender;
use crate::repository::{ExecuteError, joining};
use crate::store::{Marker, Place, StoreError, WriteError, WriteSet};
use crate::stream_id::StreamId;

/// The longest fingerprint that is stored in clear, in bytes.
const LONGEST_FINGERPRINT: usize = 256;

/// How far a transaction has come.
#[derive(Default)]
pub(super) struct Spent {
    attempts: u32,
    /// What its writes cost; what its reads cost is with the participants.
    cost: Cost,
}

/// What a transaction came to, without what its commands came to.
enum Done {
    Now,
    Before(Vec<(StreamId, AnyOutcome)>),
}

impl Transaction {
    pub(super) async fn run(mut self, report: &mut Report) -> Result<Committed, TransactionError> {
        let mut spent = Spent::default();
        let result = self.carry_out(&mut spent).await;
        let mut numbers = Numbers { attempts: spent.attempts, cost: spent.cost, ..Numbers::default() };
        numbers.cost += self.participants.iter().map(|participant| participant.cost()).sum();
        let done = match result {
            Ok(done) => done,
            Err(error) => {
                self.report_failure(&error, spent.attempts);
                report.end(error.outcome(), numbers);
                return Err(error);
            }
        };
        let mut committed = Committed::new(spent.attempts, numbers.cost, matches!(done, Done::Before(_)));
        let outcome = match done {
            Done::Before(_) => "repeated",
            Done::Now if self.has_nothing_to_do() => "nothing",
            Done::Now => "accepted",
        };
        self.participants.iter_mut().for_each(|participant| participant.report(outcome));
        match done {
            Done::Before(outcomes) => {
                outcomes.into_iter().for_each(|(stream, outcome)| committed.add(stream, outcome));
            }
            Done::Now => {
                for participant in self.participants {
                    let appended = participant.append().map_or(0, |append| append.commit().events.len());
                    numbers.events += appended;
                    let stream = participant.stream().clone();
                    if let Some(outcome) = participant.recorded() {
                        committed.add(stream, outcome);
                    }
                }
            }
        }
        report.end(outcome, numbers);
        Ok(committed)
    }

    /// Records in the spans of its commands, and in the log, why the transaction failed.
    fn report_failure(&mut self, error: &TransactionError, attempts: u32) {
        let rejected = error.rejection().map(Rejection::stream);
        for participant in &mut self.participants {
            let is_cause = rejected.is_none_or(|stream| stream == participant.stream());
            participant.report(if is_cause { error.outcome() } else { "not recorded" });
        }
        let streams = self.participants.iter().map(|participant| participant.stream().as_str());
        let streams = streams.collect::<Vec<_>>().join(", ");
        let commands = self.participants.iter().flat_map(|participant| participant.commands());
        error.log(&streams, &commands.collect::<Vec<_>>().join(", "), attempts);
    }

    async fn carry_out(&mut self, spent: &mut Spent) -> Result<Done, TransactionError> {
        if let Some(error) = self.invalid.take() {
            return Err(error.into());
        }
        let Some(first) = self.participants.first() else {
            return Err(StoreError::invalid("the transaction has no commands: add one with `execute`").into());
        };
        if let Some(idle) = self.participants.iter().find(|participant| participant.is_idle()) {
            let reason = format!("`{}` has a part in the transaction, but no command", idle.stream());
            return Err(StoreError::invalid(reason).into());
        }
        let (store, clock, tokens) = (Arc::clone(&self.store), Arc::clone(&self.clock), first.tokens());
        let deadline = Deadline::after(self.deadline, &*clock);
        let retrying = Retrying { clock: &*clock, policy: self.retry, tokens: &tokens, deadline };
        let sender = Sender { store: &*store, retrying };
        for participant in &mut self.participants {
            participant.begin(self.deadline);
        }
        spent.attempts = 1;
        try_join_all(self.participants.iter_mut().map(|participant| participant.load())).await?;
        loop {
            let decided = self.decide()?;
            if (decided.is_err() || self.has_nothing_to_do()) && self.are_outdated().await? {
                continue;
            }
            if let Err(error) = decided {
                return self.unless_done_before(error, spent).await;
            }
            let Some(set) = self.write_set()? else {
                return Ok(Done::Now);
            };
            match sender.write(&set, &mut spent.cost).await {
                Ok(_) => return Ok(Done::Now),
                Err(WriteError::Done(marker)) => return self.done_before(&marker).await,
                Err(WriteError::Conflict(conflict)) => {
                    retrying.wait_after_conflict(conflict, spent.attempts).await?;
                }
                Err(WriteError::Claimed(claimed)) => return Err(ExecuteError::Claimed(claimed)),
                Err(WriteError::Refused(refused)) => return Err(ExecuteError::Refused(refused)),
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
            spent.attempts += 1;
            self.refresh().await?;
        }
    }

    /// Decides all commands: `Err` inside when the domain says no, or an aggregate is not as expected.
    fn decide(&mut self) -> Result<Result<(), TransactionError>, StoreError> {
        for participant in &mut self.participants {
            match participant.decide(&self.metadata) {
                Ok(()) => {}
                Err(Undecided::Rejected(error)) => {
                    let rejection = Rejection::new(participant.stream().clone(), error);
                    return Ok(Err(ExecuteError::Rejected(rejection)));
                }
                Err(Undecided::Outdated(conflict)) => return Ok(Err(ExecuteError::Outdated(conflict))),
                Err(Undecided::Failed(error)) => return Err(error),
            }
        }
        Ok(Ok(()))
    }

    fn has_nothing_to_do(&self) -> bool {
        self.participants.iter().all(|participant| participant.append().is_none())
    }

    /// Whether one of the states was only remembered, and its stream has gone on since.
    async fn are_outdated(&mut self) -> Result<bool, StoreError> {
        let remembered = self.participants.iter().any(|participant| !participant.is_fresh());
        Ok(remembered && self.refresh().await?)
    }

    /// Brings all states up to date; says whether one has changed.
    async fn refresh(&mut self) -> Result<bool, StoreError> {
        let changed = try_join_all(self.participants.iter_mut().map(|participant| participant.refresh()));
        Ok(changed.await?.contains(&true))
    }

    /// All that is to be written; `None` when that is nothing.
    fn write_set(&self) -> Result<Option<WriteSet>, StoreError> {
        let nothing = self.has_nothing_to_do();
        if nothing && !self.joined.is_empty() {
            return Err(StoreError::invalid("writes join a transaction that has no events"));
        }
        if nothing && self.once.is_none() {
            return Ok(None);
        }
        let mut set = WriteSet::new().join(self.joined.iter().cloned());
        let mut places = Vec::with_capacity(self.participants.len());
        for participant in &self.participants {
            let (stream, version) = (participant.stream().clone(), participant.version());
            let mut last = version;
            match participant.append() {
                Some(append) => {
                    last = append.last_version_after(version)?;
                    let joined = participant.joined();
                    set = set.append(append.clone()).claims(participant.claims().to_vec()).join(joined);
                }
                None => set = set.unchanged(stream.clone(), version),
            }
            places.push(Place { stream, first: version.next(), last });
        }
        if let Some(once) = &self.once {
            let id = set.appends().first().map(|append| append.commit().id.as_uuid());
            let id = id.unwrap_or_else(|| RandomIds.new_id());
            let once = once.once(once.key_of(None)?, id, self.clock.now(), places);
            set = set.once(once.with_fingerprint(Some(self.identity())));
        }
        Ok(Some(set))
    }

    /// What identifies the transaction under its key: the names of its commands, unless the caller says otherwise.
    /// The order of the aggregates does not matter, nor does which they are: the marker has their streams.
    fn identity(&self) -> String {
        if let Some(fingerprint) = &self.fingerprint {
            return fingerprint.clone();
        }
        let mut participants: Vec<_> = self.participants.iter().collect();
        participants.sort_by_key(|participant| participant.stream());
        let names: Vec<_> = participants.iter().flat_map(|participant| participant.commands()).collect();
        let names = names.join(", ");
        if names.len() <= LONGEST_FINGERPRINT { names } else { joining::digest(names.as_bytes()) }
    }

    /// The transaction cannot be carried out; unless it has been before, under the same key.
    async fn unless_done_before(
        &mut self,
        error: TransactionError,
        spent: &mut Spent,
    ) -> Result<Done, TransactionError> {
        if let Some(once) = &self.once {
            let found = self.participants[0].marker(once.key_of(None)?).await?;
            spent.cost += found.cost;
            let now = self.clock.now();
            if let Some(marker) = found.marker.filter(|marker| marker.counts_at(now)) {
                return self.done_before(&marker).await;
            }
        }
        Err(error)
    }

    async fn done_before(&mut self, marker: &Marker) -> Result<Done, TransactionError> {
        let reused = || ExecuteError::KeyReused(KeyReused::new(marker.fingerprint.clone()));
        if !marker.is_of(Some(&self.identity())) || marker.places.len() != self.participants.len() {
            return Err(reused());
        }
        let mut outcomes = Vec::with_capacity(self.participants.len());
        for participant in &mut self.participants {
            let place = marker.places.iter().find(|place| place.stream == *participant.stream());
            let place = place.ok_or_else(reused)?;
            let outcome = participant.first_outcome(place).await.map_err(StoreError::after_a_write)?;
            if let Some(outcome) = outcome {
                outcomes.push((participant.stream().clone(), outcome));
            }
        }
        Ok(Done::Before(outcomes))
    }
}
