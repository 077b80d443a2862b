//! Something behind an `Arc` that is made where it stays.

use std::sync::Arc;

/// What `make` makes, behind an `Arc`. The memory comes first, so that what is large is written there at once: by
/// `Arc::new` it would be put together on the stack, and copied.
#[inline(always)]
pub(crate) fn shared<T>(make: impl FnOnce() -> T) -> Arc<T> {
    let mut place = Arc::new_uninit();
    Arc::get_mut(&mut place)
        .expect("nobody else has it")
        .write(make());
    // SAFETY: it was written just now.
    unsafe { place.assume_init() }
}
