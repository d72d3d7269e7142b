//! `state` and `rebuild`: the commands that need the types of an application.

use clap::Subcommand;
use es_core::Version;
use es_core::chrono::{DateTime, Utc};
use serde_json::json;

use crate::application::{Application, Moment};
use crate::failure::{Failure, Result};
use crate::output::{counted, on_interrupt};
use crate::session::Session;

/// The commands of applications.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the state of an aggregate, now or at any version or time
    State {
        /// The name of the aggregate, such as `order`
        aggregate: String,
        /// The id
        id: String,
        /// The state after the event with this version
        #[arg(long, value_name = "VERSION", conflicts_with = "at")]
        version: Option<u64>,
        /// The state at this time, such as 2026-11-27T12:00:00Z
        #[arg(long, value_name = "TIME")]
        at: Option<DateTime<Utc>>,
    },
    /// Rebuild a projection in this process, and switch to the new build
    ///
    /// Until the switch, readers use the previous build. A rebuild that was interrupted is continued.
    Rebuild {
        /// The name of the projection
        projection: String,
    },
}

pub(super) async fn run(application: &Application, command: Command, session: &Session) -> Result {
    match command {
        Command::State { aggregate, id, version, at } => {
            let moment = match (version, at) {
                (Some(version), _) => Moment::Version(Version::new(version)),
                (None, Some(time)) => Moment::Time(time),
                (None, None) => Moment::Now,
            };
            state(application, session, &aggregate, &id, moment).await
        }
        Command::Rebuild { projection } => rebuild(application, session, &projection).await,
    }
}

async fn state(
    application: &Application,
    session: &Session,
    aggregate: &str,
    id: &str,
    moment: Moment,
) -> Result {
    let known = application.aggregates();
    let states = known.get(aggregate).ok_or_else(|| unknown("aggregate", aggregate, known.keys()))?;
    let loaded =
        states.load(&application.unsealed(&session.store), id, moment).await.map_err(Failure::Error)?;
    if loaded.version.is_none() {
        return Err(Failure::of(match moment {
            Moment::Now => format!("the {aggregate} `{id}` has no events: check its id"),
            Moment::Version(_) | Moment::Time(_) => {
                format!("the {aggregate} `{id}` has no events at this moment")
            }
        }));
    }
    let value = json!({
        "aggregate": aggregate, "id": id, "version": loaded.version.get(),
        "snapshot": loaded.snapshot.map(Version::get), "state": loaded.state,
    });
    let state = serde_json::to_string_pretty(&loaded.state)?;
    session.output.value(&value, || {
        let snapshot =
            loaded.snapshot.map_or(String::new(), |at| format!(", from the snapshot at version {at}"));
        format!("{aggregate} {id} at version {}{snapshot} ({})\n{state}", loaded.version, loaded.cost)
    })
}

async fn rebuild(application: &Application, session: &Session, name: &str) -> Result {
    let known = application.projections();
    let rebuilds = known.get(name).ok_or_else(|| unknown("projection", name, known.keys()))?;
    let store = application.unsealed(&session.store);
    let events = rebuilds.events(&store).await.map_err(Failure::Error)?;
    if !session
        .may(&format!("rebuild `{name}` from {}, and switch to the new build", counted(events, "event")))?
    {
        return Ok(());
    }
    on_interrupt(
        "readers use the previous build: run the same command to continue, or `projection cancel-rebuild`",
    )?;
    let bar = session.output.progress(events, "events");
    let build = rebuilds.rebuild(&store, bar).await.map_err(Failure::Error)?;
    let value = json!({ "projection": name, "build": build, "events": events });
    session.output.value(&value, || {
        format!("rebuilt `{name}` from {}: build {build} is active", counted(events, "event"))
    })
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a &'static str>) -> Failure {
    let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
    Failure::of(format!("there is no {kind} `{name}` in this application: it has {}", known.join(", ")))
}
