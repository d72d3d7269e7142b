//! Records the spans and the log of a test.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Fields by name, each with all recorded values.
#[derive(Clone, Debug, Default)]
pub struct Fields(BTreeMap<&'static str, Vec<String>>);

impl Fields {
    /// Returns the value of a field that was recorded once.
    pub fn text(&self, name: &str) -> &str {
        match self.0.get(name).map(Vec::as_slice) {
            Some([value]) => value,
            values => panic!("the field `{name}` is {values:?}, not recorded once: {self:?}"),
        }
    }

    /// Returns the value of a field that was recorded once, and is a number.
    pub fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("{name} in {self:?}"))
    }

    /// Returns the message of an event of the log.
    pub fn message(&self) -> &str {
        self.text("message")
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.entry(field.name()).or_default().push(value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.entry(field.name()).or_default().push(format!("{value:?}"));
    }
}

/// An event of the log.
#[derive(Clone, Debug)]
pub struct Line {
    /// The level of the event.
    pub level: Level,
    /// The time since the start of the recording.
    pub at: Duration,
    /// Its fields.
    pub fields: Fields,
}

/// The spans that were closed, and the events of the log: those of the framework, and of others at INFO and above.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    spans: Arc<Mutex<Vec<(&'static str, Fields)>>>,
    lines: Arc<Mutex<Vec<Line>>>,
}

thread_local! {
    static SEEN: RefCell<Option<(Seen, Instant)>> = const { RefCell::new(None) };
}

/// Records the spans and the log of a thread in the thread's [`Seen`].
///
/// This is the subscriber of the whole process. A subscriber of one thread is not sufficient: `tracing` caches the
/// interest in each call site, so a call site that another test reaches first may stay disabled.
struct Route;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Route {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if SEEN.with_borrow(Option::is_some) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            context.span(id).expect("is there").extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("is there");
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        // At the lower levels, dependencies log much more than the framework.
        if level > Level::INFO && !event.metadata().target().starts_with("es_") {
            return;
        }
        SEEN.with_borrow(|seen| {
            if let Some((seen, start)) = seen {
                let mut fields = Fields::default();
                event.record(&mut fields);
                let line = Line { level, at: start.elapsed(), fields };
                seen.lines.lock().expect("is not poisoned").push(line);
            }
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).expect("is there");
        let fields = span.extensions().get::<Fields>().cloned();
        SEEN.with_borrow(|seen| {
            if let (Some((seen, _)), Some(fields)) = (seen, fields) {
                seen.spans.lock().expect("is not poisoned").push((span.name(), fields));
            }
        });
    }
}

impl Seen {
    /// Records `work`, which runs on this thread with paused time.
    pub fn record<T>(&self, work: impl Future<Output = T>) -> T {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let subscriber = tracing_subscriber::registry().with(Route);
            tracing::subscriber::set_global_default(subscriber).expect("is the only subscriber");
        });
        tracing::callsite::rebuild_interest_cache();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let done = runtime.expect("starts").block_on(async {
            SEEN.set(Some((self.clone(), Instant::now())));
            work.await
        });
        SEEN.set(None);
        done
    }

    /// Records `work`, and returns its spans of this name.
    pub fn of(&self, name: &str, work: impl Future<Output = ()>) -> Vec<Fields> {
        self.record(work);
        let spans = std::mem::take(&mut *self.spans.lock().expect("is not poisoned"));
        spans.into_iter().filter(|(span, _)| *span == name).map(|(_, fields)| fields).collect()
    }

    /// Takes the events of the log at this level or above.
    pub fn log(&self, level: Level) -> Vec<Fields> {
        self.lines(level).into_iter().map(|line| line.fields).collect()
    }

    /// Takes the log, and returns the events at this level or above with their times.
    pub fn lines(&self, level: Level) -> Vec<Line> {
        let lines = std::mem::take(&mut *self.lines.lock().expect("is not poisoned"));
        lines.into_iter().filter(|line| line.level <= level).collect()
    }
}
