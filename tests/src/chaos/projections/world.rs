//! Virtual time, and processes that stall and die.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use es_core::clock::Clock;
use fastrand::Rng;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

/// A clock on tokio's time. Its wall clock may be wrong and may step.
#[derive(Clone, Copy, Debug)]
pub struct VirtualTime {
    start: Instant,
    wrong_by: TimeDelta,
    /// Later errors, each with the time from which it applies.
    steps: [(Duration, TimeDelta); 2],
}

impl VirtualTime {
    /// Returns the time since the start of the clock.
    pub(in crate::chaos) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns a clock whose wall clock is wrong by `wrong_by`.
    #[must_use]
    pub fn new(wrong_by: TimeDelta) -> Self {
        Self { start: Instant::now(), wrong_by, steps: [(Duration::MAX, wrong_by); 2] }
    }

    /// Makes the wall clock step twice within `time`, each time by at most `longest`, forward or back.
    pub(in crate::chaos) fn stepping(self, time: Duration, longest: Duration, random: &mut Rng) -> Self {
        let mut step = |part: f64| {
            let by = TimeDelta::from_std(longest.mul_f64(random.f64())).expect("a short time");
            (time.mul_f64(part * random.f64()), if random.bool() { by } else { -by })
        };
        Self { steps: [step(0.5), step(1.0)], ..self }
    }
}

#[async_trait]
impl Clock for VirtualTime {
    fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.start.elapsed()).expect("a short run");
        let step = self.steps.iter().rev().find(|(from, _)| self.start.elapsed() >= *from);
        DateTime::UNIX_EPOCH
            + TimeDelta::days(1)
            + step.map_or(self.wrong_by, |(_, by)| self.wrong_by + *by)
            + passed
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    async fn timeout(&self, duration: Duration) {
        sleep(duration).await;
    }
}

/// Runs a process that sometimes stalls for one to four leases, so that others consider it dead, and that dies before
/// its poll number `turns`. Returns `None` if it died.
pub(in crate::chaos) async fn mortal<T>(
    process: impl Future<Output = T>,
    turns: u32,
    lease: Duration,
    mut random: Rng,
) -> Option<T> {
    let mut process = pin!(process);
    let mut left = turns;
    let mut stall = None;
    std::future::poll_fn(move |context| {
        if let Some(still) = &mut stall {
            let still: &mut std::pin::Pin<Box<tokio::time::Sleep>> = still;
            if still.poll_unpin(context).is_pending() {
                return Poll::Pending;
            }
            stall = None;
        }
        left -= 1;
        if left == 0 {
            return Poll::Ready(None);
        }
        if random.u16(..300) == 0 {
            let mut still = Box::pin(sleep(lease.mul_f64(1.0 + random.f64() * 3.0)));
            let pending = still.poll_unpin(context).is_pending();
            stall = pending.then_some(still);
            if pending {
                return Poll::Pending;
            }
        }
        process.as_mut().poll(context).map(Some)
    })
    .await
}
