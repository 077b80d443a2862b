//! Many counters, by key: what the contenders have in common, and each of them.
//!
//! All maps hash alike. A lock is held for one operation. Where one pin may serve several operations,
//! as papaya recommends, it serves [`BURST`] of them.

use dashmap::DashMap;
use snapcell::Entity;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError, RwLock};

/// Operations that may share what they need.
pub(crate) const BURST: usize = 64;

/// Counters, by a key below their number.
pub(crate) trait Store: Send + Sync + 'static {
    const NAME: &'static str;

    /// What a burst of operations shares.
    type Burst<'a>;

    /// So many counters, all at zero.
    fn new(keys: u32) -> Self;
    fn burst(&self) -> Self::Burst<'_>;
    fn read(burst: &Self::Burst<'_>, key: u32) -> u64;
    /// Counts one further.
    fn update(burst: &Self::Burst<'_>, key: u32);
}

/// The hasher of all maps: multiplies, as that of rustc does.
#[derive(Default)]
pub(crate) struct Fx(u64);

pub(crate) type Hashing = BuildHasherDefault<Fx>;

impl Hasher for Fx {
    fn finish(&self) -> u64 {
        // The high bits are the good ones, and the maps take the low ones.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = self
            .0
            .wrapping_add(word)
            .wrapping_mul(0xf135_7aea_2e62_a9c5);
    }
}

fn is_there(found: Option<u64>) -> u64 {
    found.expect("each key is there from the start")
}

/// Entities in a vector.
impl Store for Vec<Entity<u64>> {
    const NAME: &'static str = "snapcell, Vec of entities";
    type Burst<'a> = &'a Self;

    fn new(keys: u32) -> Self {
        (0..keys).map(|_| Entity::new(0)).collect()
    }

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn read(burst: &&Self, key: u32) -> u64 {
        burst[key as usize].read(|value| *value)
    }

    #[inline]
    fn update(burst: &&Self, key: u32) {
        burst[key as usize].update(|value| value + 1);
    }
}

/// Entities in a map of papaya.
pub(crate) struct Mapped(papaya::HashMap<u32, Entity<u64>, Hashing>);

impl Store for Mapped {
    const NAME: &'static str = "snapcell, papaya of entities";
    type Burst<'a> = papaya::HashMapRef<'a, u32, Entity<u64>, Hashing, papaya::LocalGuard<'a>>;

    fn new(keys: u32) -> Self {
        let map = papaya::HashMap::with_capacity_and_hasher(keys as usize, Hashing::default());
        for key in 0..keys {
            map.pin().insert(key, Entity::new(0));
        }
        Mapped(map)
    }

    fn burst(&self) -> Self::Burst<'_> {
        self.0.pin()
    }

    #[inline]
    fn read(burst: &Self::Burst<'_>, key: u32) -> u64 {
        is_there(burst.get(&key).map(|entity| entity.read(|value| *value)))
    }

    #[inline]
    fn update(burst: &Self::Burst<'_>, key: u32) {
        let entity = burst.get(&key).expect("each key is there from the start");
        entity.update(|value| value + 1);
    }
}

impl Store for Vec<Mutex<u64>> {
    const NAME: &'static str = "Vec of std Mutex";
    type Burst<'a> = &'a Self;

    fn new(keys: u32) -> Self {
        (0..keys).map(|_| Mutex::new(0)).collect()
    }

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn read(burst: &&Self, key: u32) -> u64 {
        let lock = burst[key as usize].lock();
        *lock.unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn update(burst: &&Self, key: u32) {
        let lock = burst[key as usize].lock();
        *lock.unwrap_or_else(PoisonError::into_inner) += 1;
    }
}

impl Store for Vec<parking_lot::Mutex<u64>> {
    const NAME: &'static str = "Vec of parking_lot Mutex";
    type Burst<'a> = &'a Self;

    fn new(keys: u32) -> Self {
        (0..keys).map(|_| parking_lot::Mutex::new(0)).collect()
    }

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn read(burst: &&Self, key: u32) -> u64 {
        *burst[key as usize].lock()
    }

    #[inline]
    fn update(burst: &&Self, key: u32) {
        *burst[key as usize].lock() += 1;
    }
}

/// One lock around all.
impl Store for RwLock<HashMap<u32, u64, Hashing>> {
    const NAME: &'static str = "std RwLock<HashMap>";
    type Burst<'a> = &'a Self;

    fn new(keys: u32) -> Self {
        RwLock::new((0..keys).map(|key| (key, 0)).collect())
    }

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn read(burst: &&Self, key: u32) -> u64 {
        let map = burst.read().unwrap_or_else(PoisonError::into_inner);
        is_there(map.get(&key).copied())
    }

    #[inline]
    fn update(burst: &&Self, key: u32) {
        let mut map = burst.write().unwrap_or_else(PoisonError::into_inner);
        *map.get_mut(&key).expect("each key is there from the start") += 1;
    }
}

impl Store for DashMap<u32, u64, Hashing> {
    const NAME: &'static str = "DashMap";
    type Burst<'a> = &'a Self;

    fn new(keys: u32) -> Self {
        (0..keys).map(|key| (key, 0)).collect()
    }

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn read(burst: &&Self, key: u32) -> u64 {
        is_there(burst.get(&key).map(|value| *value))
    }

    #[inline]
    fn update(burst: &&Self, key: u32) {
        let value = burst.get_mut(&key);
        *value.expect("each key is there from the start") += 1;
    }
}

impl Store for scc::HashMap<u32, u64, Hashing> {
    const NAME: &'static str = "scc HashMap";
    type Burst<'a> = &'a Self;

    fn new(keys: u32) -> Self {
        let map = scc::HashMap::with_capacity_and_hasher(keys as usize, Hashing::default());
        for key in 0..keys {
            map.upsert_sync(key, 0);
        }
        map
    }

    fn burst(&self) -> &Self {
        self
    }

    #[inline]
    fn read(burst: &&Self, key: u32) -> u64 {
        is_there(burst.read_sync(&key, |_, value| *value))
    }

    #[inline]
    fn update(burst: &&Self, key: u32) {
        let updated = burst.update_sync(&key, |_, value| {
            *value += 1;
            *value
        });
        is_there(updated);
    }
}

/// papaya's own `update`, which copies.
impl Store for papaya::HashMap<u32, u64, Hashing> {
    const NAME: &'static str = "papaya update";
    type Burst<'a> = papaya::HashMapRef<'a, u32, u64, Hashing, papaya::LocalGuard<'a>>;

    fn new(keys: u32) -> Self {
        let map = papaya::HashMap::with_capacity_and_hasher(keys as usize, Hashing::default());
        for key in 0..keys {
            map.pin().insert(key, 0);
        }
        map
    }

    fn burst(&self) -> Self::Burst<'_> {
        self.pin()
    }

    #[inline]
    fn read(burst: &Self::Burst<'_>, key: u32) -> u64 {
        is_there(burst.get(&key).copied())
    }

    #[inline]
    fn update(burst: &Self::Burst<'_>, key: u32) {
        is_there(burst.update(key, |value| value + 1).copied());
    }
}
