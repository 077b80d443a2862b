//! Many threads, random schedules: what is too large for loom.
//!
//! shuttle sees sequentially consistent memory only, so it says nothing of orderings, and a great
//! deal of protocols with many threads. `cargo shuttle` runs this with 10 000 schedules for each
//! test, `cargo stress` with a million (`tests/under_shuttle.rs`), and both with as many as `SNAPCELL_SCHEDULES` says. The
//! seed of a schedule that fails is printed. In other builds the file is empty.
#![cfg(snapcell_shuttle)]

#[path = "support/alone.rs"]
mod alone;

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;
use snapcell::{Clock, Entity};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};

/// How many schedules each test has, unless this says otherwise.
const SCHEDULES: &str = "SNAPCELL_SCHEDULES";

fn schedules() -> usize {
    match std::env::var(SCHEDULES) {
        Err(_) => 10_000,
        Ok(text) => {
            let number = text.parse().ok().filter(|&number: &usize| number >= 2);
            number.unwrap_or_else(|| panic!("{SCHEDULES}: {text:?} is no number from 2 on"))
        }
    }
}

/// A value that is counted when it is made and when it is dropped.
struct Value {
    number: u64,
    ledger: Arc<Ledger>,
}

#[derive(Default)]
struct Ledger {
    made: AtomicUsize,
    dropped: AtomicUsize,
    retried: AtomicUsize,
}

impl Value {
    fn new(number: u64, ledger: &Arc<Ledger>) -> Self {
        ledger.made.fetch_add(1, SeqCst);
        Value {
            number,
            ledger: Arc::clone(ledger),
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.ledger.dropped.fetch_add(1, SeqCst);
    }
}

/// Runs an execution under random schedules and under those that look for rare orders (PCT), and
/// checks that all values were dropped once, and that some update had to be tried again.
fn explore(execution: impl Fn(&Arc<Ledger>) + Send + Sync + 'static) {
    let retried = Arc::new(AtomicUsize::new(0));
    let body = {
        let retried = Arc::clone(&retried);
        move || {
            snapcell::internals::begin();
            let ledger = Arc::new(Ledger::default());
            execution(&ledger);
            snapcell::reclaim();
            assert_eq!(
                ledger.dropped.load(SeqCst),
                ledger.made.load(SeqCst),
                "each value is dropped once"
            );
            retried.fetch_add(ledger.retried.load(SeqCst), SeqCst);
            snapcell::internals::end();
        }
    };
    let body = Arc::new(body);
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 0x20000;
        config
    };
    let random = Arc::clone(&body);
    let schedules = schedules();
    shuttle::Runner::new(RandomScheduler::new(schedules / 2), config()).run(move || random());
    shuttle::Runner::new(PctScheduler::new(3, schedules / 2), config()).run(move || body());
    println!("{schedules} schedules, {} retries", retried.load(SeqCst));
    assert!(
        retried.load(SeqCst) > 0,
        "no update lost a race, so nothing was shown"
    );
}

/// Runs `f` on so many threads, and gathers what they return.
fn on_threads<R: Send + 'static>(
    threads: u64,
    f: impl Fn(u64) -> R + Clone + Send + 'static,
) -> Vec<R> {
    let threads: Vec<_> = (0..threads)
        .map(|thread| {
            let f = f.clone();
            thread::spawn(move || {
                let result = f(thread);
                snapcell::internals::leave();
                result
            })
        })
        .collect();
    threads
        .into_iter()
        .map(|thread| thread.join().expect("no thread panics"))
        .collect()
}

fn entity(ledger: &Arc<Ledger>) -> Entity<Value> {
    Entity::builder(Value::new(0, ledger))
        .clock(Clock::logical())
        .build()
}

/// Updates by one, and returns the version that it committed.
fn add_one(entity: &Entity<Value>, ledger: &Arc<Ledger>) -> u64 {
    let committed = entity.update(|value| Value::new(value.number + 1, ledger));
    assert_eq!(
        committed.current().number,
        committed.stamp().version(),
        "one commit, one more"
    );
    ledger
        .retried
        .fetch_add(committed.attempts() as usize - 1, SeqCst);
    committed.stamp().version()
}

#[test]
fn sixteen_writers_lose_no_update() {
    explore(|ledger| {
        let entity = entity(ledger);
        let versions = on_threads(16, {
            let (entity, ledger) = (entity.clone(), Arc::clone(ledger));
            move |_| add_one(&entity, &ledger)
        });
        assert_eq!(
            versions.iter().copied().collect::<BTreeSet<_>>(),
            (1..=16).collect(),
            "each version once"
        );
        assert_eq!(entity.read(|value| value.number), 16);
    });
}

#[test]
fn readers_of_all_kinds_see_versions_in_order() {
    explore(|ledger| {
        let entity = entity(ledger);
        on_threads(6, {
            let (entity, ledger) = (entity.clone(), Arc::clone(ledger));
            move |thread| match thread {
                0..3 => {
                    for _ in 0..2 {
                        add_one(&entity, &ledger);
                    }
                }
                3 => {
                    let mut reader = entity.reader();
                    let seen = [(); 3].map(|()| reader.get().number);
                    assert!(seen.is_sorted(), "{seen:?}");
                }
                4 => {
                    let seen = [(); 3].map(|()| entity.snapshot());
                    assert!(seen.iter().is_sorted_by_key(|snapshot| snapshot.stamp()));
                    assert!(
                        seen.iter()
                            .all(|snapshot| snapshot.number == snapshot.stamp().version())
                    );
                }
                _ => {
                    let guard = snapcell::pin();
                    let seen = [(); 3].map(|()| entity.load(&guard));
                    assert!(seen.iter().is_sorted_by_key(|loaded| loaded.stamp()));
                    assert!(
                        seen.iter()
                            .all(|loaded| loaded.number == loaded.stamp().version())
                    );
                }
            }
        });
        assert_eq!(entity.read(|value| value.number), 6);
    });
}

#[test]
fn handles_end_in_any_order() {
    explore(|ledger| {
        let entity = entity(ledger);
        let kept = on_threads(8, {
            let (entity, ledger) = (entity.clone(), Arc::clone(ledger));
            move |thread| {
                let mine = entity.clone();
                let kept = (thread % 2 == 0).then(|| mine.snapshot());
                add_one(&mine, &ledger);
                drop(mine);
                kept
            }
        });
        drop(entity);
        for kept in kept.into_iter().flatten() {
            assert_eq!(kept.number, kept.stamp().version());
        }
    });
}

// Waiting. Somebody who is left waiting is a deadlock, which shuttle reports.

/// Runs `f` on a new thread.
fn spawn<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
    thread::spawn(move || {
        let result = f();
        snapcell::internals::leave();
        result
    })
}

#[test]
fn eight_waiters_see_what_three_writers_commit() {
    explore(|ledger| {
        let entity = entity(ledger);
        let seen = on_threads(11, {
            let (entity, ledger) = (entity.clone(), Arc::clone(ledger));
            move |thread| match thread {
                0..3 => {
                    add_one(&entity, &ledger);
                    add_one(&entity, &ledger)
                }
                // Each commit but the last leaves somebody waiting.
                3..9 => {
                    let least = thread - 2;
                    entity.wait_for(|value| value.number >= least).wait().number
                }
                _ => {
                    let mut seen = entity.snapshot();
                    while seen.number < 6 {
                        seen = entity.changed(seen.stamp()).wait();
                    }
                    seen.number
                }
            }
        });
        for (least, seen) in (1..).zip(&seen[3..9]) {
            assert!((least..=6).contains(seen));
        }
        assert_eq!(seen[9..], [6, 6]);
    });
}

#[test]
fn those_who_give_up_leave_nobody_waiting() {
    explore(|ledger| {
        let entity = entity(ledger);
        on_threads(10, {
            let (entity, ledger) = (entity.clone(), Arc::clone(ledger));
            move |thread| match thread {
                0..3 => {
                    add_one(&entity, &ledger);
                }
                3..6 => drop(entity.wait_for(|value| value.number == 3).wait()),
                _ => {
                    let mut context = Context::from_waker(Waker::noop());
                    let mut waiting = pin!(entity.wait_for(|value| value.number == 3));
                    // A task that is polled so often, and then dropped.
                    for _ in 5..thread {
                        if waiting.as_mut().poll(&mut context).is_ready() {
                            break;
                        }
                        thread::yield_now();
                    }
                }
            }
        });
    });
}

#[test]
fn all_who_watch_see_the_last_value_and_the_end() {
    explore(|ledger| {
        let entity = entity(ledger);
        let watchers: Vec<_> = (0..4)
            .map(|_| {
                let mut watch = entity.watch();
                spawn(move || {
                    let mut last = watch.seen().clone();
                    while let Ok(next) = watch.changed().wait() {
                        assert!(next.stamp() > last.stamp());
                        last = next;
                    }
                    assert!(watch.is_closed());
                    last.number
                })
            })
            .collect();
        let last_call = Arc::new(AtomicUsize::new(0));
        let callback = {
            let last_call = Arc::clone(&last_call);
            entity.on_commit(move |value| last_call.store(value.number as usize, SeqCst))
        };
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let (entity, ledger) = (entity.clone(), Arc::clone(ledger));
                spawn(move || add_one(&entity, &ledger))
            })
            .collect();
        drop(entity);
        for writer in writers {
            writer.join().expect("no thread panics");
        }
        for watcher in watchers {
            assert_eq!(watcher.join().expect("no thread panics"), 3);
        }
        callback.join().expect("the callback does not panic");
        assert_eq!(last_call.load(SeqCst), 3);
    });
}

// Transactions.

/// Accounts, and what is in each at first.
const ACCOUNTS: usize = 4;
const EACH: u64 = 10;

/// Moves one from an account to another, both chosen by chance. How many attempts it took.
fn transfer(accounts: &[Entity<Value>], ledger: &Arc<Ledger>) -> usize {
    let mut chance = shuttle::rand::thread_rng();
    let from = chance.gen_range(0..ACCOUNTS);
    let to = (from + chance.gen_range(1..ACCOUNTS)) % ACCOUNTS;
    let (from, to) = (&accounts[from], &accounts[to]);
    let mut attempts = 0;
    snapcell::transaction(|tx| {
        attempts += 1;
        let (left, there) = (tx.read(from)?.number, tx.read(to)?.number);
        tx.write(from, Value::new(left - 1, ledger));
        tx.write(to, Value::new(there + 1, ledger));
        Ok(())
    });
    attempts
}

#[test]
fn eight_who_transfer_keep_the_sum() {
    const WRITERS: u64 = 8;
    explore(|ledger| {
        let accounts: Arc<[_; ACCOUNTS]> = Arc::new(std::array::from_fn(|_| {
            Entity::builder(Value::new(EACH, ledger))
                .clock(Clock::logical())
                .build()
        }));
        // The sum of all versions: two for each transfer.
        let audit = |accounts: &[Entity<Value>]| -> u64 {
            let moment = snapcell::snapshot_of(accounts);
            let sum: u64 = moment.iter().map(|account| account.number).sum();
            assert_eq!(sum, EACH * ACCOUNTS as u64, "nothing is made or lost");
            let versions = moment.iter().map(|account| account.stamp().version());
            versions.sum()
        };
        on_threads(WRITERS + 1, {
            let (accounts, ledger) = (Arc::clone(&accounts), Arc::clone(ledger));
            move |thread| {
                if thread < WRITERS {
                    let attempts = transfer(&accounts[..], &ledger);
                    ledger.retried.fetch_add(attempts - 1, SeqCst);
                    return;
                }
                let versions = [(); 3].map(|()| audit(&accounts[..]));
                assert!(versions.is_sorted(), "{versions:?}");
                assert!(versions.iter().all(|sum| sum % 2 == 0), "{versions:?}");
            }
        });
        assert_eq!(
            audit(&accounts[..]),
            2 * WRITERS,
            "each transfer took effect once"
        );
    });
}

// The scheduler. An engine has no threads of its own here: whoever waits for a ticket serves meanwhile.

#[cfg(feature = "scheduler")]
mod scheduler {
    use super::{Ledger, Value, entity, explore, on_threads};
    use shuttle::rand::Rng;
    use snapcell::{
        Clock, Engine, EngineBuilder, Entity, EventKind, ManualClock, Operation, OperationError,
        Policies, Policy, Priority, RetryPolicy, ShutDown, Snapshot, Ticket,
    };
    use std::convert::Infallible;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    const WORKERS: u64 = 16;

    fn builder() -> EngineBuilder {
        Engine::builder().workers(0).clock(Clock::logical())
    }

    /// Tried again without a delay, since there is no time.
    fn at_once<B>(operation: Operation<B>) -> Operation<B> {
        operation.retrying(RetryPolicy::default().with_spins(u32::MAX))
    }

    fn any_priority() -> Priority {
        let number = shuttle::rand::thread_rng().gen_range(1..=10);
        Priority::new(number).expect("it is one of ten")
    }

    /// One of so many, by chance.
    fn any(of: usize) -> usize {
        shuttle::rand::thread_rng().gen_range(0..of)
    }

    /// How many threads there are, where as many as there may be take very long: all of them in one schedule of 64.
    fn now_and_then_all(few: u64) -> u64 {
        if any(64) == 0 { WORKERS } else { few }
    }

    /// What the engine says of itself when everything has ended, and what its entities say.
    fn check(engine: &Engine, entities: &[Entity<Value>]) {
        engine.serve();
        let counts = engine.counts();
        assert_eq!(counts.submitted, counts.ended(), "{counts}");
        assert!(engine.is_clean(), "{counts}");
        let effects: u64 = entities
            .iter()
            .map(|entity| entity.read(|value| value.number))
            .sum();
        assert_eq!(
            effects, counts.committed,
            "one effect for each that was committed"
        );
    }

    type Taken = Ticket<Snapshot<Value>, Infallible>;

    /// Adds one to an entity, if there is room.
    fn submit(
        engine: &Engine,
        entity: &Entity<Value>,
        ledger: &Arc<Ledger>,
        priority: Priority,
    ) -> Option<Taken> {
        let ledger = Arc::clone(ledger);
        let add_one = move |value: &Value| Value::new(value.number + 1, &ledger);
        let operation = Operation::update(entity, add_one).priority(priority);
        let operation = at_once(operation);
        let operation = if any(2) == 0 {
            operation.short()
        } else {
            operation
        };
        engine.submit(operation).ok()
    }

    /// Whether it ended as one that others may end.
    fn is_ended<T>(result: &Result<T, OperationError<Infallible>>) -> bool {
        match result {
            Ok(_) | Err(OperationError::Cancelled | OperationError::Rejected(_)) => true,
            Err(_) => false,
        }
    }

    #[test]
    fn whatever_is_submitted_ends() {
        explore(|ledger| {
            let policy = [Policy::InOrder, Policy::Fold, Policy::WinnerTakesAll][any(3)];
            let engine = builder().policy(policy).capacity(3).build();
            let entities: Arc<[_; 2]> = Arc::new([(); 2].map(|()| entity(ledger)));
            on_threads(WORKERS, {
                let (engine, entities) = (engine.clone(), Arc::clone(&entities));
                let ledger = Arc::clone(ledger);
                move |thread| {
                    let entity = &entities[any(2)];
                    if thread % 4 == 0 {
                        // Beside the lane, and so in its way.
                        let ledger = Arc::clone(&ledger);
                        let add_one = move |value: &Value| Value::new(value.number + 1, &ledger);
                        let beside = at_once(Operation::update(entity, add_one));
                        let result = engine.run(&beside);
                        assert!(is_ended(&result));
                        return;
                    }
                    let Some(ticket) = submit(&engine, entity, &ledger, any_priority()) else {
                        return;
                    };
                    match any(4) {
                        0 => drop(ticket.cancel()),
                        1 => ticket.set_priority(any_priority()),
                        2 => engine.serve(),
                        _ => {}
                    }
                    assert!(is_ended(&ticket.wait()));
                }
            });
            check(&engine, &entities[..]);
            let conflicts = engine.counts().conflicts as usize;
            ledger.retried.fetch_add(conflicts, SeqCst);
        });
    }

    #[test]
    fn what_is_staged_ends() {
        explore(|ledger| {
            let policy = [Policy::InOrder, Policy::Fold, Policy::WinnerTakesAll][any(3)];
            let engine = builder().policy(policy).build();
            let entities: Arc<[_; 2]> = Arc::new([(); 2].map(|()| entity(ledger)));
            on_threads(6, {
                let (engine, entities) = (engine.clone(), Arc::clone(&entities));
                let ledger = Arc::clone(ledger);
                move |thread| {
                    if thread % 2 == 1 {
                        return submit_some(&engine, &entities[..], &ledger, policy);
                    }
                    let mut stage = engine.stage();
                    let tickets: Vec<Taken> = (0..2)
                        .map(|_| {
                            let ledger = Arc::clone(&ledger);
                            let add_one =
                                move |value: &Value| Value::new(value.number + 1, &ledger);
                            let operation = Operation::update(&entities[any(2)], add_one);
                            let staged = stage.add(operation.priority(any_priority()));
                            staged.expect("there is room")
                        })
                        .collect();
                    tickets[0].set_priority(any_priority());
                    if thread == 0 {
                        drop(stage);
                    } else {
                        stage.resolve();
                    }
                    tickets[1].set_priority(any_priority());
                    for ticket in tickets {
                        let result = ticket.wait();
                        assert!(is_ended(&result));
                        if thread != 0 && result.is_err() {
                            // One that another one has won against.
                            ledger.retried.fetch_add(1, SeqCst);
                        }
                        if policy != Policy::WinnerTakesAll && thread != 0 {
                            assert!(result.is_ok());
                            ledger.retried.fetch_add(1, SeqCst);
                        }
                    }
                }
            });
            check(&engine, &entities[..]);
        });
    }

    /// Submits some together, of which a few are short.
    fn submit_some(
        engine: &Engine,
        entities: &[Entity<Value>],
        ledger: &Arc<Ledger>,
        policy: Policy,
    ) {
        let all = engine.submit_all((0..3).map(|_| {
            let ledger = Arc::clone(ledger);
            let add_one = move |value: &Value| Value::new(value.number + 1, &ledger);
            let operation = Operation::update(&entities[any(2)], add_one).priority(any_priority());
            // Under Fold they lose together, and one that isn't short is there to be tried again.
            let operation = operation.retries(100);
            if any(4) == 0 {
                operation
            } else {
                operation.short()
            }
        }));
        for ticket in all {
            let result = ticket.expect("there is room").wait();
            assert!(is_ended(&result));
            if policy == Policy::WinnerTakesAll {
                let losers = usize::from(result.is_err());
                ledger.retried.fetch_add(losers, SeqCst);
            } else {
                assert!(result.is_ok());
            }
        }
    }

    /// An operation as its lane knows it.
    #[derive(Clone, Copy, PartialEq)]
    struct Known {
        thread: u64,
        priority: Priority,
        born: Duration,
    }

    /// What a step of priority is worth in time.
    const INTERVAL: Duration = Duration::from_nanos(4);

    impl Known {
        /// Whether it goes before the other one: 10 first, and below it whoever came earlier, by as many intervals as it
        /// is less important.
        fn is_better(&self, other: &Known) -> bool {
            let is_urgent = |known: &Known| known.priority == Priority::CRITICAL;
            let steps = |known: &Known| match is_urgent(known) {
                true => 0,
                false => u32::from(Priority::CRITICAL.get() - known.priority.get()),
            };
            match (is_urgent(self), is_urgent(other)) {
                (true, false) => true,
                (false, true) => false,
                _ => self.born + steps(self) * INTERVAL < other.born + steps(other) * INTERVAL,
            }
        }
    }

    /// What happened to the operations of one lane, in the order in which it did.
    #[derive(Default)]
    struct Log(Mutex<Vec<Entry>>);

    #[derive(Clone, Copy, PartialEq)]
    enum Entry {
        Submitted(Known),
        /// That of this thread.
        Started(u64),
    }

    impl Log {
        fn note(&self, entry: Entry) {
            let mut log = self.0.lock().expect("nobody panics here");
            if log.iter().rev().all(|other| *other != entry) {
                log.push(entry);
            }
        }

        /// Asserts that none was passed over by a worse one, if it was in the lane when the one before that began; and
        /// that an urgent one has waited for one that isn't at most. How many were overtaken.
        fn check(&self) -> usize {
            let log = self.0.lock().expect("nobody panics here");
            let submitted: Vec<_> = log
                .iter()
                .enumerate()
                .filter_map(|(place, entry)| match entry {
                    Entry::Submitted(known) => Some((place, *known)),
                    Entry::Started(_) => None,
                })
                .collect();
            let find = |thread| submitted.iter().find(|(_, known)| known.thread == thread);
            let starts: Vec<_> = log
                .iter()
                .enumerate()
                .filter_map(|(place, entry)| match entry {
                    Entry::Started(thread) => Some((place, find(*thread)?.1)),
                    Entry::Submitted(_) => None,
                })
                .collect();
            assert_eq!(starts.len(), submitted.len(), "each has started once");
            let mut overtaken = 0;
            for (entered, known) in &submitted {
                let own = starts.iter().position(|(_, other)| other == known);
                let own = own.expect("it has started");
                let mut others = 0;
                for pair in starts[..own].windows(2) {
                    let [(before, _), (_, picked)] = [pair[0], pair[1]];
                    if *entered < before {
                        assert!(!known.is_better(&picked), "a better one is passed over");
                        let is_later = known.born < picked.born;
                        overtaken += usize::from(is_later && picked.is_better(known));
                    }
                }
                for (place, other) in &starts[..own] {
                    let is_less = other.priority < Priority::CRITICAL;
                    others += usize::from(entered < place && is_less);
                }
                if known.priority == Priority::CRITICAL {
                    assert!(others <= 1, "it was picked before this one had come");
                }
            }
            overtaken
        }
    }

    #[test]
    fn no_pick_passes_over_a_better_one() {
        explore(|ledger| {
            let mut policies = Policies::default();
            policies.set_interval(INTERVAL);
            let clock = ManualClock::new();
            let engine = Engine::builder().workers(0).clock(Clock::manual(&clock));
            let engine = engine.policies(policies).build();
            let entity = entity(ledger);
            let log = Arc::new(Log::default());
            on_threads(now_and_then_all(8), {
                let (engine, entity, log) = (engine.clone(), entity.clone(), Arc::clone(&log));
                let ledger = Arc::clone(ledger);
                move |thread| {
                    let priority = any_priority();
                    let add_one = {
                        let (log, ledger) = (Arc::clone(&log), Arc::clone(&ledger));
                        move |value: &Value| {
                            log.note(Entry::Started(thread));
                            Value::new(value.number + 1, &ledger)
                        }
                    };
                    clock.advance(Duration::from_nanos(any(16) as u64));
                    let operation = Operation::update(&entity, add_one).priority(priority);
                    let ticket = engine.submit(operation).expect("there is room");
                    let born = ticket.times().born;
                    log.note(Entry::Submitted(Known {
                        thread,
                        priority,
                        born,
                    }));
                    ticket.wait().expect("nobody is in the way");
                }
            });
            check(&engine, &[entity]);
            ledger.retried.fetch_add(log.check(), SeqCst);
        });
    }

    /// Some reserve the entity before their first attempt, and time stands still, so that no reservation is ever over.
    #[test]
    fn a_reservation_stops_nobody_for_good() {
        explore(|ledger| {
            let engine = builder().metrics(true).build();
            let entity = entity(ledger);
            on_threads(6, {
                let (engine, entity) = (engine.clone(), entity.clone());
                let ledger = Arc::clone(ledger);
                move |thread| {
                    let ledger = Arc::clone(&ledger);
                    let add_one = move |value: &Value| {
                        shuttle::thread::yield_now();
                        Value::new(value.number + 1, &ledger)
                    };
                    let retry = RetryPolicy::default().with_spins(u32::MAX);
                    let retry = match any(2) {
                        0 => retry.reserving_after(0),
                        _ => retry,
                    };
                    let operation = Operation::update(&entity, add_one).retries(100);
                    let operation = operation.retrying(retry).priority(any_priority());
                    let result = match thread % 2 {
                        0 => engine.run(&operation),
                        _ => engine.submit(operation).expect("there is room").wait(),
                    };
                    result.expect("no commit fails by a reservation");
                }
            });
            check(&engine, &[entity]);
            let steps: u64 = engine
                .metrics()
                .kinds
                .iter()
                .map(|kind| kind.steps_back)
                .sum();
            ledger.retried.fetch_add(steps as usize, SeqCst);
        });
    }

    /// Adds one to an entity, after the same was done to the next one, and so on.
    fn nest(
        engine: &Engine,
        entities: &[Entity<Value>],
        ledger: &Arc<Ledger>,
        priority: Priority,
    ) -> Ticket<Snapshot<Value>, Infallible> {
        let (first, rest) = entities.split_first().expect("there is one");
        let rest = rest.to_vec();
        let add_one = {
            let (engine, ledger) = (engine.clone(), Arc::clone(ledger));
            move |value: &Value| {
                if !rest.is_empty() {
                    let inner = nest(&engine, &rest, &ledger, Priority::LOW);
                    let is_pending = inner.status().state() == snapcell::State::Pending;
                    inner.wait().expect("it is a part of this one");
                    ledger.retried.fetch_add(usize::from(is_pending), SeqCst);
                }
                Value::new(value.number + 1, &ledger)
            }
        };
        let operation = Operation::update(first, add_one).priority(priority);
        engine
            .submit(at_once(operation).retries(100))
            .expect("there is room")
    }

    /// All wait, and serve meanwhile; or one does, and the others submit and go.
    #[test]
    fn waiting_for_a_part_never_deadlocks() {
        explore(|ledger| {
            let workers = now_and_then_all(6);
            let servers = [1, workers][any(2)];
            let engine = builder().build();
            let entities: Arc<[_; 3]> = Arc::new([(); 3].map(|()| entity(ledger)));
            let tickets = on_threads(workers, {
                let (engine, entities) = (engine.clone(), Arc::clone(&entities));
                let ledger = Arc::clone(ledger);
                move |thread| {
                    let ticket = nest(&engine, &entities[any(2)..], &ledger, any_priority());
                    if thread < servers {
                        ticket.wait().expect("nobody cancels it");
                        return None;
                    }
                    Some(ticket)
                }
            });
            for ticket in tickets.into_iter().flatten() {
                ticket.wait().expect("nobody cancels it");
            }
            engine.serve();
            let counts = engine.counts();
            assert_eq!(
                (counts.submitted, counts.unfinished()),
                (counts.committed, 0)
            );
            assert!(engine.is_clean());
        });
    }

    /// One, two that are part of it, and one that is part of one of these get other priorities all at once.
    #[test]
    fn a_part_is_as_important_as_the_whole() {
        explore(|ledger| {
            let engine = builder().build();
            let entities: Vec<_> = (0..4).map(|_| entity(ledger)).collect();
            let mut tickets: Vec<Taken> = Vec::new();
            for (entity, whole) in entities.iter().zip([None, Some(0), Some(0), Some(1)]) {
                let ledger = Arc::clone(ledger);
                let add_one = move |value: &Value| Value::new(value.number + 1, &ledger);
                let operation = at_once(Operation::update(entity, add_one));
                let operation = match whole {
                    Some(whole) => operation.within(&tickets[whole].context()),
                    None => operation,
                };
                tickets.push(engine.submit(operation).expect("there is room"));
            }
            let tickets = Arc::new(tickets);
            on_threads(8, {
                let (tickets, ledger) = (Arc::clone(&tickets), Arc::clone(ledger));
                move |_| {
                    let (ticket, priority) = (&tickets[any(4)], any_priority());
                    ticket.set_priority(priority);
                    let is_another = ticket.status().priority() != priority;
                    ledger.retried.fetch_add(usize::from(is_another), SeqCst);
                }
            });
            let priorities: Vec<_> = tickets
                .iter()
                .map(|ticket| ticket.status().priority())
                .collect();
            for (part, whole) in [(1, 0), (2, 0), (3, 1)] {
                assert!(priorities[part] >= priorities[whole], "{priorities:?}");
            }
            engine.serve();
            for ticket in Arc::into_inner(tickets).expect("the others have ended") {
                ticket.wait().expect("nobody is in the way");
            }
            check(&engine, &entities);
        });
    }

    #[test]
    fn nobody_loses_more_often_than_its_budget_allows() {
        const RETRIES: u32 = 1;
        explore(|ledger| {
            let engine = builder().build();
            let entity = entity(ledger);
            on_threads(now_and_then_all(8), {
                let (engine, entity) = (engine.clone(), entity.clone());
                let ledger = Arc::clone(ledger);
                move |thread| {
                    let runs = Arc::new(AtomicU32::new(0));
                    let add_one = {
                        let (runs, ledger) = (Arc::clone(&runs), Arc::clone(&ledger));
                        move |value: &Value| {
                            runs.fetch_add(1, SeqCst);
                            shuttle::thread::yield_now();
                            Value::new(value.number + 1, &ledger)
                        }
                    };
                    let operation = at_once(Operation::update(&entity, add_one)).retries(RETRIES);
                    let result = match thread % 2 {
                        0 => engine.run(&operation),
                        _ => engine.submit(operation).expect("there is room").wait(),
                    };
                    let runs = runs.load(SeqCst);
                    match result {
                        Ok(_) => assert!((1..=RETRIES + 1).contains(&runs), "{runs}"),
                        Err(OperationError::Rejected(why)) => {
                            assert_eq!((why.attempts, runs), (RETRIES + 1, RETRIES + 1));
                        }
                        Err(error) => panic!("{error}"),
                    }
                    ledger.retried.fetch_add(runs as usize - 1, SeqCst);
                }
            });
            check(&engine, &[entity]);
        });
    }

    #[test]
    fn a_busy_engine_is_shut_down() {
        explore(|ledger| {
            let how = [ShutDown::Finish, ShutDown::Cancel][any(2)];
            let engine = builder().build();
            let entities: Arc<[_; 2]> = Arc::new([(); 2].map(|()| entity(ledger)));
            on_threads(WORKERS, {
                let (engine, entities) = (engine.clone(), Arc::clone(&entities));
                let ledger = Arc::clone(ledger);
                move |thread| {
                    if thread == 0 {
                        engine.shut_down(how, None).expect("there is no deadline");
                        return;
                    }
                    let priority = any_priority();
                    match submit(&engine, &entities[any(2)], &ledger, priority) {
                        // It was refused.
                        None => drop(ledger.retried.fetch_add(1, SeqCst)),
                        // Nobody waits for it but whoever shuts down.
                        Some(ticket) if thread % 2 == 0 => drop(ticket),
                        Some(ticket) => {
                            let result = ticket.wait();
                            assert!(is_ended(&result));
                            assert!(how == ShutDown::Cancel || result.is_ok());
                        }
                    }
                }
            });
            check(&engine, &entities[..]);
            engine.start();
            let ticket = submit(&engine, &entities[0], ledger, Priority::NORMAL);
            assert!(ticket.expect("it is open again").wait().is_ok());
        });
    }

    #[test]
    fn who_subscribes_first_beside_others_is_told_all_that_comes_after() {
        explore(|ledger| {
            let engine = builder().build();
            let entity = entity(ledger);
            let begun = Arc::new(AtomicU32::new(0));
            let subscriptions = on_threads(4, {
                let (engine, entity) = (engine.clone(), entity.clone());
                let (begun, ledger) = (Arc::clone(&begun), Arc::clone(ledger));
                move |_| {
                    let add_one = || {
                        begun.fetch_add(1, SeqCst);
                        let ticket = submit(&engine, &entity, &ledger, any_priority());
                        assert!(ticket.expect("there is room").wait().is_ok());
                        // Where there are no threads whoever serves calls the handlers.
                        engine.serve();
                    };
                    // Some are late.
                    (0..any(3)).for_each(|_| add_one());
                    let told = Arc::new(AtomicU32::new(0));
                    let subscription = engine.on(EventKind::Completed, {
                        let told = Arc::clone(&told);
                        move |_| _ = told.fetch_add(1, SeqCst)
                    });
                    let before = begun.load(SeqCst);
                    add_one();
                    (told, before, subscription)
                }
            });
            check(&engine, &[entity]);
            let all = begun.load(SeqCst);
            for (told, before, subscription) in subscriptions {
                let told = told.load(SeqCst);
                let after = all - before;
                assert!((after..=all).contains(&told), "{told} of {after} to {all}");
                // What was over before it came.
                ledger.retried.fetch_add((all - told) as usize, SeqCst);
                drop(subscription);
            }
        });
    }
}
