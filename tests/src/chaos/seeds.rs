//! Running seeds.

/// Runs the seeds from 0, `runs` of them if `ES_FAULT_RUNS` says nothing else, or the one that `ES_FAULT_SEED` names;
/// the reports.
///
/// # Panics
///
/// When a run fails, with its seed.
pub fn run_seeds<R>(runs: u64, run: impl AsyncFn(u64) -> Result<R, String>) -> Vec<R> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("ES_FAULT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ES_FAULT_RUNS").unwrap_or(runs),
    };
    let run_one = |seed| {
        // Time stands still, and passes only when there is nothing else to do. What a run has left under way ends
        // with it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        match runtime.expect("a runtime").block_on(run(seed)) {
            Ok(report) => report,
            Err(error) => panic!("seed {seed}: {error}\nrepeat it with ES_FAULT_SEED={seed}"),
        }
    };
    seeds.map(run_one).collect()
}
