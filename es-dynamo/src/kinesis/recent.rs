//! What was sent a short time ago.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use es_core::StreamId;

/// For how long a record counts as sent a short time ago. Sequence numbers grow with the time between requests; AWS
/// does not say after what time they surely have.
const RECENTLY: Duration = Duration::from_secs(10);

/// When there are more streams than this, those of longer ago are looked for.
const MANY: usize = 10_000;

/// The sequence numbers of the last records of streams.
#[derive(Debug, Default)]
pub(super) struct Recent {
    last: Mutex<HashMap<StreamId, (String, Instant)>>,
}

impl Recent {
    /// The number of the stream's last record, if that was a short time ago.
    pub(super) fn number(&self, stream: &StreamId) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(stream).filter(|(_, at)| at.elapsed() < RECENTLY).map(|(number, _)| number.clone())
    }

    pub(super) fn remember(&self, stream: &StreamId, number: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= MANY {
            last.retain(|_, (_, at)| at.elapsed() < RECENTLY);
        }
        if last.len() >= 10 * MANY {
            // So many streams at once that there is next to nothing to remember of each.
            last.clear();
        }
        last.insert(stream.clone(), (number.to_owned(), Instant::now()));
    }

    pub(super) fn forget(&self, stream: &StreamId) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(stream);
    }
}
