//! Metadata from `tracing` spans.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::Metadata;

thread_local! {
    /// The spans that this thread has entered, innermost last.
    static ENTERED: RefCell<Vec<(Id, Option<Arc<Noted>>)>> = const { RefCell::new(Vec::new()) };
}

/// A `tracing` layer that collects the actor, the correlation, and the causation from spans, so that commands inside
/// the spans can record them.
///
/// The fields are `actor`, `correlation`, and `causation`. Fields of an inner span override those of outer spans. A
/// field can be recorded later, for example once the user has been authenticated; it then applies to all later
/// commands, including those in inner spans. A web server sets the fields once per request:
///
/// ```
/// use es_core::metadata::MetadataLayer;
/// use es_core::Metadata;
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let subscriber = tracing_subscriber::registry().with(MetadataLayer);
/// tracing::subscriber::with_default(subscriber, || {
///     let span = tracing::info_span!("request", correlation = "request-7", actor = tracing::field::Empty);
///     let metadata = span.in_scope(|| {
///         tracing::Span::current().record("actor", "ann");
///         Metadata::of_current_span()
///     });
///     assert_eq!((metadata.correlation(), metadata.actor()), (Some("request-7"), Some("ann")));
/// });
/// ```
///
/// [`RepositoryBuilder::metadata`](crate::repository::RepositoryBuilder::metadata) can use this metadata for every
/// command without explicit metadata.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetadataLayer;

/// The names of the collected fields.
const FIELDS: [&str; 3] = ["actor", "correlation", "causation"];

/// A span with collected fields, and the nearest enclosing span with such fields.
#[derive(Debug)]
struct Noted {
    known: Mutex<Known>,
    outer: Option<Arc<Noted>>,
}

/// The fields of one span.
#[derive(Debug, Default)]
struct Known {
    actor: Option<String>,
    correlation: Option<String>,
    causation: Option<String>,
}

impl Noted {
    fn record(&self, record: impl FnOnce(&mut Known)) {
        record(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the metadata of the span and its enclosing spans.
    fn metadata(&self) -> Metadata {
        let mut metadata = self.outer.as_ref().map_or_else(Metadata::new, |outer| outer.metadata());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let add = |field: &mut Option<String>, known: &Option<String>| {
            if known.is_some() {
                field.clone_from(known);
            }
        };
        add(&mut metadata.actor, &known.actor);
        add(&mut metadata.correlation, &known.correlation);
        add(&mut metadata.causation, &known.causation);
        metadata
    }
}

impl Visit for Known {
    fn record_str(&mut self, field: &Field, value: &str) {
        let known = match field.name() {
            "actor" => &mut self.actor,
            "correlation" => &mut self.correlation,
            "causation" => &mut self.causation,
            _ => return,
        };
        *known = Some(value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if FIELDS.contains(&field.name()) {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

impl<S: Subscriber + for<'lookup> LookupSpan<'lookup>> Layer<S> for MetadataLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let outer = span.parent().and_then(|parent| noted(&parent));
        let fields = attributes.metadata().fields();
        let noted = if FIELDS.iter().any(|name| fields.field(name).is_some()) {
            let mut known = Known::default();
            attributes.record(&mut known);
            Some(Arc::new(Noted { known: Mutex::new(known), outer }))
        } else {
            outer
        };
        if let Some(noted) = noted {
            span.extensions_mut().replace(noted);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        // A span without such fields shares the fields of an outer span, and must not change them.
        if let Some(noted) = noted(&span) {
            noted.record(|known| values.record(known));
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let noted = context.span(id).and_then(|span| noted(&span));
        ENTERED.with_borrow_mut(|entered| entered.push((id.clone(), noted)));
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        ENTERED.with_borrow_mut(|entered| {
            if let Some(index) = entered.iter().rposition(|(known, _)| known == id) {
                entered.remove(index);
            }
        });
    }
}

/// Returns the fields of the span, or of the nearest enclosing span that has any.
fn noted<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Option<Arc<Noted>> {
    span.extensions().get::<Arc<Noted>>().cloned()
}

impl Metadata {
    /// Returns the metadata of the current span. It is empty if there is no span or no [`MetadataLayer`].
    #[must_use]
    pub fn of_current_span() -> Self {
        let noted = ENTERED.with_borrow(|entered| entered.last().and_then(|(_, noted)| noted.clone()));
        noted.map_or_else(Self::new, |noted| noted.metadata())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::{Instrument, info_span};
    use tracing_subscriber::layer::SubscriberExt;

    fn seen() -> (Option<String>, Option<String>) {
        let metadata = Metadata::of_current_span();
        (metadata.actor().map(str::to_owned), metadata.correlation().map(str::to_owned))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn follows_futures_through_their_spans() {
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(MetadataLayer));
        let request = |name: &'static str, turns: usize| {
            async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                    assert_eq!(seen(), (some("ann"), some(name)));
                }
                async {
                    tokio::task::yield_now().await;
                    assert_eq!(seen(), (some("bob"), some(name)));
                }
                .instrument(info_span!("inner", actor = %"bob"))
                .await;
                assert_eq!(seen(), (some("ann"), some(name)));
            }
            .instrument(info_span!("request", actor = "ann", correlation = name))
        };
        futures_util::future::join3(request("one", 5), request("two", 3), request("three", 8)).await;
        assert_eq!(seen(), (None, None));
        drop(guard);
    }

    #[test]
    fn takes_what_is_recorded_later() {
        let subscriber = tracing_subscriber::registry().with(MetadataLayer);
        tracing::subscriber::with_default(subscriber, || {
            let span = info_span!("request", actor = tracing::field::Empty, other = 1);
            assert_eq!(span.in_scope(seen), (None, None));
            span.record("actor", "ann");
            assert_eq!(span.in_scope(seen), (some("ann"), None));
        });
    }

    #[test]
    fn reads_what_is_recorded_inside_a_span_when_asked() {
        let subscriber = tracing_subscriber::registry().with(MetadataLayer);
        tracing::subscriber::with_default(subscriber, || {
            let request = info_span!("request", correlation = "one", actor = tracing::field::Empty);
            let before = info_span!(parent: &request, "before", causation = "login", other = 1);
            request.in_scope(|| {
                tracing::Span::current().record("actor", "ann");
                assert_eq!(seen(), (some("ann"), some("one")), "in the span itself");
                assert_eq!(info_span!("after").in_scope(seen), (some("ann"), some("one")));
            });
            before.record("other", 2);
            assert_eq!(before.in_scope(seen), (some("ann"), some("one")), "made before the record");
            assert_eq!(before.in_scope(Metadata::of_current_span).causation(), Some("login"));
            let apart = info_span!(parent: None, "apart");
            assert_eq!(request.in_scope(|| apart.in_scope(seen)), (None, None));
        });
    }
}
