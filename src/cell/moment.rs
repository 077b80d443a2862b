//! Several entities at one instant, looked at only.
//!
//! Two looks at each, with a fence between: if nothing has changed from one to the other, all of it was
//! current at the fence. A head never holds the same node twice, so the same node is no coincidence.
//! Nothing is written but counts. Under writers that never pause it may fail again and again; after
//! [`LOOKS`] it commits a transaction that changes nothing, which makes them wait their turn; unless they change the last
//! of very many while it is at the first, and have that lose, too.
#![forbid(unsafe_code)]

use super::backoff::Backoff;
use super::entity::{Entity, Extras};
use super::history::Missing;
use super::snapshot::Snapshot;
use crate::raw::reclaim::{Guard, Reclaim, Reclaimer};
use crate::raw::{Attempted, Log, Seen, Target};
#[cfg(feature = "store")]
use crate::stamp::Stamp;
use crate::sync;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::fmt;
use std::ops::Deref;

/// Looks before a transaction does it. In models two, so that it happens there.
const LOOKS: u32 = if cfg!(any(snapcell_model, snapcell_shuttle)) {
    2
} else {
    32
};

/// The snapshots of several entities at one instant.
///
/// `entities` is a tuple of two to twelve references, whose values may be of different types, or a reference to a slice, a
/// vector or an array of entities, or of references to them. The same entity may come twice.
///
/// # Linearization
/// The fence between the looks that agree. If they never do, the exchange on the verdict of a transaction
/// that changes nothing.
/// # Progress
/// Lock-free: it loses only where others commit. It writes nothing but the counts of the snapshots, and is in nobody's way,
/// as long as it needs no transaction. Of thousands of entities it may lose for as long as writers never pause.
/// # Complexity
/// A pin, a fence, and two loads and a count for each entity, if nobody commits meanwhile.
/// # Source
/// The double collect of Afek, Attiya, Dolev, Gafni, Merritt and Shavit, "Atomic snapshots of shared
/// memory" (1993).
///
/// # Examples
/// ```
/// use snapcell::{Entity, snapshot_of};
///
/// let (name, age) = (Entity::new("ann"), Entity::new(7));
/// let moment = snapshot_of((&name, &age));
/// let (name, age) = &*moment;
/// assert_eq!((**name, **age), ("ann", 7));
///
/// let balances = [Entity::new(1), Entity::new(2)];
/// assert_eq!(snapshot_of(&balances).iter().map(|b| **b).sum::<i32>(), 3);
/// ```
pub fn snapshot_of<E: Entities>(entities: E) -> Moment<E::Snapshots> {
    moment_of(&entities)
}

#[inline]
fn moment_of<E: Entities>(entities: &E) -> Moment<E::Snapshots> {
    for attempts in 1..=LOOKS {
        let guard = Reclaimer::pin();
        if let Some(snapshots) = entities.look(&guard) {
            return Moment {
                snapshots,
                attempts,
                by_transaction: false,
            };
        }
    }
    let mut log = Log::new();
    entities.enter(&mut log);
    let mut backoff = Backoff::new();
    let mut attempts = LOOKS + 1;
    while !matches!(log.attempt(1), Attempted::Committed) {
        backoff.lost();
        attempts = attempts.saturating_add(1);
    }
    Moment {
        snapshots: entities.held(&log),
        attempts,
        by_transaction: true,
    }
}

/// What several entities were at a time of their clocks, in nanoseconds: of each the latest snapshot that is not
/// later. It is what [`as_of`](Entity::as_of) is for one.
///
/// The entities are given as to [`snapshot_of`], should have the same clock, and keep a
/// [history](crate::Retain).
///
/// What it returns is a *consistent cut*: whatever is in it that a transaction has written, all of that is
/// in it, as far as it concerns these entities, or what came after it; and so is all that the transaction has read.
/// For all that a transaction writes has one time, which is not earlier than that of anything that it has
/// read. It need not be a state that was ever current as a whole: of two changes that have nothing to do with each
/// other either may have been published first.
///
/// A commit that is under way may still get a time that has passed. So the answer is the last word only for a time
/// that lies in the past further than any commit takes.
///
/// # Linearization
/// As [`snapshot_of`], which comes first: nothing is in the cut that comes later.
/// # Progress
/// As [`snapshot_of`].
/// # Errors
/// [`Missing`], if one of them was not born then, or what it was is not kept.
/// # Complexity
/// As [`snapshot_of`], and a binary search for each entity.
///
/// # Examples
/// ```
/// use snapcell::{Clock, Entity, ManualClock, Retain, snapshot_as_of, transaction};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let account = |n| Entity::builder(n).clock(Clock::manual(&clock)).retain(Retain::All).build();
/// let (ann, bob) = (account(100), account(0));
/// for second in 1..=3 {
///     clock.set(Duration::from_secs(second));
///     transaction(|tx| {
///         tx.update(&ann, |n| n - 10)?;
///         tx.update(&bob, |n| n + 10)
///     });
/// }
/// let (ann, bob) = snapshot_as_of((&ann, &bob), 2_500_000_000)?;
/// assert_eq!((*ann, *bob), (80, 20));
/// # Ok::<(), snapcell::Missing>(())
/// ```
pub fn snapshot_as_of<E: Entities>(entities: E, time: u64) -> Result<E::Snapshots, Missing> {
    let now = moment_of(&entities).into_inner();
    entities.as_of(now, time)
}

/// Snapshots that were current at one instant. It derefs to a tuple or a vector of them.
#[derive(Clone)]
pub struct Moment<S> {
    snapshots: S,
    attempts: u32,
    by_transaction: bool,
}

impl<S> Moment<S> {
    /// The snapshots, without the rest.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.snapshots
    }

    /// How many attempts it took, the successful one included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether it took a transaction, since others committed all the while.
    #[must_use]
    pub fn took_transaction(&self) -> bool {
        self.by_transaction
    }
}

impl<S> Deref for Moment<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.snapshots
    }
}

impl<S: fmt::Debug> fmt::Debug for Moment<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment")
            .field("snapshots", &self.snapshots)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// Entities that [`snapshot_of`] can look at together: tuples of references; and slices, vectors and arrays, of entities or of
/// references to them.
pub trait Entities: sealed::Entities {}

impl<E: sealed::Entities> Entities for E {}

mod sealed {
    use super::*;

    /// What can be looked at together.
    pub trait Entities {
        type Snapshots;

        /// Two looks, and the snapshots if they agree.
        #[expect(private_interfaces, reason = "nobody else can name this trait")]
        fn look(&self, guard: &Guard) -> Option<Self::Snapshots>;
        /// Has the log hold them at its commit.
        #[expect(private_interfaces, reason = "nobody else can name this trait")]
        fn enter<'e>(&self, log: &mut Log<'e>)
        where
            Self: 'e;
        /// The latest of each that are not later than a time, up to those that were current together.
        fn as_of(&self, now: Self::Snapshots, time: u64) -> Result<Self::Snapshots, Missing>;
        /// What the log holds.
        #[expect(private_interfaces, reason = "nobody else can name this trait")]
        fn held(&self, log: &Log<'_>) -> Self::Snapshots;
    }
}

fn fence() {
    sync::fence(site::SNAPSHOT_FENCE);
}

/// The second half of [`snapshot_of`], for what was looked at one by one: whether all of it still has the
/// stamp that it was seen with. Then all of it was current at one moment, after the last look and before this.
///
/// It may be asked in parts, on whatever threads, if all looks at any of it happened before each part is asked
/// (model `store::one_moment_in_parts`).
///
/// # Linearization
/// The fence; of several parts, the first of their fences.
#[cfg(feature = "store")]
pub(crate) fn is_unchanged<'e, T: Send + Sync + 'static, E: 'static>(
    looks: impl IntoIterator<Item = (&'e Entity<T, E>, Stamp)>,
) -> bool {
    fence();
    let guard = Reclaimer::pin();
    looks.into_iter().all(|(entity, stamp)| {
        entity.head().load(&guard).stamp() == stamp || planted(Fault::OnePass)
    })
}

/// Whether a second look sees the same.
fn is_still<T: Send + Sync + 'static, E: 'static>(
    entity: &Entity<T, E>,
    seen: Seen<'_, T>,
    guard: &Guard,
) -> bool {
    entity.head().load(guard).address() == seen.address() || planted(Fault::OnePass)
}

fn held<T: Send + Sync + 'static, E: 'static>(log: &Log<'_>, entity: &Entity<T, E>) -> Snapshot<T> {
    Snapshot(
        log.held(&entity.0)
            .expect("the log has held it at its commit"),
    )
}

macro_rules! tuples {
    ($(($($entity:ident: $T:ident $E:ident $seen:ident),*))*) => {$(
        impl<$($T: Send + Sync + 'static, $E: 'static),*> sealed::Entities
            for ($(&Entity<$T, $E>,)*)
        {
            type Snapshots = ($(Snapshot<$T>,)*);

            #[inline]
            #[expect(private_interfaces, reason = "nobody else can name this trait")]
            fn look(&self, guard: &Guard) -> Option<Self::Snapshots> {
                let ($($entity,)*) = *self;
                $(let $seen = $entity.head().load(guard);)*
                fence();
                let is_one_moment = $(is_still($entity, $seen, guard))&&*;
                is_one_moment.then(|| ($(Snapshot($seen.hold()),)*))
            }

            #[expect(private_interfaces, reason = "nobody else can name this trait")]
            fn enter<'e>(&self, log: &mut Log<'e>)
            where
                Self: 'e,
            {
                let ($($entity,)*) = *self;
                $(log.hold_at_commit(Target::<$T, Extras<$T, $E>>::Borrowed(&$entity.0));)*
            }

            fn as_of(&self, now: Self::Snapshots, time: u64) -> Result<Self::Snapshots, Missing> {
                let ($($entity,)*) = *self;
                let ($($seen,)*) = now;
                Ok(($($entity.as_of_before($seen, time)?,)*))
            }

            #[expect(private_interfaces, reason = "nobody else can name this trait")]
            fn held(&self, log: &Log<'_>) -> Self::Snapshots {
                let ($($entity,)*) = *self;
                ($(held(log, $entity),)*)
            }
        }
    )*};
}

tuples! {
    (a: A EA sa, b: B EB sb)
    (a: A EA sa, b: B EB sb, c: C EC sc)
    (a: A EA sa, b: B EB sb, c: C EC sc, d: D ED sd)
    (a: A EA sa, b: B EB sb, c: C EC sc, d: D ED sd, e: E EE se)
    (a: A EA sa, b: B EB sb, c: C EC sc, d: D ED sd, e: E EE se, f: F EF sf)
    (a: A EA sa, b: B EB sb, c: C EC sc, d: D ED sd, e: E EE se, f: F EF sf, g: G EG sg)
    (a: A EA sa, b: B EB sb, c: C EC sc, d: D ED sd, e: E EE se, f: F EF sf, g: G EG sg, h: H EH sh)
    (a: A EA sa, b: B EB sb, c: C EC sc, d: D ED sd, e: E EE se, f: F EF sf, g: G EG sg, h: H EH sh, i: I EI si)
    (a: A EA sa, b: B EB sb, c: C EC sc, d: D ED sd, e: E EE se, f: F EF sf, g: G EG sg, h: H EH sh, i: I EI si, j: J EJ sj)
    (a: A EA sa, b: B EB sb, c: C EC sc, d: D ED sd, e: E EE se, f: F EF sf, g: G EG sg, h: H EH sh, i: I EI si, j: J EJ sj, k: K EK sk)
    (a: A EA sa, b: B EB sb, c: C EC sc, d: D ED sd, e: E EE se, f: F EF sf, g: G EG sg, h: H EH sh, i: I EI si, j: J EJ sj, k: K EK sk, l: L EL sl)
}

macro_rules! slices {
    ($([$($length:tt)*] $slice:ty),*) => {$(
        impl<T: Send + Sync + 'static, E: 'static, $($length)*> sealed::Entities for $slice {
            type Snapshots = Vec<Snapshot<T>>;

            #[expect(private_interfaces, reason = "nobody else can name this trait")]
            fn look(&self, guard: &Guard) -> Option<Self::Snapshots> {
                let seen: Vec<_> = self
                    .iter()
                    .map(|entity| entity.head().load(guard))
                    .collect();
                fence();
                self.iter()
                    .zip(&seen)
                    .all(|(entity, seen)| is_still(entity, *seen, guard))
                    .then(|| seen.iter().map(|seen| Snapshot(seen.hold())).collect())
            }

            #[expect(private_interfaces, reason = "nobody else can name this trait")]
            fn enter<'e>(&self, log: &mut Log<'e>)
            where
                Self: 'e,
            {
                for entity in self.iter() {
                    log.hold_at_commit(Target::<T, Extras<T, E>>::Borrowed(&entity.0));
                }
            }

            fn as_of(&self, now: Self::Snapshots, time: u64) -> Result<Self::Snapshots, Missing> {
                self.iter()
                    .zip(now)
                    .map(|(entity, now)| entity.as_of_before(now, time))
                    .collect()
            }

            #[expect(private_interfaces, reason = "nobody else can name this trait")]
            fn held(&self, log: &Log<'_>) -> Self::Snapshots {
                self.iter().map(|entity| held(log, entity)).collect()
            }
        }
    )*};
}

slices!(
    [] &[Entity<T, E>],
    [] &[&Entity<T, E>],
    [] &Vec<Entity<T, E>>,
    [] &Vec<&Entity<T, E>>,
    [const N: usize] &[Entity<T, E>; N],
    [const N: usize] &[&Entity<T, E>; N]
);
