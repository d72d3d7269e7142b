//! Runs simulations by seed.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// The time limit of one run. Time in a run is paused, so only a run that never ends takes minutes.
const MAX_RUN: Duration = Duration::from_secs(600);

/// Runs the seeds from 0 on all cores, and returns their reports in the order of the seeds.
///
/// `ES_FAULT_RUNS` overrides the number of seeds, `runs`. `ES_FAULT_SEED` repeats the run of one seed.
///
/// # Panics
///
/// If a run fails, panics, or does not end. The message contains the seed.
pub fn run_seeds<R, F>(runs: u64, run: F) -> Vec<R>
where
    R: Send + 'static,
    F: AsyncFn(u64) -> Result<R, String> + Send + Sync + 'static,
{
    let seeds = seeds(runs);
    let next = Arc::new(AtomicU64::new(seeds.start));
    let run = Arc::new(run);
    let (done, finished) = mpsc::channel();
    for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
        let (seeds, next, run, done) = (seeds.clone(), Arc::clone(&next), Arc::clone(&run), done.clone());
        // Not a scoped thread: the test must fail even if a run never ends.
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if !seeds.contains(&seed) || done.send((seed, run_one(&*run, seed))).is_err() {
                    break;
                }
            }
        });
    }
    drop(done);
    let mut open: BTreeSet<u64> = seeds.clone().collect();
    let mut reports = Vec::with_capacity(open.len());
    while let Some(first) = open.first() {
        let Ok((seed, outcome)) = finished.recv_timeout(MAX_RUN) else {
            panic!("seed {first} or one of the next seeds does not end\nrepeat it with ES_FAULT_SEED={first}")
        };
        open.remove(&seed);
        match outcome {
            Ok(report) => reports.push((seed, report)),
            Err(error) => panic!("seed {seed}: {error}\nrepeat it with ES_FAULT_SEED={seed}"),
        }
    }
    reports.sort_by_key(|(seed, _)| *seed);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn seeds(runs: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("ES_FAULT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ES_FAULT_RUNS").unwrap_or(runs),
    }
}

fn run_one<R>(run: &impl AsyncFn(u64) -> Result<R, String>, seed: u64) -> Result<R, String> {
    // The jitter of delays comes from the generator of the thread.
    fastrand::seed(seed);
    // Time is paused, and advances only while all tasks wait. Remaining tasks end with the runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(seed))))
        .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("with a value that is not a text")
}

/// Runs the seeds and prints the total of their reports. With `enough` runs or more, each of the `tried` events must occur.
///
/// # Panics
///
/// If a run fails, or if the runs do not cover everything that they should.
pub fn run_all<R, const N: usize>(
    name: &str,
    runs: u64,
    enough: usize,
    run: impl AsyncFn(u64) -> Result<R, String> + Send + Sync + 'static,
    tried: impl Fn(&R) -> [u64; N],
) where
    R: Debug + Default + AddAssign + Send + 'static,
{
    let reports = run_seeds(runs, run);
    let (runs, mut total) = (reports.len(), R::default());
    reports.into_iter().for_each(|report| total += report);
    println!("{name}: {runs} runs, {total:?}");
    assert!(
        tried(&total).iter().all(|count| *count > 0) || runs < enough,
        "the runs do not cover everything that they should: {total:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_in_the_order_of_the_seeds() {
        let reports = run_seeds(50, async |seed| {
            tokio::time::sleep(Duration::from_secs(1_000)).await;
            Ok(seed)
        });
        assert_eq!(reports, (0..50).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "seed 7: panicked: on purpose")]
    fn a_panic_names_its_seed() {
        run_seeds(8, async |seed| {
            assert!(seed < 7, "on purpose");
            Ok(())
        });
    }
}
