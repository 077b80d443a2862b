//! Operations that somebody is faster than, as often as one likes.

use snapcell::{Entity, RetryPolicy};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// Tries again without staying away.
pub(crate) fn at_once() -> RetryPolicy {
    RetryPolicy::linear(Duration::ZERO).never_reserving()
}

/// Adds 1; meanwhile, so many times, somebody else adds 100.
pub(crate) fn overtaken(
    entity: &Entity<u64>,
    times: u64,
) -> impl Fn(&u64) -> u64 + Send + Sync + use<> {
    let (other, left) = (entity.clone(), AtomicU64::new(times));
    move |n| {
        if left.load(SeqCst) > 0 {
            left.fetch_sub(1, SeqCst);
            thread::scope(|scope| {
                scope.spawn(|| _ = *other.update(|n| n + 100).snapshot());
            });
        }
        n + 1
    }
}
