//! Whether the parts of a store fit together.
//!
//! Everything is looked at, one after the other, and then once more. If each was the same both times, all of it
//! was current at the moment in between. So it takes a time that grows as what there is, and is in nobody's way.
#![forbid(unsafe_code)]

use super::version::Slot;
use super::{EntityId, Store};
use crate::cell::{Backoff, Entity, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How often everything is looked at.
const TRIES: u32 = 100;

/// The entities on a map, as a look at each has found them.
pub(super) struct Seen<K, V: Send + Sync + 'static>(BTreeMap<K, (Entity<V>, Snapshot<V>)>);

impl<K: Ord, V: Send + Sync + 'static> Seen<K, V> {
    /// Of those that count.
    pub(super) fn look(entries: Vec<(K, Entity<V>)>, counts: impl Fn(&V) -> bool) -> Self {
        let entries = entries.into_iter().map(|(key, entity)| {
            let snapshot = entity.snapshot();
            (key, (entity, snapshot))
        });
        Seen(entries.filter(|(_, (_, seen))| counts(seen)).collect())
    }

    /// Whether the two have found the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|((a, one), (b, two))| {
                a == b && Entity::ptr_eq(&one.0, &two.0) && one.1.stamp() == two.1.stamp()
            })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, (_, seen))| (key, &**seen))
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(|(_, seen)| &**seen)
    }
}

/// The entities of a store.
pub(super) type Entities<T> = Seen<EntityId, Slot<T>>;

/// What a look has found to be wrong, if it was a look at one moment.
#[must_use]
pub(super) struct Checked {
    pub(super) wrong: Vec<String>,
    /// Whether another look finds the same.
    pub(super) is_still: Box<dyn Fn() -> bool>,
}

impl<T: Send + Sync + 'static> Store<T> {
    fn entities(&self) -> Entities<T> {
        Seen::look(self.0.nodes.entries(), |slot| slot.live().is_some())
    }

    /// Looks whether everything fits together: every index against every entity, and the lines against what
    /// is known of each. A debugging aid.
    ///
    /// It looks at everything twice, and again from the beginning if anybody has committed in between, up to
    /// a hundred times. In a store that is busy all the time there may be no moment that it could look at.
    ///
    /// # Errors
    /// What is wrong. That would be a defect of this crate, or a key function that isn't one. Or that nothing
    /// is known, since others have committed each time: [`is_unsettled`](Inconsistent::is_unsettled).
    /// # Complexity
    /// Of a try: a look at each entity and each key, and a search among all of them, n log n.
    pub fn validate(&self) -> Result<(), Inconsistent> {
        let mut backoff = Backoff::new();
        for _ in 0..TRIES {
            let entities = self.entities();
            let indexes = self.0.indexes.iter().map(|index| index.check(&entities));
            let mut checked: Vec<_> = indexes.collect();
            checked.extend(self.check_standings(&entities));
            let is_still = self.entities().is(&entities);
            if is_still && checked.iter().all(|checked| (checked.is_still)()) {
                let wrong = checked.into_iter().flat_map(|checked| checked.wrong);
                return Inconsistent::unless_empty(wrong.collect());
            }
            backoff.lost();
        }
        Err(Inconsistent(Vec::new()))
    }

    /// What is wrong with the index of lines, and with standings of nobody.
    fn check_standings(&self, entities: &Entities<T>) -> [Checked; 2] {
        let store = self.clone();
        let look = move || Seen::look(store.0.standings.entries(), |_| true);
        let seen = look();
        let mut wrong = Vec::new();
        let mut joined = BTreeSet::new();
        for (id, standing) in seen.iter() {
            joined.extend(standing.joined().map(|line| (line, *id)));
            if !standing.is_default() && entities.get(id).is_none() {
                wrong.push(format!("something is known of {id}, which is not there"));
            }
            if standing.id != *id {
                wrong.push(format!("what is known of {} is at {id}", standing.id));
            }
        }
        let standings = Checked {
            wrong,
            is_still: Box::new(move || look().is(&seen)),
        };
        [standings, self.0.lineages.compare(joined)]
    }
}

/// A store whose parts contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inconsistent(
    /// None, if nothing is known.
    Vec<String>,
);

impl Inconsistent {
    pub(super) fn unless_empty(wrong: Vec<String>) -> Result<(), Self> {
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Inconsistent(wrong)),
        }
    }

    /// Whether nothing is known: others have committed during each look.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_unsettled() {
            true => write!(f, "others have committed during each of {TRIES} looks"),
            false => write!(f, "{} contradictions: {}", self.0.len(), self.0.join("; ")),
        }
    }
}

impl std::error::Error for Inconsistent {}
