//! Waiting for a snapshot, on a thread or in a task.
//!
//! A round: look; if that wasn't it, register, and mark the very snapshot that was looked at as
//! awaited (`raw/head.rs`). If somebody has replaced it meanwhile the mark fails, and the next round
//! begins at once. Otherwise whoever replaces it takes the mark out and wakes all who have registered.
//! No wake-up is lost, whatever comes in between, and none depends on what others do who wait.
#![forbid(unsafe_code)]

use super::entity::{Entity, Extras};
use super::snapshot::Snapshot;
use crate::clock;
use crate::raw::Waitable;
use crate::raw::reclaim::{Reclaim, Reclaimer};
use crate::stamp::Stamp;
use crate::sync;
use crate::sync::event::Listener;
use crate::sync::sleep;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use thiserror::Error;

impl<T: Send + Sync + 'static, E: 'static> Entity<T, E> {
    /// Waits until the entity has another snapshot than that of `since`, and returns it.
    ///
    /// Await it on any runtime, or block by [`wait`](Waiting::wait) and its kin. It shows the latest
    /// snapshot, not each one: what was replaced before anybody looked is not seen. If nobody else has
    /// a handle it never ends; a [`Watch`](crate::Watch) would be told.
    ///
    /// # Examples
    /// ```
    /// let job = snapcell::Entity::new("running");
    /// let before = job.snapshot();
    /// std::thread::scope(|s| {
    ///     s.spawn(|| job.replace("done").stamp());
    ///     assert_eq!(*job.changed(before.stamp()).wait(), "done");
    /// });
    /// ```
    #[allow(clippy::type_complexity, reason = "what it waits for is a closure")]
    pub fn changed(
        &self,
        since: Stamp,
    ) -> Waiting<'_, T, E, Snapshot<T>, impl FnMut(&Snapshot<T>, bool) -> Option<Snapshot<T>>> {
        Waiting::new(self.0.waitable(), move |seen: &Snapshot<T>, _| {
            (seen.stamp() != since).then(|| seen.clone())
        })
    }

    /// Waits until the value is as `is_it` wants it, and returns the snapshot.
    ///
    /// `is_it` looks at the current value at once, and at the latest one after changes. It runs
    /// without a guard, so it may take its time. If it panics, nothing is left behind.
    ///
    /// # Examples
    /// ```
    /// let arrived = snapcell::Entity::new(0);
    /// std::thread::scope(|s| {
    ///     for _ in 0..3 {
    ///         s.spawn(|| arrived.update(|n| n + 1).stamp());
    ///     }
    ///     assert_eq!(*arrived.wait_for(|n| *n == 3).wait(), 3);
    /// });
    /// ```
    #[allow(clippy::type_complexity, reason = "what it waits for is a closure")]
    pub fn wait_for(
        &self,
        mut is_it: impl FnMut(&T) -> bool,
    ) -> Waiting<'_, T, E, Snapshot<T>, impl FnMut(&Snapshot<T>, bool) -> Option<Snapshot<T>>> {
        Waiting::new(self.0.waitable(), move |seen: &Snapshot<T>, _| {
            is_it(seen).then(|| seen.clone())
        })
    }

    /// Waits until `choose` finds in the value what it wants, and returns that.
    ///
    /// # Examples
    /// ```
    /// let address = snapcell::Entity::new(None);
    /// std::thread::scope(|s| {
    ///     s.spawn(|| address.replace(Some("10.0.0.1")).stamp());
    ///     assert_eq!(address.wait_for_map(|a| *a).wait(), "10.0.0.1");
    /// });
    /// ```
    pub fn wait_for_map<R>(
        &self,
        mut choose: impl FnMut(&T) -> Option<R>,
    ) -> Waiting<'_, T, E, R, impl FnMut(&Snapshot<T>, bool) -> Option<R>> {
        Waiting::new(self.0.waitable(), move |seen: &Snapshot<T>, _| choose(seen))
    }
}

/// Something that is waited for. Await it, or block by [`wait`](Waiting::wait) and its kin.
///
/// It does nothing until then, and can be dropped at any moment. Once it is done it can be used again, and
/// begins from the start.
///
/// `R` is what comes of it. `F` looks at a snapshot, and is told whether it is the last one.
///
/// # Linearization
/// The load of the head in the look that was successful.
/// # Progress
/// Blocking: that is what it is for. Whoever commits doesn't wait for it, but for a short lock on the
/// list of those who wait, if there are any.
/// # Complexity
/// A round of waiting: one snapshot, one entry in a list, at most one compare-and-exchange on the head,
/// and a wait. The first wait for an entity makes the list.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let never = snapcell::Entity::new(1).wait_for(|n| *n == 2).wait_timeout(Duration::from_millis(1));
/// assert_eq!(never, Err(snapcell::TimedOut));
/// ```
#[must_use = "it waits only when it is awaited, or by `wait`"]
pub struct Waiting<'e, T: Send + Sync + 'static, E: 'static, R, F>
where
    F: FnMut(&Snapshot<T>, bool) -> Option<R>,
{
    source: Waitable<'e, T, Extras<T, E>>,
    look: F,
    /// What a task that waits is registered by.
    listener: Option<Listener<'e>>,
}

/// What came of a round.
enum Round<'e, R> {
    Found(R),
    Registered(Listener<'e>),
    /// Others committed faster than it could look, several times.
    Overtaken,
}

/// A thread watches the head for so many pauses of the processor, some microseconds, before it goes to
/// sleep: to sleep and be woken takes as long. In models there is nothing between two steps.
const PAUSES: u32 = if cfg!(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)) {
    0
} else {
    64
};

/// Looks in a round. After so many it gives others a chance, and looks at the clock.
const LOOKS: usize = 8;

impl<'e, T, E, R, F> Waiting<'e, T, E, R, F>
where
    T: Send + Sync + 'static,
    E: 'static,
    F: FnMut(&Snapshot<T>, bool) -> Option<R>,
{
    pub(super) fn new(source: Waitable<'e, T, Extras<T, E>>, look: F) -> Self {
        Waiting {
            source,
            look,
            listener: None,
        }
    }

    /// Blocks this thread until it is there.
    pub fn wait(mut self) -> R {
        loop {
            // Without a deadline nothing but success ends it.
            if let Some(found) = self.wait_until(None) {
                return found;
            }
        }
    }

    /// Blocks this thread until it is there, or for so long.
    ///
    /// # Errors
    /// [`TimedOut`], after one last look.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<R, TimedOut> {
        let found = match clock::deadline(timeout) {
            Some(deadline) => self.wait_until(Some(deadline)),
            None => return Ok(self.wait()),
        };
        found.ok_or(TimedOut)
    }

    /// Blocks this thread until it is there, or until `deadline`.
    ///
    /// # Errors
    /// [`TimedOut`], after one last look.
    pub fn wait_deadline(mut self, deadline: Instant) -> Result<R, TimedOut> {
        self.wait_until(Some(deadline)).ok_or(TimedOut)
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Option<R> {
        // If it was polled before: this thread doesn't wait for that.
        self.listener = None;
        let waker = sleep::waker();
        loop {
            match self.round(&waker, Some(PAUSES)) {
                Round::Found(found) => return Some(found),
                Round::Overtaken if sleep::is_over(deadline) => return None,
                Round::Overtaken => {}
                Round::Registered(listener) => {
                    while !listener.is_woken(&waker) {
                        if !sleep::park(deadline) {
                            return self.look().0;
                        }
                    }
                }
            }
        }
    }

    /// `pauses`: if it is a thread that waits, how long to watch the head before registering.
    fn round(&mut self, waker: &Waker, pauses: Option<u32>) -> Round<'e, R> {
        for _ in 0..LOOKS {
            let (found, seen) = self.look();
            if let Some(found) = found {
                return Round::Found(found);
            }
            if self.is_replaced_within(pauses.unwrap_or(0), &seen) {
                continue;
            }
            let listener = self.source.listen(waker, pauses.is_some());
            if self.source.mark(&seen.0) {
                return Round::Registered(listener);
            }
        }
        Round::Overtaken
    }

    fn is_replaced_within(&self, pauses: u32, seen: &Snapshot<T>) -> bool {
        (0..pauses).any(|_| {
            sync::spin(1);
            !self.source.head().is(&seen.0)
        })
    }

    fn look(&mut self) -> (Option<R>, Snapshot<T>) {
        let (seen, is_last) = latest(self.source);
        ((self.look)(&seen, is_last), seen)
    }
}

/// The current snapshot, and whether it will remain so.
pub(super) fn latest<T: Send + Sync + 'static, E: 'static>(
    source: Waitable<'_, T, Extras<T, E>>,
) -> (Snapshot<T>, bool) {
    // First: what is current after the close is the last one.
    let is_last = source.head().is_closed();
    let guard = Reclaimer::pin();
    (Snapshot(source.head().load(&guard).hold()), is_last)
}

/// Nothing in it is ever pinned: the closure runs by `&mut`, and a listener is a pointer.
impl<T, E, R, F> Unpin for Waiting<'_, T, E, R, F>
where
    T: Send + Sync + 'static,
    E: 'static,
    F: FnMut(&Snapshot<T>, bool) -> Option<R>,
{
}

impl<T, E, R, F> Future for Waiting<'_, T, E, R, F>
where
    T: Send + Sync + 'static,
    E: 'static,
    F: FnMut(&Snapshot<T>, bool) -> Option<R>,
{
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = self.get_mut();
        if let Some(listener) = &this.listener
            && !listener.is_woken(cx.waker())
        {
            return Poll::Pending;
        }
        this.listener = None;
        match this.round(cx.waker(), None) {
            Round::Found(found) => return Poll::Ready(found),
            Round::Registered(listener) => this.listener = Some(listener),
            Round::Overtaken => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }
}

impl<T, E, R, F> fmt::Debug for Waiting<'_, T, E, R, F>
where
    T: Send + Sync + 'static,
    E: 'static,
    F: FnMut(&Snapshot<T>, bool) -> Option<R>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("is_registered", &self.listener.is_some())
            .finish_non_exhaustive()
    }
}

/// It was not there in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("what was waited for did not come in time")]
pub struct TimedOut;
