//! What an operation does: its closure, and how what it returns is committed.
//!
//! A body is run once for each attempt, and commits at the end of it or not at all. No guard is held while a closure
//! runs that isn't said to be short, so it may take its time; it should have no other effect, since it may run again.
#![forbid(unsafe_code)]

use super::outcome::{OperationError, Panic};
use crate::cell::{
    Entity, Merge, Refusal, Retry, Snapshot, Stop, Transact, Transaction, TransactionError,
    UpdateError,
};
use crate::raw::quietly;
use crate::stamp::Stamp;
use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

/// What an operation does. Made by the constructors of [`Operation`](crate::Operation).
pub trait Body: sealed::Body {}

impl<B: sealed::Body> Body for B {}

/// What came of one attempt.
#[derive(Debug)]
pub enum Attempt<O, F> {
    /// It is committed.
    Committed(O),
    /// There was nothing to change.
    Unchanged(O),
    /// Somebody was faster.
    Lost(Option<Overtaken>),
    /// It is of no use to try again.
    Failed(OperationError<F>),
}

/// By what an attempt on one entity was overtaken.
#[derive(Clone, Copy, Debug)]
pub struct Overtaken {
    /// The stamp that it was computed from, if it is known.
    pub expected: Option<Stamp>,
    /// The stamp that it found.
    pub found: Stamp,
}

/// What came of one step of a fold.
#[derive(Debug)]
pub enum Step {
    /// It has changed the value.
    Changed,
    /// It has left the value as it was.
    Unchanged,
    /// It has refused: the [`OperationError`] of its body.
    Failed(Box<dyn Any + Send>),
}

pub(super) mod sealed {
    use super::{Attempt, Fold, Step};
    use crate::stamp::Stamp;
    use std::any::Any;

    /// See [`Body`](super::Body).
    pub trait Body: Send + Sync + 'static {
        type Output: Send + 'static;
        type Error: Send + 'static;

        /// The entities that it may change, each as [`Entity::rank`](crate::Entity) tells it apart, in that
        /// order.
        fn targets(&self) -> &[usize];

        /// Computes and commits.
        fn attempt(&self) -> Attempt<Self::Output, Self::Error>;

        /// The same for one that is short, or run on its caller's thread: a guard may be held meanwhile. `now`: what the
        /// monotonic clock says, if it was asked just now.
        #[inline]
        fn attempt_here(&self, _now: Option<u64>) -> Attempt<Self::Output, Self::Error> {
            self.attempt()
        }

        /// The stamp of what it gives, if that is one.
        fn stamp(_output: &Self::Output) -> Option<Stamp> {
            None
        }

        /// Whether there is a part that is done before, beside others. `merges`: whether changes are to be merged.
        fn is_prepared(&self, _merges: bool) -> bool {
            false
        }

        /// Does that part. Whether it is done.
        fn prepare(&self) -> Result<(), Self::Error> {
            Ok(())
        }

        /// Whether this body can take part in a fold.
        fn folds(&self) -> bool {
            false
        }

        /// A fold that begins with the current value, if this body can take part in one.
        fn fold(&self) -> Option<Box<dyn Fold>> {
            None
        }

        /// Changes the value of a fold.
        fn step(&self, _fold: &mut dyn Any) -> Step {
            unreachable!("only a body that can fold is folded")
        }

        /// What this body gives after the fold was published.
        fn folded(&self, _fold: &dyn Any) -> Self::Output {
            unreachable!("only a body that can fold is folded")
        }
    }
}

/// Runs what somebody else has written; a panic becomes an error.
pub(super) fn guarded<O, F>(run: impl FnOnce() -> Attempt<O, F>) -> Attempt<O, F> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|payload| Attempt::Failed(OperationError::Panicked(Panic::new(payload))))
}

/// Several changes of one entity that are published by one commit.
pub trait Fold: Send {
    /// As what a step takes it.
    fn as_any(&mut self) -> &mut dyn Any;
    /// As what whoever has taken part takes it.
    fn as_ref(&self) -> &dyn Any;
    /// Begins again, from the current value.
    fn begin(&mut self);
    /// Publishes what has become of the value.
    fn publish(&mut self) -> Published;
}

/// What has become of a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It was published, or nothing has changed.
    Done,
    /// Somebody was faster.
    Lost,
    /// The value that all have made together can't be published.
    Refused,
}

/// The changes of one entity so far.
struct Folded<T: Send + Sync + 'static, E: 'static> {
    entity: Entity<T, E>,
    base: Snapshot<T>,
    value: Option<T>,
}

impl<T: Send + Sync + 'static, E: Send + Sync + 'static> Folded<T, E> {
    /// Begins with what is current.
    fn of(entity: &Entity<T, E>) -> Box<dyn Fold> {
        Box::new(Folded {
            entity: entity.clone(),
            base: entity.snapshot(),
            value: None,
        })
    }

    /// The fold of a lane, in which all have the same entity.
    fn find(fold: &mut dyn Any) -> &mut Self {
        fold.downcast_mut().expect("a lane has one entity")
    }

    /// What was published.
    fn published(fold: &dyn Any) -> Snapshot<T> {
        let folded = fold.downcast_ref::<Self>();
        folded.expect("a lane has one entity").base.clone()
    }

    fn step<F: Send + 'static>(&mut self, f: impl Fn(&T) -> Result<Option<T>, F>) -> Step {
        let value = self.value.as_ref().unwrap_or(&self.base);
        // A panic leaves the value as it was before this step.
        let made = catch_unwind(AssertUnwindSafe(|| f(value)));
        match made {
            Ok(Ok(Some(value))) => {
                self.end_value();
                self.value = Some(value);
                Step::Changed
            }
            Ok(Ok(None)) => Step::Unchanged,
            Ok(Err(error)) => Step::Failed(Box::new(OperationError::Refused(error))),
            Err(payload) => {
                Step::Failed(Box::new(OperationError::<F>::Panicked(Panic::new(payload))))
            }
        }
    }
}

impl<T: Send + Sync + 'static, E: Send + Sync + 'static> Fold for Folded<T, E> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn as_ref(&self) -> &dyn Any {
        self
    }

    fn begin(&mut self) {
        self.end_value();
        self.base = self.entity.snapshot();
    }

    fn publish(&mut self) -> Published {
        let Some(value) = self.value.take() else {
            return Published::Done;
        };
        // Its validator may panic.
        let commit = || self.entity.try_commit_on(&self.base, value);
        let committed = match catch_unwind(AssertUnwindSafe(commit)) {
            Ok(committed) => committed.map(|committed| committed.snapshot()),
            Err(payload) => {
                quietly(|| drop(payload));
                return Published::Refused;
            }
        };
        match committed {
            Ok(committed) => {
                self.base = committed;
                Published::Done
            }
            Err(error) => {
                let became = if error.is_conflict() {
                    Published::Lost
                } else {
                    Published::Refused
                };
                quietly(|| drop(error));
                became
            }
        }
    }
}

impl<T: Send + Sync + 'static, E: 'static> Folded<T, E> {
    fn end_value(&mut self) {
        quietly(|| drop(self.value.take()));
    }
}

impl<T: Send + Sync + 'static, E: 'static> Drop for Folded<T, E> {
    fn drop(&mut self) {
        self.end_value();
    }
}

/// What the validator of an entity may say, so that it can be passed on.
pub trait Complaint: Into<Box<dyn Error + Send + Sync>> + Send + Sync + 'static {}

impl<E: Into<Box<dyn Error + Send + Sync>> + Send + Sync + 'static> Complaint for E {}

/// Commits what `f` makes of the current value of one entity.
fn change<T: Send + Sync + 'static, E: Complaint, F>(
    entity: &Entity<T, E>,
    f: impl FnOnce(&Snapshot<T>) -> Result<Option<T>, F>,
) -> Attempt<Snapshot<T>, F> {
    let base = entity.snapshot();
    match f(&base) {
        Ok(Some(value)) => commit(entity, &base, value),
        Ok(None) => Attempt::Unchanged(base),
        Err(error) => Attempt::Failed(OperationError::Refused(error)),
    }
}

/// What comes of an update that was not made.
#[cold]
fn failed<O, T, E: Complaint, F>(error: UpdateError<T, F, E>) -> Attempt<O, F> {
    Attempt::Failed(match error {
        UpdateError::Refused(error) => OperationError::Refused(error),
        UpdateError::Invalid { error, .. } => OperationError::Invalid(error.into()),
        UpdateError::SelfConflict { .. } => OperationError::SelfConflict,
        UpdateError::VersionLimit => OperationError::VersionLimit,
        UpdateError::Exhausted { current, .. } => {
            return Attempt::Lost(Some(Overtaken {
                expected: None,
                found: current.stamp(),
            }));
        }
    })
}

fn commit<T: Send + Sync + 'static, E: Complaint, F>(
    entity: &Entity<T, E>,
    base: &Snapshot<T>,
    value: T,
) -> Attempt<Snapshot<T>, F> {
    match entity.try_commit_on(base, value) {
        Ok(committed) => Attempt::Committed(committed.snapshot()),
        Err(error) => {
            let overtaken = Overtaken {
                expected: Some(base.stamp()),
                found: error.current().stamp(),
            };
            match error.into_parts().2 {
                Refusal::Invalid(complaint) => {
                    Attempt::Failed(OperationError::Invalid(complaint.into()))
                }
                Refusal::VersionLimit => Attempt::Failed(OperationError::VersionLimit),
                _ => Attempt::Lost(Some(overtaken)),
            }
        }
    }
}

/// One entity is changed.
pub(super) struct Change<T: Send + Sync + 'static, E: 'static, G> {
    pub(super) entity: Entity<T, E>,
    pub(super) target: [usize; 1],
    pub(super) f: G,
}

impl<T, E, F, G> sealed::Body for Change<T, E, G>
where
    T: Send + Sync + 'static,
    E: Complaint,
    F: Send + 'static,
    G: Fn(&T) -> Result<Option<T>, F> + Send + Sync + 'static,
{
    type Output = Snapshot<T>;
    type Error = F;

    fn targets(&self) -> &[usize] {
        &self.target
    }

    fn stamp(output: &Snapshot<T>) -> Option<Stamp> {
        Some(output.stamp())
    }

    fn attempt(&self) -> Attempt<Snapshot<T>, F> {
        change(&self.entity, |base| (self.f)(base))
    }

    #[inline]
    fn attempt_here(&self, now: Option<u64>) -> Attempt<Snapshot<T>, F> {
        match self.entity.try_update_once(now, &self.f) {
            Ok((published, true)) => Attempt::Committed(published),
            Ok((found, false)) => Attempt::Unchanged(found),
            Err(error) => failed(error),
        }
    }

    fn folds(&self) -> bool {
        true
    }

    fn fold(&self) -> Option<Box<dyn Fold>> {
        Some(Folded::of(&self.entity))
    }

    fn step(&self, fold: &mut dyn Any) -> Step {
        Folded::<T, E>::find(fold).step(&self.f)
    }

    fn folded(&self, fold: &dyn Any) -> Snapshot<T> {
        Folded::<T, E>::published(fold)
    }
}

/// Several entities are changed at one instant.
pub(super) struct Together<S, G> {
    pub(super) entities: S,
    pub(super) targets: Vec<usize>,
    pub(super) f: G,
}

impl<S, R, F, G> sealed::Body for Together<S, G>
where
    S: Send + Sync + 'static,
    R: Send + 'static,
    F: Send + 'static,
    G: for<'x> Fn(&Transaction<'x>, &'x S) -> Result<R, Stop<F>> + Send + Sync + 'static,
{
    type Output = R;
    type Error = F;

    fn targets(&self) -> &[usize] {
        &self.targets
    }

    fn attempt(&self) -> Attempt<R, F> {
        let once = Transact::new().retries(Retry::at_most(0));
        match once.run(|tx| (self.f)(tx, &self.entities)) {
            Ok(result) => Attempt::Committed(result),
            Err(TransactionError::Aborted(error)) => {
                Attempt::Failed(OperationError::Refused(error))
            }
            Err(TransactionError::VersionLimit) => Attempt::Failed(OperationError::VersionLimit),
            Err(_) => Attempt::Lost(None),
        }
    }
}

/// One entity is changed by what was prepared before.
pub(super) struct Prepared<T: Send + Sync + 'static, E: 'static, P, G, H> {
    pub(super) entity: Entity<T, E>,
    pub(super) target: [usize; 1],
    pub(super) prepare: G,
    pub(super) apply: H,
    pub(super) prepared: OnceLock<P>,
}

impl<T, E, F, P, G, H> Prepared<T, E, P, G, H>
where
    T: Send + Sync + 'static,
    P: Send + Sync + 'static,
    G: Fn(&Snapshot<T>) -> Result<P, F>,
    H: Fn(&T, &P) -> Result<Option<T>, F>,
{
    /// What was prepared, or is now.
    fn prepared(&self) -> Result<&P, F> {
        if let Some(prepared) = self.prepared.get() {
            return Ok(prepared);
        }
        let prepared = (self.prepare)(&self.entity.snapshot())?;
        Ok(self.prepared.get_or_init(|| prepared))
    }
}

impl<T, E, F, P, G, H> sealed::Body for Prepared<T, E, P, G, H>
where
    T: Send + Sync + 'static,
    E: Complaint,
    F: Send + 'static,
    P: Send + Sync + 'static,
    G: Fn(&Snapshot<T>) -> Result<P, F> + Send + Sync + 'static,
    H: Fn(&T, &P) -> Result<Option<T>, F> + Send + Sync + 'static,
{
    type Output = Snapshot<T>;
    type Error = F;

    fn targets(&self) -> &[usize] {
        &self.target
    }

    fn stamp(output: &Snapshot<T>) -> Option<Stamp> {
        Some(output.stamp())
    }

    fn attempt(&self) -> Attempt<Snapshot<T>, F> {
        let prepared = match self.prepared() {
            Ok(prepared) => prepared,
            Err(error) => return Attempt::Failed(OperationError::Refused(error)),
        };
        change(&self.entity, |base| (self.apply)(base, prepared))
    }

    fn is_prepared(&self, _merges: bool) -> bool {
        true
    }

    fn prepare(&self) -> Result<(), F> {
        self.prepared().map(|_| ())
    }

    fn folds(&self) -> bool {
        true
    }

    fn fold(&self) -> Option<Box<dyn Fold>> {
        Some(Folded::of(&self.entity))
    }

    fn step(&self, fold: &mut dyn Any) -> Step {
        Folded::<T, E>::find(fold).step(|value| (self.apply)(value, self.prepared()?))
    }

    fn folded(&self, fold: &dyn Any) -> Snapshot<T> {
        Folded::<T, E>::published(fold)
    }
}

/// One entity is changed, and where somebody was faster, the two changes are merged.
pub(super) struct Merging<T: Send + Sync + 'static, E: 'static, G, M> {
    pub(super) entity: Entity<T, E>,
    pub(super) target: [usize; 1],
    pub(super) f: G,
    pub(super) merge: M,
    /// What was computed before, and from what.
    pub(super) prepared: OnceLock<Option<(Snapshot<T>, T)>>,
}

impl<T, E, F, G, M> Merging<T, E, G, M>
where
    T: Send + Sync + 'static,
    G: Fn(&T) -> Result<Option<T>, F>,
{
    fn compute(&self) -> Result<Option<(Snapshot<T>, T)>, F> {
        let base = self.entity.snapshot();
        Ok((self.f)(&base)?.map(|value| (base, value)))
    }
}

impl<T, E, F, G, M> sealed::Body for Merging<T, E, G, M>
where
    T: Clone + Send + Sync + 'static,
    E: Complaint,
    F: Send + 'static,
    G: Fn(&T) -> Result<Option<T>, F> + Send + Sync + 'static,
    M: Fn(Merge<'_, T>) -> Option<T> + Send + Sync + 'static,
{
    type Output = Snapshot<T>;
    type Error = F;

    fn targets(&self) -> &[usize] {
        &self.target
    }

    fn stamp(output: &Snapshot<T>) -> Option<Stamp> {
        Some(output.stamp())
    }

    fn attempt(&self) -> Attempt<Snapshot<T>, F> {
        // What was computed before is as good as ever, if the two can be merged.
        if let Some(Some((base, mine))) = self.prepared.get() {
            let merge = |merge: Merge<'_, T>| (self.merge)(merge);
            match self.entity.commit_or_merge(base, mine.clone(), merge) {
                Ok(committed) => return Attempt::Committed(committed.snapshot()),
                Err(error) => match error.into_parts().2 {
                    Refusal::Invalid(complaint) => {
                        return Attempt::Failed(OperationError::Invalid(complaint.into()));
                    }
                    Refusal::VersionLimit => {
                        return Attempt::Failed(OperationError::VersionLimit);
                    }
                    _ => {}
                },
            }
        }
        change(&self.entity, |base| (self.f)(base))
    }

    fn is_prepared(&self, merges: bool) -> bool {
        merges
    }

    fn prepare(&self) -> Result<(), F> {
        if self.prepared.get().is_none() {
            let computed = self.compute()?;
            let _ = self.prepared.set(computed);
        }
        Ok(())
    }

    fn folds(&self) -> bool {
        true
    }

    fn fold(&self) -> Option<Box<dyn Fold>> {
        Some(Folded::of(&self.entity))
    }

    fn step(&self, fold: &mut dyn Any) -> Step {
        Folded::<T, E>::find(fold).step(&self.f)
    }

    fn folded(&self, fold: &dyn Any) -> Snapshot<T> {
        Folded::<T, E>::published(fold)
    }
}

/// Several entities that an operation may change: a tuple of one to eight handles, a vector or an array of them.
pub trait Targets: Send + Sync + 'static {
    /// What tells each from all others.
    #[doc(hidden)]
    fn ranks(&self) -> Vec<usize>;
}

macro_rules! tuples {
    ($(($($T:ident $E:ident $index:tt),+);)*) => {$(
        impl<$($T: Send + Sync + 'static, $E: Send + Sync + 'static),+> Targets for ($(Entity<$T, $E>,)+) {
            fn ranks(&self) -> Vec<usize> {
                vec![$(self.$index.rank()),+]
            }
        }
    )*};
}
tuples! {
    (A A1 0);
    (A A1 0, B B1 1);
    (A A1 0, B B1 1, C C1 2);
    (A A1 0, B B1 1, C C1 2, D D1 3);
    (A A1 0, B B1 1, C C1 2, D D1 3, E E1 4);
    (A A1 0, B B1 1, C C1 2, D D1 3, E E1 4, F F1 5);
    (A A1 0, B B1 1, C C1 2, D D1 3, E E1 4, F F1 5, G G1 6);
    (A A1 0, B B1 1, C C1 2, D D1 3, E E1 4, F F1 5, G G1 6, H H1 7);
}

impl<T: Send + Sync + 'static, E: Send + Sync + 'static> Targets for Vec<Entity<T, E>> {
    fn ranks(&self) -> Vec<usize> {
        self.iter().map(Entity::rank).collect()
    }
}

impl<T: Send + Sync + 'static, E: Send + Sync + 'static, const N: usize> Targets
    for [Entity<T, E>; N]
{
    fn ranks(&self) -> Vec<usize> {
        self.iter().map(Entity::rank).collect()
    }
}
