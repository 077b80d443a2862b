//! A closure that is called after commits, on a thread of its own.
//!
//! It is a watch with a loop around it. Commits don't call anybody: they wake that thread, as they
//! wake whoever waits. So a slow closure delays nobody, and one that panics ends nothing but itself.
#![forbid(unsafe_code)]

use super::entity::{Entity, Extras};
use super::snapshot::Snapshot;
use super::wait::latest;
use crate::raw::{Watcher, reclaim};
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use crate::sync::{self, AtomicUsize, sleep};
use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

/// A closure that is called after commits, until this is dropped or the entity is closed.
///
/// Dropping it stops the calls, and waits for nobody: one that runs, or is about to, goes on to its end.
/// A closure that owns a handle of its entity keeps that open.
#[must_use = "it is stopped when it is dropped"]
pub struct Callback<T: Send + Sync + 'static, E: 'static = Infallible> {
    watcher: Watcher<T, Extras<T, E>>,
    stopped: Arc<AtomicUsize>,
    thread: Option<sync::JoinHandle<()>>,
}

impl<T: Send + Sync + 'static, E: 'static> Entity<T, E> {
    /// Has `call` called with the latest snapshot after commits, on a thread of its own.
    ///
    /// It is called once for a change, or for several that come faster than it looks, and for the last
    /// one in any case. Calls don't overlap. It may commit to this very entity. If it panics there are
    /// no more calls; [`Callback::join`] and [`Callback::stop`] return the panic.
    ///
    /// # Panics
    /// If the system can't start a thread.
    ///
    /// # Examples
    /// ```
    /// use std::sync::mpsc;
    ///
    /// let level = snapcell::Entity::new(0);
    /// let (tell, told) = mpsc::channel();
    /// let callback = level.on_commit(move |level| tell.send(**level).unwrap());
    /// level.replace(7);
    /// assert_eq!(told.recv(), Ok(7));
    /// callback.stop().unwrap();
    /// ```
    pub fn on_commit(&self, mut call: impl FnMut(&Snapshot<T>) + Send + 'static) -> Callback<T, E> {
        let watcher = self.0.watcher();
        let stopped = Arc::new(AtomicUsize::new(0));
        let thread = {
            let (watcher, stopped, seen) = (watcher.clone(), Arc::clone(&stopped), self.snapshot());
            #[allow(
                clippy::disallowed_methods,
                reason = "it owns what it looks at, and may outlive its caller"
            )]
            sync::spawn(move || {
                call_after_commits(&watcher, &stopped, seen, &mut call);
                drop((watcher, call));
                reclaim::leave();
            })
        };
        Callback {
            watcher,
            stopped,
            thread: Some(thread),
        }
    }
}

fn call_after_commits<T: Send + Sync + 'static, E: 'static>(
    watcher: &Watcher<T, Extras<T, E>>,
    stopped: &AtomicUsize,
    mut seen: Snapshot<T>,
    call: &mut impl FnMut(&Snapshot<T>),
) {
    let source = watcher.waitable();
    let waker = sleep::waker();
    let is_stopped = || stopped.load(site::STOP_LOAD) != 0;
    loop {
        if planted(Fault::StopUnheard) && is_stopped() {
            return;
        }
        // On the list before the looks, so that a stop is seen in this round or wakes us in it.
        let listener = source.listen(&waker, true);
        if !planted(Fault::StopUnheard) && is_stopped() {
            return;
        }
        let (now, is_last) = latest(source);
        if !Snapshot::ptr_eq(&now, &seen) {
            drop(listener);
            seen = now;
            call(&seen);
        } else if is_last {
            return;
        } else if source.mark(&seen.0) {
            while !listener.is_woken(&waker) {
                sleep::park(None);
            }
        }
    }
}

impl<T: Send + Sync + 'static, E: 'static> Callback<T, E> {
    /// Stops the calls, and waits for the end of one that runs.
    ///
    /// # Errors
    /// The closure's panic, if it ended by one.
    /// # Progress
    /// Blocking. From within the closure it would wait for itself, which the system may turn into a
    /// panic or an endless wait; drop it there.
    pub fn stop(mut self) -> Result<(), Box<dyn Any + Send>> {
        self.tell_to_stop();
        self.wait_for_end()
    }

    /// Waits until the entity is closed and its last snapshot was shown.
    ///
    /// # Errors
    /// The closure's panic, if it ended by one.
    /// # Progress
    /// Blocking. For ever, if this thread keeps a handle of the entity.
    pub fn join(mut self) -> Result<(), Box<dyn Any + Send>> {
        self.wait_for_end()
    }

    fn wait_for_end(&mut self) -> Result<(), Box<dyn Any + Send>> {
        self.thread.take().map_or(Ok(()), sync::JoinHandle::join)
    }

    fn tell_to_stop(&self) {
        self.stopped.store(1, site::STOP_SET);
        // Whoever waits for this entity is woken, and all but one go on waiting.
        self.watcher.waitable().wake();
    }
}

impl<T: Send + Sync + 'static, E: 'static> Drop for Callback<T, E> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.tell_to_stop();
        }
    }
}

impl<T: Send + Sync + 'static, E: 'static> fmt::Debug for Callback<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("is_stopped", &(self.stopped.load(site::STOP_LOAD) != 0))
            .finish_non_exhaustive()
    }
}
