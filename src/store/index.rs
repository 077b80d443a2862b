//! Which entities have a key, kept in step with commits.
//!
//! An index has a *bucket* for each key: an entity of its own, whose value is the set of ids that have the
//! key. A commit that changes keys is a transaction of the entity and the buckets of the keys that come and
//! go, so at every instant a bucket holds exactly those whose current value has its key. A commit that
//! changes no key doesn't touch a bucket.
//!
//! # The end of a bucket
//! Whoever takes the last id out marks the bucket as dead in the same transaction, and takes it off the map
//! afterwards. Dead is for ever. Whoever finds a dead one on the map takes it off too, and goes on with a
//! new one, so nobody waits for that.
//!
//! An empty one is on the map while somebody claims it ([`claims`](super::claims)): that a key is nobody's is
//! something that can be read, and waited for.
#![forbid(unsafe_code)]

use super::check::{Checked, Entities, Seen};
use super::claims::{Claims, Found, Token};
use super::glance::Glanced;
use super::id::EntityId;
use crate::cell::{Changes, Entity, Restart, Transaction};
use crate::clock::Clock;
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use crate::sync::map::{Hashing, Map};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

/// Ids that share what hasn't changed, hashed as in the map of the entities.
type Set = rpds::HashTrieSetSync<EntityId, Hashing>;

/// What an index can be keyed by.
pub trait Key: Hash + Ord + Clone + Send + Sync + 'static {}

impl<K: Hash + Ord + Clone + Send + Sync + 'static> Key for K {}

/// An index of a [`Store`](crate::Store), by the keys that a value has. Made by
/// [`StoreBuilder::index`](crate::StoreBuilder::index).
///
/// A clone is another handle of the same index.
pub struct Index<T, K>(Arc<Inner<T, K>>);

struct Inner<T, K> {
    buckets: Map<K, Entity<Bucket>>,
    keys: Box<KeysOf<T, K>>,
    /// Whether two values have the same keys, by a look that allocates nothing.
    glance: Box<Glance<T>>,
    /// That of the store, if it has one of its own: what a transaction writes has one time.
    clock: OnceLock<Clock>,
}

type Glance<T> = dyn Fn(&T, &T) -> Glanced + Send + Sync;

/// The keys that a value has.
type KeysOf<T, K> = dyn Fn(&T) -> BTreeSet<K> + Send + Sync;

/// The ids that have a key.
#[derive(Clone)]
enum Bucket {
    /// There is one at least.
    Alive(Set),
    Empty(Claims),
    /// It has been taken off the map, or will be.
    Dead,
}

impl Bucket {
    fn ids(&self) -> Ids {
        match self {
            Bucket::Alive(ids) => Ids(ids.clone()),
            Bucket::Empty(_) | Bucket::Dead => Ids::default(),
        }
    }

    fn is_alive(&self) -> bool {
        matches!(self, Bucket::Alive(_))
    }

    fn is_dead(&self) -> bool {
        matches!(self, Bucket::Dead)
    }
}

impl<T: Send + Sync + 'static, K: Key> Index<T, K> {
    pub(super) fn new<I: IntoIterator<Item = K>>(
        keys: impl Fn(&T) -> I + Send + Sync + 'static,
    ) -> Self {
        let keys = Arc::new(keys);
        let same = Arc::clone(&keys);
        Index(Arc::new(Inner {
            buckets: Map::new(),
            keys: Box::new(move |value| keys(value).into_iter().collect()),
            glance: Box::new(move |old, new| Glanced::of(same(old), same(new))),
            clock: OnceLock::new(),
        }))
    }

    /// The entities that have the key.
    ///
    /// # Linearization
    /// The load of the bucket's head, or the look that finds none.
    /// # Progress
    /// As a look into a map of papaya, and then as [`Entity::read`].
    #[must_use]
    pub fn find(&self, key: &K) -> Ids {
        let ids = |bucket: &Entity<Bucket>| bucket.read(Bucket::ids);
        self.0.buckets.look(key, ids).unwrap_or_default()
    }

    /// The keys that some entity has or had a moment ago.
    #[must_use]
    pub fn keys(&self) -> Vec<K> {
        let buckets = self.0.buckets.entries();
        let live = buckets
            .into_iter()
            .filter(|(_, bucket)| bucket.read(Bucket::is_alive));
        live.map(|(key, _)| key).collect()
    }

    /// How many buckets are on the map that nobody has the key of.
    pub(super) fn spare(&self) -> usize {
        let buckets = self.0.buckets.entries();
        let is_spare = |bucket: &Entity<Bucket>| !bucket.read(Bucket::is_alive);
        buckets
            .iter()
            .filter(|(_, bucket)| is_spare(bucket))
            .count()
    }

    /// The bucket of a key, which is not dead for good; with a claim, if it is empty.
    fn bucket(&self, key: &K) -> (Entity<Bucket>, Option<Spare<T, K>>) {
        loop {
            let made = Cell::new(None);
            let make = || {
                let token = Token::new();
                let empty = Bucket::Empty(token.claims());
                let bucket = match self.0.clock.get() {
                    Some(clock) => Entity::builder(empty).clock(clock.clone()).build(),
                    None => Entity::new(empty),
                };
                made.set(Some(token));
                bucket
            };
            let is_dead = |bucket: &Entity<Bucket>| bucket.read(Bucket::is_dead);
            let bucket = self.0.buckets.claim(key, make, is_dead);
            let found = bucket.read(|bucket| match bucket {
                Bucket::Alive(_) => Found::Needed,
                Bucket::Empty(claims) => claims.into(),
                Bucket::Dead => Found::Over,
            });
            match found {
                Found::Needed => return (bucket, None),
                Found::Claimed(token) => {
                    let spare = self.spare_of(key, &bucket, Some(token));
                    return (bucket, Some(spare));
                }
                // Nobody waits for whoever is to do it.
                Found::Over => self.end_empty(key, &bucket),
            }
        }
    }

    /// As above, in a transaction that has read it.
    fn bucket_in(&self, tx: &Transaction<'_>, key: &K) -> Result<Entity<Bucket>, Restart> {
        loop {
            let (bucket, spare) = self.bucket(key);
            if let Some(spare) = spare {
                tx.keep(spare);
            }
            // It may have died since it was found: then nobody would ever learn of what is read there or written. If only
            // this transaction has emptied it, it isn't dead for good.
            let reads_dead = tx.read(bucket.clone())?.is_dead();
            if !(reads_dead && bucket.read(Bucket::is_dead)) || planted(Fault::UseDeadBucket) {
                return Ok(bucket);
            }
        }
    }

    fn spare_of(&self, key: &K, bucket: &Entity<Bucket>, token: Option<Token>) -> Spare<T, K> {
        Spare {
            index: self.clone(),
            key: key.clone(),
            bucket: bucket.clone(),
            token,
        }
    }

    /// Has an empty bucket that nobody claims be dead, and takes it off the map.
    fn end_empty(&self, key: &K, bucket: &Entity<Bucket>) {
        loop {
            let seen = bucket.snapshot();
            if seen.is_alive() {
                return;
            }
            if seen.is_dead() || bucket.try_commit_on(&seen, Bucket::Dead).is_ok() {
                return self.forget(key, bucket);
            }
        }
    }

    /// Takes a dead bucket off the map.
    fn forget(&self, key: &K, bucket: &Entity<Bucket>) {
        let is_it = |other: &Entity<Bucket>| Entity::ptr_eq(other, bucket);
        if bucket.read(Bucket::is_dead) {
            self.0.buckets.remove_if(key, is_it);
        }
    }

    /// The entities that have the key, as a transaction sees it.
    pub(super) fn find_in(&self, tx: &Transaction<'_>, key: &K) -> Result<Ids, Restart> {
        Ok(tx.read(self.bucket_in(tx, key)?)?.ids())
    }

    /// The entities that have the key, on which precomputed changes depend from now on.
    pub(super) fn require<'c>(&self, changes: Changes<'c>, key: &K) -> (Ids, Changes<'c>) {
        let (bucket, spare, seen) = loop {
            let (bucket, spare) = self.bucket(key);
            let seen = bucket.snapshot();
            // As in `bucket_in`.
            if !seen.is_dead() {
                break (bucket, spare, seen);
            }
        };
        let changes = match spare {
            Some(spare) => changes.keep(spare),
            None => changes,
        };
        (seen.ids(), changes.require(bucket, seen.stamp()))
    }

    fn add(&self, tx: &Transaction<'_>, key: &K, id: EntityId) -> Result<(), Restart> {
        tx.update(self.bucket_in(tx, key)?, |bucket| match bucket {
            Bucket::Alive(ids) => Bucket::Alive(ids.insert(id)),
            Bucket::Empty(_) | Bucket::Dead => Bucket::Alive(Set::default().insert(id)),
        })
    }

    fn take(&self, tx: &Transaction<'_>, key: &K, id: EntityId) -> Result<(), Restart> {
        // If there is none, the value that has the key is not current any more, and the attempt will fail.
        let Some(bucket) = self.0.buckets.get(key) else {
            return Ok(());
        };
        let Bucket::Alive(ids) = tx.read(bucket.clone())? else {
            return Ok(());
        };
        let ids = ids.remove(&id);
        if !ids.is_empty() {
            tx.write(bucket, Bucket::Alive(ids));
            return Ok(());
        }
        tx.write(bucket.clone(), Bucket::Dead);
        tx.keep(self.spare_of(key, &bucket, None));
        Ok(())
    }
}

/// A bucket that is empty, or about to be so. It is seen to when the attempt is over, whatever came of it.
struct Spare<T: Send + Sync + 'static, K: Key> {
    index: Index<T, K>,
    key: K,
    bucket: Entity<Bucket>,
    /// A claim, of one that was empty before.
    token: Option<Token>,
}

impl<T: Send + Sync + 'static, K: Key> Drop for Spare<T, K> {
    fn drop(&mut self) {
        match self.token.take().is_some_and(Token::ends) {
            true => self.index.end_empty(&self.key, &self.bucket),
            false => self.index.forget(&self.key, &self.bucket),
        }
    }
}

/// A change of the value of an entity, from nothing or to nothing.
pub(super) struct Step<'v, T> {
    pub(super) id: EntityId,
    pub(super) old: Option<&'v T>,
    pub(super) new: Option<&'v T>,
}

/// An index whose keys nobody asks for.
pub(super) trait Follow<T: Send + Sync + 'static>: Send + Sync {
    /// Takes over the clock of the store.
    fn keep_time(&self, clock: &Clock);
    /// Whether a change of the value changes keys.
    fn is_moved(&self, old: &T, new: &T) -> bool;
    /// Has the keys of an entity follow its value, from nothing or to nothing, in the same transaction.
    fn follow(
        &self,
        tx: &Transaction<'_>,
        id: EntityId,
        old: Option<&T>,
        new: Option<&T>,
    ) -> Result<(), Restart>;
    /// Adds to a transaction of precomputed changes what makes the keys of entities follow their values.
    fn plan<'c>(&self, changes: Changes<'c>, steps: &[Step<'_, T>]) -> Changes<'c>;
    /// How many buckets are on the map that nobody has the key of.
    fn spare(&self) -> usize;
    /// What is wrong with what it says of these, which are all there are.
    fn check(&self, entities: &Entities<T>) -> Checked;
}

impl<T: Send + Sync + 'static, K: Key> Index<T, K> {
    /// Has the keys of an entity follow its value, from nothing or to nothing, in the same transaction.
    pub(super) fn follow_in(
        &self,
        tx: &Transaction<'_>,
        id: EntityId,
        old: Option<&T>,
        new: Option<&T>,
    ) -> Result<(), Restart> {
        let old = old.map(&self.0.keys).unwrap_or_default();
        let new = new.map(&self.0.keys).unwrap_or_default();
        for key in old.difference(&new) {
            self.take(tx, key, id)?;
        }
        for key in new.difference(&old) {
            self.add(tx, key, id)?;
        }
        Ok(())
    }
}

impl<T: Send + Sync + 'static, K: Key> Follow<T> for Index<T, K> {
    fn keep_time(&self, clock: &Clock) {
        // It belongs to one store only, which is built once.
        let _ = self.0.clock.set(clock.clone());
    }

    fn is_moved(&self, old: &T, new: &T) -> bool {
        match (self.0.glance)(old, new) {
            Glanced::Same => false,
            Glanced::Different => true,
            Glanced::Unclear => (self.0.keys)(old) != (self.0.keys)(new),
        }
    }

    fn follow(
        &self,
        tx: &Transaction<'_>,
        id: EntityId,
        old: Option<&T>,
        new: Option<&T>,
    ) -> Result<(), Restart> {
        self.follow_in(tx, id, old, new)
    }

    fn plan<'c>(&self, mut changes: Changes<'c>, steps: &[Step<'_, T>]) -> Changes<'c> {
        // All that comes and goes in one bucket, and whether it comes: a bucket is written once.
        let mut by_key: BTreeMap<K, Vec<(EntityId, bool)>> = BTreeMap::new();
        for step in steps {
            let old = step.old.map(&self.0.keys).unwrap_or_default();
            let new = step.new.map(&self.0.keys).unwrap_or_default();
            for key in old.symmetric_difference(&new) {
                let ids = by_key.entry(key.clone()).or_default();
                ids.push((step.id, new.contains(key)));
            }
        }
        for (key, ids) in by_key {
            let (bucket, spare) = self.bucket(&key);
            let before = bucket.snapshot();
            let mut all = match &*before {
                Bucket::Alive(ids) => ids.clone(),
                Bucket::Empty(_) => Set::default(),
                Bucket::Dead => {
                    // Refused, since nothing has this stamp, and tried again with another bucket.
                    changes = changes.write(bucket, Stamp::UNBORN, Bucket::Dead);
                    continue;
                }
            };
            for (id, comes) in ids {
                match comes {
                    true => all.insert_mut(id),
                    false => _ = all.remove_mut(&id),
                }
            }
            let after = match all.is_empty() {
                true => Bucket::Dead,
                false => Bucket::Alive(all),
            };
            if spare.is_some() || after.is_dead() {
                let spare = spare.unwrap_or_else(|| self.spare_of(&key, &bucket, None));
                changes = changes.keep(spare);
            }
            changes = match planted(Fault::BlindBucket) {
                true => changes.replace(bucket, after),
                false => changes.write(bucket, before.stamp(), after),
            };
        }
        changes
    }

    fn spare(&self) -> usize {
        self.spare()
    }

    fn check(&self, entities: &Entities<T>) -> Checked {
        let mut expected = BTreeSet::new();
        for (id, slot) in entities.iter() {
            let keys = slot.live().map(&self.0.keys).unwrap_or_default();
            expected.extend(keys.into_iter().map(|key| (key, *id)));
        }
        self.compare(expected)
    }
}

impl<T: Send + Sync + 'static, K: Key> Index<T, K> {
    /// What is wrong, where it should say exactly this.
    pub(super) fn compare(&self, mut missing: BTreeSet<(K, EntityId)>) -> Checked {
        let index = self.clone();
        let look = move || Seen::look(index.0.buckets.entries(), Bucket::is_alive);
        let seen = look();
        let mut wrong = Vec::new();
        for (key, bucket) in seen.iter() {
            for id in bucket.ids().iter() {
                if !missing.remove(&(key.clone(), *id)) {
                    wrong.push(format!(
                        "an index has {id} under a key that it doesn't have"
                    ));
                }
            }
        }
        wrong.extend(
            missing
                .iter()
                .map(|(_, id)| format!("an index lacks {id} under a key that it has")),
        );
        Checked {
            wrong,
            is_still: Box::new(move || look().is(&seen)),
        }
    }
}

impl<T, K> Clone for Index<T, K> {
    fn clone(&self) -> Self {
        Index(Arc::clone(&self.0))
    }
}

impl<T, K> fmt::Debug for Index<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

/// The ids of the entities that had a key at one instant. Immutable, and cheap to clone.
#[derive(Clone, Default)]
pub struct Ids(Set);

impl Ids {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.size()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, id: &EntityId) -> bool {
        self.0.contains(id)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &EntityId> {
        self.0.iter()
    }

    /// All of them, in the order of the ids.
    #[must_use]
    pub fn to_vec(&self) -> Vec<EntityId> {
        let mut ids: Vec<_> = self.0.iter().copied().collect();
        ids.sort_unstable();
        ids
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.to_vec()).finish()
    }
}

impl PartialEq for Ids {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Ids {}
