//! A transaction on its way: load, decide, write, and again.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::participant::Undecided;
use super::{Committed, Rejection, Transaction, TransactionError};
use crate::cost::Cost;
use crate::ids::{IdSource, RandomIds};
use crate::repository::ExecuteError;
use crate::repository::writing::Sender;
use crate::store::{Conflict, Marker, Place, StoreError, WriteError, WriteSet};

impl Transaction {
    pub(super) async fn run(mut self) -> Result<Committed, TransactionError> {
        if let Some(error) = self.invalid.take() {
            return Err(error.into());
        }
        if self.participants.iter().all(|participant| participant.is_idle()) {
            return Err(StoreError::invalid("the transaction has no commands: add one with `execute`").into());
        }
        if let Some(idle) = self.participants.iter().find(|participant| participant.is_idle()) {
            let reason = format!("`{}` has a part in the transaction, but no command", idle.stream());
            return Err(StoreError::invalid(reason).into());
        }
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        let sender = Sender { store: &*store, clock: &*clock, retry: self.retry };
        let mut spent = Cost::ZERO;
        let mut attempts = 1;
        try_join_all(self.participants.iter_mut().map(|participant| participant.load())).await?;
        loop {
            let decided = self.decide()?;
            if (decided.is_err() || self.has_nothing_to_do()) && self.are_outdated().await? {
                continue;
            }
            if let Err(error) = decided {
                return self.unless_done_before(error, attempts, spent).await;
            }
            let Some(set) = self.write_set()? else {
                return Ok(self.recorded(attempts, spent));
            };
            let result = sender.write(&set, &mut spent).await;
            match result {
                Ok(_) => return Ok(self.recorded(attempts, spent)),
                Err(WriteError::Done(marker)) => return self.done_before(&marker, attempts, spent).await,
                Err(WriteError::Conflict(conflict)) => self.wait(conflict, attempts).await?,
                Err(WriteError::Claimed(claimed)) => return Err(ExecuteError::Claimed(claimed)),
                Err(WriteError::Refused(refused)) => return Err(ExecuteError::Refused(refused)),
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
            attempts += 1;
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

    async fn wait(&self, conflict: Conflict, attempts: u32) -> Result<(), TransactionError> {
        if !self.retry.allows_another(attempts) {
            return Err(ExecuteError::Conflict(conflict));
        }
        tracing::debug!(stream = %conflict.stream, attempts, "another writer came first");
        self.clock.sleep(self.retry.delay_after(attempts)).await;
        Ok(())
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
            set = set.once(once.once(once.key_of(None)?, id, self.clock.now(), places));
        }
        Ok(Some(set))
    }

    /// The transaction cannot be carried out; unless it has been before, under the same key.
    async fn unless_done_before(
        self,
        error: TransactionError,
        attempts: u32,
        mut spent: Cost,
    ) -> Result<Committed, TransactionError> {
        if let Some(once) = &self.once {
            let found = self.participants[0].marker(once.key_of(None)?).await?;
            spent += found.cost;
            let now = self.clock.now();
            if let Some(marker) = found.marker.filter(|marker| marker.counts_at(now)) {
                return self.done_before(&marker, attempts, spent).await;
            }
        }
        Err(error)
    }

    async fn done_before(
        self,
        marker: &Marker,
        attempts: u32,
        spent: Cost,
    ) -> Result<Committed, TransactionError> {
        let mut committed = Committed::new(attempts, spent, true);
        for participant in &self.participants {
            committed.cost += participant.cost();
            let Some(place) = marker.places.iter().find(|place| place.stream == *participant.stream()) else {
                let reason = format!("the key belongs to a transaction without `{}`", participant.stream());
                return Err(StoreError::invalid(reason).into());
            };
            committed.add(participant.stream().clone(), participant.first_outcome(place).await?);
        }
        Ok(committed)
    }

    fn recorded(self, attempts: u32, spent: Cost) -> Committed {
        let mut committed = Committed::new(attempts, spent, false);
        for participant in self.participants {
            let stream = participant.stream().clone();
            committed.cost += participant.cost();
            if let Some(outcome) = participant.recorded() {
                committed.add(stream, outcome);
            }
        }
        committed
    }
}
