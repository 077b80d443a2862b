//! Atomic pointers to an `Arc`: arc-swap and hazarc.
//!
//! A `Cache` belongs to a thread, as both recommend. arc-swap has its default strategy, hazarc its
//! default domain and the write policy for concurrent writers, under which its reads are monotonic.

use super::{Read, Shared, Update};
use crate::payload::Payload;
use arc_swap::ArcSwap;
use hazarc::AtomicArc;
use std::sync::Arc;

impl<P: Payload> Shared for ArcSwap<P> {
    type Payload = P;

    fn new(value: P) -> Self {
        ArcSwap::from_pointee(value)
    }

    fn end(&self) -> (P, Option<u64>) {
        (**self.load(), None)
    }
}

/// `load`: borrowed, as a rule without a count.
pub(crate) struct SwapLoad;

impl<P: Payload> Read<ArcSwap<P>> for SwapLoad {
    const NAME: &'static str = "arc_swap load";
    type Reader<'a> = &'a ArcSwap<P>;

    fn reader(swap: &ArcSwap<P>) -> &ArcSwap<P> {
        swap
    }

    #[inline]
    fn read(swap: &mut &ArcSwap<P>, mut look: impl FnMut(&P)) {
        look(&swap.load());
    }
}

/// `load_full`: owned.
pub(crate) struct SwapLoadFull;

impl<P: Payload> Read<ArcSwap<P>> for SwapLoadFull {
    const NAME: &'static str = "arc_swap load_full";
    type Reader<'a> = &'a ArcSwap<P>;

    fn reader(swap: &ArcSwap<P>) -> &ArcSwap<P> {
        swap
    }

    #[inline]
    fn read(swap: &mut &ArcSwap<P>, mut look: impl FnMut(&P)) {
        look(&swap.load_full());
    }
}

/// A `Cache` of one's own.
pub(crate) struct SwapCache;

impl<P: Payload> Read<ArcSwap<P>> for SwapCache {
    const NAME: &'static str = "arc_swap Cache";
    type Reader<'a> = arc_swap::Cache<&'a ArcSwap<P>, Arc<P>>;

    fn reader(swap: &ArcSwap<P>) -> Self::Reader<'_> {
        arc_swap::Cache::new(swap)
    }

    #[inline]
    fn read(cache: &mut Self::Reader<'_>, mut look: impl FnMut(&P)) {
        look(cache.load());
    }
}

/// `rcu`.
pub(crate) struct SwapRcu;

impl<P: Payload> Update<ArcSwap<P>> for SwapRcu {
    const NAME: &'static str = "arc_swap rcu";
    type Writer<'a> = &'a ArcSwap<P>;

    fn writer(swap: &ArcSwap<P>) -> &ArcSwap<P> {
        swap
    }

    #[inline]
    fn update(swap: &mut &ArcSwap<P>) -> u64 {
        let mut attempts = 0;
        swap.rcu(|value| {
            attempts += 1;
            value.next()
        });
        attempts
    }
}

/// `load` and `store`: for a single writer only, since updates of two would be lost.
pub(crate) struct SwapStore;

impl<P: Payload> Update<ArcSwap<P>> for SwapStore {
    const NAME: &'static str = "arc_swap load + store";
    type Writer<'a> = &'a ArcSwap<P>;

    fn writer(swap: &ArcSwap<P>) -> &ArcSwap<P> {
        swap
    }

    #[inline]
    fn update(swap: &mut &ArcSwap<P>) -> u64 {
        let next = swap.load().next();
        swap.store(Arc::new(next));
        1
    }
}

impl<P: Payload> Shared for AtomicArc<P> {
    type Payload = P;

    fn new(value: P) -> Self {
        AtomicArc::from(Arc::new(value))
    }

    fn end(&self) -> (P, Option<u64>) {
        (**self.load(), None)
    }
}

/// `load`: borrowed, as a rule without a count.
pub(crate) struct HazLoad;

impl<P: Payload> Read<AtomicArc<P>> for HazLoad {
    const NAME: &'static str = "hazarc load";
    type Reader<'a> = &'a AtomicArc<P>;

    fn reader(haz: &AtomicArc<P>) -> &AtomicArc<P> {
        haz
    }

    #[inline]
    fn read(haz: &mut &AtomicArc<P>, mut look: impl FnMut(&P)) {
        look(&haz.load());
    }
}

/// A `Cache` of one's own.
pub(crate) struct HazCache;

impl<P: Payload> Read<AtomicArc<P>> for HazCache {
    const NAME: &'static str = "hazarc Cache";
    type Reader<'a> = hazarc::Cache<&'a AtomicArc<P>>;

    fn reader(haz: &AtomicArc<P>) -> Self::Reader<'_> {
        hazarc::Cache::new(haz)
    }

    #[inline]
    fn read(cache: &mut Self::Reader<'_>, mut look: impl FnMut(&P)) {
        look(cache.load());
    }
}

/// `fetch_update`, its counterpart of `rcu`.
pub(crate) struct HazUpdate;

impl<P: Payload> Update<AtomicArc<P>> for HazUpdate {
    const NAME: &'static str = "hazarc fetch_update";
    type Writer<'a> = &'a AtomicArc<P>;

    fn writer(haz: &AtomicArc<P>) -> &AtomicArc<P> {
        haz
    }

    #[inline]
    fn update(haz: &mut &AtomicArc<P>) -> u64 {
        let mut attempts = 0;
        let updated = haz.fetch_update(|value| {
            attempts += 1;
            Some(Arc::new(value.next()))
        });
        debug_assert!(updated.is_ok(), "the closure always returns a value");
        attempts
    }
}
