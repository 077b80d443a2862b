//! Engines under many threads at once: nothing is lost, nothing is done twice, and everything ends.
//!
//! Whatever a race is about has to have happened: a run in which it did not is repeated, and a test that never sees
//! it fails.
#![cfg(feature = "scheduler")]

#[path = "support/together.rs"]
mod together;

use snapcell::{
    Body, Class, Counts, Engine, Entity, Operation, OperationError, Policies, Policy, Priority,
    Reason, RetryPolicy, ShutDown, Snapshot, Stop, Ticket,
};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use together::together;

const POLICIES: [Policy; 4] = [
    Policy::InOrder,
    Policy::Fold,
    Policy::Merge,
    Policy::WinnerTakesAll,
];

/// How often a race is run until what it is about has happened.
const TIMES: usize = 200;

type Changed = Ticket<Snapshot<u64>, &'static str>;
type Certain = Ticket<Snapshot<u64>, Infallible>;

/// Runs a race until what it is about has happened.
fn until_it_happens(race: impl Fn() -> bool) {
    assert!(
        (0..TIMES).any(|_| race()),
        "what this is about has not happened: nothing was shown"
    );
}

/// Random numbers that need no seed but the number of a thread.
struct Dice(u64);

impl Dice {
    fn of(thread: usize) -> Self {
        Dice((thread as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// How the operations of a run have ended, as those who waited for them saw it; and what was captured by them.
#[derive(Default)]
struct Ends {
    committed: AtomicU64,
    unchanged: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    cancelled: AtomicU64,
    evicted: AtomicU64,
    made: AtomicU64,
    dropped: Arc<AtomicU64>,
}

struct Captured(Arc<AtomicU64>);

impl Drop for Captured {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Ends {
    /// An increment; every seventh refuses, and every eleventh panics.
    fn operation(
        &self,
        entity: &Entity<u64>,
        number: u64,
    ) -> Operation<impl Body<Output = Snapshot<u64>, Error = &'static str> + use<>> {
        count(&self.made);
        let captured = Captured(self.dropped.clone());
        Operation::try_update(entity, move |n| {
            let _ = &captured;
            match number {
                n if n % 7 == 3 => Err("refused"),
                n if n % 11 == 5 => std::panic::resume_unwind(Box::new("panicked")),
                _ => Ok(Some(n + 1)),
            }
        })
        .retries(u32::MAX)
        .retrying(RetryPolicy::exponential(Duration::ZERO, 1.0))
    }

    fn note<T, F>(&self, result: Result<T, OperationError<F>>) {
        let counter = match result {
            Ok(_) => &self.committed,
            Err(OperationError::Refused(_) | OperationError::Panicked(_)) => &self.failed,
            Err(OperationError::Cancelled) => &self.cancelled,
            Err(OperationError::Rejected(why)) => {
                if why.reason == Reason::Evicted {
                    count(&self.evicted);
                }
                &self.rejected
            }
            Err(_) => panic!("no other end was expected"),
        };
        count(counter);
    }

    /// Asserts that all that was told is what was counted, and that nothing is left.
    fn check(&self, engine: &Engine, entities: &[Entity<u64>], policy: Policy) -> Counts {
        engine.shut_down(ShutDown::Finish, None).unwrap();
        let counts = engine.counts();
        let load = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let told = [
            load(&self.committed),
            load(&self.unchanged),
            load(&self.failed),
            load(&self.rejected),
            load(&self.cancelled),
        ];
        let counted = [
            counts.committed,
            counts.unchanged,
            counts.failed,
            counts.rejected,
            counts.cancelled,
        ];
        assert_eq!(told, counted, "{policy:?}: {counts}");
        assert_eq!(counts.submitted, counted.iter().sum::<u64>());
        assert_eq!((counts.unfinished(), engine.unfinished()), (0, 0));
        assert!(engine.is_clean(), "{policy:?}");
        assert_eq!(load(&self.dropped), load(&self.made), "each dropped once");
        let sum: u64 = entities.iter().map(|entity| *entity.snapshot()).sum();
        assert_eq!(sum, counts.committed, "each effect once: {policy:?}");
        let versions = entities
            .iter()
            .map(|entity| entity.snapshot().stamp().version());
        let versions: u64 = versions.sum();
        assert!(versions == sum || policy == Policy::Fold && versions < sum);
        counts
    }
}

fn entities(number: usize) -> Vec<Entity<u64>> {
    (0..number).map(|_| Entity::new(0)).collect()
}

#[test]
fn mixed_classes_on_many_targets_all_end_in_one_way() {
    for policy in POLICIES {
        for workers in [0, 1, 3] {
            until_it_happens(|| {
                let engine = Engine::builder().workers(workers).policy(policy).build();
                let (targets, ends) = (entities(5), Ends::default());
                together(4, |thread| {
                    let mut dice = Dice::of(thread);
                    let mut tickets: Vec<Changed> = Vec::new();
                    for number in 0..300 {
                        let target = &targets[dice.below(5) as usize];
                        let class = [Class::STRUCTURAL, Class::NORMAL, Class::LOW];
                        let operation = ends.operation(target, number);
                        let operation = operation.class(class[dice.below(3) as usize]);
                        if dice.below(3) == 0 {
                            ends.note(engine.run(&operation));
                        } else {
                            tickets.push(engine.submit(operation).unwrap());
                        }
                        if dice.below(20) == 0 {
                            tickets
                                .drain(..)
                                .for_each(|ticket| ends.note(ticket.wait()));
                        }
                    }
                    tickets
                        .drain(..)
                        .for_each(|ticket| ends.note(ticket.wait()));
                });
                let counts = ends.check(&engine, &targets, policy);
                assert_eq!(counts.submitted, 1_200);
                counts.committed > 0
            });
        }
    }
}

#[test]
fn cancels_and_changes_of_priority_race_with_those_who_run_what_they_are_about() {
    for policy in POLICIES {
        for workers in [0, 2] {
            until_it_happens(|| {
                let engine = Engine::builder().workers(workers).policy(policy).build();
                let (targets, ends) = (entities(3), Ends::default());
                let shelf: Mutex<Vec<Changed>> = Mutex::default();
                let (cancels, is_over) = (AtomicU64::new(0), AtomicU64::new(0));
                together(4, |thread| {
                    let mut dice = Dice::of(thread);
                    if thread < 2 {
                        for number in 0..500 {
                            let target = &targets[dice.below(3) as usize];
                            let ticket = engine.submit(ends.operation(target, number));
                            shelf.lock().unwrap().push(ticket.unwrap());
                        }
                        count(&is_over);
                        return;
                    }
                    loop {
                        let was_over = is_over.load(Ordering::SeqCst) == 2;
                        let taken = shelf.lock().unwrap().pop();
                        let Some(ticket) = taken else {
                            if was_over {
                                return;
                            }
                            thread::yield_now();
                            continue;
                        };
                        for _ in 0..dice.below(3) {
                            let number = 1 + dice.below(10) as u8;
                            ticket.set_priority(Priority::new(number).unwrap());
                        }
                        if dice.below(2) == 0 && ticket.cancel() {
                            count(&cancels);
                        }
                        ends.note(ticket.wait());
                    }
                });
                let counts = ends.check(&engine, &targets, policy);
                assert_eq!(counts.submitted, 1_000);
                let cancelled = cancels.load(Ordering::SeqCst);
                assert!(
                    counts.cancelled >= cancelled,
                    "who was told so is cancelled"
                );
                cancelled > 0 && counts.committed > 0
            });
        }
    }
}

#[test]
fn whoever_is_evicted_is_told_so_and_no_place_is_lost() {
    for policy in [Policy::InOrder, Policy::Fold] {
        for capacity in [1, 2, 7] {
            until_it_happens(|| {
                let engine = Engine::builder()
                    .workers(1)
                    .capacity(capacity)
                    .policy(policy)
                    .build();
                let (targets, ends) = (entities(2), Ends::default());
                let refused = AtomicU64::new(0);
                together(4, |thread| {
                    let mut dice = Dice::of(thread);
                    let mut tickets = Vec::new();
                    for number in 0..200 {
                        let target = &targets[dice.below(2) as usize];
                        let priority = Priority::new(1 + dice.below(10) as u8).unwrap();
                        let operation = ends.operation(target, number).priority(priority);
                        match engine.submit(operation) {
                            Ok(ticket) => tickets.push(ticket),
                            Err(error) => {
                                assert!(error.is_overloaded());
                                count(&refused);
                            }
                        }
                        if dice.below(9) == 0
                            && let Some(ticket) = tickets.last()
                        {
                            ticket.cancel();
                        }
                        if dice.below(9) == 0
                            && let Some(ticket) = tickets.last()
                        {
                            ticket.set_priority(Priority::HIGH);
                        }
                    }
                    tickets
                        .drain(..)
                        .for_each(|ticket| ends.note(ticket.wait()));
                });
                let counts = ends.check(&engine, &targets, policy);
                let refused = refused.load(Ordering::SeqCst);
                assert_eq!(counts.submitted + refused, 800);
                assert!(targets.iter().all(|target| engine.waiting(target) == 0));
                // All places are there again.
                for target in &targets {
                    engine.start();
                    engine
                        .submit(Operation::update(target, |n| n + 1))
                        .unwrap()
                        .wait()
                        .unwrap();
                }
                ends.evicted.load(Ordering::SeqCst) > 0 && refused > 0
            });
        }
    }
}

#[test]
fn shut_downs_race_with_submissions_and_everybody_gets_an_answer() {
    for policy in POLICIES {
        for workers in [0, 2] {
            for how in [ShutDown::Finish, ShutDown::Cancel] {
                until_it_happens(|| {
                    let engine = Engine::builder().workers(workers).policy(policy).build();
                    let (targets, ends) = (entities(3), Ends::default());
                    let (refused, is_over) = (AtomicU64::new(0), AtomicU64::new(0));
                    together(4, |thread| {
                        let mut dice = Dice::of(thread);
                        if thread == 3 {
                            while is_over.load(Ordering::SeqCst) < 3 {
                                engine.shut_down(how, None).unwrap();
                                // Others are to find it shut down.
                                thread::yield_now();
                                engine.start();
                            }
                            return;
                        }
                        let mut tickets = Vec::new();
                        for number in 0..200 {
                            let target = &targets[dice.below(3) as usize];
                            match engine.submit(ends.operation(target, number)) {
                                Ok(ticket) => tickets.push(ticket),
                                Err(_) => count(&refused),
                            }
                            if dice.below(10) == 0 {
                                tickets
                                    .drain(..)
                                    .for_each(|ticket| ends.note(ticket.wait()));
                            }
                        }
                        tickets
                            .drain(..)
                            .for_each(|ticket| ends.note(ticket.wait()));
                        count(&is_over);
                    });
                    let counts = ends.check(&engine, &targets, policy);
                    let refused = refused.load(Ordering::SeqCst);
                    assert_eq!(counts.submitted + refused, 600);
                    if how == ShutDown::Finish {
                        assert_eq!(counts.cancelled, 0);
                    }
                    refused > 0
                });
            }
        }
    }
}

#[test]
fn handles_are_dropped_while_the_engine_is_busy_and_nothing_is_lost() {
    for policy in POLICIES {
        for workers in [0, 2] {
            until_it_happens(|| {
                let engine = Engine::builder().workers(workers).policy(policy).build();
                let (targets, ends) = (entities(2), Ends::default());
                let handles: Vec<_> = (0..3).map(|_| Mutex::new(Some(engine.clone()))).collect();
                drop(engine);
                together(3, |thread| {
                    let mut dice = Dice::of(thread);
                    let engine = handles[thread].lock().unwrap().take().unwrap();
                    let mut submit = |number| {
                        let target = &targets[dice.below(2) as usize];
                        engine.submit(ends.operation(target, number)).unwrap()
                    };
                    let tickets: Vec<_> = (0..150).map(&mut submit).collect();
                    drop(engine);
                    tickets
                        .into_iter()
                        .for_each(|ticket| ends.note(ticket.wait()));
                });
                let load = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
                let sum: u64 = targets.iter().map(|target| *target.snapshot()).sum();
                assert_eq!(sum, load(&ends.committed));
                let cancelled = load(&ends.cancelled);
                let ended = sum + load(&ends.failed) + load(&ends.rejected) + cancelled;
                assert_eq!(ended, 450);
                // A thread of the engine may be about to let go of the last of them.
                while load(&ends.dropped) < load(&ends.made) {
                    thread::yield_now();
                }
                assert_eq!(load(&ends.dropped), 450);
                cancelled > 0
            });
        }
    }
}

#[test]
fn outsiders_get_in_the_way_of_every_policy_and_nothing_is_lost() {
    for policy in POLICIES {
        until_it_happens(|| {
            let engine = Engine::builder().workers(2).policy(policy).build();
            let (targets, ends) = (entities(2), Ends::default());
            let (outside, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
            together(3, |thread| {
                let mut dice = Dice::of(thread);
                if thread == 2 {
                    while !is_over.load(Ordering::SeqCst) {
                        // What has no effect is a commit all the same.
                        targets[dice.below(2) as usize].update(|n| *n);
                        count(&outside);
                    }
                    return;
                }
                let mut submit = |number| {
                    let target = &targets[dice.below(2) as usize];
                    engine.submit(ends.operation(target, number)).unwrap()
                };
                let tickets: Vec<_> = (0..500).map(&mut submit).collect();
                tickets
                    .into_iter()
                    .for_each(|ticket| ends.note(ticket.wait()));
                is_over.store(true, Ordering::SeqCst);
            });
            engine.shut_down(ShutDown::Finish, None).unwrap();
            let counts = engine.counts();
            let sum: u64 = targets.iter().map(|target| *target.snapshot()).sum();
            let versions = targets
                .iter()
                .map(|target| target.snapshot().stamp().version());
            let own = versions.sum::<u64>() - outside.load(Ordering::SeqCst);
            assert_eq!(sum, counts.committed);
            assert!(own == sum || policy == Policy::Fold && own < sum);
            assert_eq!(counts.submitted, counts.ended());
            assert!(engine.is_clean());
            counts.conflicts > 0
        });
    }
}

#[test]
fn those_that_lose_keep_their_place_while_their_priority_changes() {
    for policy in [Policy::InOrder, Policy::Fold] {
        until_it_happens(|| {
            let engine = Engine::builder()
                .workers(1)
                .quantum(Duration::ZERO)
                .policy(policy)
                .build();
            let entity = Entity::new(0_u64);
            let shelf: Mutex<Vec<Arc<Certain>>> = Mutex::default();
            let is_over = AtomicBool::new(false);
            let commits = AtomicU64::new(0);
            together(3, |thread| {
                let mut dice = Dice::of(thread);
                if thread == 0 {
                    for _ in 0..300 {
                        let operation = Operation::update(&entity, |n| {
                            thread::yield_now();
                            n + 1
                        });
                        let operation = operation
                            .endless_patience()
                            .retries(u32::MAX)
                            .retrying(RetryPolicy::exponential(Duration::ZERO, 1.0));
                        let ticket = Arc::new(engine.submit(operation).unwrap());
                        shelf.lock().unwrap().push(ticket);
                    }
                    while shelf.lock().unwrap().iter().any(|ticket| !ticket.is_done()) {
                        thread::yield_now();
                    }
                    is_over.store(true, Ordering::SeqCst);
                    return;
                }
                while !is_over.load(Ordering::SeqCst) {
                    if thread == 1 {
                        // So that somebody in the lane loses now and then, but not for ever.
                        if commits.fetch_add(1, Ordering::Relaxed) < 300 {
                            entity.update(|n| *n);
                        }
                        thread::yield_now();
                        continue;
                    }
                    let all = shelf.lock().unwrap().clone();
                    for ticket in all.iter().filter(|ticket| !ticket.is_done()).take(20) {
                        let number = 1 + dice.below(10) as u8;
                        ticket.set_priority(Priority::new(number).unwrap());
                    }
                }
            });
            engine.shut_down(ShutDown::Finish, None).unwrap();
            assert_eq!(*entity.snapshot(), 300);
            assert!(engine.is_clean());
            assert_eq!(engine.counts().committed, 300);
            engine.counts().conflicts > 0
        });
    }
}

#[test]
fn folds_of_many_threads_have_fewer_commits_than_operations() {
    until_it_happens(|| {
        let engine = Engine::builder().workers(1).policy(Policy::Fold).build();
        let entity = Entity::new(0_u64);
        let results = together(4, |_| {
            let submit = |_| {
                engine
                    .submit(Operation::update(&entity, |n| n + 1))
                    .unwrap()
            };
            let tickets: Vec<_> = (0..500).map(submit).collect();
            let results = tickets.into_iter().map(|ticket| ticket.wait().unwrap());
            results.map(|snapshot| snapshot.stamp()).collect::<Vec<_>>()
        });
        let mut versions: Vec<_> = results
            .concat()
            .iter()
            .map(|stamp| stamp.version())
            .collect();
        versions.sort_unstable();
        versions.dedup();
        let end = entity.snapshot();
        assert_eq!(*end, 2_000);
        assert!(versions.into_iter().eq(1..=end.stamp().version()));
        engine.shut_down(ShutDown::Finish, None).unwrap();
        assert!(engine.is_clean());
        assert_eq!(engine.counts().committed, 2_000);
        engine.counts().folds > 0 && end.stamp().version() < 2_000
    });
}

#[test]
fn parents_and_children_on_many_threads_never_wait_for_each_other_for_ever() {
    for workers in [0, 1, 2] {
        let engine = Engine::builder().workers(workers).build();
        let (outer, inner) = (entities(3), entities(3));
        together(3, |thread| {
            for turn in 0..60 {
                let (nested, targets) = (engine.clone(), inner.clone());
                let parent = Operation::update(&outer[(thread + turn) % 3], move |n| {
                    let submit = |target| nested.submit(Operation::update(target, |n| n + 1));
                    let tickets: Vec<_> = targets.iter().map(|t| submit(t).unwrap()).collect();
                    for ticket in tickets {
                        ticket.wait().unwrap();
                    }
                    n + 1
                });
                let parent = parent.priority(Priority::new(1 + (turn % 10) as u8).unwrap());
                engine.submit(parent).unwrap().wait().unwrap();
            }
        });
        let sum = |all: &[Entity<u64>]| all.iter().map(|entity| *entity.snapshot()).sum::<u64>();
        assert_eq!((sum(&outer), sum(&inner)), (180, 540));
        engine.shut_down(ShutDown::Finish, None).unwrap();
        assert_eq!(engine.counts().committed, 720);
        assert!(engine.is_clean());
    }
}

#[test]
fn reservations_of_structural_operations_are_met_by_those_who_run_and_all_are_done() {
    let mut policies = Policies::default();
    policies.set_grace(Duration::from_micros(100));
    until_it_happens(|| {
        let engine = Engine::builder()
            .workers(1)
            .policies(policies.clone())
            .build();
        let entity = Entity::new(0_u64);
        together(3, |thread| {
            for _ in 0..200 {
                let class = if thread == 0 {
                    Class::STRUCTURAL
                } else {
                    Class::LOW
                };
                let operation = Operation::update(&entity, |n| {
                    thread::yield_now();
                    n + 1
                });
                let operation = operation.class(class).retries(u32::MAX).endless_patience();
                engine.run(&operation).unwrap();
            }
        });
        let end = entity.snapshot();
        assert_eq!((*end, end.stamp().version()), (600, 600));
        engine.shut_down(ShutDown::Finish, None).unwrap();
        assert!(engine.is_clean(), "no reservation is left");
        engine.counts().conflicts > 0
    });
}

#[test]
fn transactions_over_random_targets_keep_the_sum_whatever_is_cancelled() {
    for workers in [0, 2] {
        until_it_happens(|| {
            let engine = Engine::builder().workers(workers).build();
            let accounts: Vec<_> = (0..5).map(|_| Entity::new(100_i64)).collect();
            let cancelled = AtomicU64::new(0);
            together(4, |thread| {
                let mut dice = Dice::of(thread);
                for _ in 0..30 {
                    let mut batch = Vec::new();
                    for _ in 0..5 {
                        let from = dice.below(5) as usize;
                        let to = (from + 1 + dice.below(4) as usize) % 5;
                        let both = (accounts[from].clone(), accounts[to].clone());
                        let transfer = Operation::transaction(both, |tx, (from, to)| {
                            tx.update(from, |n| n - 1)?;
                            tx.update(to, |n| n + 1)?;
                            Ok::<_, Stop<Infallible>>(())
                        });
                        batch.push(engine.submit(transfer.retries(u32::MAX)).unwrap());
                    }
                    for ticket in batch {
                        if dice.below(3) == 0 && ticket.cancel() {
                            count(&cancelled);
                        }
                        match ticket.wait() {
                            Ok(()) | Err(OperationError::Cancelled) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            });
            let sum: i64 = accounts.iter().map(|account| *account.snapshot()).sum();
            assert_eq!(sum, 500);
            let versions = accounts
                .iter()
                .map(|account| account.snapshot().stamp().version());
            engine.shut_down(ShutDown::Finish, None).unwrap();
            let counts = engine.counts();
            assert_eq!(versions.sum::<u64>(), 2 * counts.committed);
            assert_eq!(counts.submitted, 600);
            assert_eq!(counts.submitted, counts.committed + counts.cancelled);
            assert!(engine.is_clean());
            cancelled.load(Ordering::SeqCst) > 0
        });
    }
}

#[test]
fn whoever_serves_an_engine_without_threads_all_waiters_return() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let (targets, ends) = (entities(2), Ends::default());
        together(4, |thread| {
            let mut dice = Dice::of(thread);
            for number in 0..300 {
                let target = &targets[dice.below(2) as usize];
                let operation = ends.operation(target, number);
                match dice.below(3) {
                    0 => ends.note(engine.run(&operation)),
                    1 => ends.note(engine.submit(operation).unwrap().wait()),
                    _ => {
                        let ticket = engine.submit(operation).unwrap();
                        engine.serve();
                        ends.note(ticket.wait());
                    }
                }
            }
        });
        assert_eq!(ends.check(&engine, &targets, policy).submitted, 1_200);
    }
}

#[test]
fn counts_never_show_more_ends_than_submissions() {
    let engine = Engine::builder().workers(1).build();
    let entity = Entity::new(0_u64);
    let is_over = AtomicU64::new(0);
    together(3, |thread| {
        if thread == 2 {
            while is_over.load(Ordering::SeqCst) < 2 {
                let counts = engine.counts();
                assert!(counts.ended() <= counts.submitted, "{counts:?}");
            }
            return;
        }
        for _ in 0..2_000 {
            let ticket = engine
                .submit(Operation::update(&entity, |n| n + 1))
                .unwrap();
            if thread == 1 {
                ticket.wait().unwrap();
            }
        }
        count(&is_over);
    });
    engine.shut_down(ShutDown::Finish, None).unwrap();
    assert_eq!(engine.counts().committed, 4_000);
    assert!(engine.is_clean());
}
