//! A projection or process: its slices, what has stopped or is parked, and the actions on it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use es_core::feed::Slice;
use es_core::projection::{
    FailedEvent, FailedKind, Parked, PendingTimeout, Progress, ProjectorError, Registration, SliceProgress,
    SliceStatus, registered,
};
use es_core::{Projection, Projector, StreamId, error_text};
use maud::{Markup, html};
use serde::Deserialize;

use super::Shared;
use super::page::{Base, Page, Problem, Shown, badge, table, time};
use crate::consumers::{Kind, process, projection};
use crate::failure::in_commands;
use crate::output::count;

/// How many parked events the page shows.
const PARKED: usize = 100;

/// How many pending timeouts the page shows.
const TIMEOUTS: u32 = 50;

/// The fields of a form.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Fields {
    #[serde(default)]
    slice: u32,
    /// The place of a parked event in the list.
    parked: Option<String>,
    /// Confirms that an event will never be handled.
    confirmed: Option<String>,
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(base): Extension<Base>,
    Path(name): Path<String>,
) -> Shown {
    let registration = find(&shared, &name).await?;
    let projector = projection(&shared.store, &registration);
    let (progress, rebuild) = (projector.progress().await?, projector.rebuild_progress().await?);
    let parked = projector.first_parked(PARKED).await?;
    let all_parked: u64 = progress.slices.iter().map(|slice| slice.parked).sum();
    let unlisted = all_parked.saturating_sub(parked.len() as u64);
    let timeouts = match registration.is_process {
        true => Some(projector.pending_timeouts(TIMEOUTS).await),
        false => None,
    };
    let allowed = shared.allows_actions;
    let form = Actions { base: &base, name: &name };
    let content = html! {
        p {
            (Kind::of(&registration).name()) ", build " (progress.build) ", " (badge(state(&progress, rebuild.is_some())))
            @if !registration.read_models.is_empty() { ", read models: " (registration.read_models.join(", ")) }
        }
        @if allowed {
            p.actions {
                @if progress.paused { (form.button("resume", "Resume", &html! {})) }
                @else { (form.button("pause", "Pause", &html! {})) }
            }
        }
        (build("Slices", &progress, allowed.then_some(&form)))
        @if let Some(rebuild) = &rebuild { (build(&format!("New build {}", rebuild.build), rebuild, None)) }
        section {
            h2 { "Parked events (dead letters)" }
            @if parked.is_empty() { p { "Nothing is parked." } }
            @else {
                @if allowed { p.actions { (form.button("replay", "Replay all", &html! {})) } }
                (parked_table(&base, &parked, allowed.then_some(&form)))
                @if unlisted > 0 && parked.len() == PARKED {
                    p { (count(unlisted)) " more are parked: " code { "es " (Kind::of(&registration).name()) " parked " (name) } " lists all of them." }
                }
            }
        }
        @if let Some(timeouts) = &timeouts { (timeout_section(&base, timeouts)) }
    };
    Ok(Page::new(name, content))
}

/// Returns the state of the active build in a word. Unlike a status, the progress contains checkpoints that are not
/// valid.
fn state(progress: &Progress, is_rebuilding: bool) -> &'static str {
    match progress {
        progress if progress.paused => "paused",
        progress if progress.stopped().next().is_some() => "stopped",
        progress if progress.delayed().next().is_some() => "delayed",
        _ if is_rebuilding => "rebuilding",
        _ => "ok",
    }
}

/// The forms of the page.
struct Actions<'a> {
    base: &'a Base,
    name: &'a str,
}

impl Actions<'_> {
    fn button(&self, action: &str, label: &str, fields: &Markup) -> Markup {
        html! {
            form.inline method="post" action=(self.base.to(&["consumers", self.name, action])) {
                (fields)
                button { (label) }
            }
        }
    }

    /// Returns a button for an action after which an event is never handled.
    fn confirmed(&self, action: &str, label: &str, fields: &Markup) -> Markup {
        let fields = html! {
            (fields)
            label { input type="checkbox" name="confirmed" value="yes" required; " it will never be handled" }
        };
        self.button(action, label, &fields)
    }
}

fn build(title: &str, progress: &Progress, form: Option<&Actions<'_>>) -> Markup {
    let rows = html! {
        @for SliceProgress { slice, position, end, parked, skipped, status, .. } in &progress.slices {
            tr {
                th scope="row" { (slice) }
                td { (badge(status_name(status))) }
                td.number { (count(position.get())) }
                td.number { (count(end.get())) }
                td.number { (count(end.since(*position))) }
                td.number { (count(*parked)) }
                td.number { (count(*skipped)) }
            }
        }
    };
    let titles = ["slice", "status", ">position", ">end", ">lag", ">parked", ">skipped"];
    html! {
        section {
            h2 { (title) }
            (table(title, &titles, &rows))
            @for slice in &progress.slices {
                (reason(slice, form))
                @if slice.erased > 0 {
                    p { "Slice " (slice.slice) " passed over " (count(slice.erased)) " events of deleted or archived streams." }
                }
            }
        }
    }
}

/// Returns why a slice makes no progress.
fn reason(slice: &SliceProgress, form: Option<&Actions<'_>>) -> Markup {
    let number = html! { input type="hidden" name="slice" value=(slice.slice); };
    match &slice.status {
        SliceStatus::Stopped(failure) => html! {
            div.problem {
                p { "Slice " (slice.slice) " stopped at " (time(failure.at)) ", " (failure.attempts) " times in a row: " (in_commands(failure.to_string())) }
                @match failure.retry_at {
                    Some(next) => p { "The next attempt is at " (time(next)) "." }
                    None => p { "There is no automatic retry." }
                }
                @if let Some(form) = form {
                    p.actions {
                        (form.button("retry", "Retry now", &number))
                        @if failure.event.is_some() {
                            (form.button("park", "Park the event", &number))
                            (form.confirmed("skip", "Skip the event", &number))
                        }
                    }
                }
            }
        },
        SliceStatus::Delayed(delay) => html! {
            div.note {
                p { "Slice " (slice.slice) " is delayed since " (time(delay.since)) " (" (delay.attempts) " attempts): " (in_commands(delay.to_string())) }
                p { "The next attempt is at " (time(delay.next_attempt)) "." }
            }
        },
        _ => html! {},
    }
}

fn parked_table(base: &Base, parked: &[Parked], form: Option<&Actions<'_>>) -> Markup {
    let rows = html! {
        @for one in parked {
            tr {
                td.number { (one.slice) }
                th scope="row" { (event_link(base, &one.event)) }
                td { (in_commands(&*one.error)) }
                @if let Some(form) = form {
                    td { (form.confirmed("discard", "Discard", &html! { input type="hidden" name="parked" value=(key(one)); })) }
                }
            }
        }
    };
    let titles = [">slice", "event", "error", "action"];
    table("Parked events", &titles[..if form.is_some() { 4 } else { 3 }], &rows)
}

/// Returns a link to the event or, for a timeout, to the stream of the instance.
fn event_link(base: &Base, event: &FailedEvent) -> Markup {
    match event.stream.parse::<StreamId>() {
        Ok(stream) if event.version.is_none() => html! { a href=(base.stream(&stream)) { (event) } },
        Ok(stream) => html! {
            a href=(base.to(&["streams", stream.as_str(), &event.version.to_string()])) { (event) }
        },
        Err(_) => html! { (event) },
    }
}

fn timeout_section(base: &Base, timeouts: &Result<Vec<PendingTimeout>, ProjectorError>) -> Markup {
    html! {
        section {
            h2 { "Pending timeouts" }
            @match timeouts {
                // A damaged timeout must not hide the rest of the page.
                Err(error) => p.problem { (in_commands(error_text(error))) },
                Ok(timeouts) if timeouts.is_empty() => p { "No timeout is pending." },
                Ok(timeouts) => {
                    (timeout_table(base, timeouts))
                    @if timeouts.len() == TIMEOUTS as usize { p { "Later timeouts are not shown." } }
                }
            }
        }
    }
}

fn timeout_table(base: &Base, timeouts: &[PendingTimeout]) -> Markup {
    let rows = html! {
        @for PendingTimeout { due, instance, name, cause, slice, .. } in timeouts {
            tr {
                td { (time(*due)) }
                td { (name) }
                th scope="row" { a href=(base.stream(instance)) { (instance) } }
                td { a href=(base.to(&["traces", &cause.to_string()])) { "trace" } }
                td.number { (slice) }
            }
        }
    };
    table("Pending timeouts", &["due", "event", "instance", "cause", ">slice"], &rows)
}

/// Identifies a parked event or timeout in a form.
fn key(parked: &Parked) -> String {
    let Parked { build, slice, event, .. } = parked;
    match &event.kind {
        FailedKind::Timeout { key, .. } => format!("{build}/{slice}/timeout/{key}"),
        _ => format!("{build}/{slice}/event/{}", event.position),
    }
}

fn status_name(status: &SliceStatus) -> &'static str {
    match status {
        SliceStatus::Running => "running",
        SliceStatus::Delayed(_) => "delayed",
        SliceStatus::Waiting => "waiting",
        SliceStatus::Finished => "finished",
        SliceStatus::Stopped(_) => "stopped",
        _ => "unknown",
    }
}

pub(super) async fn act(
    State(shared): State<Arc<Shared>>,
    Extension(base): Extension<Base>,
    Path((name, action)): Path<(String, String)>,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    if !shared.allows_actions {
        return Err(Problem::new(StatusCode::FORBIDDEN, "Actions are not allowed here."));
    }
    let registration = find(&shared, &name).await?;
    match registration.is_process {
        true => perform(&process(&shared.store, &registration), &action, &fields).await?,
        false => perform(&projection(&shared.store, &registration), &action, &fields).await?,
    }
    tracing::info!(consumer = name, action, slice = fields.slice, "an action was requested in the explorer");
    Ok(Redirect::to(&base.to(&["consumers", &name])).into_response())
}

async fn perform<P: Projection>(
    projector: &Projector<P>,
    action: &str,
    fields: &Fields,
) -> Result<(), Problem> {
    let slice = Slice::new(fields.slice);
    if matches!(action, "skip" | "discard") && fields.confirmed.is_none() {
        let text = "Confirm that the event will never be handled.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, text));
    }
    let done = match action {
        "pause" => projector.pause().await,
        "resume" => projector.resume().await,
        "retry" => projector.retry(slice).await,
        "park" => projector.park(slice).await,
        "skip" => projector.skip(slice).await,
        "replay" => projector.replay_parked().await,
        "discard" => {
            let parked = projector.parked().await?;
            let found = parked.iter().find(|one| Some(key(one)) == fields.parked);
            let found = found.ok_or_else(|| Problem::not_found("This event is no longer parked."))?;
            projector.discard_parked(found).await
        }
        _ => return Err(Problem::not_found("There is no such action.")),
    };
    Ok(done?)
}

async fn find(shared: &Shared, name: &str) -> Result<Registration, Problem> {
    let all = registered(&*shared.store).await?;
    let found = all.into_iter().find(|one| one.name == name);
    found.ok_or_else(|| Problem::not_found(format!("No projection or process {name} has run on this store.")))
}
