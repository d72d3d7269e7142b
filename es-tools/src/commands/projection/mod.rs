//! `projection` and `process`: the operations that need no types.

mod operations;
mod report;

use clap::Subcommand;
use es_core::event::EventData;
use es_core::feed::EventFilter;
use es_core::projection::{Progress, ProjectError, Registration, registered};
use es_core::{EventContext, Projection, Projector};
use es_dynamo::DynamoStore;
use serde_json::{Value, json};

pub(super) use self::operations::Operation;
use crate::failure::{Failure, Result};
use crate::output::{Grid, count};
use crate::session::Session;

/// The commands of `projection`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the projections and publishers that have run on the table
    List,
    #[command(flatten)]
    Operation(Operation),
    /// Start again at the first event with empty read models, which readers use immediately
    Reset {
        /// The projection
        name: String,
    },
    /// Start a new build beside the active one, which the application's workers process
    Rebuild {
        /// The projection
        name: String,
    },
    /// Activate the new build
    Switch {
        /// The projection
        name: String,
        /// Even if the new build has stopped slices or parked events, whose effects are then missing
        #[arg(long)]
        anyway: bool,
    },
    /// Cancel the new build
    CancelRebuild {
        /// The projection
        name: String,
    },
}

/// The commands of `process`.
#[derive(Debug, Subcommand)]
pub(super) enum ProcessCommand {
    /// List the processes that have run on the table
    List,
    #[command(flatten)]
    Operation(Operation),
}

pub(super) async fn run(command: Command, session: &Session) -> Result {
    let (name, change): (_, fn(&str) -> String) = match &command {
        Command::List => return list(session, false).await,
        Command::Operation(operation) => {
            let found = find(session, operation.name(), false).await?;
            return operation.run(session, &projector::<false>(session, operation.name()), &found).await;
        }
        Command::Reset { name } => {
            (name, |name| format!("empty the read models of `{name}`, and start it again"))
        }
        Command::Rebuild { name } => (name, |name| format!("start a new build of `{name}`")),
        Command::Switch { name, .. } => (name, |name| format!("activate the new build of `{name}`")),
        Command::CancelRebuild { name } => (name, |name| format!("cancel the new build of `{name}`")),
    };
    find(session, name, false).await?;
    let projector = projector::<false>(session, name);
    let change = change(name);
    let may = match command {
        Command::Reset { .. } => session.may_irrevocably(&change)?,
        _ => session.may(&change)?,
    };
    if !may {
        return Ok(());
    }
    match command {
        Command::Reset { .. } => projector.reset().await?,
        Command::Rebuild { .. } => projector.rebuild().await?,
        Command::Switch { anyway: true, .. } => projector.switch_anyway().await?,
        Command::Switch { .. } => projector.switch().await?,
        Command::CancelRebuild { .. } => projector.cancel_rebuild().await?,
        Command::List | Command::Operation(_) => {}
    }
    report::done(session.output, name, &change)
}

pub(super) async fn run_process(command: ProcessCommand, session: &Session) -> Result {
    match command {
        ProcessCommand::List => list(session, true).await,
        ProcessCommand::Operation(operation) => {
            let found = find(session, operation.name(), true).await?;
            operation.run(session, &projector::<true>(session, operation.name()), &found).await
        }
    }
}

/// A projection or process that the tool operates, but never runs: it has only a name.
#[derive(Clone, Debug)]
struct Named<const IS_PROCESS: bool> {
    name: String,
}

impl<const IS_PROCESS: bool> Projection for Named<IS_PROCESS> {
    const NAME: &'static str = "es";
    const IS_REPLAYABLE: bool = !IS_PROCESS;

    fn name(&self) -> &str {
        &self.name
    }

    fn filter(&self) -> EventFilter {
        EventFilter::none()
    }

    async fn handle(&mut self, _: &EventData, _: &EventContext) -> std::result::Result<(), ProjectError> {
        Err(ProjectError::Handler("this tool handles no events".into()))
    }
}

fn projector<const IS_PROCESS: bool>(session: &Session, name: &str) -> Projector<Named<IS_PROCESS>> {
    Projector::new(session.store.clone(), Named { name: name.to_owned() })
}

/// Returns the registration of a projection or process, which protects against misspelled names.
async fn find(session: &Session, name: &str, is_process: bool) -> Result<Registration> {
    let all = registered(&session.store).await?;
    let (kind, other) = if is_process { ("process", "projection") } else { ("projection", "process") };
    match all.into_iter().find(|one| one.name == name) {
        Some(found) if found.is_process == is_process => Ok(found),
        Some(_) => Err(Failure::of(format!("`{name}` is a {other}: use the commands of `{other}`"))),
        None => Err(Failure::of(format!(
            "no {kind} `{name}` has run on the table `{}`: `{kind} list` shows those that have",
            session.store.table_name()
        ))),
    }
}

/// A registered projection or process, and its progress.
pub(super) struct Overview {
    pub(super) registration: Registration,
    pub(super) progress: Progress,
    rebuilding: bool,
}

/// Returns all registered projections and processes.
pub(super) async fn overview(store: &DynamoStore) -> Result<Vec<Overview>> {
    let mut all = Vec::new();
    for registration in registered(store).await? {
        let projector = Projector::new(store.clone(), Named::<false> { name: registration.name.clone() });
        let progress = projector.progress().await?;
        let rebuilding = projector.rebuild_progress().await?.is_some();
        all.push(Overview { registration, progress, rebuilding });
    }
    Ok(all)
}

impl Overview {
    pub(super) fn kind(&self) -> &'static str {
        if self.registration.is_process { "process" } else { "projection" }
    }

    fn parked(&self) -> u64 {
        self.progress.slices.iter().map(|slice| slice.parked).sum()
    }

    fn state(&self) -> &'static str {
        match self {
            Self { progress, .. } if progress.paused => "paused",
            Self { progress, .. } if progress.stopped().next().is_some() => "stopped",
            Self { progress, .. } if progress.delayed().next().is_some() => "delayed",
            Self { rebuilding: true, .. } => "rebuilding",
            Self { .. } => "ok",
        }
    }

    pub(super) fn value(&self) -> Value {
        let stopped: Vec<_> = self.progress.stopped().map(|(slice, _)| slice.get()).collect();
        json!({
            "name": self.registration.name, "kind": self.kind(), "read_models": self.registration.read_models,
            "state": self.state(), "build": self.progress.build, "rebuilding": self.rebuilding,
            "lag": self.progress.lag(), "parked": self.parked(), "stopped_slices": stopped,
        })
    }
}

async fn list(session: &Session, processes: bool) -> Result {
    let mut all = overview(&session.store).await?;
    all.retain(|one| one.registration.is_process == processes);
    let values: Vec<_> = all.iter().map(Overview::value).collect();
    session.output.value(&values, || {
        let mut grid = Grid::new(["name", ">build", ">lag", ">parked", ">stopped", "state"]);
        for one in &all {
            let (lag, parked) = (count(one.progress.lag()), count(one.parked()));
            let stopped = one.progress.stopped().count().to_string();
            let build = one.progress.build.to_string();
            grid.row([one.registration.name.clone(), build, lag, parked, stopped, one.state().to_owned()]);
        }
        match grid.is_empty() {
            true if processes => "no process has run on this table".to_owned(),
            true => "no projection has run on this table".to_owned(),
            false => grid.to_string(),
        }
    })
}
