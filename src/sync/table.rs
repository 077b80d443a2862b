//! A value that everybody reads and somebody replaces now and then.
//!
//! A look never waits, and goes on seeing the value that it has found. A change is a new value: whoever was
//! overtaken computes it again. In models, which can't see into arc-swap, a lock stands in for it. It never is
//! a head: what it does is invisible to the models.
#![forbid(unsafe_code)]

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
pub(crate) use real::{Remembered, Table};
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
pub(crate) use stand_in::{Remembered, Table};

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
mod real {
    use arc_swap::ArcSwap;
    use arc_swap::cache::Cache;
    use std::sync::Arc;

    /// See the header of this file.
    pub(crate) struct Table<T>(Arc<ArcSwap<T>>);

    impl<T> Table<T> {
        pub(crate) fn new(value: T) -> Self {
            Table(Arc::new(ArcSwap::from_pointee(value)))
        }

        /// The value.
        pub(crate) fn get(&self) -> Arc<T> {
            self.0.load_full()
        }

        /// Looks at the value. Nobody waits for whoever looks.
        pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
            look(&self.0.load())
        }

        /// The value, and whatever it will be.
        pub(crate) fn remember(&self) -> Remembered<T> {
            Remembered(Cache::new(self.0.clone()))
        }

        /// Replaces the value, whatever it is.
        pub(crate) fn store(&self, value: T) {
            self.0.store(Arc::new(value));
        }

        /// Replaces the value by what follows from it, with what `change` says besides. It runs again if somebody
        /// was faster, and nothing changes if it fails.
        pub(crate) fn update<R, E>(
            &self,
            mut change: impl FnMut(&T) -> Result<(T, R), E>,
        ) -> Result<R, E> {
            loop {
                let current = self.get();
                let (value, result) = change(&current)?;
                let found = self.0.compare_and_swap(&current, Arc::new(value));
                if Arc::ptr_eq(&current, &found) {
                    return Ok(result);
                }
            }
        }
    }

    /// A table as one thread knows it: a look writes nothing that others read.
    pub(crate) struct Remembered<T>(Cache<Arc<ArcSwap<T>>, Arc<T>>);

    impl<T> Remembered<T> {
        #[inline]
        pub(crate) fn get(&mut self) -> &T {
            self.0.load()
        }
    }
}

#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
mod stand_in {
    use super::super::backend::sync::{Mutex, MutexGuard};
    use std::sync::{Arc, PoisonError};

    /// See the header of this file. Nothing is dropped, and nobody called, under the lock.
    pub(crate) struct Table<T>(Mutex<Arc<T>>);

    impl<T> Table<T> {
        pub(crate) fn new(value: T) -> Self {
            Table(Mutex::new(Arc::new(value)))
        }

        fn lock(&self) -> MutexGuard<'_, Arc<T>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn get(&self) -> Arc<T> {
            Arc::clone(&self.lock())
        }

        pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
            look(&self.get())
        }

        /// Here it is what it was: models replace no table.
        pub(crate) fn remember(&self) -> Remembered<T> {
            Remembered(self.get())
        }

        pub(crate) fn store(&self, value: T) {
            let value = Arc::new(value);
            let old = std::mem::replace(&mut *self.lock(), value);
            drop(old);
        }

        pub(crate) fn update<R, E>(
            &self,
            mut change: impl FnMut(&T) -> Result<(T, R), E>,
        ) -> Result<R, E> {
            loop {
                let current = self.get();
                let (value, result) = change(&current)?;
                let value = Arc::new(value);
                let mut place = self.lock();
                if Arc::ptr_eq(&place, &current) {
                    *place = value;
                    drop(place);
                    return Ok(result);
                }
            }
        }
    }

    /// A table as one thread knows it.
    pub(crate) struct Remembered<T>(Arc<T>);

    impl<T> Remembered<T> {
        pub(crate) fn get(&mut self) -> &T {
            &self.0
        }
    }
}

#[cfg(all(test, not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))))]
mod tests {
    use super::Table;
    use std::thread;

    #[test]
    fn a_look_goes_on_seeing_what_it_has_found() {
        let table = Table::new(1);
        let before = table.get();
        table.store(2);
        assert_eq!((*before, *table.get()), (1, 2));
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let table = Table::new(1);
        let failed: Result<(), _> = table.update(|value| Err(value + 10));
        assert_eq!((failed, *table.get()), (Err(11), 1));
    }

    #[test]
    fn no_change_is_lost() {
        let table = Table::new(0_u32);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let old = table.update(|value| Ok::<_, ()>((value + 1, *value)));
                        assert!(old.is_ok());
                    }
                });
            }
        });
        assert_eq!(*table.get(), 2000);
    }
}
