//! Starts the processes; kills, pauses, and upgrades them; and checks the result.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use es_core::{BoxError, error_text};
use es_postgres::sqlx;
use fastrand::Rng;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::broker::Broker;
use crate::check::{self, Problem, Report};
use crate::domain::{new, old};
use crate::journal::Journals;
use crate::proxy::Proxy;
use crate::store::Store;
use crate::worker::{LEASE, Workers};
use crate::{Plan, Version};

/// The average time between two disturbances.
const PACE: Duration = Duration::from_millis(1500);
/// The time limit for processes to end, and for the next event to be handled.
const PATIENCE: Duration = Duration::from_secs(120);

/// Creates a table, and runs a plan on it.
///
/// # Errors
///
/// The first broken promise.
pub(crate) async fn run(plan: &Plan, seed: u64) -> Result<(), BoxError> {
    println!(
        "seed {seed}: {} processes for {} s, {} of the requests fail",
        plan.processes, plan.seconds, plan.faults
    );
    let mut folder = Folder::create()?;
    let result = run_in(&folder, plan, seed).await;
    if result.is_err() {
        folder.is_kept = true;
        println!("the journals and logs are in {}", folder.path.display());
    }
    result
}

async fn run_in(folder: &Folder, plan: &Plan, seed: u64) -> Result<(), BoxError> {
    let (table, endpoint) = (format!("chaos_{seed}_{}", std::process::id()), plan.endpoint()?);
    // This client bypasses the proxy: only a busy machine makes its requests slow.
    let store = Store::open(&endpoint, &table, Some(PATIENCE))?;
    store.create().await?;
    let mut random = Rng::with_seed(seed);
    let proxy = Proxy::start(&endpoint, random.u64(..), plan.faults).await?;
    let mut fleet = Fleet::start(folder, plan, &proxy, &table, &mut random)?;
    tokio::select! {
        disturbed = fleet.disturb(plan, &store, &mut random) => disturbed?,
        stopped = watch(&store, folder), if !plan.upgrade => stopped?,
    }
    let counts = fleet.counts;
    proxy.heal();
    let mut journals = Journals::default();
    for journal in fleet.end(&folder.path("stop")).await? {
        journals.read(&journal)?;
    }
    proxy.settle().await;
    // The connections of the first one may have ended with the server.
    let store = Store::open(&endpoint, &table, Some(PATIENCE))?;

    let workers = Workers::start(&store, Broker::open(&folder.path("broker"), seed, 0.0)?)?;
    let report = finish(&store, &workers, &journals, &folder.path("broker")).await?;
    workers.end().await?;
    let (requests, faults) = proxy.counts();
    println!("{requests} requests, {faults} faults, {counts}");
    println!("{report}");
    report.check_work(plan.seconds)?;
    println!("nothing lost, nothing twice");
    store.delete().await
}

/// Fails if a slice stops: all faults are transient, and must not be persisted as failures.
async fn watch(store: &Store, folder: &Folder) -> Result<(), BoxError> {
    let workers = Workers::<old::Code>::idle(store, Broker::open(&folder.path("broker"), 0, 0.0)?)?;
    loop {
        for (name, progress) in workers.progress().await {
            let progress = match progress {
                Err(error) if error.is_transient() => continue,
                progress => progress?,
            };
            if let Some((slice, failure)) = progress.stopped().next() {
                return Err(format!("{name} has stopped in slice {slice}: {failure:?}").into());
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Waits until all recorded events are handled and the check passes. A busy machine may take long, so only a lack of
/// progress is a failure.
async fn finish(
    store: &Store,
    workers: &Workers<new::Code>,
    journals: &Journals,
    broker: &Path,
) -> Result<Report, BoxError> {
    let (mut progressed, mut handled) = (Instant::now(), 0);
    loop {
        match check::check(store, workers, journals, broker).await? {
            Ok(report) => return Ok(report),
            Err(Problem::Violation(what)) => return Err(what.into()),
            Err(Problem::Unfinished(what)) => {
                let before = std::mem::replace(&mut handled, workers.handled().await?);
                if handled > before {
                    progressed = Instant::now();
                } else if progressed.elapsed() > PATIENCE {
                    return Err(format!("no progress for {PATIENCE:?}: {what}").into());
                }
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// A folder that is deleted when it is dropped, unless it is kept.
struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    fn create() -> Result<Self, BoxError> {
        let path = std::env::temp_dir().join(format!("es-chaos-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self { path, is_kept: false })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

/// The numbers of disturbances.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    kills: u32,
    pauses: u32,
    upgrades: u32,
    /// The connections of PostgreSQL that were killed.
    connections: u32,
    restarts: u32,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kills, pauses, upgrades, connections, restarts } = self;
        write!(f, "{kills} kills, {pauses} pauses, {upgrades} upgrades")?;
        match connections + restarts {
            0 => Ok(()),
            _ => write!(f, ", {connections} connections killed, {restarts} restarts of the server"),
        }
    }
}

/// All processes.
struct Fleet {
    processes: Vec<Process>,
    counts: Counts,
}

impl Fleet {
    fn start(
        folder: &Folder,
        plan: &Plan,
        proxy: &Proxy,
        table: &str,
        random: &mut Rng,
    ) -> Result<Self, BoxError> {
        let mut processes = Vec::new();
        for index in 0..plan.processes {
            let start = Start {
                endpoint: proxy.url(),
                table: table.to_owned(),
                version: Version::Old,
                seed: random.u64(..),
                journal: folder.path(&format!("journal-{index}")),
                broker: folder.path("broker"),
                log: folder.path(&format!("log-{index}")),
                stop: folder.path("stop"),
            };
            processes.push(Process { index, child: start.spawn()?, start, paused_until: None });
        }
        Ok(Self { processes, counts: Counts::default() })
    }

    /// Kills, pauses, and upgrades processes for the duration of the plan.
    async fn disturb(&mut self, plan: &Plan, store: &Store, random: &mut Rng) -> Result<(), BoxError> {
        let begin = Instant::now();
        while begin.elapsed() < plan.duration() {
            sleep(PACE.mul_f64(random.f64() * 2.0)).await;
            for process in &mut self.processes {
                process.check()?;
            }
            let index = random.usize(..self.processes.len());
            self.disturb_one(index, random).await?;
            if let Store::Postgres(_) = store {
                self.disturb_server(store, random).await?;
            }
            if plan.upgrade {
                self.upgrade(begin.elapsed().as_secs_f64() / plan.duration().as_secs_f64()).await?;
            }
        }
        Ok(())
    }

    /// Kills a process, pauses it, or leaves it alone.
    async fn disturb_one(&mut self, index: usize, random: &mut Rng) -> Result<(), BoxError> {
        let process = &mut self.processes[index];
        match random.u8(..3) {
            0 => {
                process.restart().await?;
                self.counts.kills += 1;
            }
            1 => {
                // Up to twice the lease, so that others take over from some.
                process.pause(LEASE.mul_f64(random.f64() * 2.0))?;
                self.counts.pauses += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Kills connections of PostgreSQL, restarts the server in order or by a crash, or leaves it alone.
    async fn disturb_server(&mut self, store: &Store, random: &mut Rng) -> Result<(), BoxError> {
        let (choice, program) = (random.u8(..6), std::env::var_os("ES_POSTGRES_RESTART"));
        match (choice, store.postgres(), program) {
            (0..2, Some(store), _) => {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                            WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND random() < 0.3";
                // The connection may be one of those that a restart has ended.
                if let Ok(killed) = sqlx::query(kill).fetch_all(store.pool()).await {
                    self.counts.connections += killed.len() as u32;
                }
            }
            (2, _, Some(program)) => {
                let mode = if random.bool() { "immediate" } else { "fast" };
                let status = Command::new(program).arg(mode).status().await?;
                if !status.success() {
                    return Err(format!("the server cannot be restarted ({mode}): {status}").into());
                }
                self.counts.restarts += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Upgrades processes in proportion to the progress of the run: none in its first third, all by its last.
    async fn upgrade(&mut self, part: f64) -> Result<(), BoxError> {
        let share = (part - 1.0 / 3.0) * 3.0;
        let upgraded = (share * self.processes.len() as f64).ceil().max(0.0) as usize;
        for process in self.processes.iter_mut().take(upgraded) {
            if process.start.version == Version::Old {
                process.start.version = Version::New;
                process.restart().await?;
                self.counts.upgrades += 1;
            }
        }
        Ok(())
    }

    /// Ends all processes, and returns the paths of their journals.
    async fn end(self, stop: &Path) -> Result<Vec<PathBuf>, BoxError> {
        std::fs::write(stop, "")?;
        let mut journals = Vec::new();
        for process in self.processes {
            journals.push(process.start.journal.clone());
            process.end().await?;
        }
        Ok(journals)
    }
}

/// The arguments of a process.
struct Start {
    endpoint: String,
    table: String,
    version: Version,
    seed: u64,
    journal: PathBuf,
    broker: PathBuf,
    log: PathBuf,
    stop: PathBuf,
}

impl Start {
    fn spawn(&self) -> Result<Child, BoxError> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let version = match self.version {
            Version::Old => "old",
            Version::New => "new",
        };
        let child = Command::new(std::env::current_exe()?)
            .args(["worker", "--endpoint", &self.endpoint, "--table", &self.table, "--version", version])
            .args(["--seed", &self.seed.to_string()])
            .arg("--journal")
            .arg(&self.journal)
            .arg("--broker")
            .arg(&self.broker)
            .arg("--stop")
            .arg(&self.stop)
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }
}

struct Process {
    index: usize,
    start: Start,
    child: Child,
    /// The end of the current pause.
    paused_until: Option<Instant>,
}

impl Process {
    /// Resumes the process after its pause. Fails if it has ended without being killed.
    fn check(&mut self) -> Result<(), BoxError> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("process {} has ended: {status}", self.index).into());
        }
        if self.paused_until.is_some_and(|until| until <= Instant::now()) {
            self.resume()?;
        }
        Ok(())
    }

    /// Kills the process, and starts another one with its journal.
    async fn restart(&mut self) -> Result<(), BoxError> {
        self.child.kill().await?;
        self.child = self.start.spawn()?;
        self.paused_until = None;
        Ok(())
    }

    fn pause(&mut self, duration: Duration) -> Result<(), BoxError> {
        self.signal("-STOP")?;
        self.paused_until = Some(Instant::now() + duration);
        Ok(())
    }

    fn resume(&mut self) -> Result<(), BoxError> {
        self.paused_until = None;
        self.signal("-CONT")
    }

    /// Waits for the process to end because of the stop file.
    async fn end(mut self) -> Result<(), BoxError> {
        self.resume()?;
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(ExitStatus::success) => Ok(()),
            Ok(Ok(status)) => Err(format!("process {} has failed: {status}", self.index).into()),
            Ok(Err(error)) => Err(error_text(&error).into()),
            Err(_) => Err(format!("process {} does not end", self.index).into()),
        }
    }

    fn signal(&self, signal: &str) -> Result<(), BoxError> {
        let id = self.child.id().ok_or("the process has ended")?.to_string();
        match std::process::Command::new("kill").args([signal, &id]).status()?.success() {
            true => Ok(()),
            false => Err(format!("process {} cannot be sent {signal}", self.index).into()),
        }
    }
}
