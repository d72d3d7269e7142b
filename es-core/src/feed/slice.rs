//! The parts into which the feed is divided.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::stream_id::StreamId;

/// One part of the feed. A stream's events are all in one slice, in the order of their versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slice(u32);

impl Slice {
    /// The slice `number`, from 0.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The slice as a number, from 0.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many slices a feed has, from 1 to [`Slices::MAX`]: the most workers that can share one projection. Fixed when the
/// feed is made.
///
/// ```
/// use es_core::StreamId;
/// use es_core::feed::Slices;
///
/// let slices = Slices::new(8).expect("not zero");
/// let stream = StreamId::new("order", "1001")?;
/// assert_eq!(slices.of(&stream), slices.of(&stream));
/// assert_eq!(slices.iter().count(), 8);
/// # Ok::<_, es_core::InvalidStreamId>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices(NonZeroU32);

impl Slices {
    /// The largest number of slices.
    pub const MAX: u32 = 4_096;

    /// `count` slices; `None` when it is zero or more than [`Slices::MAX`].
    #[must_use]
    pub const fn new(count: u32) -> Option<Self> {
        match NonZeroU32::new(count) {
            Some(number) if count <= Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0.get()
    }

    /// The slice of a stream: the CRC-32 of its name, modulo the count.
    #[must_use]
    pub fn of(self, stream: &StreamId) -> Slice {
        Slice(crc32fast::hash(stream.as_str().as_bytes()) % self.count())
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Slice> {
        (0..self.count()).map(Slice)
    }
}
