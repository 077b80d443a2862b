//! What all handles of an engine, its threads and its tickets have in common: how an operation is taken in, given
//! its lane, and sent on its way, and who is called to serve.
#![forbid(unsafe_code)]

use super::account::handlers::Handlers;
use super::account::registry::Registry;
use super::body::Body;
use super::class::{ClassPolicy, Policies};
use super::current;
use super::gate::Gate;
use super::header::Birth;
use super::id::OperationId;
use super::lane::Lane;
use super::ledger::Ledger;
use super::local;
use super::operation::{Operation, Wish};
use super::outcome::{NotTaken, SubmitError};
use super::policy::Policy;
use super::priority::Priority;
use super::queue::Order;
use super::ready::{Job, Ready};
use super::record::{self, Record, Verdict, Work};
use super::retry::RetryPolicy;
use super::stage::Staged;
use super::status::State;
use super::ticket::{Submitted, Ticket};
use super::timer::Timer;
use crate::clock::Clock;
use crate::raw::{Batch, Pushed, quietly};
use crate::sync::event::Event;
use crate::sync::lock::Lock;
use crate::sync::map::Map;
use crate::sync::orderings::site;
use crate::sync::pool::Pool;
use crate::sync::sleep;
use crate::sync::table::Table;
use crate::sync::{Alone, AtomicU64, global};
use std::mem;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// What an engine is told when it is made.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) workers: usize,
    pub(super) clock: Clock,
    pub(super) policies: Policies,
    pub(super) policy: Policy,
    pub(super) capacity: usize,
    pub(super) quantum: Duration,
    pub(super) share: u32,
    pub(super) metrics: bool,
    /// How many operations that have ended are kept in a registry, if there is to be one.
    pub(super) registry: Option<usize>,
}

/// What the handles of an engine share with its threads and tickets.
pub(super) struct Shared {
    /// What tells it from all other engines of the process.
    pub(super) id: u64,
    /// Itself, for its lanes.
    me: Weak<Shared>,
    pub(super) ledger: Ledger,
    pub(super) handlers: Arc<Handlers>,
    pub(super) policies: Table<Policies>,
    /// The jobs of the pool.
    pub(super) jobs: Gate<1>,
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
    /// The stages with something in them, and some that are gone.
    stages: Lock<Vec<Weak<Staged>>>,
    /// The next number of an operation that no thread has taken.
    pub(super) ids: Alone<AtomicU64>,
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
        // Destructors of closures must not wait for what would be ended here.
        let _serving = current::serve();
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

/// Calls the task that awaits an operation.
struct Awaiting(Weak<dyn Work>);

impl Wake for Awaiting {
    fn wake(self: Arc<Self>) {
        if let Some(work) = self.0.upgrade() {
            // In this order: if the task finds itself listed still, it is woken by this.
            work.header().set_listed(false);
            work.wake();
        }
    }
}

/// What an operation is to be, after its class was asked.
pub(super) struct Terms {
    pub(super) priority: Priority,
    pub(super) retries: u32,
    pub(super) retry: RetryPolicy,
    pub(super) patience: Option<Duration>,
}

impl Terms {
    #[inline(always)]
    fn of(policies: &Policies, wish: &Wish) -> Result<Self, NotTaken> {
        let policy = policies
            .get(wish.kind.class)
            .ok_or(NotTaken::UnknownClass)?;
        Ok(Terms {
            priority: admit(policy, wish.priority)?,
            retries: wish.retries.unwrap_or(policy.retries()),
            retry: *wish.retry.as_deref().unwrap_or(policy.retry()),
            patience: wish.patience.unwrap_or(policy.patience()),
        })
    }
}

/// The priority of an operation, if its class allows it.
#[inline]
pub(super) fn admit(policy: &ClassPolicy, wish: Option<Priority>) -> Result<Priority, NotTaken> {
    let Some(priority) = wish else {
        // A class that doesn't allow it is in no table.
        return Ok(policy.priority());
    };
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
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let ledger = Ledger::new(
            settings.clock,
            settings.metrics,
            settings.registry.map(Registry::new),
        );
        let handlers = Handlers::new();
        Arc::new_cyclic(|me| Shared {
            me: me.clone(),
            id: ENGINES.fetch_add(1, site::NUMBER),
            ledger,
            handlers,
            policies: Table::new(settings.policies),
            jobs: Gate::new(),
            called: Event::new(),
            ready: Ready::new(),
            timer: Timer::new(),
            lanes: Map::new(),
            policy: settings.policy,
            quantum: u64::try_from(settings.quantum.as_nanos()).unwrap_or(u64::MAX),
            capacity: settings.capacity,
            share: settings.share,
            pool: Pool::new(settings.workers),
            stages: Lock::new(Vec::new()),
            ids: Alone(AtomicU64::new(1)),
            crowd: Lock::new(Crowd {
                lanes: 0,
                limit: LANES,
            }),
        })
    }

    /// What the class makes of what is wished for.
    pub(super) fn terms(&self, wish: &Wish) -> Result<Terms, NotTaken> {
        local::with(self, |local| Terms::of(local.policies(), wish))
    }

    pub(super) fn order(&self) -> Order {
        let interval = local::with(self, |local| local.policies().interval());
        Order {
            interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
            share: self.share,
        }
    }

    pub(super) fn next_id(&self) -> OperationId {
        local::with(self, |local| local.next_id(self))
    }

    /// Whether a lane is this engine's.
    pub(super) fn is_that_of(&self, lane: &Lane) -> bool {
        Weak::ptr_eq(&lane.engine, &self.me)
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
        let make = || {
            Arc::new(Lane::new(
                target,
                self.me.clone(),
                self.ledger.tally.is_detailed(),
            ))
        };
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
            if lane.is_free() && self.lanes.remove_if(&target, is_unused) {
                gone += 1;
            }
        }
        self.crowd.with(|crowd| {
            crowd.lanes = all - gone;
            crowd.limit = LANES.max(2 * crowd.lanes);
        });
    }

    /// See [`Engine::submit`](crate::Engine::submit).
    pub(super) fn submit<B: Body>(self: &Arc<Self>, operation: Operation<B>) -> Submitted<B> {
        Ok(self.send(self.take(operation, 0)?))
    }

    /// Sends an operation on its way that was taken in.
    pub(super) fn send<B: Body>(
        self: &Arc<Self>,
        record: Arc<Record<B>>,
    ) -> Ticket<B::Output, B::Error> {
        self.dispatch(record.clone(), &*record);
        Ticket::of(record)
    }

    /// Takes an operation in, which has lost so many attempts before, but for its place in a lane.
    pub(super) fn take<B: Body>(
        self: &Arc<Self>,
        operation: Operation<B>,
        lost: u32,
    ) -> Result<Arc<Record<B>>, SubmitError<Operation<B>>> {
        let refuse = |operation, why| Err(SubmitError::new(operation, why));
        let Some(&target) = operation.body.targets().first() else {
            return refuse(operation, NotTaken::NoTarget);
        };
        let asked = local::with(self, |local| {
            let terms = Terms::of(local.policies(), &operation.wish)?;
            Ok((terms, local.lane(self, target).clone(), local.next_id(self)))
        });
        let (terms, lane, id) = match asked {
            Ok(asked) => asked,
            Err(why) => return refuse(operation, why),
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
        if !lane.enter(priority, self.capacity) {
            self.ledger.gate.leave();
            return refuse(operation, NotTaken::Overloaded);
        }
        let Operation { body, wish } = operation;
        self.ledger.tally.submitted(&wish.kind);
        let birth = Birth {
            id,
            kind: wish.kind,
            born: self.ledger.now(),
            patience: terms.patience,
            budget: terms.retries,
            retry: terms.retry,
            // What is run on its caller's thread can't be asked again, so what is inherited from that is kept for
            // good.
            priority: floor.max(terms.priority),
            lane,
            parent,
            lost,
            is_short: wish.is_short,
        };
        let traced = wish.is_traced.then_some(&self.ledger.clock);
        let record = Record::new(birth, body, traced);
        record.header().count(usize::from(priority.get()));
        if let Some(registry) = &self.ledger.registry {
            let work: Arc<dyn Work> = record.clone();
            registry.begin(&work);
        }
        Ok(record)
    }

    /// Sends an operation on its way, of which the caller keeps a handle.
    pub(super) fn dispatch(self: &Arc<Self>, handle: Arc<dyn Work>, work: &dyn Work) {
        if work.is_prepared(self.policy == Policy::Merge) {
            self.have_prepared(&handle);
        } else {
            self.give(handle, work);
        }
    }

    /// Has an operation prepared.
    fn have_prepared(self: &Arc<Self>, work: &Arc<dyn Work>) {
        let level = work.status().priority();
        if self.ready.prepare(work) {
            self.call();
        }
        // Who has made it more important in between has found that it doesn't wait yet.
        if work.status().priority() > level && self.ready.prepare(work) {
            self.call();
        }
    }

    /// Puts an operation into its lane.
    pub(super) fn queue(self: &Arc<Self>, work: &Arc<dyn Work>) {
        self.give(work.clone(), &**work);
    }

    /// Gives a handle of an operation to its lane.
    fn give(self: &Arc<Self>, handle: Arc<dyn Work>, work: &dyn Work) {
        let batch = record::alone(handle);
        // Read afterwards: whoever changes it from now on sees that it is in.
        let level = usize::from(work.status().priority().get());
        let lane = &work.header().lane;
        self.push(lane, batch, level);
        // Who has made it more important in between has found it in, and the lane not parked yet.
        let now = usize::from(work.status().priority().get());
        if now > level && self.ready.advertise(lane, now) {
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
                // Somebody may park it meanwhile and find this entry announced, but not there yet: hence the call.
                if parked != 0 && parked < level && self.ready.advertise(lane, level) {
                    self.call();
                }
            }
        }
    }

    /// Puts an operation whose priority has changed into its lane again, if it was in there before.
    pub(super) fn requeue(self: &Arc<Self>, work: &Arc<dyn Work>) {
        let mut batch = Batch::new();
        batch.add_again(work.clone());
        if batch.is_empty() && work.header().rows_ready.are_waiting() {
            return self.have_prepared(work);
        }
        let level = usize::from(work.status().priority().get());
        self.push(&work.header().lane, batch, level);
    }

    /// Takes no more operations, and cancels those that wait, if `cancels`.
    pub(super) fn close(self: &Arc<Self>, cancels: bool) {
        self.ledger.gate.close(cancels);
        if cancels {
            // Their lanes see to them.
            self.bring_all_back();
            let stages = self.stages.with(|stages| stages.clone());
            for staged in stages.iter().filter_map(Weak::upgrade) {
                staged.cancel(self);
            }
        }
    }

    /// Notes that there is a stage, so that what is in it is cancelled with all else.
    pub(super) fn know_stage(&self, staged: &Arc<Staged>) {
        let staged = Arc::downgrade(staged);
        self.stages.with(|stages| {
            // Those that are gone make room now and then.
            if stages.len() == stages.capacity() {
                stages.retain(|staged| staged.strong_count() > 0);
            }
            stages.push(staged);
        });
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

    /// Serves for a task that awaits an operation, which has its waker, until nothing is ready; from then on the task is
    /// called as a thread that waits is. Where the engine has threads they do all that.
    pub(super) fn serve_for(self: &Arc<Self>, work: &Arc<dyn Work>) {
        if self.has_threads() || current::is_inside() {
            return;
        }
        loop {
            // First this, so that nothing gets ready unnoticed after the last look.
            self.list(work);
            if work.is_done() {
                return;
            }
            if !self.serve_one() {
                break;
            }
        }
        self.have_time_kept();
    }

    /// Has the task called that awaits an operation, when something is ready. Only for that task.
    fn list(&self, work: &Arc<dyn Work>) {
        if !work.header().is_listed() {
            work.header().set_listed(true);
            let waker = Waker::from(Arc::new(Awaiting(Arc::downgrade(work))));
            // It stays on the list until it is called, as the operation is known to, however often the task is polled.
            mem::forget(self.called.listen(&waker, false));
        }
    }

    /// Does the most important thing that is ready. `false`: nothing is.
    pub(super) fn serve_one(self: &Arc<Self>) -> bool {
        let _serving = current::serve();
        if !self.has_threads() {
            self.bring_back(self.ledger.now());
        }
        if !self.has_threads() || self.handlers.lacks_thread() {
            let _ = self.handlers.call_all();
        }
        if let Some(row) = self.ready.passed_over() {
            self.look_at(row);
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

    /// Ends what has lost its patience at the front of a row that is passed over.
    fn look_at(self: &Arc<Self>, row: usize) {
        while let Some(job) = self.ready.take_at(row) {
            match job {
                Job::Lane(lane) => {
                    if let Some(baton) = lane.inbox.resume() {
                        self.look_after(&lane, baton);
                    }
                    return;
                }
                Job::Prepare(work) => {
                    if self.ledger.now() < work.header().expires {
                        return self.ready.put_back(&work);
                    }
                    self.prepare(work);
                }
            }
        }
    }

    fn prepare(self: &Arc<Self>, work: Arc<dyn Work>) {
        if self.ledger.gate.cancels()
            || self.expire_waiting(&*work)
            || work.status().state() != State::Pending
        {
            // Its lane sees to that, and to its place.
            return self.queue(&work);
        }
        work.prepare(&work, &self.ledger);
        self.queue(&work);
    }
}
