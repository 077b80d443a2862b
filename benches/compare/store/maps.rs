//! Counters by id: what the contenders have in common, and each of them.
//!
//! A store makes its ids, of version 7, which say where in it an entity lies; the others are given random ones, and
//! hash them with foldhash, as a store does with such ids. All begin empty and grow. A lock is held for one operation. Where one pin may serve several operations, as papaya recommends, it serves
//! [`BURST`](crate::stores::BURST) of them; a store pins for each.

use dashmap::DashMap;
use foldhash::fast::RandomState;
use snapcell::{EntityId, Store};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// The hasher of all maps.
pub(super) type Hashing = RandomState;

/// Counters, by id.
pub(super) trait Map: Send + Sync + Default + 'static {
    const NAME: &'static str;

    /// What a burst of operations shares.
    type Burst<'a>;

    fn burst(&self) -> Self::Burst<'_>;
    /// A new counter, at zero. Whether there was none.
    fn insert(burst: &Self::Burst<'_>, id: EntityId) -> bool;
    /// The same, with this id unless it makes the ids itself. Its id, if there was none.
    #[inline]
    fn begin(burst: &Self::Burst<'_>, id: EntityId) -> Option<EntityId> {
        Self::insert(burst, id).then_some(id)
    }
    fn read(burst: &Self::Burst<'_>, id: EntityId) -> Option<u64>;
    /// Counts one further. Whether there is such a counter.
    fn update(burst: &Self::Burst<'_>, id: EntityId) -> bool;
    /// Whether there was one.
    fn remove(burst: &Self::Burst<'_>, id: EntityId) -> bool;
}

impl Map for Store<u64> {
    const NAME: &'static str = "snapcell Store";
    type Burst<'a> = &'a Self;

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn insert(burst: &&Self, id: EntityId) -> bool {
        burst.insert_with(id, 0).is_ok()
    }

    #[inline]
    fn begin(burst: &&Self, _: EntityId) -> Option<EntityId> {
        Some(Store::insert(burst, 0))
    }

    #[inline]
    fn read(burst: &&Self, id: EntityId) -> Option<u64> {
        burst.read(&id, |value| *value).ok()
    }

    #[inline]
    fn update(burst: &&Self, id: EntityId) -> bool {
        burst.update(&id, |value| value + 1).is_ok()
    }

    #[inline]
    fn remove(burst: &&Self, id: EntityId) -> bool {
        burst.remove(&id).is_ok()
    }
}

/// The same, whose values are taken along.
#[derive(Default)]
pub(super) struct Taken(Store<u64>);

impl Map for Taken {
    const NAME: &'static str = "snapcell Store, get";
    type Burst<'a> = &'a Store<u64>;

    fn burst(&self) -> &Store<u64> {
        &self.0
    }

    fn insert(burst: &&Store<u64>, id: EntityId) -> bool {
        <Store<u64> as Map>::insert(burst, id)
    }

    fn begin(burst: &&Store<u64>, id: EntityId) -> Option<EntityId> {
        <Store<u64> as Map>::begin(burst, id)
    }

    #[inline]
    fn read(burst: &&Store<u64>, id: EntityId) -> Option<u64> {
        burst.get(&id).ok().map(|version| *version)
    }

    #[inline]
    fn update(burst: &&Store<u64>, id: EntityId) -> bool {
        <Store<u64> as Map>::update(burst, id)
    }

    fn remove(burst: &&Store<u64>, id: EntityId) -> bool {
        <Store<u64> as Map>::remove(burst, id)
    }
}

/// The same, with ids that come from elsewhere.
#[derive(Default)]
pub(super) struct Foreign(Store<u64>);

impl Map for Foreign {
    const NAME: &'static str = "snapcell Store, ids from elsewhere";
    type Burst<'a> = &'a Store<u64>;

    fn burst(&self) -> &Store<u64> {
        &self.0
    }

    #[inline]
    fn insert(burst: &&Store<u64>, id: EntityId) -> bool {
        <Store<u64> as Map>::insert(burst, id)
    }

    #[inline]
    fn read(burst: &&Store<u64>, id: EntityId) -> Option<u64> {
        <Store<u64> as Map>::read(burst, id)
    }

    #[inline]
    fn update(burst: &&Store<u64>, id: EntityId) -> bool {
        <Store<u64> as Map>::update(burst, id)
    }

    fn remove(burst: &&Store<u64>, id: EntityId) -> bool {
        <Store<u64> as Map>::remove(burst, id)
    }
}

pub(super) type Dash = DashMap<EntityId, u64, Hashing>;

impl Map for Dash {
    const NAME: &'static str = "DashMap";
    type Burst<'a> = &'a Self;

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn insert(burst: &&Self, id: EntityId) -> bool {
        DashMap::insert(burst, id, 0).is_none()
    }

    #[inline]
    fn read(burst: &&Self, id: EntityId) -> Option<u64> {
        burst.get(&id).map(|value| *value)
    }

    #[inline]
    fn update(burst: &&Self, id: EntityId) -> bool {
        burst.get_mut(&id).map(|mut value| *value += 1).is_some()
    }

    #[inline]
    fn remove(burst: &&Self, id: EntityId) -> bool {
        DashMap::remove(burst, &id).is_some()
    }
}

pub(super) type Scc = scc::HashMap<EntityId, u64, Hashing>;

impl Map for Scc {
    const NAME: &'static str = "scc HashMap";
    type Burst<'a> = &'a Self;

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn insert(burst: &&Self, id: EntityId) -> bool {
        burst.insert_sync(id, 0).is_ok()
    }

    #[inline]
    fn read(burst: &&Self, id: EntityId) -> Option<u64> {
        burst.read_sync(&id, |_, value| *value)
    }

    #[inline]
    fn update(burst: &&Self, id: EntityId) -> bool {
        burst.update_sync(&id, |_, value| *value += 1).is_some()
    }

    #[inline]
    fn remove(burst: &&Self, id: EntityId) -> bool {
        burst.remove_sync(&id).is_some()
    }
}

/// papaya's own `update`, which copies.
pub(super) type Papaya = papaya::HashMap<EntityId, u64, Hashing>;

impl Map for Papaya {
    const NAME: &'static str = "papaya update";
    type Burst<'a> = papaya::HashMapRef<'a, EntityId, u64, Hashing, papaya::LocalGuard<'a>>;

    fn burst(&self) -> Self::Burst<'_> {
        self.pin()
    }

    #[inline]
    fn insert(burst: &Self::Burst<'_>, id: EntityId) -> bool {
        burst.insert(id, 0).is_none()
    }

    #[inline]
    fn read(burst: &Self::Burst<'_>, id: EntityId) -> Option<u64> {
        burst.get(&id).copied()
    }

    #[inline]
    fn update(burst: &Self::Burst<'_>, id: EntityId) -> bool {
        burst.update(id, |value| value + 1).is_some()
    }

    #[inline]
    fn remove(burst: &Self::Burst<'_>, id: EntityId) -> bool {
        burst.remove(&id).is_some()
    }
}

/// The map that a lock is around.
type Plain = HashMap<EntityId, u64, Hashing>;

impl Map for RwLock<Plain> {
    const NAME: &'static str = "std RwLock<HashMap>";
    type Burst<'a> = &'a Self;

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn insert(burst: &&Self, id: EntityId) -> bool {
        let mut map = burst.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(id, 0).is_none()
    }

    #[inline]
    fn read(burst: &&Self, id: EntityId) -> Option<u64> {
        let map = RwLock::read(burst).unwrap_or_else(PoisonError::into_inner);
        map.get(&id).copied()
    }

    #[inline]
    fn update(burst: &&Self, id: EntityId) -> bool {
        let mut map = burst.write().unwrap_or_else(PoisonError::into_inner);
        map.get_mut(&id).map(|value| *value += 1).is_some()
    }

    #[inline]
    fn remove(burst: &&Self, id: EntityId) -> bool {
        let mut map = burst.write().unwrap_or_else(PoisonError::into_inner);
        map.remove(&id).is_some()
    }
}

pub(super) type Locked = RwLock<Plain>;

/// Counters that are found by a key as well: the group that each is in, which is in its high bits.
pub(super) trait Grouped: Send + Sync + 'static {
    const NAME: &'static str;

    /// Nothing.
    fn new() -> Self;
    /// A new counter, in this group, with this id unless it makes the ids itself. Its id.
    fn begin(&self, id: EntityId, group: u64) -> EntityId;
    fn read(&self, id: EntityId) -> Option<u64>;
    /// Replaces a value. Whether there is one.
    fn update(&self, id: EntityId, f: impl Fn(u64) -> u64) -> bool;
    /// How many are in a group, and whether this one is.
    fn find(&self, group: u64, id: EntityId) -> (usize, bool);
}

/// Where the count ends, and the group begins.
pub(super) const GROUP: u32 = 40;

/// A store with an index by group.
pub(super) struct Indexed {
    store: Store<u64>,
    by_group: snapcell::Index<u64, u64>,
}

impl Grouped for Indexed {
    const NAME: &'static str = "snapcell Store";

    fn new() -> Self {
        let mut builder = Store::builder();
        let by_group = builder.index(|value: &u64| Some(value >> GROUP));
        let store = builder.build();
        Indexed { store, by_group }
    }

    fn begin(&self, _: EntityId, group: u64) -> EntityId {
        self.store.insert(group << GROUP)
    }

    fn read(&self, id: EntityId) -> Option<u64> {
        self.store.read(&id, |value| *value).ok()
    }

    #[inline]
    fn update(&self, id: EntityId, f: impl Fn(u64) -> u64) -> bool {
        self.store.update(&id, |value| f(*value)).is_ok()
    }

    fn find(&self, group: u64, id: EntityId) -> (usize, bool) {
        let found = self.store.find(&self.by_group, &group);
        (found.len(), found.contains(&id))
    }
}

/// A store without, where nothing can be found by group.
pub(super) struct Unindexed(Store<u64>);

impl Grouped for Unindexed {
    const NAME: &'static str = "snapcell Store, no index";

    fn new() -> Self {
        Unindexed(Store::new())
    }

    fn begin(&self, _: EntityId, group: u64) -> EntityId {
        self.0.insert(group << GROUP)
    }

    fn read(&self, id: EntityId) -> Option<u64> {
        self.0.read(&id, |value| *value).ok()
    }

    #[inline]
    fn update(&self, id: EntityId, f: impl Fn(u64) -> u64) -> bool {
        self.0.update(&id, |value| f(*value)).is_ok()
    }

    fn find(&self, group: u64, id: EntityId) -> (usize, bool) {
        let in_group = |value: &u64| value >> GROUP == group;
        let number = self.0.iter().filter(|version| in_group(version)).count();
        (number, self.0.read(&id, in_group).unwrap_or(false))
    }
}

type Set = std::collections::HashSet<EntityId, Hashing>;

/// A second map by hand. A counter and its place in there don't change at one instant: whoever looks may
/// find it in two groups, or in none.
pub(super) struct Twice {
    counters: Dash,
    groups: DashMap<u64, Set, Hashing>,
}

impl Grouped for Twice {
    const NAME: &'static str = "two DashMaps, no one instant";

    fn new() -> Self {
        Twice {
            counters: Dash::default(),
            groups: DashMap::default(),
        }
    }

    fn begin(&self, id: EntityId, group: u64) -> EntityId {
        self.counters.insert(id, group << GROUP);
        self.groups.entry(group).or_default().insert(id);
        id
    }

    fn read(&self, id: EntityId) -> Option<u64> {
        self.counters.get(&id).map(|value| *value)
    }

    #[inline]
    fn update(&self, id: EntityId, f: impl Fn(u64) -> u64) -> bool {
        let Some(mut value) = self.counters.get_mut(&id) else {
            return false;
        };
        let (old, new) = (*value, f(*value));
        // The counter stays locked, so that the last to move it is the last in the groups as well.
        *value = new;
        let (old, new) = (old >> GROUP, new >> GROUP);
        if old != new {
            if let Some(mut group) = self.groups.get_mut(&old) {
                group.remove(&id);
            }
            self.groups.entry(new).or_default().insert(id);
        }
        true
    }

    fn find(&self, group: u64, id: EntityId) -> (usize, bool) {
        let found = self.groups.get(&group);
        found.map_or((0, false), |set| (set.len(), set.contains(&id)))
    }
}

/// One lock around both maps.
#[derive(Default)]
pub(super) struct Together(Mutex<(Plain, HashMap<u64, Set, Hashing>)>);

impl Together {
    fn lock(&self) -> MutexGuard<'_, (Plain, HashMap<u64, Set, Hashing>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grouped for Together {
    const NAME: &'static str = "std Mutex<two HashMaps>";

    fn new() -> Self {
        Together::default()
    }

    fn begin(&self, id: EntityId, group: u64) -> EntityId {
        let mut both = self.lock();
        both.0.insert(id, group << GROUP);
        both.1.entry(group).or_default().insert(id);
        id
    }

    fn read(&self, id: EntityId) -> Option<u64> {
        self.lock().0.get(&id).copied()
    }

    #[inline]
    fn update(&self, id: EntityId, f: impl Fn(u64) -> u64) -> bool {
        let mut both = self.lock();
        let (counters, groups) = &mut *both;
        let Some(value) = counters.get_mut(&id) else {
            return false;
        };
        let old = *value >> GROUP;
        *value = f(*value);
        let new = *value >> GROUP;
        if old != new {
            if let Some(group) = groups.get_mut(&old) {
                group.remove(&id);
            }
            groups.entry(new).or_default().insert(id);
        }
        true
    }

    fn find(&self, group: u64, id: EntityId) -> (usize, bool) {
        let both = self.lock();
        let found = both.1.get(&group);
        found.map_or((0, false), |set| (set.len(), set.contains(&id)))
    }
}
