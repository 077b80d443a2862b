//! A queue that threads share, first in, first out. In models, which can't see into crossbeam's, a lock stands in
//! for it.
#![forbid(unsafe_code)]

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
pub(crate) use crossbeam_queue::SegQueue as Queue;
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
pub(crate) use stand_in::Queue;

#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
mod stand_in {
    use super::super::lock::Lock;
    use std::collections::VecDeque;

    /// See the header of this file.
    pub(crate) struct Queue<T>(Lock<VecDeque<T>>);

    impl<T> Queue<T> {
        pub(crate) fn new() -> Self {
            Queue(Lock::new(VecDeque::new()))
        }

        pub(crate) fn push(&self, value: T) {
            self.0.with(|queue| queue.push_back(value));
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.with(|queue| queue.is_empty())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.with(VecDeque::pop_front)
        }
    }
}
