//! What this thread runs: the operation whose closure it is in, and those around it.
//!
//! An operation that is submitted inside another one is its child without being told, and what it waits for
//! inherits its importance. That follows the operation, not the thread: a closure that hands work to another thread
//! or task passes a [`Context`] on.
#![forbid(unsafe_code)]

use super::priority::Priority;
use super::record::Work;
use crate::sync::per_thread;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

per_thread! {
    static RUNNING: RefCell<Vec<Frame>> = RefCell::new(Vec::new());
}

per_thread! {
    static SERVING: Cell<usize> = Cell::new(0);
}

/// One closure that this thread is in.
struct Frame {
    context: Context,
    /// The entities that it may change: the first, and the others, of which there are none most of the time.
    first: usize,
    others: Vec<usize>,
}

impl Frame {
    fn is_busy_with(&self, targets: &[usize]) -> bool {
        targets.contains(&self.first) || self.others.iter().any(|busy| targets.contains(busy))
    }
}

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
            .try_with(|running| running.borrow().last().map(|frame| frame.context.clone()))
            .ok()
            .flatten()
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

/// Looks at the closures that this thread is in.
#[inline]
pub(super) fn around(targets: &[usize]) -> Around {
    RUNNING
        .try_with(|running| {
            let running = running.borrow();
            match running.last() {
                None => Around::Nothing,
                Some(_) if running.iter().any(|frame| frame.is_busy_with(targets)) => Around::Busy,
                Some(frame) => Around::Inside(frame.context.clone()),
            }
        })
        .unwrap_or(Around::Nothing)
}

/// The closure, until this is dropped.
pub(super) struct Running(());

/// Enters the closure of an operation.
pub(super) fn enter(context: Context, targets: &[usize]) -> Running {
    let (first, others) = targets.split_first().unwrap_or((&0, &[]));
    let frame = Frame {
        context,
        first: *first,
        others: others.to_vec(),
    };
    let _ = RUNNING.try_with(|running| running.borrow_mut().push(frame));
    Running(())
}

impl Drop for Running {
    fn drop(&mut self) {
        let frame = RUNNING.try_with(|running| running.borrow_mut().pop());
        drop(frame);
    }
}

/// Whether this thread is in a closure, or serves: then it must not wait for what it serves itself.
pub(super) fn is_inside() -> bool {
    let is_in_closure = RUNNING.try_with(|running| !running.borrow().is_empty());
    is_in_closure.unwrap_or(false) || is_serving()
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
