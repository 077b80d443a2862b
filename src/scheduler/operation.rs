//! An operation in the making: what it does, and how important that is.
#![forbid(unsafe_code)]

use super::account::tally::Kind;
use super::body::{Body, Change, Complaint, Merging, Prepared, Targets, Together};
use super::class::Class;
use super::current::Context;
use super::priority::Priority;
use super::retry::RetryPolicy;
use crate::cell::{Entity, Merge, Snapshot, Stop, Transaction};
use std::convert::Infallible;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

/// A change that is to be made, by its class and priority.
///
/// | constructor | what it does | what it gives |
/// |---|---|---|
/// | [`update`](Operation::update) | changes one entity | its snapshot |
/// | [`try_update`](Operation::try_update) | the same, or refuses, or leaves it | its snapshot |
/// | [`transaction`](Operation::transaction) | changes several entities at one instant | what its closure returns |
/// | [`prepared`](Operation::prepared) | does the long part beside others, and the short one in turn | its snapshot |
/// | [`merging`](Operation::merging) | is computed beside others, and merged | its snapshot |
///
/// The closure runs once for each attempt, on a snapshot, without a guard unless it is [`short`](Operation::short) or
/// [run](crate::Engine::run): it may take its time, but should have no other effect. An operation that is submitted or run inside the closure of another one is part of it: it is at least as
/// important as that.
///
/// # Examples
/// Every knob at once:
/// ```
/// use snapcell::{Class, Engine, Entity, Operation, Priority, RetryPolicy};
/// use std::time::Duration;
///
/// let engine = Engine::new();
/// let stock = Entity::new(10_u32);
/// let order = Operation::try_update(&stock, |n: &u32| n.checked_sub(3).map(Some).ok_or("sold out"))
///     .named("order")
///     .class(Class::NORMAL)
///     .priority(Priority::HIGH)
///     .retries(8)
///     .retrying(RetryPolicy::default())
///     .patience(Duration::from_secs(5));
/// let left = engine.submit(order)?.wait()?;
/// assert_eq!(*left, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "an operation does nothing until it is submitted or run"]
pub struct Operation<B> {
    pub(super) body: B,
    pub(super) wish: Wish,
}

/// What whoever makes an operation wishes; the rest is as its class says.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) kind: Kind,
    pub(super) priority: Option<Priority>,
    pub(super) retries: Option<u32>,
    /// Few wish for one, and it would be most of what there is to move.
    pub(super) retry: Option<Box<RetryPolicy>>,
    pub(super) patience: Option<Option<Duration>>,
    parent: Parent,
    pub(super) is_traced: bool,
    pub(super) is_short: bool,
}

/// What an operation is to be part of.
#[derive(Clone, Debug)]
enum Parent {
    /// Of the one in whose closure it is submitted or run.
    Current,
    Given(Context),
    None,
}

impl Wish {
    fn new(name: &'static str) -> Self {
        Wish {
            kind: Kind {
                class: Class::NORMAL,
                name,
            },
            priority: None,
            retries: None,
            retry: None,
            patience: None,
            parent: Parent::Current,
            is_traced: false,
            is_short: false,
        }
    }

    /// Whether it is short, and nobody follows what becomes of it.
    #[inline]
    pub(super) fn may_be_done_at_once(&self) -> bool {
        self.is_short && !self.has_parent() && !self.is_traced
    }

    /// Whether it is part of one that was named.
    #[inline]
    pub(super) fn has_parent(&self) -> bool {
        matches!(self.parent, Parent::Given(_))
    }

    /// What it is part of, given what this thread is in the closure of.
    pub(super) fn parent(&self, current: impl FnOnce() -> Option<Context>) -> Option<Context> {
        match &self.parent {
            Parent::Current => current(),
            Parent::Given(parent) => Some(parent.clone()),
            Parent::None => None,
        }
    }
}

impl Operation<()> {
    /// Replaces the value of an entity by what `f` makes of it.
    pub fn update<T, E, G>(
        entity: &Entity<T, E>,
        f: G,
    ) -> Operation<impl Body<Output = Snapshot<T>, Error = Infallible> + use<T, E, G>>
    where
        T: Send + Sync + 'static,
        E: Complaint,
        G: Fn(&T) -> T + Send + Sync + 'static,
    {
        Self::change("update", entity, move |value: &T| Ok(Some(f(value))))
    }

    /// As [`update`](Operation::update), but `f` may refuse by an error of its own, or leave the value as it is,
    /// by `Ok(None)`.
    pub fn try_update<T, E, F, G>(
        entity: &Entity<T, E>,
        f: G,
    ) -> Operation<impl Body<Output = Snapshot<T>, Error = F> + use<T, E, F, G>>
    where
        T: Send + Sync + 'static,
        E: Complaint,
        F: Send + 'static,
        G: Fn(&T) -> Result<Option<T>, F> + Send + Sync + 'static,
    {
        Self::change("try_update", entity, f)
    }

    fn change<T, E, F, G>(
        name: &'static str,
        entity: &Entity<T, E>,
        f: G,
    ) -> Operation<Change<T, E, G>>
    where
        T: Send + Sync + 'static,
        E: Complaint,
        G: Fn(&T) -> Result<Option<T>, F> + Send + Sync + 'static,
    {
        let body = Change {
            entity: entity.clone(),
            target: [entity.rank()],
            f,
        };
        Operation {
            body,
            wish: Wish::new(name),
        }
    }

    /// Changes several entities at one instant, by a [transaction](crate::transaction()). `entities` is a tuple of
    /// up to eight handles, or a vector or an array of them, and is what `f` gets them by.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation, Stop};
    ///
    /// let engine = Engine::new();
    /// let (ann, bob) = (Entity::new(100_u32), Entity::new(0_u32));
    /// let transfer = Operation::transaction((ann.clone(), bob.clone()), |tx, (ann, bob)| {
    ///     let left = tx.get(ann)?.checked_sub(30).ok_or(Stop::Abort("overdrawn"))?;
    ///     tx.write(ann, left);
    ///     tx.update(bob, |n| n + 30)?;
    ///     Ok(left)
    /// });
    /// assert_eq!(engine.submit(transfer)?.wait()?, 70);
    /// assert_eq!(*bob.snapshot(), 30);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transaction<S, R, F, G>(
        entities: S,
        f: G,
    ) -> Operation<impl Body<Output = R, Error = F> + use<S, R, F, G>>
    where
        S: Targets,
        R: Send + 'static,
        F: Send + 'static,
        G: for<'x> Fn(&Transaction<'x>, &'x S) -> Result<R, Stop<F>> + Send + Sync + 'static,
    {
        let mut targets = entities.ranks();
        targets.sort_unstable();
        targets.dedup();
        let body = Together {
            entities,
            targets,
            f,
        };
        Operation {
            body,
            wish: Wish::new("transaction"),
        }
    }

    /// Changes an entity in two phases: `prepare` may take long, wait, or ask others, and runs beside other
    /// operations; `apply` changes the value by what it has found, in turn, and should be short.
    ///
    /// `prepare` gets the snapshot that was current when it began; it may not be any more when `apply` runs.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation};
    /// use std::convert::Infallible;
    ///
    /// let engine = Engine::builder().workers(8).build();
    /// let prices = Entity::new(Vec::<u32>::new());
    /// let asked = (0..8).map(|shop| {
    ///     let ask = move |_: &_| Ok::<_, Infallible>(100 + shop);       // this takes long
    ///     let note = |prices: &Vec<u32>, price: &u32| {
    ///         Ok(Some([&prices[..], &[*price]].concat()))                // and this doesn't
    ///     };
    ///     engine.submit(Operation::prepared(&prices, ask, note)).unwrap()
    /// });
    /// for ticket in asked.collect::<Vec<_>>() {
    ///     ticket.wait()?;
    /// }
    /// assert_eq!(prices.snapshot().iter().sum::<u32>(), 828);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prepared<T, E, P, F, G, H>(
        entity: &Entity<T, E>,
        prepare: G,
        apply: H,
    ) -> Operation<impl Body<Output = Snapshot<T>, Error = F> + use<T, E, P, F, G, H>>
    where
        T: Send + Sync + 'static,
        E: Complaint,
        P: Send + Sync + 'static,
        F: Send + 'static,
        G: Fn(&Snapshot<T>) -> Result<P, F> + Send + Sync + 'static,
        H: Fn(&T, &P) -> Result<Option<T>, F> + Send + Sync + 'static,
    {
        let body = Prepared {
            target: [entity.rank()],
            entity: entity.clone(),
            prepare,
            apply,
            prepared: OnceLock::new(),
        };
        Operation {
            body,
            wish: Wish::new("prepared"),
        }
    }

    /// As [`try_update`](Operation::try_update); but under [`Policy::Merge`](crate::Policy::Merge) `f` runs beside
    /// other operations, and where one of them was faster `merge` makes one change of the two. If it returns `None`
    /// the value is computed again.
    pub fn merging<T, E, F, G, M>(
        entity: &Entity<T, E>,
        f: G,
        merge: M,
    ) -> Operation<impl Body<Output = Snapshot<T>, Error = F> + use<T, E, F, G, M>>
    where
        T: Clone + Send + Sync + 'static,
        E: Complaint,
        F: Send + 'static,
        G: Fn(&T) -> Result<Option<T>, F> + Send + Sync + 'static,
        M: Fn(Merge<'_, T>) -> Option<T> + Send + Sync + 'static,
    {
        let body = Merging {
            target: [entity.rank()],
            entity: entity.clone(),
            f,
            merge,
            prepared: OnceLock::new(),
        };
        Operation {
            body,
            wish: Wish::new("merging"),
        }
    }
}

impl<B> Operation<B> {
    /// What it is called in reports. Default: its constructor.
    pub fn named(mut self, name: &'static str) -> Self {
        self.wish.kind.name = name;
        self
    }

    /// Its class. Default: [`Class::NORMAL`].
    pub fn class(mut self, class: Class) -> Self {
        self.wish.kind.class = class;
        self
    }

    /// Its priority. Default: that of its class, which also says which ones it allows.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.wish.priority = Some(priority);
        self
    }

    /// How often it may be tried again after others were faster. Default: as its class says.
    pub fn retries(mut self, retries: u32) -> Self {
        self.wish.retries = Some(retries);
        self
    }

    /// How long it stays away before it is tried again. Default: as its class says.
    pub fn retrying(mut self, retry: RetryPolicy) -> Self {
        self.wish.retry = Some(Box::new(retry));
        self
    }

    /// How long it waits for its turn. Default: as its class says.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.wish.patience = Some(Some(patience));
        self
    }

    /// It waits for its turn however long that takes.
    pub fn endless_patience(mut self) -> Self {
        self.wish.patience = Some(None);
        self
    }

    /// It is part of that operation, and so at least as important. Default: it is part of the one in whose closure
    /// it is submitted. Where that one has handed work to another thread or task, this says so.
    pub fn within(mut self, parent: &Context) -> Self {
        self.wish.parent = Parent::Given(parent.clone());
        self
    }

    /// What becomes of it is kept as an entity, the [trace](crate::Ticket::trace) of its ticket. That costs an entity,
    /// and a commit with each step. Operations that are [run](crate::Engine::run) have no ticket, and so no trace.
    pub fn traced(mut self) -> Self {
        self.wish.is_traced = true;
        self
    }

    /// Its closure is short, and waits for nothing. So it may run under a guard, as that of
    /// [`Entity::update`](crate::Entity::update); and if nothing waits in the lane of its target, whoever
    /// [submits](crate::Engine::submit) it runs it, instead of handing it over to another thread, which would take longer.
    /// Then its ticket is done when it is given. If others are faster there again and again it is handed over after all; what it
    /// has lost until then doesn't count as retries.
    ///
    /// It is handed over in any case if it has a [parent](Operation::within), is [traced](Operation::traced), listened to, or
    /// kept in a registry; if it [reserves](RetryPolicy::reserves) its target from the first attempt, as structural ones do,
    /// or somebody else has; if it is [staged](crate::Engine::stage), or submitted inside a closure of an operation or a
    /// commit; and where the policy is [`WinnerTakesAll`](crate::Policy::WinnerTakesAll).
    ///
    /// Many at once are best [submitted together](crate::Engine::submit_all).
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation};
    ///
    /// let engine = Engine::new();
    /// let hits = Entity::new(0);
    /// let ticket = engine.submit(Operation::update(&hits, |n| n + 1).short())?;
    /// assert!(ticket.is_done(), "nothing was in its way");
    /// assert_eq!(*ticket.wait()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn short(mut self) -> Self {
        self.wish.is_short = true;
        self
    }

    /// It is part of no other one, wherever it is submitted.
    pub fn independent(mut self) -> Self {
        self.wish.parent = Parent::None;
        self
    }
}

impl<B> fmt::Debug for Operation<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("name", &self.wish.kind.name)
            .field("class", &self.wish.kind.class)
            .field("priority", &self.wish.priority)
            .finish_non_exhaustive()
    }
}
