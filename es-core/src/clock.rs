//! Clocks: the current time, monotonic time, and waiting.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};

/// A source of time, and a way to wait, for repositories and projectors.
///
/// ```
/// use std::time::Duration;
///
/// use es_core::chrono::{DateTime, Utc};
/// use es_core::clock::{Clock, SystemClock};
///
/// /// A clock that is an hour ahead.
/// #[derive(Debug)]
/// struct Ahead;
///
/// #[async_trait::async_trait]
/// impl Clock for Ahead {
///     fn now(&self) -> DateTime<Utc> {
///         SystemClock.now() + Duration::from_secs(3600)
///     }
///
///     async fn sleep(&self, duration: Duration) {
///         SystemClock.sleep(duration).await;
///     }
/// }
///
/// assert!(Ahead.now() > SystemClock.now());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a clock",
    label = "not a clock",
    note = "use a `SystemClock`, or a `ManualClock` in tests"
)]
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the current time in whole milliseconds, which is the stored precision.
    fn now(&self) -> DateTime<Utc>;

    /// Waits for `duration`.
    async fn sleep(&self, duration: Duration);

    /// Returns the time since an arbitrary moment in the past.
    ///
    /// It never jumps, unlike [`now`](Self::now), which follows the wall clock, so leases and deadlines are measured
    /// with it. The default implementation uses the system's monotonic clock.
    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }

    /// Completes after `duration`. Used to limit the time of other work.
    ///
    /// The default implementation waits in real time, independently of [`sleep`](Self::sleep): otherwise, a test clock
    /// whose `sleep` returns at once would make every timeout expire at once. Override it in a clock that follows the
    /// virtual time of a test runtime.
    async fn timeout(&self, duration: Duration) {
        futures_timer::Delay::new(duration).await;
    }
}

/// The first and the last second that can be stored. RFC 3339 covers the years 1 to 9999.
const FIRST_SECOND: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_300_799;

/// Returns whether `time` is in the years 1 to 9999. Other times cannot be stored.
pub(crate) fn is_storable(time: DateTime<Utc>) -> bool {
    (FIRST_SECOND..=LAST_SECOND).contains(&time.timestamp())
}

/// Returns `time` after `duration`, at most the last time that can be stored.
pub(crate) fn later(time: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    let last = DateTime::from_timestamp(LAST_SECOND, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let later = chrono::TimeDelta::from_std(duration).ok().and_then(|delta| time.checked_add_signed(delta));
    later.map_or(last, |later| later.min(last))
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that asks the system for the time
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(3)
    }

    async fn sleep(&self, duration: Duration) {
        futures_timer::Delay::new(duration).await;
    }
}

/// A clock for tests, which is advanced manually. [`sleep`](Clock::sleep) advances it and returns at once.
///
/// Clones share the same time.
///
/// ```
/// use chrono::Duration;
/// use es_core::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::at("2030-01-01T00:00:00Z".parse()?);
/// clock.advance(Duration::hours(1));
/// assert_eq!(clock.now().to_rfc3339(), "2030-01-01T01:00:00+00:00");
/// # Ok::<_, chrono::ParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    time: Arc<Mutex<ManualTime>>,
}

#[derive(Debug)]
struct ManualTime {
    now: DateTime<Utc>,
    /// The total time by which the clock was advanced.
    passed: Duration,
}

impl ManualClock {
    /// Creates a clock at the time `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        let time = ManualTime { now: now.trunc_subsecs(3), passed: Duration::ZERO };
        Self { time: Arc::new(Mutex::new(time)) }
    }

    /// Sets the wall clock to `now`. No [monotonic](Clock::monotonic) time passes.
    pub fn set(&self, now: DateTime<Utc>) {
        self.time().now = now.trunc_subsecs(3);
    }

    /// Advances the clock by `duration`. A negative duration sets the wall clock back.
    pub fn advance(&self, duration: chrono::Duration) {
        let mut time = self.time();
        time.now = time.now.checked_add_signed(duration).unwrap_or(DateTime::<Utc>::MAX_UTC);
        time.passed = time.passed.saturating_add(duration.to_std().unwrap_or_default());
    }

    fn time(&self) -> MutexGuard<'_, ManualTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        self.time().now.trunc_subsecs(3)
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(chrono::Duration::from_std(duration).unwrap_or(chrono::Duration::MAX));
    }

    fn monotonic(&self) -> Duration {
        self.time().passed
    }
}

/// Limits a warning to once a minute.
#[derive(Debug, Default)]
pub(crate) struct WarningInterval {
    /// The monotonic time of the last warning in milliseconds, plus one; 0 if there was none.
    last: AtomicU64,
}

impl WarningInterval {
    const LENGTH: Duration = Duration::from_secs(60);

    /// Returns whether to log a warning now.
    pub(crate) fn is_due(&self, clock: &dyn Clock) -> bool {
        let now = clock.monotonic().as_millis() as u64 + 1;
        let last = self.last.load(Ordering::Relaxed);
        let is_due = last == 0 || u128::from(now.saturating_sub(last)) >= Self::LENGTH.as_millis();
        // If several threads get here, only one of them logs the warning.
        is_due && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_from_1_to_9999_are_storable() {
        for (text, storable) in [
            ("0001-01-01T00:00:00Z", true),
            ("0000-12-31T23:59:59.999Z", false),
            ("9999-12-31T23:59:59.999Z", true),
            ("+10000-01-01T00:00:00Z", false),
        ] {
            let time: DateTime<Utc> = text.parse().expect("a time");
            assert_eq!(is_storable(time), storable, "{text}");
        }
    }

    #[test]
    fn later_ends_with_the_calendar() {
        let now: DateTime<Utc> = "2030-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(later(now, Duration::from_secs(5)), now + chrono::TimeDelta::seconds(5));
        assert_eq!(later(now, Duration::MAX).to_rfc3339(), "9999-12-31T23:59:59+00:00");
    }
}
