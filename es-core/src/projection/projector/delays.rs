//! Slices that wait for a transient error to pass.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::failure::{FailedEvent, described};
use super::state::Slot;
use crate::clock::{Clock, WarningInterval};

/// Why a slice makes no progress at the moment: the store or a service failed, and is tried again until it responds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct Delay {
    /// When the first attempt failed.
    pub since: DateTime<Utc>,
    /// How many attempts have failed.
    pub attempts: u32,
    /// When the next attempt begins.
    pub next_attempt: DateTime<Utc>,
    /// The event whose handler fails, or that a broker does not accept; `None` when it is the store that fails. An
    /// operator may [park](super::Projector::park) or [skip](super::Projector::skip) it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<FailedEvent>,
    /// The last error, with its causes.
    pub error: String,
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        described(f, self.event.as_ref(), &self.error)
    }
}

/// The delays of a projector's workers in this process.
#[derive(Debug, Default)]
pub(super) struct Delays {
    state: Mutex<State>,
    warnings: WarningInterval,
}

#[derive(Debug, Default)]
struct State {
    /// By slot; that of the workers themselves under `None`.
    delays: BTreeMap<Option<Slot>, Delay>,
    /// Whether one was logged for the delays that there are.
    is_known: bool,
}

impl Delays {
    /// Notes a failed attempt, after which the next one begins in `wait`; returns whether to log a warning: for the
    /// first one, and then once a minute.
    pub(super) fn failed(
        &self,
        slot: Option<Slot>,
        event: Option<&FailedEvent>,
        error: &str,
        wait: Duration,
        clock: &dyn Clock,
    ) -> bool {
        let now = clock.now();
        let next_attempt = now + chrono::Duration::from_std(wait).unwrap_or_default();
        let mut state = self.state();
        let (since, attempts) =
            state.delays.get(&slot).map_or((now, 0), |delay| (delay.since, delay.attempts));
        let delay = Delay {
            since,
            attempts: attempts.saturating_add(1),
            next_attempt,
            event: event.cloned(),
            error: error.to_owned(),
        };
        state.delays.insert(slot, delay);
        let is_due = self.warnings.is_due(clock);
        state.is_known |= is_due;
        is_due
    }

    /// Notes a success; returns whether it ends the last delay that was logged.
    pub(super) fn passed(&self, slot: Option<Slot>) -> bool {
        let mut state = self.state();
        let was_delayed = state.delays.remove(&slot).is_some();
        was_delayed && state.delays.is_empty() && std::mem::take(&mut state.is_known)
    }

    /// Forgets slots that others work on.
    pub(super) fn retain(&self, is_kept: impl Fn(Slot) -> bool) {
        self.state().delays.retain(|slot, _| slot.is_none_or(&is_kept));
    }

    /// The delays of slots.
    pub(super) fn all(&self) -> Vec<(Slot, Delay)> {
        let state = self.state();
        state.delays.iter().filter_map(|(slot, delay)| Some(((*slot)?, delay.clone()))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
