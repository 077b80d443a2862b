//! A lock for what is short and rare. Nothing of anybody else's runs under it, so it is never left half done.
#![forbid(unsafe_code)]

use super::backend::sync::Mutex;
#[cfg(feature = "scheduler")]
use std::sync::PoisonError;
use std::sync::TryLockError;

/// See the header of this file.
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    #[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
    pub(crate) const fn new(value: T) -> Self {
        Lock(Mutex::new(value))
    }

    #[cfg(all(
        feature = "scheduler",
        any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)
    ))]
    pub(crate) fn new(value: T) -> Self {
        Lock(Mutex::new(value))
    }

    #[cfg(feature = "scheduler")]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unless somebody else has it just now.
    pub(crate) fn try_with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        match self.0.try_lock() {
            Ok(mut value) => Some(work(&mut value)),
            Err(TryLockError::Poisoned(value)) => Some(work(&mut value.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[cfg(feature = "scheduler")]
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
