//! An operator who uses all operations of a projector.

use std::collections::BTreeSet;
use std::time::Duration;

use es_core::Projector;
use es_core::projection::{FailedEvent, Progress, ProjectorError};
use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::Run;
use super::checker::Report;
use super::ledger::{Ledger, Place};
use super::worker::projector;
use crate::chaos::faults;

pub(super) struct Operator {
    projector: Projector<Ledger>,
    random: Rng,
    operated: Operated,
}

/// The operations that were carried out.
#[derive(Default)]
pub(super) struct Operated {
    /// The events that may have been skipped.
    pub(super) skipped: BTreeSet<Place>,
    pub(super) report: Report,
}

impl Operator {
    pub(super) fn new(run: Run, random: &mut Rng) -> Self {
        let seed = random.u64(..);
        let plan = faults(random, seed);
        let projector = projector(&run, run.handler_timeout(), random, plan);
        Self { projector, random: random.fork(), operated: Operated::default() }
    }

    /// Carries out random operations. Those whose response is lost, or that do not apply, are not counted.
    pub(super) async fn interfere(mut self, time: Duration) -> Operated {
        let start = Instant::now();
        while start.elapsed() < time {
            sleep(Duration::from_millis(self.random.u64(..120))).await;
            let _ = self.act().await;
        }
        self.operated
    }

    async fn act(&mut self) -> Result<(), ProjectorError> {
        let projector = &self.projector;
        match self.random.u8(..16) {
            0 => projector.pause().await,
            1..4 => projector.resume().await,
            4 => {
                projector.reset().await?;
                self.operated.report.resets += 1;
                Ok(())
            }
            5 => projector.rebuild().await,
            random @ (6 | 7) => {
                if random == 6 { projector.switch().await } else { projector.switch_anyway().await }?;
                self.operated.report.switches += 1;
                Ok(())
            }
            8 => projector.cancel_rebuild().await,
            9 => projector.delete_replaced().await,
            10 => projector.replay_parked().await,
            _ => self.decide().await,
        }
    }

    /// Retries, parks, or skips at a stopped slice.
    async fn decide(&mut self) -> Result<(), ProjectorError> {
        let progress = self.progress().await?;
        let Some((slice, failure)) = progress.stopped().next() else { return Ok(()) };
        self.operated.report.stops += 1;
        match (self.random.u8(..4), &failure.event) {
            (0, Some(FailedEvent { stream, version, .. })) => {
                // Even if the response is lost.
                let account = stream.trim_start_matches("account#").to_owned();
                self.operated.skipped.insert((account, version.get()));
                self.projector.skip(slice).await
            }
            (1, Some(_)) => self.projector.park(slice).await,
            _ => self.projector.retry(slice).await,
        }
    }

    /// Reads the progress, which takes many requests, until none of them fails.
    async fn progress(&self) -> Result<Progress, ProjectorError> {
        for _ in 0..20 {
            if let Ok(progress) = self.projector.progress().await {
                return Ok(progress);
            }
        }
        self.projector.progress().await
    }
}
