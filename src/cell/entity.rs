//! The handle of an entity: birth, reads, end.
//!
//! The deciding word is the head (`raw/head.rs`); this file only says what a user sees of it.
#![forbid(unsafe_code)]

use super::guard::Guard;
use super::past::{Past, Retain};
use super::snapshot::{Loaded, Snapshot};
use crate::clock::{Clock, Reading};
use crate::raw::reclaim::{self, Computing, Reclaim, Reclaimer};
use crate::raw::{Draft, Handle, Head, Place, Seen};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// Shared state: one current, immutable snapshot that a commit replaces as a whole.
///
/// This is a *handle*, as `Arc` is: a clone is another handle of the same entity. What is behind it
/// ends with the last handle, or soon after if it took part in a transaction; snapshots and readers keep what
/// they hold, and a [`Watch`](crate::Watch) keeps the last value.
///
/// `E` is the error of the entity's validator. Most entities have none, and then it is
/// [`Infallible`]: `Entity<T>` is all one writes.
///
/// # Which read?
/// | call | what it costs | for |
/// |---|---|---|
/// | [`read`](Entity::read), [`load`](Entity::load) | a pin and a load; nothing is written that others see | short looks |
/// | [`snapshot`](Entity::snapshot) | the same and a count | what is kept, sent, or held across an `.await` |
/// | [`reader`](Entity::reader) | a load and a compare while nothing changes | hot loops on state that rarely changes |
/// | [`snapshot_of`](crate::snapshot_of) | a pin, a fence, two loads and a count for each | several entities at one instant |
/// | [`history`](Entity::history), [`at`](Entity::at), [`as_of`](Entity::as_of) | a few loads, and a count for each snapshot | what was current before, if it is [kept](crate::Retain) |
///
/// # Which write?
/// | call | for |
/// |---|---|
/// | [`update`](Entity::update) and its kin | a change computed from the current value, again until it commits |
/// | [`modify`](Entity::modify), [`try_modify`](Entity::try_modify) | the same, where a small part of a large value changes |
/// | [`try_commit`](Entity::try_commit), [`try_commit_on`](Entity::try_commit_on) | a change computed earlier: only if nobody was faster |
/// | [`commit_or_merge`](Entity::commit_or_merge) | a change that took long, merged rather than computed again |
/// | [`replace`](Entity::replace) | a value that depends on nothing |
/// | [`transaction`](crate::transaction()) | a change of several entities at one instant |
///
/// # Which wait?
/// Each can be awaited on any runtime, and blocks a thread by `.wait()`, `.wait_timeout(…)` or
/// `.wait_deadline(…)`.
///
/// | call | for |
/// |---|---|
/// | [`changed`](Entity::changed) | another snapshot than the one you know |
/// | [`wait_for`](Entity::wait_for), [`wait_for_map`](Entity::wait_for_map) | a value that fulfils a condition |
/// | [`watch`](Entity::watch) | one change after the other, until the entity is closed |
/// | [`on_commit`](Entity::on_commit) | a closure that is called after commits, on a thread of its own |
///
/// # Examples
/// ```
/// use snapcell::Entity;
///
/// let balance = Entity::new(100_u64);
/// balance.update(|b| b + 50);
/// let seen = balance.snapshot();
/// match balance.try_commit(seen.stamp(), 7) {
///     Ok(committed) => println!("{}", committed.stamp()),
///     Err(conflict) => println!("{} was overtaken by {}", conflict.proposed(), conflict.current()),
/// }
/// # assert_eq!(*balance.snapshot(), 7);
/// ```
/// `T` has to be shareable and without borrows, since any thread may look at a value and drop it:
/// ```compile_fail,E0277
/// snapcell::Entity::new(std::cell::Cell::new(1));
/// ```
/// ```compile_fail,E0277
/// snapcell::Entity::new(std::rc::Rc::new(1));
/// ```
/// ```compile_fail,E0597
/// let local = 1;
/// let entity = snapcell::Entity::new(&local);
/// std::thread::spawn(move || entity.replace(&2).attempts());
/// ```
/// ```compile_fail,E0308
/// type Any = snapcell::Entity<for<'a> fn(&'a u8)>;
/// fn narrowed(entity: Any) -> snapcell::Entity<fn(&'static u8)> { entity }
/// ```
/// ```
/// type Any = snapcell::Entity<for<'a> fn(&'a u8)>;
/// fn the_same(entity: Any) -> snapcell::Entity<for<'a> fn(&'a u8)> { entity }
/// snapcell::Entity::new(std::sync::Mutex::new(1));
/// snapcell::Entity::new(std::sync::Arc::new(1));
/// let entity = snapcell::Entity::new(&1);
/// std::thread::spawn(move || entity.replace(&2).attempts());
/// ```
pub struct Entity<T: Send + Sync + 'static, E: 'static = Infallible>(
    pub(super) Handle<T, Extras<T, E>>,
);

/// What only some entities have.
pub(super) struct Extras<T: Send + Sync + 'static, E> {
    clock: Clock,
    validate: Option<Validator<T, E>>,
    pub(super) past: Option<Past<T>>,
}

/// What an entity has that was built without any of it.
impl<T: Send + Sync + 'static, E> Default for Extras<T, E> {
    fn default() -> Self {
        Extras {
            clock: Clock::default(),
            validate: None,
            past: None,
        }
    }
}

impl<T: Send + Sync + 'static, E> Extras<T, E> {
    #[inline]
    fn validate(&self, value: &T) -> Result<(), E> {
        let Some(validate) = &self.validate else {
            return Ok(());
        };
        let _computing = Computing::begin();
        validate(value)
    }

    #[inline(never)]
    fn validate_and_read(&self, value: &T) -> Result<Reading, E> {
        self.validate(value)?;
        Ok(self.clock.reading())
    }

    #[inline(never)]
    fn admit(&self, seen: Seen<'_, T>, value: &T) -> Result<(), E> {
        self.validate(value)?;
        match &self.past {
            Some(past) if !planted(Fault::RecordAfterCommit) => past.record(seen),
            _ => {}
        }
        Ok(())
    }
}

type Validator<T, E> = Box<dyn Fn(&T) -> Result<(), E> + Send + Sync>;

impl<T: Send + Sync + 'static> Entity<T> {
    /// A new entity, at version 0, with the monotonic clock and no validator.
    ///
    /// # Complexity
    /// Two allocations: the node of the value, and the block behind the handles.
    #[must_use]
    pub fn new(value: T) -> Self {
        Entity(Handle::new(
            Draft::new(Entity::<T>::birth_place(), value),
            None,
        ))
    }

    /// Where the first snapshot of an entity without extras stands.
    pub(super) fn birth_place() -> Place {
        Place::birth(Stamp::new(0, Clock::default().reading().at_birth()))
    }

    /// Starts building an entity that is different in some way.
    pub fn builder(value: T) -> Builder<T> {
        Builder {
            value,
            clock: Clock::default(),
            born: None,
            retain: Retain::default(),
            validate: None,
        }
    }
}

impl<T: Send + Sync + 'static, E: 'static> Entity<T, E> {
    /// Looks at the current value.
    ///
    /// `look` runs under a guard: keep it short, since while it runs nothing that the process
    /// replaces can be freed.
    ///
    /// # Linearization
    /// As [`load`](Entity::load).
    /// # Progress
    /// As good as [`pin`](crate::pin), and then wait-free.
    #[inline]
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let guard = Reclaimer::pin();
        match self.head().load_at_once(&guard) {
            Some(seen) => look(seen.value()),
            None => self.read_tentative(guard, look),
        }
    }

    /// Looks again, out of line, and as the last call: then the common case needs no register for afterwards.
    #[cold]
    #[inline(never)]
    fn read_tentative<R>(&self, guard: reclaim::Guard, look: impl FnOnce(&T) -> R) -> R {
        look(self.head().load(&guard).value())
    }

    /// The current value, under a guard that many loads may share.
    ///
    /// # Linearization
    /// The load of the head.
    /// # Progress
    /// Wait-free: one load. Where a transaction was the last to change the entity, one more, and while that is
    /// under way, two.
    /// # Memory ordering
    /// What was done before the commit of what is loaded happens before what is done with it.
    #[inline]
    #[must_use]
    pub fn load<'g>(&'g self, guard: &'g Guard) -> Loaded<'g, T> {
        Loaded(self.head().load(&guard.0))
    }

    /// The current value, owned.
    ///
    /// # Linearization
    /// The load of the head.
    /// # Progress
    /// As good as [`pin`](crate::pin), and then wait-free.
    #[inline]
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<T> {
        let guard = Reclaimer::pin();
        Snapshot(self.head().load(&guard).hold())
    }

    /// Whether somebody has committed since `base` was read: whether a commit on `base` would be
    /// refused, were it tried now.
    ///
    /// Two different stamps of one entity always conflict, whichever is the newer one.
    ///
    /// # Linearization
    /// The load of the head.
    #[must_use]
    pub fn has_conflict(&self, base: Stamp) -> bool {
        let guard = Reclaimer::pin();
        self.head().load(&guard).stamp() != base
    }

    /// Takes the value out, if this is the only handle of the entity, nobody holds the current
    /// snapshot, and there is no [`Watch`](crate::Watch).
    ///
    /// # Errors
    /// Otherwise the handle is given up all the same, for the current snapshot. (An entity that keeps its
    /// [history](crate::Retain) may itself hold the current one, if a transaction was aborted that was to change it.)
    ///
    /// # Examples
    /// ```
    /// let entity = snapcell::Entity::new(String::from("mine"));
    /// let other = entity.clone();
    /// assert_eq!(*other.into_inner().unwrap_err(), "mine");
    /// assert_eq!(entity.into_inner().unwrap(), "mine");
    /// ```
    pub fn into_inner(self) -> Result<T, Snapshot<T>> {
        self.0.into_inner().map_err(Snapshot)
    }

    /// Whether the two are handles of one entity, not only of entities with equal values.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.0.is(&other.0)
    }

    /// What tells this entity from all others that exist.
    #[cfg(feature = "scheduler")]
    #[inline]
    pub(crate) fn rank(&self) -> usize {
        self.0.rank()
    }

    #[inline]
    pub(super) fn head(&self) -> &Head<T> {
        self.0.head()
    }

    /// What comes before each attempt to commit: the time is read before the head, and a little of
    /// what earlier commits replaced is freed while nothing is pinned yet.
    #[inline(always)]
    pub(super) fn prepare(&self) -> Reading {
        Reclaimer::release_some();
        match self.0.extra() {
            None => Clock::default().reading(),
            Some(extras) => extras.clock.reading(),
        }
    }

    /// As [`prepare`](Self::prepare). `now`: what the monotonic clock says, if it was asked just now.
    #[cfg(feature = "scheduler")]
    #[inline(always)]
    pub(super) fn prepare_at(&self, now: Option<u64>) -> Reading {
        Reclaimer::release_some();
        match self.0.extra() {
            None => now.map_or_else(|| Clock::default().reading(), Reading::At),
            Some(extras) => extras.clock.reading(),
        }
    }

    /// What the entity's own clock says, if it has one.
    #[inline]
    pub(super) fn own_reading(&self) -> Option<Reading> {
        self.0.extra().map(|extras| extras.clock.reading())
    }

    /// Both, with one look.
    #[inline(always)]
    pub(super) fn validate_and_read(&self, value: &T) -> Result<Option<Reading>, E> {
        match self.0.extra() {
            Some(extras) => extras.validate_and_read(value).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    pub(super) fn validate(&self, value: &T) -> Result<(), E> {
        match self.0.extra() {
            Some(extras) => extras.validate(value),
            None => Ok(()),
        }
    }

    /// What comes before each exchange that may replace `seen` by a value: the validator looks at that, and the
    /// history at what is replaced.
    #[inline]
    pub(super) fn admit(&self, seen: Seen<'_, T>, value: &T) -> Result<(), E> {
        match self.0.extra() {
            Some(extras) if extras.validate.is_some() || extras.past.is_some() => {
                extras.admit(seen, value)
            }
            _ => Ok(()),
        }
    }
}

impl<T: Send + Sync + 'static, E: 'static> Clone for Entity<T, E> {
    fn clone(&self) -> Self {
        Entity(self.0.clone())
    }
}

/// Whatever panics, an entity is as it was: values are immutable, and a change is published whole.
impl<T: Send + Sync + RefUnwindSafe + 'static, E: 'static> UnwindSafe for Entity<T, E> {}
impl<T: Send + Sync + RefUnwindSafe + 'static, E: 'static> RefUnwindSafe for Entity<T, E> {}

/// The current value and its stamp. Never blocks, and shows one moment.
impl<T: fmt::Debug + Send + Sync + 'static, E: 'static> fmt::Debug for Entity<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("Entity")
            .field("stamp", &format_args!("{}", snapshot.stamp()))
            .field("value", &*snapshot)
            .finish()
    }
}

impl<T: Default + Send + Sync + 'static> Default for Entity<T> {
    fn default() -> Self {
        Entity::new(T::default())
    }
}

impl<T: Send + Sync + 'static> From<T> for Entity<T> {
    fn from(value: T) -> Self {
        Entity::new(value)
    }
}

/// An entity in the making.
///
/// # Examples
/// Every knob at once:
/// ```
/// use snapcell::{Clock, Entity, Stamp};
///
/// let percent = Entity::builder(40_u8)
///     .clock(Clock::logical())
///     .born(Stamp::new(7, 1_000))
///     .validate(|p| if *p <= 100 { Ok(()) } else { Err("more than all") })
///     .try_build()
///     .unwrap();
/// assert_eq!(percent.snapshot().stamp(), Stamp::new(7, 1_000));
/// let refused = percent.try_replace(101).unwrap_err();
/// assert_eq!(refused.invalid(), Some(&"more than all"));
/// assert_eq!((refused.into_proposed(), *percent.snapshot()), (101, 40));
/// ```
/// An entity with a validator has no `update`, which couldn't be refused:
/// ```compile_fail,E0599
/// let percent = snapcell::Entity::builder(40_u8)
///     .validate(|p| if *p <= 100 { Ok(()) } else { Err("more than all") })
///     .try_build()
///     .unwrap();
/// percent.update(|p| p + 1);
/// ```
/// ```
/// let percent = snapcell::Entity::builder(40_u8).build();
/// percent.update(|p| p + 1);
/// ```
#[must_use = "a builder builds nothing until `build` is called"]
pub struct Builder<T, E = Infallible> {
    value: T,
    clock: Clock,
    born: Option<Stamp>,
    retain: Retain,
    validate: Option<Validator<T, E>>,
}

impl<T: Send + Sync + 'static> Builder<T> {
    /// The entity.
    #[must_use]
    pub fn build(self) -> Entity<T> {
        match self.try_build() {
            Ok(entity) => entity,
            Err(Invalid { error, .. }) => match error {},
        }
    }

    /// Refuses values: `validate` looks at each before it is published, the first one included, and
    /// may return an error of yours. It may run under a guard, so keep it short. If it panics, nothing
    /// is published. [`Transaction::update`](crate::Transaction::update) and `fold` don't ask it; they
    /// are there only if the error is one that can't be.
    ///
    /// Default: every value is fine.
    pub fn validate<E: 'static>(
        self,
        validate: impl Fn(&T) -> Result<(), E> + Send + Sync + 'static,
    ) -> Builder<T, E> {
        let Builder {
            value,
            clock,
            born,
            retain,
            ..
        } = self;
        Builder {
            value,
            clock,
            born,
            retain,
            validate: Some(Box::new(validate)),
        }
    }
}

impl<T: Send + Sync + 'static, E: 'static> Builder<T, E> {
    /// Where the times of the stamps come from. Default: [`Clock::monotonic`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The stamp of the first snapshot, for an entity that is restored from somewhere. Default:
    /// version 0, and the clock's time.
    ///
    /// Version `u64::MAX` at time `u64::MAX` says that what the entity begins with is not one of its values:
    /// the first commit has version 0, and the time that its clock says then.
    pub fn born(mut self, stamp: Stamp) -> Self {
        self.born = Some(stamp);
        self
    }

    /// Which snapshots the entity keeps. Default: [`Retain::Latest`].
    pub fn retain(mut self, retain: Retain) -> Self {
        self.retain = retain;
        self
    }

    /// The entity, if its validator accepts the first value.
    ///
    /// # Errors
    /// [`Invalid`] gives the value back with the validator's error.
    pub fn try_build(self) -> Result<Entity<T, E>, Invalid<T, E>> {
        let (first, extras) = self.parts()?;
        Ok(Entity(Handle::new(first, Some(extras))))
    }

    /// What the entity is to be made of.
    pub(super) fn parts(self) -> Result<Parts<T, E>, Invalid<T, E>> {
        let Builder {
            value,
            clock,
            born,
            retain,
            validate,
        } = self;
        if let Some(Err(error)) = validate.as_ref().map(|validate| validate(&value)) {
            return Err(Invalid { value, error });
        }
        let stamp = born.unwrap_or_else(|| Stamp::new(0, clock.reading().at_birth()));
        let extras = Extras {
            clock,
            validate,
            past: Past::new(retain),
        };
        Ok((Draft::new(Place::birth(stamp), value), extras))
    }
}

/// What an entity that was built is made of.
type Parts<T, E> = (Draft<T>, Extras<T, E>);

impl<T, E> fmt::Debug for Builder<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("clock", &self.clock)
            .field("born", &self.born)
            .field("retain", &self.retain)
            .field("validate", &self.validate.is_some())
            .finish_non_exhaustive()
    }
}

/// A value that the entity's own validator refuses: a first one, or one that a transaction writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Invalid<T, E> {
    /// The value.
    pub value: T,
    /// What the validator says.
    pub error: E,
}

/// Without the value: it need not be printable.
impl<T, E: fmt::Debug> fmt::Debug for Invalid<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalid")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T, E: fmt::Display> fmt::Display for Invalid<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value is invalid: {}", self.error)
    }
}

impl<T, E: Error + 'static> Error for Invalid<T, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(feature = "serde")]
mod serde_impls {
    use super::Entity;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// As the current value. A [`Snapshot`](crate::Snapshot) shows its stamp too.
    impl<T: Serialize + Send + Sync + 'static, E: 'static> Serialize for Entity<T, E> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            // Not under a guard: the serializer may take its time.
            T::serialize(&self.snapshot(), serializer)
        }
    }

    /// From a value, as a new entity.
    impl<'de, T: Deserialize<'de> + Send + Sync + 'static> Deserialize<'de> for Entity<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            T::deserialize(deserializer).map(Entity::new)
        }
    }
}
