//! Several entities at one instant: what the closure of a transaction works with.
//!
//! What a transaction reads is remembered with its stamp, what it writes lies in nodes that nobody else
//! knows. Nothing is published while the closure runs, and no guard is held. The commit puts everything in
//! place and decides by one exchange (`raw/drive.rs`), if what was read is still current.
//!
//! # Opacity
//! Each read of another entity looks whether what was read before is still current. If so all of it was
//! current at one moment. So a closure never sees two values that didn't exist together, however it ends.
#![forbid(unsafe_code)]

use super::entity::Invalid;
use super::restart::{Restart, Restarts, Why};
use super::target::Target;
use crate::raw::{Log, quietly};
use crate::stamp::Stamp;
use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// An attempt of a transaction: what its closure reads and writes by.
///
/// All calls take it by a shared reference, so values that were read can be used side by side, and
/// functions compose: pass it on. An entity is given as `&entity`, or as a handle of its own, which the
/// transaction then keeps.
///
/// | call | for |
/// |---|---|
/// | [`get`](Transaction::get), [`read`](Transaction::read) | a value, cloned or borrowed; what this transaction has written included |
/// | [`write`](Transaction::write), [`try_write`](Transaction::try_write) | a new value, whatever the old one |
/// | [`update`](Transaction::update) | a value that follows from the old one |
/// | [`fold`](Transaction::fold) | a change that doesn't care what it is applied to: others may commit to the same entity meanwhile |
/// | [`require`](Transaction::require) | nothing of the value, but that it stays as it is until the commit |
/// | [`retry`](Transaction::retry), [`or_else`](Transaction::or_else) | waiting until something changes; an alternative |
/// | [`after_commit`](Transaction::after_commit), [`after_abort`](Transaction::after_abort) | what can't be undone |
///
/// Whatever was read must not change until the commit, or the closure runs again. So it should have no
/// effects besides.
pub struct Transaction<'e> {
    pub(super) log: Log<'e>,
    hooks: RefCell<Option<Box<Hooks<'e>>>>,
    pub(super) attempt: u32,
}

/// Dropped in this order, and only when the log is cleared.
#[derive(Default)]
struct Hooks<'e> {
    belongings: Belongings,
    after_commit: Vec<Box<dyn FnOnce() + 'e>>,
    after_abort: Vec<Box<dyn FnOnce() + 'e>>,
    /// Those of alternatives that were undone, which are not called. What they own stays as long as what the
    /// alternatives have read: its end may be a commit to that.
    undone: Vec<Box<dyn FnOnce() + 'e>>,
}

/// What an attempt keeps until nothing of it is left, alternatives that were undone included; of a task that
/// waits, until it is woken.
#[derive(Default)]
pub(super) struct Belongings(Vec<Box<dyn Send + Sync>>);

impl Belongings {
    #[cfg(feature = "store")]
    pub(super) fn push(&mut self, guard: impl Send + Sync + 'static) {
        self.0.push(Box::new(guard));
    }
}

impl Drop for Belongings {
    fn drop(&mut self) {
        for kept in self.0.drain(..) {
            quietly(|| drop(kept));
        }
    }
}

impl<'e> Transaction<'e> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Transaction {
            log: Log::new(),
            hooks: RefCell::new(None),
            attempt: 0,
        }
    }

    /// Begins an attempt.
    #[inline(always)]
    pub(super) fn begin(&mut self) {
        self.log.clear();
        // Those of an attempt that is tried again are nobody's business.
        if self.hooks.get_mut().is_some() {
            self.drop_hooks();
        }
        self.attempt = self.attempt.saturating_add(1);
    }

    /// The value of an entity, borrowed for as long as the attempt lasts.
    ///
    /// It is what this transaction has written there, if it has; otherwise what was current at one moment
    /// together with everything that it has read.
    ///
    /// # Errors
    /// [`Restart`], to be passed on by `?`: somebody has committed to what was read, and the closure has
    /// to run again.
    /// # Complexity
    /// The first time, a pin and a count, and a look at each entity that was read before.
    ///
    /// # Examples
    /// ```
    /// let (name, letters) = (snapcell::Entity::new("ann"), snapcell::Entity::new(0));
    /// snapcell::transaction(|tx| {
    ///     let name = tx.read(&name)?;
    ///     tx.write(&letters, name.len());
    ///     Ok(())
    /// });
    /// assert_eq!(*letters.snapshot(), 3);
    /// ```
    pub fn read<X: Target<'e>>(&self, entity: X) -> Result<&X::Value, Restart> {
        Ok(self.log.read(entity.enter())?)
    }

    /// A clone of the value of an entity, as [`read`](Transaction::read) has it. The cheapest read of a
    /// small value.
    ///
    /// # Errors
    /// As [`read`](Transaction::read).
    // In line, as the next and `update`: of the time of a small transaction the calls are about a tenth.
    #[inline(always)]
    pub fn get<X: Target<'e>>(&self, entity: X) -> Result<X::Value, Restart>
    where
        X::Value: Clone,
    {
        Ok(self.log.look(entity.enter(), X::Value::clone)?)
    }

    /// Has the value of an entity replaced, whatever it is at the commit.
    #[inline(always)]
    pub fn write<X: Target<'e, Error = Infallible>>(&self, entity: X, value: X::Value) {
        let reading = match entity.entity().validate_and_read(&value) {
            Ok(reading) => reading,
            Err(never) => match never {},
        };
        self.log.write(entity.enter(), reading, value);
    }

    /// As [`write`](Transaction::write), for entities with a validator.
    ///
    /// # Errors
    /// [`Invalid`] gives the value back. The transaction goes on without it.
    ///
    /// # Examples
    /// ```
    /// let percent = snapcell::Entity::builder(40_u8)
    ///     .validate(|p| if *p <= 100 { Ok(()) } else { Err("more than all") })
    ///     .build_or_refuse();
    /// # trait Build { fn build_or_refuse(self) -> snapcell::Entity<u8, &'static str>; }
    /// # impl Build for snapcell::Builder<u8, &'static str> {
    /// #     fn build_or_refuse(self) -> snapcell::Entity<u8, &'static str> { self.try_build().unwrap() }
    /// # }
    /// let refused = snapcell::transaction(|tx| Ok(tx.try_write(&percent, 101).unwrap_err().error));
    /// assert_eq!(refused, "more than all");
    /// ```
    pub fn try_write<X: Target<'e>>(
        &self,
        entity: X,
        value: X::Value,
    ) -> Result<(), Invalid<X::Value, X::Error>> {
        let reading = match entity.entity().validate_and_read(&value) {
            Ok(reading) => reading,
            Err(error) => return Err(Invalid { value, error }),
        };
        self.log.write(entity.enter(), reading, value);
        Ok(())
    }

    /// Has the value of an entity replaced by what `f` makes of it.
    ///
    /// # Errors
    /// As [`read`](Transaction::read).
    ///
    /// # Examples
    /// ```
    /// let (from, to) = (snapcell::Entity::new(100), snapcell::Entity::new(0));
    /// snapcell::transaction(|tx| {
    ///     tx.update(&from, |n| n - 30)?;
    ///     tx.update(&to, |n| n + 30)
    /// });
    /// assert_eq!((*from.snapshot(), *to.snapshot()), (70, 30));
    /// ```
    #[inline(always)]
    pub fn update<X: Target<'e, Error = Infallible>>(
        &self,
        entity: X,
        f: impl FnOnce(&X::Value) -> X::Value,
    ) -> Result<(), Restart> {
        let reading = entity.entity().own_reading();
        Ok(self.log.update(entity.enter(), reading, f)?)
    }

    /// Has the value of an entity changed by `f` when the transaction commits, whatever it is then.
    ///
    /// This is for changes that commute, a count that goes up for instance. The entity takes no part in
    /// the question whether what was read has changed, so others may commit to it meanwhile. `f` runs
    /// under a guard, at most once for each attempt to commit, and can be no part of what the closure computes: if
    /// the entity is read later, the changes are applied then, and it counts as read. What folds find at their
    /// entities was current together, and together with all that was read; over an own write, or an earlier fold, `f`
    /// sees what that has made. If `f` panics, nothing is published.
    ///
    /// # Examples
    /// ```
    /// let (seats, sold) = (snapcell::Entity::new(vec!["1a", "1b"]), snapcell::Entity::new(0));
    /// let seat = snapcell::transaction(|tx| {
    ///     let mut left = tx.get(&seats)?;
    ///     let seat = left.pop();
    ///     tx.write(&seats, left);
    ///     tx.fold(&sold, |n| n + 1);
    ///     Ok(seat)
    /// });
    /// assert_eq!((seat, *sold.snapshot()), (Some("1b"), 1));
    /// ```
    pub fn fold<X: Target<'e, Error = Infallible>>(
        &self,
        entity: X,
        f: impl Fn(&X::Value) -> X::Value + 'e,
    ) {
        let reading = entity.entity().own_reading();
        self.log.fold(entity.enter(), reading, f);
    }

    /// Has the commit depend on an entity staying as it is, and returns its stamp.
    ///
    /// Whatever is read is required anyway.
    ///
    /// # Errors
    /// As [`read`](Transaction::read).
    pub fn require<X: Target<'e>>(&self, entity: X) -> Result<Stamp, Restart> {
        Ok(self.log.require(entity.enter())?)
    }

    /// Says that this can't be done now: the transaction waits until something that it has read changes,
    /// and then runs again. Nothing that it has written is published.
    ///
    /// # Errors
    /// Always, to be returned.
    ///
    /// # Examples
    /// ```
    /// let queue = snapcell::Entity::new(Vec::new());
    /// std::thread::scope(|s| {
    ///     s.spawn(|| queue.replace(vec![7]).stamp());
    ///     let first = snapcell::transaction(|tx| {
    ///         let mut rest = tx.get(&queue)?;
    ///         let Some(first) = rest.pop() else { return tx.retry() };
    ///         tx.write(&queue, rest);
    ///         Ok(first)
    ///     });
    ///     assert_eq!(first, 7);
    /// });
    /// ```
    pub fn retry<R>(&self) -> Result<R, Restart> {
        Err(Restart(Why::Retry))
    }

    /// Does `first`, or, if that says [`retry`](Transaction::retry), undoes what it has written and does
    /// `second`. If that says so too the transaction waits for a change of anything that either has read.
    ///
    /// # Errors
    /// What the closures return, but a `retry` of the first one.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Entity, Restart, Transaction};
    ///
    /// fn take<'e>(tx: &Transaction<'e>, from: &'e Entity<u32>) -> Result<u32, Restart> {
    ///     match tx.get(from)? {
    ///         0 => tx.retry(),
    ///         n => {
    ///             tx.write(from, 0);
    ///             Ok(n)
    ///         }
    ///     }
    /// }
    ///
    /// let (left, right) = (Entity::new(0), Entity::new(5));
    /// let taken = snapcell::transaction(|tx| tx.or_else(|tx| take(tx, &left), |tx| take(tx, &right)));
    /// assert_eq!(taken, 5);
    /// ```
    pub fn or_else<R, S: Restarts>(
        &self,
        first: impl FnOnce(&Self) -> Result<R, S>,
        second: impl FnOnce(&Self) -> Result<R, S>,
    ) -> Result<R, S> {
        let mark = self.log.begin_alternative();
        let hooks = self.hooks_so_far();
        let alternative = Alternative {
            tx: self,
            mark,
            hooks,
        };
        let result = first(self);
        let waits = |stop: &S| {
            stop.restart()
                .is_some_and(|restart| restart.0 == Why::Retry)
        };
        let undo = result.as_ref().is_err_and(waits);
        alternative.end(undo);
        if !undo {
            return result;
        }
        drop(result);
        second(self)
    }

    /// Calls `f` once, right after the commit.
    ///
    /// It runs outside of everything, and may use the crate. If it panics the caller of the transaction
    /// gets the panic, after the other hooks; what is committed remains so.
    ///
    /// If it isn't called it is dropped when the attempt is over, with all that it owns: after the hooks that are
    /// called, before the next attempt, and not earlier where an alternative is undone. So the drop may commit to
    /// what the attempt has read. In a task it is dropped as the wait begins: whose drop commits to what is waited
    /// for wakes the task. On a thread it is dropped after the wait.
    pub fn after_commit(&self, f: impl FnOnce() + 'e) {
        let mut hooks = self.hooks.borrow_mut();
        hooks.get_or_insert_default().after_commit.push(Box::new(f));
    }

    /// Calls `f` once, if the transaction ends without a commit: by an error of the closure, by a limit, or
    /// by a panic. Not for an attempt that is tried again, and not for a task that waits, which has no hooks until
    /// it runs again.
    ///
    /// A panic of `f` is caught, and counted by [`destructor_panics`](crate::destructor_panics). If it isn't
    /// called it is dropped as one [after a commit](Transaction::after_commit).
    pub fn after_abort(&self, f: impl FnOnce() + 'e) {
        let mut hooks = self.hooks.borrow_mut();
        hooks.get_or_insert_default().after_abort.push(Box::new(f));
    }

    /// Keeps something until the attempt is over, and nothing of it left; of one that waits, until it is woken.
    /// It is dropped before any hook is called.
    #[cfg(feature = "store")]
    pub(crate) fn keep(&self, guard: impl Send + Sync + 'static) {
        let mut hooks = self.hooks.borrow_mut();
        hooks.get_or_insert_default().belongings.push(guard);
    }

    /// Which attempt this is, from one.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many entities it has read or is to write.
    #[must_use]
    pub fn entities(&self) -> usize {
        self.log.len()
    }

    fn hooks_so_far(&self) -> (usize, usize) {
        let hooks = self.hooks.borrow();
        hooks.as_ref().map_or((0, 0), |hooks| {
            (hooks.after_commit.len(), hooks.after_abort.len())
        })
    }

    fn forget_hooks_since(&self, (after_commit, after_abort): (usize, usize)) {
        let mut hooks = self.hooks.borrow_mut();
        let Some(hooks) = hooks.as_deref_mut() else {
            return;
        };
        hooks
            .undone
            .extend(hooks.after_commit.drain(after_commit..));
        hooks.undone.extend(hooks.after_abort.drain(after_abort..));
    }

    #[cold]
    fn drop_hooks(&mut self) {
        *self.hooks.get_mut() = None;
    }

    /// Ends it: the hooks are called.
    #[inline(always)]
    pub(super) fn committed(&mut self) {
        if self.hooks.get_mut().is_some() {
            self.call_after_commit();
        }
    }

    /// Calls all, whatever one of them does.
    #[cold]
    fn call_after_commit(&mut self) {
        let Some(hooks) = self.hooks.get_mut().take() else {
            return;
        };
        self.log.clear();
        drop(hooks.belongings);
        let mut panic = None;
        for hook in hooks.after_commit {
            panic = panic.or(catch_unwind(AssertUnwindSafe(hook)).err());
        }
        for hook in hooks.after_abort.into_iter().chain(hooks.undone) {
            panic = panic.or(catch_unwind(AssertUnwindSafe(|| drop(hook))).err());
        }
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    #[cold]
    fn call_after_abort(&mut self) {
        let Some(hooks) = self.hooks.get_mut().take() else {
            return;
        };
        self.log.clear();
        let hooks = *hooks;
        drop(hooks.belongings);
        hooks.after_abort.into_iter().for_each(quietly);
    }

    /// Ends an attempt after which there is to be no other, or only after a long wait.
    pub(super) fn take_log(&mut self) -> Log<'e> {
        std::mem::replace(&mut self.log, Log::new())
    }

    /// What the attempt keeps, for as long as a task waits.
    pub(super) fn take_belongings(&mut self) -> Belongings {
        let hooks = self.hooks.get_mut().as_deref_mut();
        hooks.map_or_else(Belongings::default, |hooks| {
            std::mem::take(&mut hooks.belongings)
        })
    }
}

/// Without a commit: with one, there are no hooks any more.
impl Drop for Transaction<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.hooks.get_mut().is_some() {
            self.call_after_abort();
        }
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("attempt", &self.attempt)
            .field("entities", &self.entities())
            .finish_non_exhaustive()
    }
}

/// An alternative that is being tried, ended whatever happens.
struct Alternative<'t, 'e> {
    tx: &'t Transaction<'e>,
    mark: usize,
    hooks: (usize, usize),
}

impl Alternative<'_, '_> {
    fn end(self, undo: bool) {
        if !undo {
            self.tx.log.end_alternative(self.mark, false);
            std::mem::forget(self);
        }
    }
}

/// Undone. By a panic too: it is caught by somebody within the closure, perhaps.
impl Drop for Alternative<'_, '_> {
    fn drop(&mut self) {
        self.tx.log.end_alternative(self.mark, true);
        self.tx.forget_hooks_since(self.hooks);
    }
}
