//! The engine: takes operations, gives them their place, and sees that they are served.
#![forbid(unsafe_code)]

use super::body::{Body, sealed};
use super::class::{ClassPolicy, Policies};
use super::current;
use super::gate::Gate;
use super::id::OperationId;
use super::lane::Lane;
use super::ledger::Ledger;
use super::local;
use super::operation::{Operation, Wish};
use super::outcome::{NotTaken, OperationError};
use super::policy::Policy;
use super::priority::Priority;
use super::queue::Order;
use super::ready::{Job, Ready};
use super::record::{self, Birth, Record, Verdict, Work};
use super::stage::Stage;
use super::tally::Counts;
use super::ticket::Ticket;
use super::timer::Timer;
use crate::cell::Entity;
use crate::clock::{self, Clock};
use crate::raw::{Batch, Pushed, quietly};
use crate::sync::event::Event;
use crate::sync::lock::Lock;
use crate::sync::map::Map;
use crate::sync::orderings::site;
use crate::sync::pool::Pool;
use crate::sync::sleep;
use crate::sync::table::Table;
use crate::sync::{AtomicU64, global};
use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

/// Runs operations on entities, the important ones first.
///
/// | call | runs it | for |
/// |---|---|---|
/// | [`submit`](Engine::submit) | on a thread of the engine, in its turn | waiting, priority, isolation |
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
/// of age ([`Policies::interval`]); so a less important one is overtaken for a bounded time only, and by none of
/// priority 10 that is more than that. What waits longer than its class is patient is
/// [rejected](crate::Reason::Expired), never silently forgotten. Of lanes that are ready the most important one is
/// served first.
///
/// # Progress
/// `submit` is lock-free, but that it may start a thread or allocate. `run` is as [`Entity::update`], and steps back
/// for reservations, for a bounded time. Waiting for a ticket is blocking.
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

/// What the handles of an engine share with its threads and tickets.
pub(super) struct Shared {
    /// What tells it from all other engines of the process.
    pub(super) id: u64,
    /// Itself, for its lanes.
    me: Weak<Shared>,
    pub(super) ledger: Ledger,
    pub(super) policies: Table<Policies>,
    /// The jobs of the pool.
    jobs: Gate,
    /// Who waits and would serve, where there are no threads.
    called: Event,
    pub(super) ready: Ready,
    pub(super) timer: Timer,
    pub(super) lanes: Map<usize, Arc<Lane>>,
    pub(super) policy: Policy,
    pub(super) quantum: u64,
    pub(super) capacity: usize,
    pub(super) share: u32,
    pool: Pool,
    ids: AtomicU64,
    crowd: Lock<Crowd>,
}

global! {
    static ENGINES: AtomicU64 = AtomicU64::new(1);
}

/// How many lanes were opened since some were let go, and how many may be before that is done again.
struct Crowd {
    lanes: usize,
    limit: usize,
}

/// How many lanes are kept whether or not they are used.
const LANES: usize = if cfg!(any(snapcell_model, snapcell_shuttle)) {
    1
} else {
    4_096
};

impl Drop for Shared {
    /// Cancels what is left: where there are no threads, there may have been nobody to see to it.
    fn drop(&mut self) {
        for work in self.timer.due(u64::MAX) {
            let _ = work.end_pending(Verdict::Cancelled, &self.ledger);
        }
        while let Some(job) = self.ready.take() {
            match job {
                Job::Lane(lane) => {
                    if let Some(baton) = lane.inbox.resume() {
                        self.cancel_rest(&lane, baton);
                    }
                }
                Job::Prepare(work) => {
                    let _ = work.end_pending(Verdict::Cancelled, &self.ledger);
                }
            }
        }
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
    /// An engine with a thread for each processor, everything else as by default.
    #[must_use]
    pub fn new() -> Self {
        Engine::builder().build()
    }

    /// An engine with more to say about.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Submits an operation: it is run by a thread of the engine, when it is its turn.
    ///
    /// # Errors
    /// [`SubmitError`] gives the operation back: the queue of its target is full, the engine is shut down, or the
    /// class doesn't allow the priority.
    pub fn submit<B: Body>(&self, operation: Operation<B>) -> Submitted<B> {
        let ticket = self.shared.take(operation)?;
        let work: Arc<dyn Work> = ticket.work.clone();
        self.shared.dispatch(work);
        Ok(ticket)
    }

    /// Runs an operation on this thread, at once, beside its lane.
    ///
    /// Its closure may run under a guard, as that of [`Entity::update`], so keep it short; what takes long or waits
    /// is [submitted](Engine::submit).
    ///
    /// What has [reserved](crate::RetryPolicy::reserving_after) the target, and is more important, is given the time
    /// that it has reserved, once.
    ///
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

    /// How many operations have not ended yet.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.shared.ledger.gate.unfinished()
    }

    /// Serves on this thread what is ready, until nothing is. For engines without
    /// [threads](EngineBuilder::workers) of their own; others don't need it.
    pub fn serve(&self) {
        while self.shared.serve_one() {}
    }

    /// Whether nothing is left of what it has done: no operation under way, and no target reserved or with something
    /// in its lane.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let lanes = self.shared.lanes.entries();
        self.unfinished() == 0
            && lanes.iter().all(|(_, lane)| {
                lane.inbox.is_idle() && lane.reservation.is_free() && lane.waiting() == 0
            })
    }

    /// Takes no more operations, and waits until none is under way.
    ///
    /// # Errors
    /// [`StillBusy`], if that takes longer than `timeout`, or in the closure of an operation, which would wait for
    /// itself. The engine stays shut down, and goes on with what is under way.
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
        let is_done = || shared.ledger.gate.unfinished() == 0 && shared.jobs.unfinished() == 0;
        let is_idle = if current::is_inside() {
            is_done()
        } else {
            // Whoever is refused counts as under way for a moment, so it is not asked twice.
            let was_done = Cell::new(false);
            let is_over = || {
                was_done.set(is_done());
                was_done.get() || !shared.ledger.gate.is_closed()
            };
            let listen = |waker: &Waker| {
                // Others who are done waiting open it.
                shared.jobs.close(false);
                [shared.ledger.gate.listen(waker), shared.jobs.listen(waker)]
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
///
/// What was added to a [`Stage`] is under way until the stage is resolved or dropped, and is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutDown {
    /// They are run.
    Finish,
    /// They are cancelled.
    Cancel,
}

/// An engine that was shut down still has operations under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{unfinished} operations are still under way")]
pub struct StillBusy {
    /// How many.
    pub unfinished: u64,
}

/// An operation that the engine doesn't take.
pub struct SubmitError<O> {
    operation: Box<O>,
    why: NotTaken,
}

/// What submitting an operation gives: its ticket, or the operation back.
pub type Submitted<B> = Result<
    Ticket<<B as sealed::Body>::Output, <B as sealed::Body>::Error>,
    SubmitError<Operation<B>>,
>;

impl<O> SubmitError<O> {
    pub(super) fn new(operation: O, why: NotTaken) -> Self {
        SubmitError {
            operation: Box::new(operation),
            why,
        }
    }

    /// Why.
    #[must_use]
    pub fn why(&self) -> NotTaken {
        self.why
    }

    /// Whether as many wait as may, and none of them is less important.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.why == NotTaken::Overloaded
    }

    /// The operation.
    #[must_use]
    pub fn into_operation(self) -> O {
        *self.operation
    }
}

impl<O> fmt::Debug for SubmitError<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SubmitError").field(&self.why).finish()
    }
}

impl<O> fmt::Display for SubmitError<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<O> std::error::Error for SubmitError<O> {}

/// An engine in the making.
///
/// # Examples
/// Every knob at once:
/// ```
/// use snapcell::{Clock, Engine, Policies, Policy};
/// use std::time::Duration;
///
/// let engine = Engine::builder()
///     .workers(4)
///     .clock(Clock::monotonic())
///     .policies(Policies::default())
///     .policy(Policy::Fold)
///     .capacity(1_000)
///     .quantum(Duration::from_micros(100))
///     .share(16)
///     .build();
/// assert!(engine.is_clean());
/// ```
#[derive(Debug)]
#[must_use = "a builder builds nothing until `build` is called"]
pub struct EngineBuilder {
    workers: Option<usize>,
    clock: Clock,
    policies: Policies,
    policy: Policy,
    capacity: usize,
    quantum: Duration,
    share: u32,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        EngineBuilder {
            workers: None,
            clock: Clock::default(),
            policies: Policies::default(),
            policy: Policy::default(),
            capacity: 65_536,
            quantum: Duration::from_micros(100),
            share: 0,
        }
    }
}

impl EngineBuilder {
    /// How many threads serve lanes, and prepare. They are started when they are needed for the first time.
    ///
    /// As many lanes make progress at once, and as many operations are prepared; so where closures wait, for
    /// a disk or another machine, it should be more than there are processors. 0: none; then whoever waits for a
    /// ticket serves, and [`Engine::serve`]. Default: one for each processor.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Where the times of operations come from. Default: [`Clock::monotonic`]. A logical clock stands still: then
    /// operations don't age.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The policies of all classes. Default: those of [`Policies::default`].
    pub fn policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    /// What becomes of operations that want the same entity. Default: [`Policy::InOrder`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How many operations may wait for one entity. When as many do, the youngest of the least important ones is
    /// rejected to make room for one that is more important; otherwise that one isn't taken. Default: 65 536.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// For how long a thread serves one lane while others are ready. Default: 100 µs.
    pub fn quantum(mut self, quantum: Duration) -> Self {
        self.quantum = quantum;
        self
    }

    /// Each so many-th operation of a lane is the oldest, whatever its priority: so all make some progress,
    /// even if there is always something of priority 10. Default: 0, which is never.
    pub fn share(mut self, picks: u32) -> Self {
        self.share = picks;
        self
    }

    /// The engine.
    #[must_use]
    pub fn build(self) -> Engine {
        let workers = self.workers.unwrap_or_else(crate::sync::processors);
        let shared = Arc::new_cyclic(|me| Shared {
            me: me.clone(),
            id: ENGINES.fetch_add(1, site::NUMBER),
            ledger: Ledger::new(self.clock),
            policies: Table::new(self.policies),
            jobs: Gate::new(),
            called: Event::new(),
            ready: Ready::new(),
            timer: Timer::new(),
            lanes: Map::new(),
            policy: self.policy,
            quantum: u64::try_from(self.quantum.as_nanos()).unwrap_or(u64::MAX),
            capacity: self.capacity,
            share: self.share,
            pool: Pool::new(workers),
            ids: AtomicU64::new(1),
            crowd: Lock::new(Crowd {
                lanes: 0,
                limit: LANES,
            }),
        });
        Engine {
            handle: Arc::new(Life(shared.clone())),
            shared,
        }
    }
}

/// What an operation is to be, after its class was asked.
pub(super) struct Terms {
    pub(super) priority: Priority,
    pub(super) retries: u32,
    pub(super) retry: super::retry::RetryPolicy,
    pub(super) patience: Option<Duration>,
}

/// The priority of an operation, if its class allows it.
#[inline]
pub(super) fn admit(policy: &ClassPolicy, wish: Option<Priority>) -> Result<Priority, NotTaken> {
    let priority = wish.unwrap_or(policy.priority());
    let floor = policy.floor().unwrap_or(Priority::BACKGROUND);
    let ceiling = policy.ceiling().unwrap_or(Priority::CRITICAL);
    if floor <= priority && priority <= ceiling {
        Ok(priority)
    } else {
        Err(NotTaken::Priority {
            priority,
            floor,
            ceiling,
        })
    }
}

impl Shared {
    /// What the class makes of what is wished for.
    pub(super) fn terms(&self, wish: &Wish) -> Result<Terms, NotTaken> {
        local::with(self, |local| {
            let policies = local.policies();
            let policy = policies.get(wish.class).ok_or(NotTaken::UnknownClass)?;
            Ok(Terms {
                priority: admit(policy, wish.priority)?,
                retries: wish.retries.unwrap_or(policy.retries()),
                retry: wish.retry.unwrap_or(*policy.retry()),
                patience: wish.patience.unwrap_or(policy.patience()),
            })
        })
    }

    pub(super) fn order(&self) -> Order {
        let interval = local::with(self, |local| local.policies().interval());
        Order {
            interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
            share: self.share,
        }
    }

    pub(super) fn next_id(&self) -> OperationId {
        OperationId(self.ids.fetch_add(1, site::NUMBER))
    }

    /// The lane of an entity.
    pub(super) fn lane(&self, target: usize) -> Arc<Lane> {
        local::with(self, |local| local.lane(self, target).clone())
    }

    /// The same, for a thread that doesn't remember it.
    pub(super) fn find_lane(&self, target: usize) -> Arc<Lane> {
        match self.lanes.get(&target) {
            Some(lane) => lane,
            None => self.open_lane(target),
        }
    }

    #[cold]
    fn open_lane(&self, target: usize) -> Arc<Lane> {
        let is_crowded = self.crowd.with(|crowd| {
            crowd.lanes += 1;
            crowd.lanes > crowd.limit
        });
        if is_crowded {
            self.let_lanes_go();
        }
        let make = || Arc::new(Lane::new(target, self.me.clone()));
        self.lanes.claim(&target, make, |_| false)
    }

    /// Lets go of lanes that nobody uses.
    ///
    /// Somebody may just be about to use one. Then it serves what that one has, beside the one that the next one
    /// opens, and the two may get into each other's way, as with any other writer.
    fn let_lanes_go(&self) {
        let lanes = self.lanes.entries();
        let all = lanes.len();
        let mut gone = 0;
        for (target, lane) in lanes {
            // The map's, and ours.
            let is_unused = |lane: &Arc<Lane>| Arc::strong_count(lane) == 2;
            let is_idle = lane.inbox.is_idle() && lane.reservation.is_free();
            if is_idle && self.lanes.remove_if(&target, is_unused) {
                gone += 1;
            }
        }
        self.crowd.with(|crowd| {
            crowd.lanes = all - gone;
            crowd.limit = LANES.max(2 * crowd.lanes);
        });
    }

    /// Takes an operation in, but for its place in a lane.
    pub(super) fn take<B: Body>(self: &Arc<Self>, operation: Operation<B>) -> Submitted<B> {
        let refuse = |operation, why| Err(SubmitError::new(operation, why));
        let terms = match self.terms(&operation.wish) {
            Ok(terms) => terms,
            Err(why) => return refuse(operation, why),
        };
        let Some(&target) = operation.body.targets().first() else {
            return refuse(operation, NotTaken::NoTarget);
        };
        if !self.ledger.gate.enter() {
            return refuse(operation, NotTaken::ShutDown);
        }
        let parent = operation.wish.parent(current::Context::current);
        let inherited = parent.as_ref().map(current::Context::priority);
        let priority = inherited.map_or(terms.priority, |parent| parent.max(terms.priority));
        let floor = parent
            .as_ref()
            .map_or(terms.priority, |parent| parent.floor);
        let parent = parent.and_then(|parent| parent.work);
        let lane = self.lane(target);
        if !lane.enter(priority, self.capacity) {
            self.ledger.gate.leave();
            return refuse(operation, NotTaken::Overloaded);
        }
        self.ledger.tally.submitted();
        let Operation { body, wish } = operation;
        let birth = Birth {
            id: self.next_id(),
            class: wish.class,
            name: wish.name,
            born: self.ledger.now(),
            patience: terms.patience,
            budget: terms.retries,
            retry: terms.retry,
            // What is run on its caller's thread can't be asked again, so what is inherited from that is kept for
            // good.
            priority: floor.max(terms.priority),
            lane,
            parent,
            traced: wish.is_traced.then(|| self.ledger.clock.clone()),
        };
        let record = Record::new(birth, body);
        record.header().count(usize::from(priority.get()));
        Ok(Ticket { work: record })
    }

    /// Sends an operation on its way.
    pub(super) fn dispatch(self: &Arc<Self>, work: Arc<dyn Work>) {
        if work.is_prepared(self.policy == Policy::Merge) {
            self.ready.prepare(work);
            self.call();
        } else {
            self.queue(&work);
        }
    }

    /// Puts an operation into its lane.
    pub(super) fn queue(self: &Arc<Self>, work: &Arc<dyn Work>) {
        let batch = record::alone(work.clone());
        // Read afterwards: whoever changes it from now on sees that it is in.
        let level = usize::from(work.status().priority().get());
        let lane = &work.header().lane;
        self.push(lane, batch, level);
        // Who has made it more important in between has found it in, and the lane not parked yet.
        let now = usize::from(work.status().priority().get());
        if now > level {
            self.ready.advertise(lane, now);
            self.call();
        }
    }

    /// Puts operations into a lane, of which the most important one has this priority.
    pub(super) fn push(self: &Arc<Self>, lane: &Arc<Lane>, batch: Batch<dyn Work>, level: usize) {
        match lane.inbox.push(batch) {
            Pushed::First(baton) => {
                let is_new = baton.park(level);
                self.ready.advertise(lane, level);
                self.call();
                if is_new {
                    self.look_again(lane);
                }
            }
            Pushed::Behind => {
                let parked = lane.inbox.parked_at();
                if parked != 0 && parked < level {
                    self.ready.advertise(lane, level);
                    // Somebody may have parked it meanwhile and found this entry announced, but not there yet.
                    self.call();
                }
            }
        }
    }

    /// Puts an operation whose priority has changed into its lane again, if it was in there before.
    pub(super) fn requeue(self: &Arc<Self>, work: &Arc<dyn Work>) {
        let mut batch = Batch::new();
        batch.add_again(work.clone());
        let level = usize::from(work.status().priority().get());
        self.push(&work.header().lane, batch, level);
    }

    /// Takes no more operations, and cancels those that wait, if `cancels`.
    fn close(self: &Arc<Self>, cancels: bool) {
        self.ledger.gate.close(cancels);
        if cancels {
            // Their lanes see to them.
            self.bring_all_back();
        }
    }

    /// Whether there are threads that serve.
    pub(super) fn has_threads(&self) -> bool {
        self.pool.threads() > 0
    }

    /// Has one of the threads see what is ready. Where there is none, whoever waits.
    pub(super) fn call(self: &Arc<Self>) {
        if self.has_threads() {
            let shared = self.clone();
            self.jobs.enter_anyway();
            let serve = move || {
                shared.serve_one();
                shared.jobs.leave();
            };
            if self.pool.spawn(serve) {
                return;
            }
            self.jobs.leave();
        }
        for waiter in self.called.take() {
            quietly(|| waiter.waker.wake());
        }
    }

    /// Waits on this thread until something is so, or for a deadline; `false`: it isn't so then. `listen` registers
    /// for that. Where the engine has no threads, this one serves meanwhile.
    pub(super) fn wait<L>(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        is_so: impl Fn() -> bool,
        listen: impl Fn(&Waker) -> L,
    ) -> bool {
        let serves = !self.has_threads() && !current::is_inside();
        let waker = sleep::waker();
        loop {
            let listening = listen(&waker);
            let calls = serves.then(|| self.called.listen(&waker, true));
            if is_so() {
                return true;
            }
            if serves && self.serve_one() {
                continue;
            }
            let wakes = if serves { self.until_next() } else { None };
            let first = match (deadline, wakes) {
                (Some(deadline), Some(wakes)) => Some(deadline.min(wakes)),
                (deadline, wakes) => deadline.or(wakes),
            };
            if !sleep::park(first) && sleep::is_over(deadline) {
                return is_so();
            }
            drop((listening, calls));
        }
    }

    /// Serves on this thread until nothing is ready, if the engine has no threads.
    pub(super) fn serve_without_threads(self: &Arc<Self>) {
        if !self.has_threads() && !current::is_inside() {
            while self.serve_one() {}
        }
    }

    /// Does the most important thing that is ready. `false`: nothing is.
    pub(super) fn serve_one(self: &Arc<Self>) -> bool {
        let _serving = current::serve();
        if !self.has_threads() {
            self.bring_back(self.ledger.now());
        }
        if let Some(lane) = self.ready.take_passed_over()
            && let Some(baton) = lane.inbox.resume()
        {
            self.look_after(&lane, baton);
        }
        while let Some(job) = self.ready.take() {
            match job {
                Job::Lane(lane) => {
                    // It may be in several rows, and served already.
                    if let Some(baton) = lane.inbox.resume() {
                        self.serve(&lane, baton);
                        return true;
                    }
                }
                Job::Prepare(work) => {
                    self.prepare(work);
                    return true;
                }
            }
        }
        false
    }

    fn prepare(self: &Arc<Self>, work: Arc<dyn Work>) {
        if self.ledger.gate.cancels() || work.status().state().is_final() {
            // Its lane sees to that, and to its place.
            return self.queue(&work);
        }
        let inside = current::enter(self.context(&work), work.targets());
        work.prepare(inside, &self.ledger);
        self.queue(&work);
    }

    pub(super) fn context(&self, work: &Arc<dyn Work>) -> current::Context {
        current::Context {
            work: Some(work.clone()),
            floor: Priority::BACKGROUND,
        }
    }
}
