//! The open store of a command, its output, and the rules for commands that change something.

use std::io::{IsTerminal, Write};

use serde_json::json;

use crate::arguments::{Mode, Place};
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::store::Store;

/// What a command works with.
pub(crate) struct Session {
    pub(crate) store: Store,
    pub(crate) output: Output,
    consent: Consent,
}

impl Session {
    /// Opens the store, which must exist.
    pub(crate) async fn open(place: &Place, mode: Mode) -> Result<Self> {
        let store = place.open().await?;
        Ok(Self { store, output: Output::new(mode.json), consent: Consent::new(mode) })
    }

    /// Announces a change; see [`Consent::to`].
    pub(crate) fn may(&self, change: &str) -> Result<bool> {
        self.consent.to(change)
    }

    /// Announces a change that cannot be undone; see [`Consent::to_lose`].
    pub(crate) fn may_irrevocably(&self, change: &str) -> Result<bool> {
        self.consent.to_lose(change)
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.consent.mode.dry_run
    }
}

/// Decides whether a command may change something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consent {
    mode: Mode,
}

impl Consent {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode }
    }

    /// Returns whether a command may make the change. In a dry run, it may not, and the change is printed.
    pub(crate) fn to(self, change: &str) -> Result<bool> {
        if self.mode.dry_run {
            let value = json!({ "dry_run": true, "change": change });
            Output::new(self.mode.json).value(&value, || format!("would {change}"))?;
        }
        Ok(!self.mode.dry_run)
    }

    /// Like [`to`](Self::to), for a change that cannot be undone: it has to be confirmed, on the terminal or by
    /// `--yes`.
    pub(crate) fn to_lose(self, change: &str) -> Result<bool> {
        if !self.to(change)? || self.mode.yes {
            return Ok(!self.mode.dry_run);
        }
        let unconfirmed = || Failure::Unconfirmed(format!("this would {change}, which cannot be undone"));
        if !std::io::stdin().is_terminal() {
            return Err(unconfirmed());
        }
        let mut question = std::io::stderr();
        write!(question, "This will {change}, which cannot be undone. Type `yes` to continue: ")?;
        question.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim() == "yes" { Ok(true) } else { Err(unconfirmed()) }
    }
}
