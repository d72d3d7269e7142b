//! The operations that projections and processes have in common.

use clap::{Args, Subcommand};
use es_core::feed::{Position, Slice};
use es_core::projection::{FailedKind, Parked, Registration, SeekTo};
use es_core::{Projection, Projector};

use super::report;
use crate::failure::{Failure, Result};
use crate::output::counted;
use crate::session::Session;

/// An operation on a projection or process.
#[derive(Debug, Subcommand)]
pub(in crate::commands) enum Operation {
    /// Show the position and the state of each slice
    Progress {
        /// The projection or process
        name: String,
        /// Exit with code 3 if a slice has stopped or events are parked
        #[arg(long)]
        check: bool,
    },
    /// Show the parked events and timeouts (dead letters)
    Parked {
        /// The projection or process
        name: String,
    },
    /// Pause all workers
    Pause {
        /// The projection or process
        name: String,
    },
    /// Resume all workers
    Resume {
        /// The projection or process
        name: String,
    },
    /// Retry stopped slices immediately
    Retry(Target),
    /// Park the event at which a slice has stopped, and later events of its stream; other events continue
    Park(OneSlice),
    /// Skip the event at which a slice has stopped: it will never be handled
    Skip(OneSlice),
    /// Replay all parked events and timeouts
    Replay {
        /// The projection or process
        name: String,
    },
    /// Discard a parked event or timeout: it will never be handled
    Discard(Discard),
    /// Move the checkpoint of a slice after the feed was restored to an earlier state
    Seek(Seek),
    /// Forget the events that were passed over by code that does not list them
    DismissPassedOver {
        /// The projection or process
        name: String,
    },
}

/// One slice, or all that have stopped.
#[derive(Args, Debug)]
pub(in crate::commands) struct Target {
    /// The projection or process
    name: String,
    /// The number of the slice [default: all that have stopped]
    slice: Option<u32>,
}

/// One slice.
#[derive(Args, Debug)]
pub(in crate::commands) struct OneSlice {
    /// The projection or process
    name: String,
    /// The number of the slice
    slice: u32,
}

/// The options of `discard`.
#[derive(Args, Debug)]
pub(in crate::commands) struct Discard {
    /// The projection or process
    name: String,
    /// The number of the slice
    slice: u32,
    /// The position of the event
    #[arg(long, required_unless_present = "timeout", conflicts_with = "timeout")]
    position: Option<u64>,
    /// The key of the timeout
    #[arg(long, value_name = "KEY")]
    timeout: Option<String>,
}

/// The options of `seek`.
#[derive(Args, Debug)]
pub(in crate::commands) struct Seek {
    /// The projection or process
    name: String,
    /// The number of the slice
    slice: u32,
    /// Continue after the last event of the slice
    #[arg(long, required_unless_present = "after", conflicts_with = "after")]
    end: bool,
    /// Continue after this position
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
}

impl Operation {
    /// Returns the name of the projection or process.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Progress { name, .. }
            | Self::Parked { name }
            | Self::Pause { name }
            | Self::Resume { name }
            | Self::Replay { name }
            | Self::DismissPassedOver { name }
            | Self::Retry(Target { name, .. })
            | Self::Park(OneSlice { name, .. })
            | Self::Skip(OneSlice { name, .. })
            | Self::Discard(Discard { name, .. })
            | Self::Seek(Seek { name, .. }) => name,
        }
    }

    pub(super) async fn run<P: Projection>(
        &self,
        session: &Session,
        projector: &Projector<P>,
        registration: &Registration,
    ) -> Result {
        match self {
            Self::Progress { check, .. } => return progress(session, projector, registration, *check).await,
            Self::Parked { .. } => return report::parked(session.output, &projector.parked().await?),
            _ => {}
        }
        let plan = self.plan(projector, registration).await?;
        let may = match plan.loses_events {
            true => session.may_irrevocably(&plan.change)?,
            false => session.may(&plan.change)?,
        };
        if may {
            self.apply(projector, &plan).await?;
            report::done(session.output, self.name(), &plan.change, &[], None)?;
        }
        Ok(())
    }

    /// Finds what the operation would change.
    async fn plan<P: Projection>(
        &self,
        projector: &Projector<P>,
        registration: &Registration,
    ) -> Result<Plan> {
        let name = self.name();
        let mut plan = Plan::default();
        plan.change = match self {
            Self::Progress { .. } | Self::Parked { .. } => String::new(),
            Self::Pause { .. } => format!("pause `{name}`"),
            Self::Resume { .. } => format!("resume `{name}`"),
            Self::DismissPassedOver { .. } => format!("forget the events that `{name}` passed over"),
            Self::Replay { .. } => {
                let parked = projector.parked().await?.len() as u64;
                format!("replay {} of `{name}`", counted(parked, "parked event"))
            }
            Self::Retry(target) => {
                plan.slices = target.slices(projector).await?;
                let slices: Vec<_> = plan.slices.iter().map(Slice::to_string).collect();
                format!("retry slice {} of `{name}`", slices.join(", "))
            }
            Self::Park(OneSlice { slice, .. }) | Self::Skip(OneSlice { slice, .. }) => {
                plan.slices = vec![Slice::new(*slice)];
                plan.loses_events = matches!(self, Self::Skip(_));
                let verb = if plan.loses_events { "skip" } else { "park" };
                format!("{verb} {}", failed_event(projector, Slice::new(*slice)).await?)
            }
            Self::Discard(discard) => {
                let parked = discard.find(projector.parked().await?)?;
                plan.loses_events = true;
                let change = format!("discard {}", parked.event);
                plan.parked = Some(parked);
                change
            }
            Self::Seek(seek) => {
                if !registration.read_models.is_empty() {
                    return Err(Failure::of(
                        "the rows of a projection do not fit another position: use `rebuild` or `reset`",
                    ));
                }
                plan.slices = vec![Slice::new(seek.slice)];
                plan.loses_events = true;
                let to = seek.after.map_or("its end".to_owned(), |after| format!("position {after}"));
                format!("move the checkpoint of slice {} of `{name}` to {to}", seek.slice)
            }
        };
        Ok(plan)
    }

    async fn apply<P: Projection>(&self, projector: &Projector<P>, plan: &Plan) -> Result {
        match self {
            Self::Progress { .. } | Self::Parked { .. } => {}
            Self::Pause { .. } => projector.pause().await?,
            Self::Resume { .. } => projector.resume().await?,
            Self::Replay { .. } => projector.replay_parked().await?,
            Self::DismissPassedOver { .. } => projector.dismiss_passed_over().await?,
            Self::Retry(_) => {
                for slice in &plan.slices {
                    projector.retry(*slice).await?;
                }
            }
            Self::Park(OneSlice { slice, .. }) => projector.park(Slice::new(*slice)).await?,
            Self::Skip(OneSlice { slice, .. }) => projector.skip(Slice::new(*slice)).await?,
            Self::Discard(_) => {
                if let Some(parked) = &plan.parked {
                    projector.discard_parked(parked).await?;
                }
            }
            Self::Seek(seek) => {
                let to = seek.after.map_or(SeekTo::End, |after| SeekTo::After(Position::new(after)));
                projector.seek(Slice::new(seek.slice), to).await?;
            }
        }
        Ok(())
    }
}

/// The change that an operation would make.
#[derive(Debug, Default)]
struct Plan {
    /// The change in words, starting with a verb.
    change: String,
    /// Whether events are never handled afterwards, so that the change needs a confirmation.
    loses_events: bool,
    slices: Vec<Slice>,
    parked: Option<Parked>,
}

impl Target {
    /// Returns the slices to retry.
    async fn slices<P: Projection>(&self, projector: &Projector<P>) -> Result<Vec<Slice>> {
        if let Some(slice) = self.slice {
            return Ok(vec![Slice::new(slice)]);
        }
        let mut stopped: Vec<Slice> = projector.progress().await?.stopped().map(|(slice, _)| slice).collect();
        if let Some(rebuild) = projector.rebuild_progress().await? {
            stopped.extend(rebuild.stopped().map(|(slice, _)| slice));
        }
        stopped.sort();
        stopped.dedup();
        if stopped.is_empty() {
            return Err(Failure::of(format!("no slice of `{}` has stopped", self.name)));
        }
        Ok(stopped)
    }
}

impl Discard {
    /// Returns the parked event or timeout.
    fn find(&self, parked: Vec<Parked>) -> Result<Parked> {
        let is_meant = |parked: &Parked| match (&parked.event.kind, &self.timeout) {
            (FailedKind::Timeout { key, .. }, Some(timeout)) => key == timeout,
            (FailedKind::Timeout { .. }, None) | (_, Some(_)) => false,
            _ => Some(parked.event.position.get()) == self.position,
        };
        let mut found =
            parked.into_iter().filter(|parked| parked.slice.get() == self.slice && is_meant(parked));
        let slice = self.slice;
        found.next().ok_or_else(|| {
            Failure::of(format!(
                "no such event is parked in slice {slice}: `parked {}` shows those that are",
                self.name
            ))
        })
    }
}

async fn progress<P: Projection>(
    session: &Session,
    projector: &Projector<P>,
    registration: &Registration,
    check: bool,
) -> Result {
    let progress = projector.progress().await?;
    let rebuild = projector.rebuild_progress().await?;
    report::progress(session.output, registration, &progress, rebuild.as_ref())?;
    let has_parked = progress.slices.iter().any(|slice| slice.parked > 0);
    if check && (has_parked || progress.stopped().next().is_some()) {
        return Err(Failure::Found);
    }
    Ok(())
}

/// Describes the event at which a slice has stopped or is delayed, of the active build or of the new one.
async fn failed_event<P: Projection>(projector: &Projector<P>, slice: Slice) -> Result<String> {
    let builds = [Some(projector.progress().await?), projector.rebuild_progress().await?];
    for progress in builds.iter().flatten() {
        let stopped = progress.stopped().map(|(at, failure)| (at, &failure.event));
        let delayed = progress.delayed().map(|(at, delay)| (at, &delay.event));
        if let Some((_, Some(event))) = stopped.chain(delayed).find(|(at, _)| *at == slice) {
            return Ok(event.to_string());
        }
    }
    Err(Failure::of(format!("slice {slice} has not stopped at an event")))
}
