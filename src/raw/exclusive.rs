//! A value that only its owner gets at, and that may be shared therefore, whatever it is.

/// See the header of this file.
pub(crate) struct Exclusive<T>(T);

// SAFETY: a reference that is shared gives no access to the value.
unsafe impl<T> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Exclusive(value)
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
