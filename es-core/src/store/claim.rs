//! Claims: values that at most one stream holds at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use crate::cost::Cost;
use crate::keys::has_control_characters;
use crate::store::StoreError;
use crate::stream_id::StreamId;

/// A unique value, such as an email address, an account number, or a user name. At most one stream holds a claim at a
/// time.
///
/// The value may be confidential. `Debug` and errors show only the name of the claim.
///
/// ```
/// use es_core::MemoryStore;
/// use es_core::store::{Claim, EventStore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
///
/// let claim = Claim::new("email", "ann@example.com")?;
/// assert_eq!(MemoryStore::new().claim_holder(&claim).await?.stream, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    name: String,
    value: String,
    personal: bool,
}

impl Claim {
    /// The maximum total length of the name and the value, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Creates the claim `name` on `value`.
    ///
    /// Values are compared byte by byte. Normalize them first: for example, an email address to lower case.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the name or the value is empty or contains control characters, if the name contains
    /// `#`, or if the total length exceeds [`Claim::MAX_BYTES`].
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Result<Self, StoreError> {
        let (name, value) = (name.into(), value.into());
        if name.is_empty() || name.contains('#') {
            return Err(StoreError::invalid(format!(
                "`{name}` is not a valid claim name: it must not be empty or contain `#`"
            )));
        }
        if value.is_empty() {
            return Err(StoreError::invalid(format!("the claim `{name}` has an empty value")));
        }
        if has_control_characters(&name) || has_control_characters(&value) {
            return Err(StoreError::invalid(format!(
                "the claim {name:?} has a control character in its name or value: remove it"
            )));
        }
        let bytes = name.len() + value.len();
        if bytes > Self::MAX_BYTES {
            return Err(StoreError::invalid(format!(
                "the claim `{name}` has {bytes} bytes, the limit is {}: claim a digest of the value",
                Self::MAX_BYTES
            )));
        }
        Ok(Self { name, value, personal: false })
    }

    /// Creates the claim `name` on personal data. A [`SealedStore`](crate::personal::SealedStore) stores a keyed digest
    /// of the value, and other stores refuse the claim.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn personal(name: impl Into<String>, value: impl Into<String>) -> Result<Self, StoreError> {
        Ok(Self { personal: true, ..Self::new(name, value)? })
    }

    /// Returns whether the value is personal data, of which only a keyed digest may be stored.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.personal
    }

    /// Returns the claim if it can be stored as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the value is personal data.
    pub fn checked(&self) -> Result<&Self, StoreError> {
        match self.personal {
            true => Err(StoreError::without_keyring()),
            false => Ok(self),
        }
    }

    /// Returns the name, which is the kind of the value.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({}, {} bytes)", self.name, self.value.len())
    }
}

/// A stream takes or releases a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimChange {
    /// The stream takes the claim. It may hold it already.
    Take {
        /// The stream.
        stream: StreamId,
        /// The claim.
        claim: Claim,
    },
    /// The stream releases the claim. The claim may be free already.
    Release {
        /// The stream.
        stream: StreamId,
        /// The claim.
        claim: Claim,
    },
}

impl ClaimChange {
    /// Returns the stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        match self {
            Self::Take { stream, .. } | Self::Release { stream, .. } => stream,
        }
    }

    /// Returns the claim.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        match self {
            Self::Take { claim, .. } | Self::Release { claim, .. } => claim,
        }
    }

    /// Returns the net effect of the `changes` of one write on each claim.
    ///
    /// # Errors
    ///
    /// [`Claimed`] if a stream would take or release a claim that another stream of the same write has taken.
    pub fn net(changes: &[Self]) -> Result<Vec<NetChange<'_>>, Claimed> {
        let mut net: Vec<NetChange<'_>> = Vec::new();
        let mut places = HashMap::new();
        for change in changes {
            let (stream, claim) = (change.stream(), change.claim());
            let after = matches!(change, Self::Take { .. }).then_some(stream);
            match places.entry(claim) {
                Entry::Vacant(place) => {
                    place.insert(net.len());
                    net.push(NetChange { claim, before: stream, after });
                }
                Entry::Occupied(place) => {
                    let known = &mut net[*place.get()];
                    match known.after {
                        Some(holder) if holder != stream => {
                            return Err(Claimed::new(claim.clone(), Some(holder.clone()), stream.clone()));
                        }
                        _ => known.after = after,
                    }
                }
            }
        }
        Ok(net)
    }
}

/// The net effect of a write on one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetChange<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// The only stream that may hold the claim before the write. The claim may also be free.
    pub before: &'a StreamId,
    /// The stream that holds the claim afterwards; `None` if it is released.
    pub after: Option<&'a StreamId>,
}

/// A claim that another stream holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claim `{}` of `{wanted_by}` is held by {}", .claim.name(), holder_name(.holder.as_ref()))]
#[non_exhaustive]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// The stream that holds it, if known.
    pub holder: Option<StreamId>,
    /// The stream whose write was rejected.
    pub wanted_by: StreamId,
}

fn holder_name(holder: Option<&StreamId>) -> String {
    holder.map_or_else(|| "another stream".to_owned(), |holder| format!("`{holder}`"))
}

impl Claimed {
    /// Creates the error for a write of the stream `wanted_by` and a `claim` that `holder` has.
    #[must_use]
    pub fn new(claim: Claim, holder: Option<StreamId>, wanted_by: StreamId) -> Self {
        Self { claim, holder, wanted_by }
    }
}

/// The holder of a claim.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// The stream; `None` if the claim is free.
    pub stream: Option<StreamId>,
    /// The cost of the read.
    pub cost: Cost,
}

impl Holder {
    /// Returns a holder: `None` if the claim is free.
    #[must_use]
    pub fn new(stream: Option<StreamId>, cost: Cost) -> Self {
        Self { stream, cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: &str) -> StreamId {
        StreamId::new("user", id).expect("valid")
    }

    fn take(id: &str, value: &str) -> ClaimChange {
        ClaimChange::Take { stream: stream(id), claim: Claim::new("email", value).expect("valid") }
    }

    fn release(id: &str, value: &str) -> ClaimChange {
        ClaimChange::Release { stream: stream(id), claim: Claim::new("email", value).expect("valid") }
    }

    #[test]
    fn changes_of_one_claim_come_to_one() {
        let changes = [release("ann", "a"), take("bob", "a"), take("ann", "b"), release("ann", "b")];
        let net = ClaimChange::net(&changes).expect("is possible");
        let (ann, bob) = (stream("ann"), stream("bob"));
        assert_eq!(net.len(), 2);
        assert_eq!((net[0].claim.value(), net[0].before, net[0].after), ("a", &ann, Some(&bob)));
        assert_eq!((net[1].claim.value(), net[1].before, net[1].after), ("b", &ann, None));
    }

    #[test]
    fn two_streams_cannot_take_one_claim() {
        for second in [take("bob", "a"), release("bob", "a")] {
            let error = ClaimChange::net(&[take("ann", "a"), second]).expect_err("is taken");
            assert_eq!(error.to_string(), "the claim `email` of `user#bob` is held by `user#ann`");
        }
    }

    #[test]
    fn values_are_shown_nowhere() {
        let change = take("ann", "secret@example.com");
        assert_eq!(format!("{:?}", change.claim()), "Claim(email, 18 bytes)");
        assert!(!format!("{change:?}").contains("secret"));
    }

    #[test]
    fn names_and_values_are_checked() {
        for (name, value) in
            [("", "a"), ("e#mail", "a"), ("email", ""), ("email", &"x".repeat(1020)), ("email", "a\nb")]
        {
            assert!(Claim::new(name, value).is_err(), "{name}");
        }
        assert!(Claim::new("email", "x".repeat(1019)).is_ok());
    }
}
