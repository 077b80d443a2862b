//! The epoch scheme: crossbeam-epoch, or the oracle that states what it promises.
//!
//! The collector is the crate's own, not the one that all users of crossbeam-epoch in a process
//! share by default. So no pin of ours runs what others have deferred, and nobody else's pins keep
//! our memory.

#[cfg(any(snapcell_model, snapcell_shuttle))]
pub(super) use crate::sync::oracle::{Guard, pin};

#[cfg(not(any(snapcell_model, snapcell_shuttle)))]
pub(super) use scheme::{Guard, pin};

#[cfg(not(any(snapcell_model, snapcell_shuttle)))]
mod scheme {
    use crate::sync::{lazy_global, lazy_per_thread};
    pub(in crate::raw) use crossbeam_epoch::Guard;
    use crossbeam_epoch::{Collector, LocalHandle};

    lazy_global! {
        static COLLECTOR: Collector = Collector::new();
    }

    lazy_per_thread! {
        static PARTICIPANT: LocalHandle = COLLECTOR.register();
    }

    /// Pins the current thread; one past its own end takes part for this once.
    #[inline]
    pub(in crate::raw) fn pin() -> Guard {
        PARTICIPANT
            .try_with(LocalHandle::pin)
            .unwrap_or_else(|_| COLLECTOR.register().pin())
    }
}
