//! The engine, as its users see it.
#![forbid(unsafe_code)]

use super::account::{
    Counts, Event, EventKinds, Events, KindMetrics, Listener, Metrics, Subscription,
};
use super::body::Body;
use super::builder::EngineBuilder;
use super::class::{ClassPolicy, Policies};
use super::current;
use super::lane::Lane;
use super::operation::Operation;
use super::outcome::OperationError;
use super::shared::Shared;
use super::stage::{self, Stage};
use super::ticket::Submitted;
use crate::cell::Entity;
use crate::clock::{self};
use std::cell::Cell;
use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Runs operations on entities, the important ones first.
///
/// | call | runs it | for |
/// |---|---|---|
/// | [`submit`](Engine::submit) | on a thread of the engine, in its turn; a [short](Operation::short) one on this thread, if none waits | waiting, priority, isolation |
/// | [`run`](Engine::run) | on this thread, at once | short ones; the least overhead |
/// | [`stage`](Engine::stage) | as `submit`, several at the same moment | batches that compete with each other |
///
/// Each entity has a *lane*, in which operations on it take turns, so they don't get into each other's way; lanes
/// don't wait for each other. What else commits to an entity, past the engine, is an ordinary conflict: the
/// operation is attempted again, as often as its class allows.
///
/// Clones are handles of the same engine. When the last one is dropped, what waits is cancelled, and what runs ends.
///
/// # Order
/// Of the operations in a lane those of priority 10 go first. Below, each step of priority is worth an interval
/// of age ([`Policies::interval`]); so a less important one is overtaken for a bounded time only, but by those of
/// priority 10. What waits longer than its class is patient is
/// [rejected](crate::Reason::Expired), never silently forgotten. Of lanes that are ready the most important one is
/// served first.
///
/// # Progress
/// `submit` waits for no operation. It is lock-free but for what takes a short lock: the pool, when a lane becomes
/// ready and a thread is called; the allocator; the first use of an engine by a thread, or of an entity by an engine;
/// and the list of its parts, if it is part of another operation. `run` is as [`Entity::update`], but for such first
/// uses, its delays, and steps back for reservations, for a bounded time. Waiting for a ticket is blocking.
///
/// # Examples
/// ```
/// use snapcell::{Class, Engine, Entity, Operation};
///
/// let engine = Engine::new();
/// let stock = Entity::new(100_i64);
/// let tickets: Vec<_> = (0..10)
///     .map(|n| engine.submit(Operation::update(&stock, move |stock| stock - n)).unwrap())
///     .collect();
/// engine.run(&Operation::update(&stock, |stock| stock + 45).class(Class::STRUCTURAL)).unwrap();
/// for ticket in tickets {
///     ticket.wait().unwrap();
/// }
/// assert_eq!(*stock.snapshot(), 100);
/// assert_eq!(engine.counts().committed, 11);
/// ```
pub struct Engine {
    pub(super) shared: Arc<Shared>,
    /// Counts the handles.
    handle: Arc<Life>,
}

/// Shuts the engine down when the last handle is dropped.
struct Life(Arc<Shared>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.close(true);
        self.0.serve_without_threads();
    }
}

impl Clone for Engine {
    fn clone(&self) -> Self {
        Engine {
            shared: self.shared.clone(),
            handle: self.handle.clone(),
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Engine::new()
    }
}

impl Engine {
    /// The first handle.
    pub(super) fn new_of(shared: Arc<Shared>) -> Self {
        Engine {
            handle: Arc::new(Life(shared.clone())),
            shared,
        }
    }

    /// An engine with a thread for each processor, everything else as by default.
    #[must_use]
    pub fn new() -> Self {
        Engine::builder().build()
    }

    /// An engine with more to say about.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Submits an operation: it is run by a thread of the engine, when it is its turn; or here, if it is
    /// [short](Operation::short) and nothing waits.
    ///
    /// # Linearization
    /// The exchange that puts it into the lane of its target: each pick from then on knows of it. Of a short one that is done
    /// at once, that of its commit.
    /// # Progress
    /// It waits for no operation; but for short locks where a lane or a thread is used for the first time, of what it is part
    /// of, and of the registry, if there is one.
    /// # Complexity
    /// One allocation, one exchange, and a job of the pool for a lane that was idle.
    /// # Errors
    /// [`SubmitError`](crate::SubmitError) gives the operation back: the queue of its target is full, the engine is shut down, or the
    /// class doesn't allow the priority.
    pub fn submit<B: Body>(&self, operation: Operation<B>) -> Submitted<B> {
        if operation.wish.is_short {
            return self.shared.submit_short(operation);
        }
        self.shared.submit(operation)
    }

    /// Submits operations of one kind at the same moment, as a [stage](Engine::stage) does; but those that are
    /// [short](Operation::short) are done here, if nothing waits. The answers are in the order of the operations.
    ///
    /// Of those of one lane the most important is done first, and of equals the first; if one of them has to be handed over, all
    /// are. (One that changes several entities is in the lane of one of them, whichever that is.) Where the policy is
    /// [to fold](crate::Policy::Fold) them, up to 256 are published by one commit.
    ///
    /// # Linearization
    /// As [`submit`](Engine::submit), each by itself.
    /// # Progress
    /// As [`submit`](Engine::submit).
    /// # Complexity
    /// Of those that are done here, each a commit, or a step and a share in one; and a few allocations for all, and for each
    /// target. What is asked of the engine is asked once.
    /// # Errors
    /// Of each as [`submit`](Engine::submit).
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation, Policy};
    ///
    /// let engine = Engine::builder().policy(Policy::Fold).build();
    /// let hits = Entity::new(0);
    /// let tickets = engine.submit_all((1..=10).map(|n| Operation::update(&hits, move |sum| sum + n).short()));
    /// for ticket in tickets {
    ///     assert_eq!(*ticket?.wait()?, 55);
    /// }
    /// assert_eq!(hits.snapshot().stamp().version(), 1, "one commit");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_all<B: Body>(
        &self,
        operations: impl IntoIterator<Item = Operation<B>>,
    ) -> Vec<Submitted<B>> {
        self.shared.submit_all(operations)
    }

    /// Runs an operation on this thread, at once, beside its lane.
    ///
    /// Its closure may run under a guard, as that of [`Entity::update`], so keep it short; what takes long or waits
    /// is [submitted](Engine::submit).
    ///
    /// What has [reserved](crate::RetryPolicy::reserving_after) the target, and is more important, is given the time
    /// that it has reserved, once.
    ///
    /// # Linearization
    /// That of the commit of its kind: see [`Entity::update`] and [`transaction`](crate::transaction()).
    /// # Progress
    /// As that commit, but for the delays between attempts, which its policy wants, and the time that is reserved.
    /// # Errors
    /// How it ended, if it did not succeed.
    pub fn run<B: Body>(
        &self,
        operation: &Operation<B>,
    ) -> Result<B::Output, OperationError<B::Error>> {
        self.shared.run_here(operation)
    }

    /// Collects operations that are to be submitted at the same moment.
    pub fn stage(&self) -> Stage {
        Stage::new(self.shared.clone())
    }

    /// The policies of all classes, as they are now.
    #[must_use]
    pub fn policies(&self) -> Policies {
        (*self.shared.policies.get()).clone()
    }

    /// Replaces the policies of all classes, for what is submitted from now on.
    pub fn set_policies(&self, policies: Policies) {
        self.shared.policies.store(policies);
    }

    /// Changes the policies of the classes, for what is submitted from now on: `change` gets a copy of what they
    /// are, and returns whatever the caller wants to know. If others change them at the same time it may run again.
    ///
    /// # Errors
    /// That of `change`; then they are as they were.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{ClassPolicy, Engine, Entity, Operation, Priority};
    ///
    /// let engine = Engine::new();
    /// let reindex = ClassPolicy::new("reindex").with_priority(Priority::BACKGROUND).with_retries(50);
    /// let reindex = engine.change_policies(|policies| policies.add(reindex.clone()))?;
    /// let index = Entity::new(0);
    /// engine.submit(Operation::update(&index, |n| n + 1).class(reindex))?.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn change_policies<R, E>(
        &self,
        mut change: impl FnMut(&mut Policies) -> Result<R, E>,
    ) -> Result<R, E> {
        self.shared.policies.update(|policies| {
            let mut policies = policies.clone();
            let result = change(&mut policies)?;
            Ok((policies, result))
        })
    }

    /// How many operations it has taken, and how they ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.ledger.tally.read()
    }

    /// How many operations have not ended yet. While some come and go this is a guess.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.shared.ledger.gate.unfinished()
    }

    /// Serves on this thread what is ready, until nothing is. For engines without
    /// [threads](EngineBuilder::workers) of their own; others don't need it.
    pub fn serve(&self) {
        while self.shared.serve_one() {}
    }

    /// What it has done, by kind of operation and by target: see [`Metrics`]. Without
    /// [metrics](EngineBuilder::metrics) there are totals only.
    ///
    /// # Progress
    /// Blocking: it adds up what each thread has counted, under a lock that a thread takes when it counts something for
    /// the first time.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation};
    ///
    /// let engine = Engine::new();
    /// let stock = Entity::new(10);
    /// for _ in 0..10 {
    ///     engine.submit(Operation::update(&stock, |n| n - 1).named("order"))?.wait()?;
    /// }
    /// let metrics = engine.metrics();
    /// assert_eq!((metrics.counts.committed, metrics.adds_up()), (10, true));
    /// assert_eq!((metrics.kinds[0].name.as_str(), metrics.kinds[0].first_tries), ("order", 10));
    /// println!("{metrics}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let ledger = &self.shared.ledger;
        let policies = self.shared.policies.get();
        let mut metrics = Metrics::default().with_lag(crate::cell::reclamation_lag());
        for (kind, sums) in ledger.tally.read_all() {
            metrics.counts.merge(&sums.counts);
            let class = policies
                .get(kind.class)
                .map_or("unknown", ClassPolicy::name);
            metrics.kinds.push(KindMetrics::new(class, kind, sums));
        }
        if ledger.tally.is_detailed() {
            let lanes = self.shared.lanes.entries();
            metrics.targets = lanes.iter().map(|(_, lane)| lane.metrics()).collect();
            metrics.targets.sort_by_key(|target| Reverse(target.begun));
        } else {
            metrics.kinds.clear();
        }
        metrics.events_dropped = self.shared.handlers.dropped();
        metrics.at = Duration::from_nanos(ledger.now());
        metrics
    }

    /// Calls a closure for each event of these kinds, on a thread of its own. See
    /// [`subscribe`](Engine::subscribe).
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, EventKind, Operation};
    /// use std::sync::mpsc;
    ///
    /// let engine = Engine::new();
    /// let (tell, told) = mpsc::channel();
    /// let subscription = engine.on(EventKind::Failed, move |event| tell.send(event.to_string()).unwrap());
    /// let stock = Entity::new(0_u32);
    /// let order = Operation::try_update(&stock, |n: &u32| n.checked_sub(1).map(Some).ok_or("sold out"));
    /// engine.run(&order.named("order")).unwrap_err();
    /// assert_eq!(told.recv()?, "order operation 1, priority 5, has failed: its closure refused");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on(
        &self,
        kinds: impl Into<EventKinds>,
        call: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Subscription {
        self.subscribe(Listener::to(kinds), call)
    }

    /// Calls a closure for each event that the listener wants.
    ///
    /// No operation waits for it: events go into a ring of some 16 000, from which one thread takes them and calls all
    /// handlers of the engine, in their order. What there is no room for is dropped, the oldest first, and
    /// [counted](Subscription::dropped). A handler that panics is called again for the next event, and its panics are
    /// [counted](Subscription::panics). A handler should not hold a handle of the engine, which would keep it for as
    /// long as the handler is subscribed.
    ///
    /// In an engine without threads whoever serves calls the handlers.
    pub fn subscribe(
        &self,
        listener: Listener,
        call: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Subscription {
        let shared = &self.shared;
        let threads = shared.has_threads();
        if !threads {
            // What was before is for those who were here.
            let _ = shared.handlers.call_all();
        }
        let since = shared.ledger.now();
        shared
            .handlers
            .subscribe(&shared.ledger.feed, listener, call, since, threads)
    }

    /// The events of these kinds from now on, in a ring of this size, to be fetched when it suits.
    ///
    /// # Progress
    /// Telling an event takes a short lock, to see whether somebody waits. Besides, it waits for nobody but a thread that
    /// was stopped in the few instructions in which it puts an event into the ring, or takes one out, at the same place
    /// a round before, or anywhere if the ring is full. Fetching one waits for a thread that was stopped as it put it in.
    /// A ring has room for some 16 million at most.
    pub fn events(&self, kinds: impl Into<EventKinds>, capacity: usize) -> Events {
        Events::new(&self.shared.ledger.feed, kinds.into(), capacity)
    }

    /// Whether nothing is left of what it has done: no operation under way, and no target reserved or with something
    /// in its lane. While operations come and go this is a guess.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let lanes = self.shared.lanes.entries();
        self.unfinished() == 0
            && lanes
                .iter()
                .all(|(_, lane)| lane.is_free() && lane.waiting() == 0)
    }

    /// Takes no more operations, and waits until none is under way.
    ///
    /// # Errors
    /// [`StillBusy`], if that takes longer than `timeout`; and at once where this would wait for itself: in the closure of
    /// an operation, or if all is to be run, without a timeout, on a thread that has a [`Stage`] with something in it, which it
    /// has made. The engine stays shut down, and goes on with what is under way.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation, ShutDown};
    ///
    /// let engine = Engine::new();
    /// let counter = Entity::new(0);
    /// let ticket = engine.submit(Operation::update(&counter, |n| n + 1)).unwrap();
    /// engine.shut_down(ShutDown::Finish, None).unwrap();
    /// assert!(ticket.is_done());
    /// let refused = engine.submit(Operation::update(&counter, |n| n + 1)).unwrap_err();
    /// engine.start();
    /// engine.submit(refused.into_operation()).unwrap().wait().unwrap();
    /// assert_eq!(*counter.snapshot(), 2);
    /// ```
    pub fn shut_down(&self, how: ShutDown, timeout: Option<Duration>) -> Result<(), StillBusy> {
        let shared = &self.shared;
        shared.close(how == ShutDown::Cancel);
        let is_done = || shared.ledger.gate.is_done() && shared.jobs.unfinished() == 0;
        let is_staged = how == ShutDown::Finish && stage::is_open(shared);
        let waits_for_itself = timeout.is_none() && is_staged;
        let is_idle = if current::is_inside() || waits_for_itself {
            is_done()
        } else {
            // Whoever is refused counts as under way for a moment, so it is not asked twice.
            let was_done = Cell::new(false);
            let is_over = || {
                was_done.set(is_done());
                was_done.get() || !shared.ledger.gate.is_closed()
            };
            let listen = |waker: &Waker| {
                let listening = [shared.ledger.gate.listen(waker), shared.jobs.listen(waker)];
                // Others who are done waiting open it. They wake whoever listens, so that comes first.
                shared.jobs.close(false);
                listening
            };
            let deadline = timeout.and_then(clock::deadline);
            let _ = shared.wait(deadline, is_over, listen);
            shared.jobs.open();
            if was_done.get() {
                // Of what has ended elsewhere something may still be in its lane.
                shared.serve_without_threads();
            }
            was_done.get()
        };
        if is_idle {
            Ok(())
        } else {
            let unfinished = shared.ledger.gate.unfinished();
            Err(StillBusy { unfinished })
        }
    }

    /// Takes operations again after [`shut_down`](Engine::shut_down).
    pub fn start(&self) {
        self.shared.ledger.gate.open();
    }

    /// Whether it is shut down.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shared.ledger.gate.is_closed()
    }

    /// How many operations on this entity wait for their turn.
    #[must_use]
    pub fn waiting<T: Send + Sync + 'static, E: 'static>(&self, entity: &Entity<T, E>) -> usize {
        let waiting = |lane: &Arc<Lane>| lane.waiting();
        self.shared.lanes.look(&entity.rank(), waiting).unwrap_or(0)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("counts", &format_args!("{}", self.counts()))
            .field("is_shut_down", &self.is_shut_down())
            .finish_non_exhaustive()
    }
}

/// What becomes of the operations that wait when an engine is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutDown {
    /// They are run. What was added to a [`Stage`] is under way until the stage is resolved or dropped, and is waited for.
    Finish,
    /// They are cancelled, and what was added to a [`Stage`] as well.
    Cancel,
}

/// An engine that was shut down still has operations under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{unfinished} operations are still under way")]
pub struct StillBusy {
    /// How many.
    pub unfinished: u64,
}
