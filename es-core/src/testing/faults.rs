//! Plans of injected faults.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A fault of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The request never arrives. The caller gets an `Unavailable` error.
    RequestLost,
    /// The request is executed, but its response is lost. The caller gets an `Unavailable` error.
    AnswerLost,
    /// The request is throttled.
    Throttled,
    /// The request is rejected without effect, for a reason other than throttling or an outage, such as expired
    /// credentials. The number, from 0 to 1, selects the reason.
    Refused(f64),
    /// An unreadable or truncated response arrives, and the caller gets an `Unavailable` error. The number, from 0 to
    /// 1, selects the response, and whether the request is executed first.
    AnswerUnreadable(f64),
    /// The request is executed but never answered: the caller waits until its own timeout.
    Stalled,
    /// The store fails with an internal error, without effect.
    InternalError,
    /// The request is delayed, and others overtake it.
    Delayed(Duration),
    /// A transaction conflicts with another one and is rejected. Other requests are not affected.
    TransactionConflict,
    /// An eventually consistent read misses up to this number of the last commits. Other requests are not
    /// affected.
    Stale(u32),
    /// A page is cut after this fraction of its content, from 0 to 1. Other requests are not affected.
    PageCut(f64),
}

/// A seeded plan of faults. Equal seeds and requests produce equal faults.
///
/// Clones share the plan.
///
/// ```
/// use es_core::testing::Faults;
///
/// let faults = Faults::seeded(42).lost_answers(0.1).throttling(0.05);
/// ```
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
    rates: Rates,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    requests_lost: f64,
    answers_lost: f64,
    throttled: f64,
    refused: f64,
    answers_unreadable: f64,
    stalled: f64,
    internal_errors: f64,
    transaction_conflicts: f64,
    cut_pages: f64,
    stale_reads: f64,
    delayed: f64,
    longest_delay: Duration,
    crash_after: Option<u64>,
}

struct Shared {
    seed: u64,
    random: Mutex<fastrand::Rng>,
    requests: AtomicU64,
    faults: AtomicU64,
}

impl Faults {
    /// Creates a plan without faults. Faults are drawn from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let shared = Shared {
            seed,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), rates: Rates::default() }
    }

    /// Sets the rate, from 0 to 1, of requests that never arrive (default: 0).
    #[must_use]
    pub fn lost_requests(mut self, rate: f64) -> Self {
        self.rates.requests_lost = rate;
        self
    }

    /// Sets the rate, from 0 to 1, of requests that are executed but whose response is lost (default: 0).
    #[must_use]
    pub fn lost_answers(mut self, rate: f64) -> Self {
        self.rates.answers_lost = rate;
        self
    }

    /// Sets the rate, from 0 to 1, of throttled requests (default: 0).
    #[must_use]
    pub fn throttling(mut self, rate: f64) -> Self {
        self.rates.throttled = rate;
        self
    }

    /// Sets the rate, from 0 to 1, of requests that are rejected for a reason other than throttling, such as
    /// expired credentials (default: 0).
    #[must_use]
    pub fn refusals(mut self, rate: f64) -> Self {
        self.rates.refused = rate;
        self
    }

    /// Sets the rate, from 0 to 1, of unreadable responses: empty, truncated, or from another source, such as a gateway
    /// (default: 0).
    #[must_use]
    pub fn unreadable_answers(mut self, rate: f64) -> Self {
        self.rates.answers_unreadable = rate;
        self
    }

    /// Sets the rate, from 0 to 1, of requests that are executed but never answered (default: 0). The client needs
    /// timeouts.
    #[must_use]
    pub fn stalls(mut self, rate: f64) -> Self {
        self.rates.stalled = rate;
        self
    }

    /// Sets the rate, from 0 to 1, of internal errors of the store (default: 0).
    #[must_use]
    pub fn internal_errors(mut self, rate: f64) -> Self {
        self.rates.internal_errors = rate;
        self
    }

    /// Sets the rate, from 0 to 1, at which transactions conflict with another one (default: 0).
    #[must_use]
    pub fn transaction_conflicts(mut self, rate: f64) -> Self {
        self.rates.transaction_conflicts = rate;
        self
    }

    /// Sets the rate, from 0 to 1, at which pages are cut short (default: 0).
    #[must_use]
    pub fn cut_pages(mut self, rate: f64) -> Self {
        self.rates.cut_pages = rate;
        self
    }

    /// Sets the rate, from 0 to 1, at which eventually consistent reads miss the last commits (default: 0).
    #[must_use]
    pub fn stale_reads(mut self, rate: f64) -> Self {
        self.rates.stale_reads = rate;
        self
    }

    /// Sets the rate, from 0 to 1, of delayed requests, and the maximum delay (default: 0).
    #[must_use]
    pub fn delays(mut self, rate: f64, longest: Duration) -> Self {
        self.rates.delayed = rate;
        self.rates.longest_delay = longest;
        self
    }

    /// Simulates a crash: the request with the number `requests` (from 1) and all later requests fail. Whether the
    /// first of them is executed is random.
    #[must_use]
    pub fn crash_after(mut self, requests: u64) -> Self {
        self.rates.crash_after = Some(requests);
        self
    }

    /// Returns the seed, for the message of a failing test.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// Returns the number of requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Returns the number of requests with a fault.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }

    /// Draws the fault of the next request.
    #[must_use]
    pub fn next(&self) -> Option<Fault> {
        let request = self.shared.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let fault = self.draw(request);
        if fault.is_some() {
            self.shared.faults.fetch_add(1, Ordering::SeqCst);
        }
        fault
    }

    fn draw(&self, request: u64) -> Option<Fault> {
        let mut random = self.shared.random.lock().unwrap_or_else(PoisonError::into_inner);
        // Always draw two numbers, so that changing one rate does not affect other draws.
        let (kind, amount) = (random.f64(), random.f64());
        if let Some(last) = self.rates.crash_after {
            if request > last || (request == last && amount < 0.5) {
                return Some(Fault::RequestLost);
            }
            if request == last {
                return Some(Fault::AnswerLost);
            }
        }
        let delay = self.rates.longest_delay.mul_f64(amount);
        let table = [
            (self.rates.requests_lost, Fault::RequestLost),
            (self.rates.answers_lost, Fault::AnswerLost),
            (self.rates.throttled, Fault::Throttled),
            (self.rates.refused, Fault::Refused(amount)),
            (self.rates.answers_unreadable, Fault::AnswerUnreadable(amount)),
            (self.rates.stalled, Fault::Stalled),
            (self.rates.internal_errors, Fault::InternalError),
            (self.rates.transaction_conflicts, Fault::TransactionConflict),
            (self.rates.cut_pages, Fault::PageCut(amount)),
            (self.rates.stale_reads, Fault::Stale(1 + (amount * 3.0) as u32)),
            (self.rates.delayed, Fault::Delayed(delay)),
        ];
        let mut bound = 0.0;
        table.into_iter().find_map(|(rate, fault)| {
            bound += rate;
            (kind < bound).then_some(fault)
        })
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("seed", &self.shared.seed).field("rates", &self.rates).finish()
    }
}
