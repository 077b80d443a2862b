//! What an entity is called, and what its line is called.
//!
//! An id is 128 bits that nobody else has: by default they begin with the time, so the ids that a thread makes
//! are in the order of their making; on request all of them are random. A lineage has the id of the entity that
//! it began with.
#![forbid(unsafe_code)]

use crate::sync::per_thread;
use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// The name of an entity of a [`Store`](crate::Store): a UUID.
///
/// # Examples
/// ```
/// use snapcell::EntityId;
///
/// let (first, second) = (EntityId::new(), EntityId::random());
/// assert_ne!(first, second);
/// assert_eq!(first.to_string().parse(), Ok(first));
/// assert!("abc".parse::<EntityId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(Uuid);

impl EntityId {
    /// A new id, of version 7: 48 bits of the time in milliseconds, 20 of the nanoseconds within, 54 random ones.
    ///
    /// Those that a thread makes sort in the order of their making; those of several threads as their clocks
    /// tell, which are the system's. Where that is set back, a thread goes on a nanosecond after its last id.
    ///
    /// In those that [`Store::insert`](crate::Store::insert) makes, 32 of the random bits say where in the store
    /// the entity lies. A look by such an id goes there; one by any other id goes by a hash and a map.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "no two are the same")]
    pub fn new() -> Self {
        Self::at(fastrand::u32(..))
    }

    /// A new id, of version 7, with a number in place of 32 of the random bits.
    pub(super) fn at(place: u32) -> Self {
        EntityId::of(next_nanos(), fastrand::u32(..1 << 22), place)
    }

    /// The id of these nanoseconds since 1970, with 22 random bits and a number.
    fn of(nanos: u64, random: u32, place: u32) -> Self {
        let (millis, within) = (nanos / 1_000_000, nanos % 1_000_000);
        EntityId::from_bits(
            u128::from(millis) << 80
                | 7 << 76
                | u128::from(within >> 8) << 64
                | 2 << 62
                | u128::from(within & 0xff) << 54
                | u128::from(random) << 32
                | u128::from(place),
        )
    }

    /// The number, if it has one; that of an id of version 7 which has none is any.
    #[inline]
    pub(super) fn place(self) -> Option<u32> {
        let bits = self.to_bits();
        (bits >> 76 & 0xf == 7 && bits >> 62 & 3 == 2).then_some(bits as u32)
    }

    /// A new id, of version 4: 122 random bits from the system, which nobody can guess.
    #[must_use]
    pub fn random() -> Self {
        EntityId(Uuid::new_v4())
    }

    /// The id in a UUID of anybody's making.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        EntityId(Uuid::from_u128(bits))
    }

    /// The UUID.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0.as_u128()
    }
}

per_thread! {
    /// The time of the last id that this thread made.
    static LAST: Cell<u64> = Cell::new(0);
}

/// Nanoseconds since 1970, but more than this thread's last ones.
fn next_nanos() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(0));
    LAST.with(|last| {
        last.set(nanos.max(last.get() + 1));
        last.get()
    })
}

/// As UUIDs are written: 8-4-4-4-12 hexadecimal digits.
impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for EntityId {
    type Err = ParseIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(s)
            .map(EntityId)
            .map_err(|_| ParseIdError(()))
    }
}

/// A text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is written as 32 hexadecimal digits, in groups of 8-4-4-4-12")]
pub struct ParseIdError(());

/// The name of a line of entities, each forked from another one: the id of the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineageId(EntityId);

impl LineageId {
    /// The line that begins with this entity.
    #[must_use]
    pub const fn of(founder: EntityId) -> Self {
        LineageId(founder)
    }

    /// The entity that it began with.
    #[must_use]
    pub const fn founder(self) -> EntityId {
        self.0
    }
}

impl fmt::Display for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(feature = "serde")]
mod serde_impls {
    use super::{EntityId, LineageId};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use std::borrow::Cow;

    /// As text.
    impl Serialize for EntityId {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for EntityId {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = Cow::<str>::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        }
    }

    /// As the id of the founder.
    impl Serialize for LineageId {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.founder().serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for LineageId {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            EntityId::deserialize(deserializer).map(LineageId::of)
        }
    }
}

#[cfg(all(test, not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))))]
mod tests {
    use super::EntityId;

    #[test]
    fn ids_of_a_thread_sort_in_the_order_of_their_making() {
        let ids: Vec<_> = (0..10_000).map(|_| EntityId::new()).collect();
        assert!(ids.is_sorted_by(|first, second| first < second));
    }

    #[test]
    fn an_id_is_of_version_seven_and_says_its_time_and_its_place() {
        let id = EntityId::of(1_700_000_000_123_456_789, (1 << 22) - 1, 17);
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.place(), Some(17));
        assert_eq!(id.to_bits() >> 80, 1_700_000_000_123);
        let within = id.to_bits() >> 64 & 0xfff;
        assert_eq!(within << 8 | id.to_bits() >> 54 & 0xff, 456_789);
        assert_eq!(id.to_bits() >> 32 & 0x3f_ffff, 0x3f_ffff);
        assert_eq!(EntityId::random().place(), None);
    }
}
