//! Metadata of commits: actor, correlation, causation, and application-defined values.

#[cfg(feature = "tracing-subscriber")]
mod span;
mod typed;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(feature = "tracing-subscriber")]
#[cfg_attr(docsrs, doc(cfg(feature = "tracing-subscriber")))]
pub use span::MetadataLayer;
pub use typed::{MetadataError, MetadataValue};

use crate::event::EventId;

/// The metadata of a commit: its actor, correlation, causation, and application-defined values.
///
/// All events of a commit share its metadata. Handlers get it from [`Context::metadata`](crate::Context::metadata), and
/// histories return it.
///
/// ```
/// use es_core::Metadata;
///
/// let metadata = Metadata::new()
///     .with_actor("alice")
///     .with_correlation("request-7")
///     .with_entry("tenant", "acme");
/// assert_eq!(metadata.actor(), Some("alice"));
/// assert_eq!(metadata.get("tenant").and_then(|v| v.as_str()), Some("acme"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    #[serde(default, rename = "actor", skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(default, rename = "correlation", skip_serializing_if = "Option::is_none")]
    correlation: Option<String>,
    #[serde(default, rename = "causation", skip_serializing_if = "Option::is_none")]
    causation: Option<String>,
    #[serde(default, rename = "custom", skip_serializing_if = "BTreeMap::is_empty")]
    custom: BTreeMap<String, Value>,
}

impl Metadata {
    /// The maximum number of arrays and objects in each other in an application-defined value. Commits with more are
    /// refused, because most parsers of JSON could not read them: that of `serde_json` reads 127 levels, some of which
    /// are needed around the value.
    pub const MAX_DEPTH: usize = 100;

    /// Creates empty metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the actor: the user or system that sent the command.
    #[must_use]
    pub fn with_actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Sets the correlation id, which all commands and events of one request share.
    #[must_use]
    pub fn with_correlation(mut self, correlation: impl Into<String>) -> Self {
        self.correlation = Some(correlation.into());
        self
    }

    /// Sets the causation id: the id of the event, message, or command that directly caused this command.
    #[must_use]
    pub fn with_causation(mut self, causation: impl Into<String>) -> Self {
        self.causation = Some(causation.into());
        self
    }

    /// Returns the metadata for a command that the event `id` causes, where `self` is the metadata of the event. The
    /// actor, the correlation, and the application-defined values are kept, and the event becomes the causation.
    ///
    /// If the event has no correlation, its id becomes the correlation.
    ///
    /// ```
    /// use es_core::event::CommitId;
    /// use es_core::{EventId, Metadata, Version};
    /// # let commit = CommitId::new(uuid::Uuid::from_u128(1));
    ///
    /// let placed = EventId::new(commit, Version::new(1)); // as in `Recorded::id`
    /// let metadata = Metadata::new().with_actor("ann").with_correlation("request-7").with_entry("tenant", "acme");
    /// let next = metadata.following(placed);
    /// assert_eq!((next.actor(), next.correlation()), (Some("ann"), Some("request-7")));
    /// assert_eq!(next.get("tenant"), metadata.get("tenant"));
    /// assert_eq!(next.causation(), Some(placed.to_string().as_str()));
    /// ```
    #[must_use]
    pub fn following(&self, id: EventId) -> Self {
        let cause = id.to_string();
        Self {
            actor: self.actor.clone(),
            correlation: self.correlation.clone().or_else(|| Some(cause.clone())),
            causation: Some(cause),
            custom: self.custom.clone(),
        }
    }

    /// Sets the application-defined value `key`, replacing an earlier value.
    #[must_use]
    pub fn with_entry(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.custom.insert(key.into(), value.into());
        self
    }

    /// Returns the actor: the user or system that sent the command.
    #[must_use]
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    /// Returns the correlation id, which all commands and events of one request share.
    #[must_use]
    pub fn correlation(&self) -> Option<&str> {
        self.correlation.as_deref()
    }

    /// Returns the causation id: the id of what directly caused this command.
    #[must_use]
    pub fn causation(&self) -> Option<&str> {
        self.causation.as_deref()
    }

    /// Returns the application-defined value `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.custom.get(key)
    }

    /// Returns all application-defined values by key.
    #[must_use]
    pub fn custom(&self) -> &BTreeMap<String, Value> {
        &self.custom
    }

    /// Returns whether the metadata is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actor.is_none()
            && self.correlation.is_none()
            && self.causation.is_none()
            && self.custom.is_empty()
    }

    /// Returns whether an application-defined value has more than [`MAX_DEPTH`](Self::MAX_DEPTH) levels.
    pub(crate) fn is_too_deep(&self) -> bool {
        let mut level: Vec<&Value> = self.custom.values().collect();
        for _ in 0..Self::MAX_DEPTH {
            level.retain(|value| value.is_array() || value.is_object());
            if level.is_empty() {
                return false;
            }
            level = level.into_iter().flat_map(members).collect();
        }
        level.iter().any(|value| value.is_array() || value.is_object())
    }
}

/// Returns the members of an array or an object.
fn members(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(values) => Box::new(values.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// Shows which values are set, but not their content, which may be confidential.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = [
            ("actor", self.actor.is_some()),
            ("correlation", self.correlation.is_some()),
            ("causation", self.causation.is_some()),
        ];
        let standard = present.into_iter().filter_map(|(name, set)| set.then_some(name));
        f.debug_set().entries(standard.chain(self.custom.keys().map(String::as_str))).finish()
    }
}
