//! Metadata from the spans of `tracing`.

use std::cell::RefCell;
use std::fmt;

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Metadata;

thread_local! {
    /// What the spans say that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<(Id, Known)>> = const { RefCell::new(Vec::new()) };
}

/// Notes what spans say about who asks and in what context, so that commands inside of them can record it.
///
/// The fields are `actor`, `correlation` and `causation`; an inner span adds to what the outer ones say, and
/// overrides it. A web server sets them once for each request:
///
/// ```
/// use es_core::{Metadata, MetadataLayer};
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let subscriber = tracing_subscriber::registry().with(MetadataLayer);
/// tracing::subscriber::with_default(subscriber, || {
///     let span = tracing::info_span!("request", correlation = "request-7", actor = "ann");
///     let metadata = span.in_scope(Metadata::of_current_span);
///     assert_eq!((metadata.correlation(), metadata.actor()), (Some("request-7"), Some("ann")));
/// });
/// ```
///
/// [`RepositoryBuilder::metadata`](crate::RepositoryBuilder::metadata) has every command do so that comes
/// without metadata of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetadataLayer;

/// What one span says, with what the spans around it say.
#[derive(Clone, Debug, Default)]
struct Known {
    actor: Option<String>,
    correlation: Option<String>,
    causation: Option<String>,
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
        if matches!(field.name(), "actor" | "correlation" | "causation") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

impl<S: Subscriber + for<'lookup> LookupSpan<'lookup>> Layer<S> for MetadataLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut known: Known =
            span.parent().and_then(|parent| parent.extensions().get().cloned()).unwrap_or_default();
        attributes.record(&mut known);
        span.extensions_mut().replace(known);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(known) = span.extensions_mut().get_mut::<Known>() {
            values.record(known);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let known = context.span(id).and_then(|span| span.extensions().get::<Known>().cloned());
        ENTERED.with_borrow_mut(|entered| entered.push((id.clone(), known.unwrap_or_default())));
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        ENTERED.with_borrow_mut(|entered| {
            if let Some(index) = entered.iter().rposition(|(known, _)| known == id) {
                entered.remove(index);
            }
        });
    }
}

impl Metadata {
    /// What the span says that the calling code is in; nothing, when there is none or no [`MetadataLayer`].
    #[must_use]
    pub fn of_current_span() -> Self {
        let known = ENTERED.with_borrow(|entered| entered.last().map(|(_, known)| known.clone()));
        let Known { actor, correlation, causation } = known.unwrap_or_default();
        Self { actor, correlation, causation, ..Self::new() }
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
}
