//! Queues that threads share, first in, first out: one of any length, and a ring. In models, which can't see into
//! crossbeam's, a lock stands in for them.
#![forbid(unsafe_code)]

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
pub(crate) use crossbeam_queue::{ArrayQueue as Ring, SegQueue as Queue};
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
pub(crate) use stand_in::{Queue, Ring};

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

    /// The same, with room for so many.
    pub(crate) struct Ring<T> {
        queue: Lock<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> Ring<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            Ring {
                queue: Lock::new(VecDeque::new()),
                capacity,
            }
        }

        /// Puts a value in. Where there is no room, the oldest one goes.
        pub(crate) fn force_push(&self, value: T) -> Option<T> {
            self.queue.with(|queue| {
                queue.push_back(value);
                (queue.len() > self.capacity).then(|| queue.pop_front())?
            })
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.queue.with(VecDeque::pop_front)
        }

        pub(crate) fn len(&self) -> usize {
            self.queue.with(|queue| queue.len())
        }
    }
}
