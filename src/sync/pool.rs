//! The threads that serve lanes: rayon's, started when they are needed for the first time. In models there are none
//! but those of the model, which serve by themselves.
#![forbid(unsafe_code)]

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
pub(crate) use real::Pool;
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
pub(crate) use stand_in::Pool;

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
mod real {
    use rayon_core::{ThreadPool, ThreadPoolBuilder};
    use std::sync::OnceLock;

    /// See the header of this file.
    pub(crate) struct Pool {
        threads: usize,
        /// `None`: the system refused to start them.
        pool: OnceLock<Option<ThreadPool>>,
    }

    impl Pool {
        /// A pool of so many threads, none of which runs yet.
        pub(crate) fn new(threads: usize) -> Self {
            Pool {
                threads,
                pool: OnceLock::new(),
            }
        }

        /// How many threads there are, or will be.
        pub(crate) fn threads(&self) -> usize {
            match self.pool.get() {
                Some(None) => 0,
                _ => self.threads,
            }
        }

        /// Runs a job on one of the threads, some time. `false`: there are none.
        pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) -> bool {
            let start = || {
                ThreadPoolBuilder::new()
                    .num_threads(self.threads)
                    .thread_name(|index| format!("snapcell-worker-{index}"))
                    .build()
                    .ok()
            };
            if self.threads == 0 {
                return false;
            }
            match self.pool.get_or_init(start) {
                Some(pool) => {
                    pool.spawn(job);
                    true
                }
                None => false,
            }
        }
    }
}

#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
mod stand_in {
    /// See the header of this file.
    pub(crate) struct Pool;

    impl Pool {
        pub(crate) fn new(_threads: usize) -> Self {
            Pool
        }

        pub(crate) fn threads(&self) -> usize {
            0
        }

        pub(crate) fn spawn(&self, _job: impl FnOnce() + Send + 'static) -> bool {
            false
        }
    }
}
