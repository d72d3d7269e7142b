//! The deadline of commands and loads.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The deadline of a command or a load passed, see
/// [`RepositoryBuilder::deadline`](crate::RepositoryBuilder::deadline).
///
/// Its [`source`](Error::source) is the last failure before the deadline, if there was one.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeadlineExceeded {
    /// How long the command or the load could take.
    pub limit: Duration,
    /// Whether a write may have been carried out: it was sent, and no response says what became of it.
    pub outcome_unknown: bool,
    last: Option<Box<dyn Error + Send + Sync>>,
}

impl DeadlineExceeded {
    pub(crate) fn new(
        limit: Duration,
        outcome_unknown: bool,
        last: Option<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { limit, outcome_unknown, last }
    }
}

impl fmt::Display for DeadlineExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the deadline of {:?} passed", self.limit)?;
        if self.outcome_unknown {
            f.write_str(", and the events may have been recorded: load the aggregate to find out")?;
        }
        Ok(())
    }
}

impl Error for DeadlineExceeded {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last.as_deref().map(|last| last as _)
    }
}
