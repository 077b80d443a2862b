//! How version and time share a word.
//!
//! A [`Stamp`] lies in the immutable node of its snapshot, never in an atomic of its own, so it
//! needs no wide atomic and can't wrap. Integer order is version order, because the version is the
//! high half.
#![forbid(unsafe_code)]

use crate::clock::Reading;
use crate::sync::fault::{Fault, planted};
use std::fmt;
use std::str::FromStr;

/// Which snapshot of an entity this is: its version, and when it was committed.
///
/// | bits  | 127 … 64 | 63 … 0                                  |
/// |-------|----------|-----------------------------------------|
/// | field | version  | time, ns since the origin of the clock  |
///
/// The version is 0 at birth and grows by one with every commit, so it is the number of commits.
/// (One born at version `u64::MAX` and time `u64::MAX` counts as not born yet: its first commit has version 0.)
/// The time never goes backwards along one entity. Two equal stamps *of one entity* are the same
/// snapshot; stamps of different entities may coincide, and
/// [`Entity::try_commit_on`](crate::Entity::try_commit_on) is the check that they can't fool.
///
/// # Examples
/// A stamp survives the way through text, so it can serve as an ETag:
/// ```
/// use snapcell::{Entity, Stamp};
///
/// let page = Entity::new("hello");
/// let etag = page.snapshot().stamp().to_string();
/// let expected: Stamp = etag.parse()?;
/// assert!(page.try_commit(expected, "world").is_ok());
/// assert!(page.try_commit(expected, "again").is_err());
/// # Ok::<(), snapcell::ParseStampError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Stamp {
    // Field order is comparison order.
    version: u64,
    time: u64,
}

const _: () = assert!(size_of::<Stamp>() == 16, "a stamp is one 128-bit word");

impl Stamp {
    /// That of an entity which nobody has given a value yet: its first commit has version 0.
    pub(crate) const UNBORN: Stamp = Stamp::new(u64::MAX, u64::MAX);

    /// Puts a stamp together, as it was read from somewhere; `time` is in nanoseconds.
    #[must_use]
    #[inline]
    pub const fn new(version: u64, time: u64) -> Self {
        Stamp { version, time }
    }

    /// The number of commits before this snapshot.
    #[must_use]
    #[inline]
    pub const fn version(self) -> u64 {
        self.version
    }

    /// When the snapshot was committed, in nanoseconds since the origin of the entity's clock.
    #[must_use]
    #[inline]
    pub const fn time(self) -> u64 {
        self.time
    }

    /// The packed word.
    #[must_use]
    #[inline]
    pub const fn to_bits(self) -> u128 {
        (self.version as u128) << 64 | self.time as u128
    }

    /// The stamp in a packed word.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u128) -> Self {
        Stamp {
            version: (bits >> 64) as u64,
            time: bits as u64,
        }
    }

    /// The stamp of the next commit, or `None` where the version is at its end.
    #[inline]
    pub(crate) fn next(self, reading: Reading) -> Option<Self> {
        let one = u64::from(!planted(Fault::KeepVersion));
        match self.version.checked_add(one) {
            Some(version) => Some(Stamp {
                version,
                time: reading.after(self.time),
            }),
            None => self.first(reading),
        }
    }

    /// The version of the next commit, or `None` where it is at its end.
    #[inline]
    pub(crate) fn next_version(self) -> Option<u64> {
        let one = u64::from(!planted(Fault::KeepVersion));
        match self.version.checked_add(one) {
            None if self == Stamp::UNBORN => Some(0),
            version => version,
        }
    }

    /// The time before which nothing can be committed that follows from this.
    #[inline]
    pub(crate) fn earliest(self) -> u64 {
        if self == Stamp::UNBORN { 0 } else { self.time }
    }

    /// The version is at its end, or hasn't begun.
    #[inline]
    fn first(self, reading: Reading) -> Option<Self> {
        (self == Stamp::UNBORN).then(|| Stamp::new(0, reading.at_birth()))
    }
}

impl fmt::Display for Stamp {
    /// `version@nanoseconds`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.width() {
            None => write!(f, "{}@{}", self.version, self.time),
            Some(_) => f.pad(&format!("{}@{}", self.version, self.time)),
        }
    }
}

/// A text that is no stamp; a stamp reads `version@nanoseconds`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no stamp: it should read `version@nanoseconds`, two decimal numbers below 2^64"
)]
pub struct ParseStampError {
    text: String,
}

impl FromStr for Stamp {
    type Err = ParseStampError;

    fn from_str(text: &str) -> Result<Self, ParseStampError> {
        let parse = || {
            let (version, time) = text.split_once('@')?;
            Some(Stamp::new(version.parse().ok()?, time.parse().ok()?))
        };
        // A stamp has one spelling only: no plus, no leading zeros.
        match parse() {
            Some(stamp) if stamp.to_string() == text => Ok(stamp),
            _ => Err(ParseStampError {
                text: text.to_owned(),
            }),
        }
    }
}

#[cfg(feature = "serde")]
mod serde_impls {
    use super::Stamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    /// As text for people, as a pair of numbers for machines.
    impl Serialize for Stamp {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if serializer.is_human_readable() {
                serializer.collect_str(self)
            } else {
                (self.version, self.time).serialize(serializer)
            }
        }
    }

    impl<'de> Deserialize<'de> for Stamp {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            if deserializer.is_human_readable() {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            } else {
                let (version, time) = Deserialize::deserialize(deserializer)?;
                Ok(Stamp { version, time })
            }
        }
    }
}
