//! What this thread runs: the operation whose closure it is in, and those around it.
//!
//! An operation that is submitted inside another one is its child without being told, and what it waits for
//! inherits its importance. That follows the operation, not the thread: a closure that hands work to another thread
//! or task passes a [`Context`] on.
#![forbid(unsafe_code)]

use super::priority::Priority;
use super::record::Work;
use crate::raw::{Frames, Loan};
use crate::sync::per_thread;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

per_thread! {
    /// The closures that this thread is in: the operation of each, how important it is at least, and the entities that
    /// it may change.
    static RUNNING: Frames<dyn Work, Priority> = Frames::new();
}

per_thread! {
    static SERVING: Cell<usize> = Cell::new(0);
}

type Frame<'f> = Loan<'f, dyn Work, Priority>;

/// An operation that others may be part of. See [`Operation::within`](crate::Operation::within).
#[derive(Clone)]
pub struct Context {
    /// The innermost one that was submitted. What is run on its caller's thread has no record.
    pub(super) work: Option<Arc<dyn Work>>,
    /// How important it is at least: as what is run on its caller's thread, which nobody can change.
    pub(super) floor: Priority,
}

impl Context {
    /// The operation whose closure this thread is in, if there is one.
    #[must_use]
    pub fn current() -> Option<Context> {
        RUNNING
            .try_with(|running| running.find(|frame| Some(Context::of(frame))))
            .ok()
            .flatten()
    }

    fn of(frame: &Frame<'_>) -> Self {
        Context {
            work: frame.owner.cloned(),
            floor: frame.plain,
        }
    }

    /// How important it is now.
    #[must_use]
    pub fn priority(&self) -> Priority {
        let work = self.work.as_ref();
        work.map_or(self.floor, |work| work.status().priority().max(self.floor))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field(
                "operation",
                &self.work.as_ref().map(|work| work.header().id),
            )
            .field("priority", &self.priority())
            .finish()
    }
}

/// What is known of the closures that this thread is in, before another operation runs in them.
pub(super) enum Around {
    /// There are none.
    Nothing,
    /// The innermost is that of this operation.
    Inside(Context),
    /// One of them may change one of the same entities.
    Busy,
}

/// Whether this thread is in the closure of an operation.
#[inline]
pub(super) fn is_in_closure() -> bool {
    let is_in = RUNNING.try_with(|running| !running.is_empty());
    is_in.unwrap_or(false)
}

/// Looks at the closures that this thread is in.
#[inline]
pub(super) fn around(targets: &[usize]) -> Around {
    RUNNING
        .try_with(|running| {
            if running.is_empty() {
                return Around::Nothing;
            }
            around_all(running, targets)
        })
        .unwrap_or(Around::Nothing)
}

#[cold]
fn around_all(running: &Frames<dyn Work, Priority>, targets: &[usize]) -> Around {
    let is_busy = |frame: &Frame<'_>| frame.targets.iter().any(|busy| targets.contains(busy));
    if running.find(|frame| is_busy(frame).then_some(())).is_some() {
        return Around::Busy;
    }
    let innermost = running.find(|frame| Some(Context::of(frame)));
    innermost.map_or(Around::Nothing, Around::Inside)
}

/// Runs the closure of an operation, which is that important at least and may change these entities.
#[inline(always)]
pub(super) fn within<R>(
    work: Option<&Arc<dyn Work>>,
    floor: Priority,
    targets: &[usize],
    run: impl FnOnce() -> R,
) -> R {
    let mut run = Some(run);
    let mut run = || run.take().map(|run| run());
    let frame = Frame {
        owner: work,
        targets,
        plain: floor,
    };
    let result = RUNNING.try_with(|running| running.within(frame, &mut run));
    // At the end of a thread there is no such place any more.
    let result = result.unwrap_or_else(|_| run());
    result.expect("it runs once")
}

/// Whether this thread is in a closure, or serves: then it must not wait for what it serves itself.
pub(super) fn is_inside() -> bool {
    is_in_closure() || is_serving()
}

/// Whether this thread serves.
pub(super) fn is_serving() -> bool {
    SERVING
        .try_with(|serving| serving.get() > 0)
        .unwrap_or(false)
}

/// Begins to serve, until what this gives is dropped.
pub(super) fn serve() -> Serving {
    let _ = SERVING.try_with(|serving| serving.set(serving.get() + 1));
    Serving(())
}

/// This thread serves, until this is dropped.
pub(super) struct Serving(());

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = SERVING.try_with(|serving| serving.set(serving.get() - 1));
    }
}
