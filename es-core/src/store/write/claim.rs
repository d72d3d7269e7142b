//! Claims: values that one stream at a time may hold.

use std::fmt;

use crate::cost::Cost;
use crate::keys::has_control_characters;
use crate::store::StoreError;
use crate::stream_id::StreamId;

/// A value that at most one stream holds: an email address, an account number, a user's name.
///
/// The value may be personal, so it is shown nowhere: `Debug` and errors tell the claim's name alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    name: String,
    value: String,
}

impl Claim {
    /// The most bytes that name and value may have together.
    pub const MAX_BYTES: usize = 1024;

    /// The claim `name` to `value`.
    ///
    /// The value is compared byte by byte: bring it into one form first, an email address into lower case.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when one of the two is empty or has control characters, the name contains `#`, or
    /// both together exceed [`Claim::MAX_BYTES`].
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Result<Self, StoreError> {
        let (name, value) = (name.into(), value.into());
        if name.is_empty() || name.contains('#') {
            return Err(StoreError::invalid(format!(
                "`{name}` cannot name a claim: a name is not empty and contains no `#`"
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
                "the claim `{name}` has {bytes} bytes, at most {} are possible: claim a digest of the value",
                Self::MAX_BYTES
            )));
        }
        Ok(Self { name, value })
    }

    /// What kind of value it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value.
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

/// A stream that takes a claim, or gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimChange {
    /// The stream holds the claim from now on. It may hold it already.
    Take {
        /// The stream.
        stream: StreamId,
        /// What it claims.
        claim: Claim,
    },
    /// Nobody holds the claim from now on. Nobody may hold it already.
    Release {
        /// The stream.
        stream: StreamId,
        /// What it held.
        claim: Claim,
    },
}

impl ClaimChange {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        match self {
            Self::Take { stream, .. } | Self::Release { stream, .. } => stream,
        }
    }

    /// The claim.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        match self {
            Self::Take { claim, .. } | Self::Release { claim, .. } => claim,
        }
    }

    /// What all the `changes` of one write come to, for each claim: the stream that may hold it before, if
    /// any does, and the one that holds it afterwards.
    ///
    /// # Errors
    ///
    /// [`Claimed`] when one stream of the write would take, or release, what another one has just taken.
    pub fn net(changes: &[Self]) -> Result<Vec<NetChange<'_>>, Claimed> {
        let mut net: Vec<NetChange<'_>> = Vec::new();
        for change in changes {
            let (stream, claim) = (change.stream(), change.claim());
            let after = matches!(change, Self::Take { .. }).then_some(stream);
            match net.iter_mut().find(|known| known.claim == claim) {
                None => net.push(NetChange { claim, before: stream, after }),
                Some(known) => match known.after {
                    Some(holder) if holder != stream => {
                        return Err(Claimed::new(claim.clone(), Some(holder.clone()), stream.clone()));
                    }
                    _ => known.after = after,
                },
            }
        }
        Ok(net)
    }
}

/// What a write does to one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetChange<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// The one stream that may hold it before; nobody may, too.
    pub before: &'a StreamId,
    /// The stream that holds it afterwards.
    pub after: Option<&'a StreamId>,
}

/// A claim that another stream holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claim `{}` of `{wanted_by}` is held by {}", .claim.name(), holder_name(.holder.as_ref()))]
#[non_exhaustive]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// The stream that holds it, when the store knows.
    pub holder: Option<StreamId>,
    /// The stream that wanted to take it, or to give it back.
    pub wanted_by: StreamId,
}

fn holder_name(holder: Option<&StreamId>) -> String {
    holder.map_or_else(|| "another stream".to_owned(), |holder| format!("`{holder}`"))
}

impl Claimed {
    /// The `claim` that `holder` has and `wanted_by` has not.
    #[must_use]
    pub fn new(claim: Claim, holder: Option<StreamId>, wanted_by: StreamId) -> Self {
        Self { claim, holder, wanted_by }
    }
}

/// Who holds a claim.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// The stream; `None` when the claim is free.
    pub stream: Option<StreamId>,
    /// What it cost to find out.
    pub cost: Cost,
}

impl Holder {
    /// The `stream` that holds a claim.
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
