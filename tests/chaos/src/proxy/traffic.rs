//! The requests of a proxy, and the faults that are drawn for them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;

/// The maximum delay of slow requests.
pub(super) const SLOW: Duration = Duration::from_millis(500);

/// The requests of a proxy.
pub(super) struct Traffic {
    rate: f64,
    random: Mutex<Rng>,
    is_healed: AtomicBool,
    /// Late requests that are not forwarded yet.
    late: AtomicU64,
    requests: AtomicU64,
    faults: AtomicU64,
}

impl Traffic {
    /// A fraction `rate` of the requests has a fault.
    pub(super) fn new(seed: u64, rate: f64) -> Self {
        Self {
            rate,
            random: Mutex::new(Rng::with_seed(seed)),
            is_healed: AtomicBool::new(false),
            late: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        }
    }

    pub(super) fn random(&self) -> MutexGuard<'_, Rng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request.
    pub(super) fn count(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    /// Draws one of `faults`, and counts it, or returns `None` for a request without a fault.
    pub(super) fn fault<F: Copy>(&self, faults: &[F]) -> Option<F> {
        if self.is_healed() {
            return None;
        }
        let mut random = self.random();
        let fault = (random.f64() < self.rate).then(|| faults[random.usize(..faults.len())])?;
        self.faults.fetch_add(1, Ordering::SeqCst);
        Some(fault)
    }

    /// Delays a slow request.
    pub(super) async fn slow(&self) {
        let delay = SLOW.mul_f64(self.random().f64());
        sleep(delay).await;
    }

    /// Notes that a late request is to be forwarded.
    pub(super) fn add_late(&self) {
        self.late.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes that a late request was forwarded.
    pub(super) fn end_late(&self) {
        self.late.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn is_healed(&self) -> bool {
        self.is_healed.load(Ordering::SeqCst)
    }

    /// Ends the faults.
    pub(super) fn heal(&self) {
        self.is_healed.store(true, Ordering::SeqCst);
    }

    /// Waits until all late and slow requests are forwarded.
    pub(super) async fn settle(&self) {
        while self.late.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(50)).await;
        }
        sleep(SLOW * 2).await;
    }

    /// Returns the number of requests, and how many of them had a fault.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.requests.load(Ordering::SeqCst), self.faults.load(Ordering::SeqCst))
    }
}
