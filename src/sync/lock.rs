//! A lock for what is short and rare. Nothing of anybody else's runs under it, so it is never left half done.
#![forbid(unsafe_code)]

use super::backend::sync::Mutex;
use std::sync::PoisonError;

/// See the header of this file.
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Lock(Mutex::new(value))
    }

    #[cfg(feature = "scheduler")]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
