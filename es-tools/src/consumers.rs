//! The projections and processes that have run on a store, operated by name.

use std::collections::BTreeSet;

use es_core::event::EventData;
use es_core::feed::{EventFilter, Position, Slice};
use es_core::projection::{ProjectError, ProjectionStatus, ProjectorError, Registration, Stage, registered};
use es_core::{EventContext, Projection, Projector};
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::store::{Store, StoredModel};

/// A projection or process that the tool operates, but never runs: it has only a name, and the names of its read
/// models.
#[derive(Clone, Debug)]
pub(crate) struct Named<const IS_PROCESS: bool> {
    name: String,
    models: Vec<StoredModel>,
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

    fn stages(&mut self) -> Vec<&mut dyn Stage> {
        self.models.iter_mut().map(StoredModel::stage).collect()
    }
}

/// Whether a consumer of the feed is a projection or a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Projection,
    Process,
}

impl Kind {
    pub(crate) fn of(registration: &Registration) -> Self {
        if registration.is_process { Self::Process } else { Self::Projection }
    }

    /// Returns `projection` or `process`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Projection => "projection",
            Self::Process => "process",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Projection => Self::Process,
            Self::Process => Self::Projection,
        }
    }
}

/// Returns the projector of a projection, to operate it.
pub(crate) fn projection(store: &Store, registration: &Registration) -> Projector<Named<false>> {
    projection_with(store, registration, store.stored_models(registration))
}

/// Returns the projector of a projection with these read models.
pub(crate) fn projection_with(
    store: &Store,
    registration: &Registration,
    models: Vec<StoredModel>,
) -> Projector<Named<false>> {
    Projector::new(store.feed(), Named { name: registration.name.clone(), models })
}

/// Returns the projector of a process, to operate it.
pub(crate) fn process(store: &Store, registration: &Registration) -> Projector<Named<true>> {
    let models = store.stored_models(registration);
    Projector::new(store.feed(), Named { name: registration.name.clone(), models })
}

/// Returns the registration of a projection or process, which protects against misspelled names.
pub(crate) async fn find(store: &Store, name: &str, kind: Kind) -> Result<Registration> {
    let all = registered(&**store).await?;
    let (wanted, kind, other) = (kind, kind.name(), kind.other().name());
    match all.into_iter().find(|one| one.name == name) {
        Some(found) if Kind::of(&found) == wanted => Ok(found),
        Some(_) => Err(Failure::of(format!("`{name}` is a {other}: use the commands of `{other}`"))),
        None => {
            let (place, of) = store.place();
            Err(Failure::of(format!(
                "no {kind} `{name}` has run on the {place} `{of}`: `{kind} list` shows those that have"
            )))
        }
    }
}

/// A registered projection or process, and its state.
pub(crate) struct Overview {
    pub(crate) registration: Registration,
    pub(crate) status: ProjectionStatus,
}

/// Returns all registered projections and processes. This takes a listing for each one.
pub(crate) async fn overview(store: &Store) -> std::result::Result<Vec<Overview>, ProjectorError> {
    let mut all = Vec::new();
    for registration in registered(&**store).await? {
        let status = projection(store, &registration).status().await?;
        all.push(Overview { registration, status });
    }
    Ok(all)
}

impl Overview {
    /// Returns it as JSON. `ends` are the ends of all slices.
    pub(crate) fn value(&self, ends: &[(Slice, Position)]) -> Value {
        let Registration { name, read_models, .. } = &self.registration;
        let ProjectionStatus { build, building, parked, .. } = &self.status;
        let stopped: Vec<_> = stopped(&self.status, ends).into_iter().map(Slice::get).collect();
        json!({
            "name": name, "kind": Kind::of(&self.registration).name(), "read_models": read_models, "state": state(&self.status, ends),
            "build": build, "rebuilding": building.is_some(), "lag": self.status.lag(ends), "parked": parked,
            "stopped_slices": stopped,
        })
    }
}

/// Returns the slices in which the active build has stopped, or will stop because its checkpoint is beyond the end.
pub(crate) fn stopped(status: &ProjectionStatus, ends: &[(Slice, Position)]) -> BTreeSet<Slice> {
    status.stopped.iter().copied().chain(status.beyond(ends)).collect()
}

/// Returns the state of the active build in a word. `ends` are the ends of all slices, read after the status.
pub(crate) fn state(status: &ProjectionStatus, ends: &[(Slice, Position)]) -> &'static str {
    match status {
        ProjectionStatus { is_paused: true, .. } => "paused",
        status if !stopped(status, ends).is_empty() => "stopped",
        ProjectionStatus { delayed, .. } if !delayed.is_empty() => "delayed",
        ProjectionStatus { building: Some(_), .. } => "rebuilding",
        _ => "ok",
    }
}
