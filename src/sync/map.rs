//! A map that threads share: looks never wait, and a change waits for nobody who looks.
//!
//! It says what is where, and nothing else: what may change is behind a handle in it. In models, which can't
//! see into papaya, a lock stands in for it.
#![forbid(unsafe_code)]

use std::hash::Hash;

/// How keys are hashed: by a seed of each map's own, so that nobody can choose keys that collide.
pub(crate) type Hashing = foldhash::fast::RandomState;

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
pub(crate) use real::Map;
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
pub(crate) use stand_in::Map;

/// What a map is keyed by: hashed, or, in models, compared.
pub(crate) trait MapKey: Hash + Ord + Clone + Send + Sync + 'static {}

impl<K: Hash + Ord + Clone + Send + Sync + 'static> MapKey for K {}

impl<K: MapKey, V: Clone + Send + Sync + 'static> Map<K, V> {
    /// The value, or a new one where there is none, or one that `is_dead`.
    pub(crate) fn claim(&self, key: &K, make: impl Fn() -> V, is_dead: impl Fn(&V) -> bool) -> V {
        loop {
            let found = self.look(key, |value| (!is_dead(value)).then(|| value.clone()));
            if let Some(value) = found.flatten() {
                return value;
            }
            let value = make();
            if self.insert(key.clone(), value.clone(), &is_dead).is_ok() {
                return value;
            }
            // Somebody else's, who was faster.
        }
    }
}

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
mod real {
    use super::{Hashing, MapKey};
    use papaya::{Compute, HashMap, Operation};

    /// See the header of this file.
    pub(crate) struct Map<K, V>(HashMap<K, V, Hashing>);

    impl<K: MapKey, V: Clone + Send + Sync + 'static> Map<K, V> {
        pub(crate) fn new() -> Self {
            Map(HashMap::builder().hasher(Hashing::default()).build())
        }

        #[cfg(feature = "store")]
        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }

        /// What `look` makes of the value, if there is one.
        #[inline]
        pub(crate) fn look<R>(&self, key: &K, look: impl FnOnce(&V) -> R) -> Option<R> {
            self.0.pin().get(key).map(look)
        }

        #[inline]
        pub(crate) fn get(&self, key: &K) -> Option<V> {
            self.look(key, V::clone)
        }

        /// Puts a value where there is none, or one that `is_dead`. Gives it back where there is another.
        ///
        /// Not by `compute` alone, nor by what papaya builds on it: these allocate a larger table when one is
        /// full, and leave it to others to move the entries there. Were there no others, the map would become
        /// a chain of tables, and each look a walk along it.
        pub(crate) fn insert(
            &self,
            key: K,
            value: V,
            is_dead: impl Fn(&V) -> bool,
        ) -> Result<(), V> {
            let map = self.0.pin();
            let value = match map.try_insert(key.clone(), value) {
                Ok(_) => return Ok(()),
                Err(occupied) if !is_dead(occupied.current) => return Err(occupied.not_inserted),
                Err(occupied) => occupied.not_inserted,
            };
            let computed = map.compute(key, |entry| match entry {
                Some((_, old)) if !is_dead(old) => Operation::Abort(()),
                _ => Operation::Insert(value.clone()),
            });
            match computed {
                Compute::Aborted(()) => Err(value),
                _ => Ok(()),
            }
        }

        /// Takes a value out that `is_it`.
        pub(crate) fn remove_if(&self, key: &K, is_it: impl Fn(&V) -> bool) -> bool {
            let map = self.0.pin();
            let removed = map.remove_if(key, |_, value| is_it(value));
            matches!(removed, Ok(Some(_)))
        }

        /// Everything that was there all the while, and some of what wasn't.
        pub(crate) fn entries(&self) -> Vec<(K, V)> {
            let map = self.0.pin();
            map.iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        }
    }
}

#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
mod stand_in {
    use super::super::backend::sync::{Mutex, MutexGuard};
    use super::MapKey;
    use std::collections::BTreeMap;
    use std::sync::PoisonError;

    /// See the header of this file. What is looked at was cloned, so that nothing happens under the lock.
    pub(crate) struct Map<K, V>(Mutex<BTreeMap<K, V>>);

    impl<K: MapKey, V: Clone + Send + Sync + 'static> Map<K, V> {
        pub(crate) fn new() -> Self {
            Map(Mutex::new(BTreeMap::new()))
        }

        fn lock(&self) -> MutexGuard<'_, BTreeMap<K, V>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        #[cfg(feature = "store")]
        pub(crate) fn len(&self) -> usize {
            self.lock().len()
        }

        pub(crate) fn look<R>(&self, key: &K, look: impl FnOnce(&V) -> R) -> Option<R> {
            self.get(key).as_ref().map(look)
        }

        pub(crate) fn get(&self, key: &K) -> Option<V> {
            self.lock().get(key).cloned()
        }

        pub(crate) fn insert(
            &self,
            key: K,
            value: V,
            is_dead: impl Fn(&V) -> bool,
        ) -> Result<(), V> {
            let old = {
                let mut map = self.lock();
                match map.get(&key) {
                    Some(old) if !is_dead(old) => return Err(value),
                    _ => map.insert(key, value),
                }
            };
            drop(old);
            Ok(())
        }

        pub(crate) fn remove_if(&self, key: &K, is_it: impl Fn(&V) -> bool) -> bool {
            let removed = {
                let mut map = self.lock();
                match map.get(key) {
                    Some(value) if is_it(value) => map.remove(key),
                    _ => None,
                }
            };
            removed.is_some()
        }

        pub(crate) fn entries(&self) -> Vec<(K, V)> {
            let map = self.lock();
            map.iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        }
    }
}
