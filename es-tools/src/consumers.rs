//! The projections and processes that have run on a store, operated by name.

use es_core::event::EventData;
use es_core::feed::EventFilter;
use es_core::projection::{Progress, ProjectError, ProjectorError, Registration, registered};
use es_core::{EventContext, Projection, Projector};
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::store::Store;

/// A projection or process that the tool operates, but never runs: it has only a name.
#[derive(Clone, Debug)]
pub(crate) struct Named<const IS_PROCESS: bool> {
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

/// Returns the projector of a projection or process, to operate it.
pub(crate) fn projector<const IS_PROCESS: bool>(store: &Store, name: &str) -> Projector<Named<IS_PROCESS>> {
    Projector::new(store.feed(), Named { name: name.to_owned() })
}

/// Returns the registration of a projection or process, which protects against misspelled names.
pub(crate) async fn find(store: &Store, name: &str, is_process: bool) -> Result<Registration> {
    let all = registered(&**store).await?;
    let (kind, other) = if is_process { ("process", "projection") } else { ("projection", "process") };
    match all.into_iter().find(|one| one.name == name) {
        Some(found) if found.is_process == is_process => Ok(found),
        Some(_) => Err(Failure::of(format!("`{name}` is a {other}: use the commands of `{other}`"))),
        None => {
            let (place, of) = store.place();
            Err(Failure::of(format!(
                "no {kind} `{name}` has run on the {place} `{of}`: `{kind} list` shows those that have"
            )))
        }
    }
}

/// A registered projection or process, and its progress.
pub(crate) struct Overview {
    pub(crate) registration: Registration,
    pub(crate) progress: Progress,
    pub(crate) rebuild: Option<Progress>,
}

/// Returns all registered projections and processes.
pub(crate) async fn overview(store: &Store) -> std::result::Result<Vec<Overview>, ProjectorError> {
    let mut all = Vec::new();
    for registration in registered(&**store).await? {
        all.push(Overview::of(store, registration).await?);
    }
    Ok(all)
}

impl Overview {
    pub(crate) async fn of(
        store: &Store,
        registration: Registration,
    ) -> std::result::Result<Self, ProjectorError> {
        let projector = projector::<false>(store, &registration.name);
        let progress = projector.progress().await?;
        let rebuild = projector.rebuild_progress().await?;
        Ok(Self { registration, progress, rebuild })
    }

    pub(crate) fn kind(&self) -> &'static str {
        if self.registration.is_process { "process" } else { "projection" }
    }

    pub(crate) fn parked(&self) -> u64 {
        self.progress.slices.iter().map(|slice| slice.parked).sum()
    }

    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self { progress, .. } if progress.paused => "paused",
            Self { progress, .. } if progress.stopped().next().is_some() => "stopped",
            Self { progress, .. } if progress.delayed().next().is_some() => "delayed",
            Self { rebuild: Some(_), .. } => "rebuilding",
            Self { .. } => "ok",
        }
    }

    pub(crate) fn value(&self) -> Value {
        let stopped: Vec<_> = self.progress.stopped().map(|(slice, _)| slice.get()).collect();
        json!({
            "name": self.registration.name, "kind": self.kind(), "read_models": self.registration.read_models,
            "state": self.state(), "build": self.progress.build, "rebuilding": self.rebuild.is_some(),
            "lag": self.progress.lag(), "parked": self.parked(), "stopped_slices": stopped,
        })
    }
}
