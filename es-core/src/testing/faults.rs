//! Which faults happen, and how often.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The request never arrives; the caller is told that the store is unavailable.
    RequestLost,
    /// The request is carried out and its answer never arrives; the caller is told the same.
    AnswerLost,
    /// The store refuses for the moment.
    Throttled,
    /// The store refuses for a reason that is neither throttling nor an outage, such as expired credentials, and does
    /// nothing. The number, from 0 to 1, selects the reason.
    Refused(f64),
    /// Something other than the store's answer arrives, or only a part of it; the caller is told that the store is
    /// unavailable. The number, from 0 to 1, selects what arrives, and whether the request is carried out before.
    AnswerUnreadable(f64),
    /// The request is carried out, and never answered: the caller waits until its own timeout.
    Stalled,
    /// The store fails inside, before it does anything.
    InternalError,
    /// The request is held back for so long, and others overtake it.
    Delayed(Duration),
    /// A transaction meets another one on one of its items, and is refused; other requests pass.
    TransactionConflict,
    /// An eventual read does not see the last commits, so many of them at most; other requests pass.
    Stale(u32),
    /// A page of a read ends after this part of what it would hold, from 0 to 1; other requests pass.
    PageCut(f64),
}

/// A plan of faults, drawn from a seed: the same seed and the same requests give the same faults.
///
/// Clones share the plan, and so does everything that it is given to.
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
    /// A plan without faults, that draws from `seed`.
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

    /// This part of the requests, from 0 to 1, never arrives.
    #[must_use]
    pub fn lost_requests(mut self, rate: f64) -> Self {
        self.rates.requests_lost = rate;
        self
    }

    /// This part of the requests, from 0 to 1, is carried out without an answer.
    #[must_use]
    pub fn lost_answers(mut self, rate: f64) -> Self {
        self.rates.answers_lost = rate;
        self
    }

    /// This part of the requests, from 0 to 1, is throttled.
    #[must_use]
    pub fn throttling(mut self, rate: f64) -> Self {
        self.rates.throttled = rate;
        self
    }

    /// This part of the requests, from 0 to 1, is refused for a reason other than throttling, such as expired
    /// credentials.
    #[must_use]
    pub fn refusals(mut self, rate: f64) -> Self {
        self.rates.refused = rate;
        self
    }

    /// This part of the requests, from 0 to 1, gets an answer that cannot be read: an empty one, a part of one, or one of
    /// something else, such as a gateway.
    #[must_use]
    pub fn unreadable_answers(mut self, rate: f64) -> Self {
        self.rates.answers_unreadable = rate;
        self
    }

    /// This part of the requests, from 0 to 1, is carried out and never answered. A client needs timeouts for that.
    #[must_use]
    pub fn stalls(mut self, rate: f64) -> Self {
        self.rates.stalled = rate;
        self
    }

    /// This part of the requests, from 0 to 1, fails inside the store.
    #[must_use]
    pub fn internal_errors(mut self, rate: f64) -> Self {
        self.rates.internal_errors = rate;
        self
    }

    /// This part of the requests, from 0 to 1, meets another transaction, if it is one itself.
    #[must_use]
    pub fn transaction_conflicts(mut self, rate: f64) -> Self {
        self.rates.transaction_conflicts = rate;
        self
    }

    /// This part of the requests, from 0 to 1, gets a page that ends early, if it reads one.
    #[must_use]
    pub fn cut_pages(mut self, rate: f64) -> Self {
        self.rates.cut_pages = rate;
        self
    }

    /// This part of the requests, from 0 to 1, does not see the last commits, if it is an eventual read.
    #[must_use]
    pub fn stale_reads(mut self, rate: f64) -> Self {
        self.rates.stale_reads = rate;
        self
    }

    /// This part of the requests, from 0 to 1, is held back for a random part of `longest`.
    #[must_use]
    pub fn delays(mut self, rate: f64, longest: Duration) -> Self {
        self.rates.delayed = rate;
        self.rates.longest_delay = longest;
        self
    }

    /// After so many requests nothing gets through any more, as if the process had died. Whether the last
    /// one was still carried out is drawn.
    #[must_use]
    pub fn crash_after(mut self, requests: u64) -> Self {
        self.rates.crash_after = Some(requests);
        self
    }

    /// The seed that the plan draws from: what to report when a test fails.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// How many requests there were.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How many of them had a fault.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }

    /// The fate of the next request.
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
        // Always two numbers a request, so that a rate that is changed changes no other draw.
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
