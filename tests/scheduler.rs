//! Engines: what is submitted is run, in its order, and nothing is lost.
//!
//! Most engines here have no threads, and a clock that stands still: so what happens, and when, is decided by the
//! test.
#![cfg(feature = "scheduler")]

#[path = "support/conserved.rs"]
mod conserved;

use conserved::conserved;
use proptest::prelude::*;
use snapcell::{
    Body, Class, Clock, Context, Engine, EngineBuilder, Entity, ManualClock, Merge, NotTaken,
    Operation, OperationError, Policies, Policy, Priority, Reason, RetryPolicy, ShutDown, Snapshot,
    State, Stop, Ticket,
};
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::Duration;

const POLICIES: [Policy; 3] = [Policy::InOrder, Policy::Fold, Policy::Merge];
const MILLISECOND: Duration = Duration::from_millis(1);

type Changed = Ticket<Snapshot<u64>, Infallible>;

fn priority(number: u8) -> Priority {
    Priority::new(number).unwrap()
}

/// Losers try again at once.
fn at_once() -> RetryPolicy {
    RetryPolicy::exponential(Duration::ZERO, 1.0)
}

/// An engine that does nothing until it is told to, with a clock that stands still.
fn still() -> (EngineBuilder, ManualClock) {
    let clock = ManualClock::new();
    let builder = Engine::builder().workers(0).clock(Clock::manual(&clock));
    (builder, clock)
}

/// Who was run, in that order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<usize>>>);

impl Log {
    fn note(&self, who: usize) {
        self.0.lock().unwrap().push(who);
    }

    fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// An increment that notes that it was run.
    fn noting(
        &self,
        entity: &Entity<u64>,
        who: usize,
    ) -> Operation<impl Body<Output = Snapshot<u64>, Error = Infallible> + use<>> {
        let log = self.clone();
        Operation::update(entity, move |n| {
            log.note(who);
            n + 1
        })
    }
}

/// Counts how many of it were dropped.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicU64>);

struct Dropped(Arc<AtomicU64>);

impl Drops {
    fn one(&self) -> Dropped {
        Dropped(self.0.clone())
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An operation that says when it runs, and goes on when it is told to.
struct Held {
    runs: Receiver<()>,
    go_on: Sender<()>,
}

fn held(
    entity: &Entity<u64>,
) -> (
    Held,
    Operation<impl Body<Output = Snapshot<u64>, Error = Infallible> + use<>>,
) {
    let (say, runs) = channel();
    let (go_on, told) = channel();
    let both = Mutex::new((say, told));
    let operation = Operation::update(entity, move |n| {
        let both = both.lock().unwrap();
        both.0.send(()).unwrap();
        both.1.recv().unwrap();
        n + 1
    });
    (Held { runs, go_on }, operation)
}

#[test]
fn whatever_is_submitted_is_committed() {
    for policy in POLICIES {
        for workers in [0, 1, 2, 4] {
            let engine = Engine::builder().workers(workers).policy(policy).build();
            let counter = Entity::new(0_u64);
            thread::scope(|s| {
                for _ in 0..3 {
                    s.spawn(|| {
                        let make = || Operation::update(&counter, |n| n + 1).retries(u32::MAX);
                        let submit = |n: u64| {
                            if n.is_multiple_of(3) {
                                engine.run(&make()).unwrap();
                                return None;
                            }
                            Some(engine.submit(make()).unwrap())
                        };
                        let tickets: Vec<_> = (0..1_000).filter_map(submit).collect();
                        for ticket in tickets {
                            ticket.wait().unwrap();
                        }
                    });
                }
            });
            assert_eq!(*counter.snapshot(), 3_000);
            let counts = conserved(&engine);
            assert_eq!((counts.submitted, counts.committed), (3_000, 3_000));
            let version = counter.snapshot().stamp().version();
            assert!(version == 3_000 || policy == Policy::Fold && version < 3_000);
        }
    }
}

// The order of picks.

/// An operation of the model: when it was born, in intervals and in parts of one, and how important it is.
#[derive(Clone, Copy, Debug)]
struct Born {
    time: u64,
    priority: u8,
}

/// In which order a sorted list would have them picked.
fn model(born: &[Born], interval: u64, share: usize) -> Vec<usize> {
    let mut left: Vec<_> = (0..born.len()).collect();
    let mut picked = Vec::new();
    while !left.is_empty() {
        let key = |at: &usize| {
            let Born { time, priority } = born[*at];
            let time = i128::from(time);
            if share != 0 && (picked.len() + 1).is_multiple_of(share) {
                return (0, time, time, *at);
            }
            let advance = i128::from(interval) * i128::from(priority);
            match priority {
                10 => (0, time, time, *at),
                _ => (1, time - advance, time, *at),
            }
        };
        let next = left.iter().copied().min_by_key(key).unwrap();
        left.retain(|at| *at != next);
        picked.push(next);
    }
    picked
}

/// In which order an engine picks them.
fn picked(born: &[Born], interval: u64, share: usize, policy: Policy) -> Vec<usize> {
    let (builder, clock) = still();
    let mut policies = Policies::default();
    policies.set_interval(Duration::from_nanos(interval));
    let engine = builder
        .policies(policies)
        .share(share as u32)
        .policy(policy)
        .build();
    let entity = Entity::new(0_u64);
    let log = Log::default();
    for (who, Born { time, priority: p }) in born.iter().enumerate() {
        clock.set(Duration::from_nanos(*time));
        let operation = log
            .noting(&entity, who)
            .priority(priority(*p))
            .endless_patience();
        drop(engine.submit(operation).unwrap());
    }
    engine.serve();
    let counts = conserved(&engine);
    assert_eq!(counts.committed, born.len() as u64);
    log.take()
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn operations_are_picked_as_from_a_sorted_list(
        waits in prop::collection::vec((0_u64..4, 1_u8..=10), 1..40),
        interval in 0_u64..4,
        share in 0_usize..5,
        folds in any::<bool>(),
    ) {
        let mut time = 0;
        let born: Vec<_> = waits
            .into_iter()
            .map(|(wait, priority)| {
                time += wait;
                Born { time, priority }
            })
            .collect();
        let policy = if folds { Policy::Fold } else { Policy::InOrder };
        let order = picked(&born, interval, share, policy);
        prop_assert_eq!(&order, &model(&born, interval, share));
        if share != 0 {
            return Ok(());
        }
        // Below 10 one is overtaken only by those that are more important, and less than so many intervals younger.
        for (at, first) in order.iter().enumerate() {
            for then in &order[at + 1..] {
                let (q, p) = (born[*first], born[*then]);
                if first > then && q.priority < 10 {
                    prop_assert!(q.priority > p.priority);
                    let steps = u64::from(q.priority - p.priority);
                    prop_assert!(q.time - p.time < steps * interval);
                }
                prop_assert!(p.priority < 10 || q.priority == 10, "nothing ages into 10");
            }
        }
    }
}

#[test]
fn a_low_operation_is_overtaken_for_thirty_milliseconds_by_normal_ones_and_no_longer() {
    let (builder, clock) = still();
    let engine = builder.build();
    let entity = Entity::new(0_u64);
    let log = Log::default();
    let submit = |who, class| {
        engine
            .submit(log.noting(&entity, who).class(class))
            .unwrap()
    };
    let _low = submit(0, Class::LOW);
    clock.set(30 * MILLISECOND - Duration::from_nanos(1));
    let _before = submit(1, Class::NORMAL);
    clock.set(30 * MILLISECOND);
    let _then = submit(2, Class::NORMAL);
    clock.set(1_000 * MILLISECOND);
    let _critical = submit(3, Class::STRUCTURAL);
    engine.serve();
    assert_eq!(log.take(), [3, 1, 0, 2]);
    conserved(&engine);
}

#[test]
fn with_an_interval_of_nothing_the_first_to_come_is_the_first_to_be_served() {
    let born: Vec<_> = [1, 9, 3, 5, 9]
        .map(|priority| Born { time: 7, priority })
        .into();
    assert_eq!(picked(&born, 0, 0, Policy::InOrder), [0, 1, 2, 3, 4]);
}

#[test]
fn each_so_many_th_pick_is_the_oldest_if_there_is_a_share() {
    let mut born = vec![
        Born {
            time: 0,
            priority: 1
        };
        3
    ];
    born.extend(
        [Born {
            time: 1,
            priority: 10,
        }; 6],
    );
    let order = picked(&born, 10, 3, Policy::InOrder);
    assert_eq!(order, [3, 4, 0, 5, 6, 1, 7, 8, 2]);
    let order = picked(&born, 10, 0, Policy::InOrder);
    assert_eq!(order, [3, 4, 5, 6, 7, 8, 0, 1, 2]);
}

#[test]
fn of_lanes_that_are_ready_the_most_important_is_served_first() {
    let (builder, _) = still();
    let engine = builder.build();
    let log = Log::default();
    let entities = [(); 10].map(|()| Entity::new(0_u64));
    let order = [3, 9, 1, 10, 5, 2, 8, 4, 7, 6_u8];
    for (entity, number) in entities.iter().zip(order) {
        let operation = log.noting(entity, number.into()).priority(priority(number));
        drop(engine.submit(operation).unwrap());
    }
    engine.serve();
    assert_eq!(log.take(), [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    conserved(&engine);
}

#[test]
fn a_lane_that_gets_more_important_while_it_is_ready_is_served_earlier() {
    let (builder, _) = still();
    let engine = builder.build();
    let log = Log::default();
    let (one, other) = (Entity::new(0_u64), Entity::new(0_u64));
    let submit = |entity, who, number| {
        let operation = log.noting(entity, who).priority(priority(number));
        engine.submit(operation).unwrap()
    };
    let _first = submit(&one, 0, 2);
    let _second = submit(&other, 1, 5);
    let third = submit(&one, 2, 1);
    third.set_priority(Priority::HIGH);
    engine.serve();
    assert_eq!(log.take(), [2, 0, 1]);
    conserved(&engine);
}

#[test]
fn after_its_quantum_a_lane_lets_others_go_first() {
    let (builder, clock) = still();
    let engine = builder.quantum(MILLISECOND).build();
    let log = Log::default();
    let (long, short) = (Entity::new(0_u64), Entity::new(0_u64));
    for who in 0..4 {
        let (log, clock) = (log.clone(), clock.clone());
        let operation = Operation::update(&long, move |n| {
            log.note(who);
            clock.advance(MILLISECOND / 2);
            n + 1
        });
        drop(engine.submit(operation).unwrap());
    }
    drop(engine.submit(log.noting(&short, 9)).unwrap());
    engine.serve();
    assert_eq!(log.take(), [0, 1, 9, 2, 3]);
    conserved(&engine);
}

// Patience.

#[test]
fn an_operation_expires_exactly_at_its_patience() {
    for (waited, is_late) in [(4_999_999, false), (5_000_000, true), (9_000_000, true)] {
        for policy in POLICIES {
            let (builder, clock) = still();
            let engine = builder.policy(policy).build();
            let entity = Entity::new(0_u64);
            let patience = 5 * MILLISECOND;
            let operation = Operation::update(&entity, |n| n + 1).patience(patience);
            let ticket = engine.submit(operation).unwrap();
            clock.advance(Duration::from_nanos(waited));
            engine.serve();
            let times = ticket.times();
            assert_eq!(times.ended, Some(Duration::from_nanos(waited)));
            assert_eq!(times.started.is_none(), is_late);
            match ticket.wait() {
                Ok(value) => assert_eq!((*value, is_late), (1, false)),
                Err(error) => {
                    assert!(is_late);
                    let rejection = *error.rejection().unwrap();
                    assert_eq!(rejection.reason, Reason::Expired { patience });
                    assert_eq!(rejection.attempts, 0);
                    assert_eq!(
                        error.to_string(),
                        "the operation has waited for longer than 5ms"
                    );
                }
            }
            let counts = conserved(&engine);
            assert_eq!(counts.rejected, u64::from(is_late));
        }
    }
}

#[test]
fn an_impatient_operation_expires_behind_a_patient_one_of_its_row_too() {
    let (builder, clock) = still();
    let engine = builder.quantum(Duration::MAX).build();
    let entity = Entity::new(0_u64);
    let log = Log::default();
    let late = clock.clone();
    let first = Operation::update(&entity, move |n| {
        late.advance(MILLISECOND);
        n + 1
    });
    let first = engine.submit(first.priority(Priority::HIGH)).unwrap();
    let patient = engine
        .submit(log.noting(&entity, 1).endless_patience())
        .unwrap();
    let impatient = engine
        .submit(log.noting(&entity, 2).patience(MILLISECOND))
        .unwrap();
    let other = engine
        .submit(log.noting(&entity, 3).patience(2 * MILLISECOND))
        .unwrap();
    engine.serve();
    first.wait().unwrap();
    patient.wait().unwrap();
    other.wait().unwrap();
    let error = impatient.wait().unwrap_err();
    let reason = error.rejection().unwrap().reason;
    assert_eq!(
        reason,
        Reason::Expired {
            patience: MILLISECOND
        }
    );
    assert_eq!(log.take(), [1, 3]);
    assert_eq!(engine.waiting(&entity), 0);
    conserved(&engine);
}

#[test]
fn what_has_endless_patience_never_expires() {
    let (builder, clock) = still();
    let engine = builder.build();
    let entity = Entity::new(0_u64);
    let endless = engine.submit(Operation::update(&entity, |n| n + 1).endless_patience());
    let structural = engine.submit(Operation::update(&entity, |n| n + 1).class(Class::STRUCTURAL));
    let normal = engine.submit(Operation::update(&entity, |n| n + 1));
    clock.set(Duration::from_nanos(u64::MAX - 1));
    engine.serve();
    endless.unwrap().wait().unwrap();
    structural.unwrap().wait().unwrap();
    let error = normal.unwrap().wait().unwrap_err();
    let patience = Duration::from_secs(10);
    assert_eq!(
        error.rejection().unwrap().reason,
        Reason::Expired { patience }
    );
    conserved(&engine);
}

#[test]
fn an_operation_that_keeps_losing_expires_between_two_attempts() {
    for policy in POLICIES {
        let (builder, clock) = still();
        let engine = builder.policy(policy).build();
        let entity = Entity::new(0_u64);
        let (beside, late) = (entity.clone(), clock.clone());
        let operation = Operation::update(&entity, move |n| {
            beside.update(|n| n + 10);
            late.advance(MILLISECOND);
            n + 1
        });
        let operation = operation.patience(3 * MILLISECOND).retrying(at_once());
        let ticket = engine.submit(operation.retries(100)).unwrap();
        engine.serve();
        let error = ticket.wait().unwrap_err();
        let rejection = *error.rejection().unwrap();
        assert!(matches!(rejection.reason, Reason::Expired { .. }));
        assert_eq!(rejection.attempts, 3);
        assert_eq!(*entity.snapshot(), 30);
        assert_eq!(conserved(&engine).conflicts, 3);
    }
}

// Capacity.

#[test]
fn where_all_places_are_taken_the_youngest_of_the_least_important_makes_room() {
    let (builder, _) = still();
    let engine = builder.capacity(3).build();
    let entity = Entity::new(0_u64);
    let submit = |number| {
        let operation = Operation::update(&entity, |n| n + 1).priority(priority(number));
        engine.submit(operation)
    };
    let older = submit(2).unwrap();
    let younger = submit(2).unwrap();
    let normal = submit(5).unwrap();
    let refused = submit(2).unwrap_err();
    assert!(refused.is_overloaded());
    assert_eq!(refused.why(), NotTaken::Overloaded);
    assert_eq!(
        refused.to_string(),
        "the queue is full, and nothing in it is less important"
    );
    let high = submit(8).unwrap();
    assert_eq!(engine.waiting(&entity), 3);
    let other = submit(5).unwrap();
    assert!(submit(5).unwrap_err().is_overloaded());
    let critical = submit(10).unwrap();
    assert_eq!(engine.waiting(&entity), 3);
    engine.serve();
    for evicted in [older, younger, other] {
        let error = evicted.wait().unwrap_err();
        let rejection = error.rejection().unwrap();
        assert_eq!((rejection.reason, rejection.attempts), (Reason::Evicted, 0));
    }
    for ticket in [normal, high, critical] {
        ticket.wait().unwrap();
    }
    // What was given back is as good as before.
    assert_eq!(engine.waiting(&entity), 0);
    engine
        .submit(refused.into_operation())
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(*entity.snapshot(), 4);
    let counts = conserved(&engine);
    assert_eq!(
        (counts.submitted, counts.committed, counts.rejected),
        (7, 4, 3)
    );
}

#[test]
fn with_one_place_everything_still_works() {
    for policy in POLICIES {
        let (builder, clock) = still();
        let engine = builder.capacity(1).policy(policy).build();
        let entity = Entity::new(0_u64);
        let submit = |number| {
            let operation = Operation::update(&entity, |n| n + 1).priority(priority(number));
            engine.submit(operation.patience(MILLISECOND))
        };
        // Run, cancelled, evicted, expired, and each time the place comes back.
        let run = submit(1).unwrap();
        assert!(submit(1).unwrap_err().is_overloaded());
        engine.serve();
        assert_eq!(*run.wait().unwrap(), 1);
        let cancelled = submit(1).unwrap();
        assert!(cancelled.cancel());
        engine.serve();
        assert_eq!(engine.waiting(&entity), 0);
        let evicted = submit(1).unwrap();
        let raised = submit(2).unwrap();
        raised.set_priority(priority(9));
        engine.serve();
        let error = evicted.wait().unwrap_err();
        assert_eq!(error.rejection().unwrap().reason, Reason::Evicted);
        raised.wait().unwrap();
        let expired = submit(1).unwrap();
        clock.advance(MILLISECOND);
        engine.serve();
        assert!(expired.wait().unwrap_err().rejection().is_some());
        let run = engine.run(&Operation::update(&entity, |n| n + 1));
        assert_eq!(*run.unwrap(), *entity.snapshot());
        assert_eq!(engine.waiting(&entity), 0);
        conserved(&engine);
    }
}

#[test]
fn what_is_part_of_something_important_takes_its_place_by_that() {
    let (builder, _) = still();
    let engine = builder.capacity(1).build();
    let (entity, other) = (Entity::new(0_u64), Entity::new(0_u64));
    let critical = Operation::update(&other, |n| n + 1).priority(Priority::CRITICAL);
    let critical = engine.submit(critical).unwrap();
    let normal = engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap();
    let make = || Operation::update(&entity, |n| n + 1).class(Class::LOW);
    assert!(engine.submit(make()).unwrap_err().is_overloaded());
    let part = engine.submit(make().within(&critical.context())).unwrap();
    engine.serve();
    let error = normal.wait().unwrap_err();
    assert_eq!(error.rejection().unwrap().reason, Reason::Evicted);
    assert_eq!(*part.wait().unwrap(), 1);
    assert_eq!(conserved(&engine).rejected, 1);
}

#[test]
fn an_engine_without_places_takes_nothing_but_runs_on_its_callers_thread() {
    let (builder, _) = still();
    let engine = builder.capacity(0).build();
    let entity = Entity::new(0_u64);
    let critical = Operation::update(&entity, |n| n + 1).priority(Priority::CRITICAL);
    let refused = engine.submit(critical).unwrap_err();
    assert!(refused.is_overloaded());
    assert_eq!(*engine.run(&refused.into_operation()).unwrap(), 1);
    assert_eq!(conserved(&engine).submitted, 1);
}

#[test]
fn the_place_of_what_was_cancelled_comes_back_when_its_lane_comes_by() {
    // A quantum of nothing: what waits is in the queue when it is cancelled.
    for quantum in [Duration::ZERO, Duration::MAX] {
        let (builder, _) = still();
        let engine = builder.capacity(8).quantum(quantum).build();
        let entity = Entity::new(0_u64);
        let tickets: Arc<Mutex<Vec<Changed>>> = Arc::default();
        let others = tickets.clone();
        let first = Operation::update(&entity, move |n| {
            assert!(others.lock().unwrap().iter().all(Ticket::cancel));
            n + 1
        });
        let first = engine.submit(first.priority(Priority::HIGH)).unwrap();
        for _ in 0..7 {
            let ticket = engine.submit(Operation::update(&entity, |n| n + 1));
            tickets.lock().unwrap().push(ticket.unwrap());
        }
        engine.serve();
        first.wait().unwrap();
        assert_eq!(engine.waiting(&entity), 0);
        assert!(engine.is_clean());
        assert_eq!(conserved(&engine).cancelled, 7);
    }
}

#[test]
fn what_is_cancelled_is_nothing_that_is_left_after_a_shut_down() {
    for policy in POLICIES {
        let (builder, _) = still();
        let engine = builder.policy(policy).build();
        let entity = Entity::new(0_u64);
        let ticket = engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap();
        assert!(ticket.cancel());
        assert!(ticket.is_done());
        assert!(matches!(ticket.wait(), Err(OperationError::Cancelled)));
        assert_eq!(conserved(&engine).cancelled, 1);
    }
}

// Priorities that change.

#[test]
fn an_operation_that_waits_goes_up_and_down_and_counts_once() {
    let (builder, _) = still();
    let engine = builder.capacity(3).build();
    let entity = Entity::new(0_u64);
    let log = Log::default();
    let tickets = [0, 1, 2].map(|who| engine.submit(log.noting(&entity, who)).unwrap());
    for number in [9, 1, 9, 10, 4, 9] {
        tickets[2].set_priority(priority(number));
        assert_eq!(tickets[2].status().priority(), priority(number));
    }
    tickets[0].set_priority(Priority::BACKGROUND);
    assert_eq!(engine.waiting(&entity), 3);
    engine.serve();
    assert_eq!(log.take(), [2, 1, 0]);
    // What is done is left as it is.
    tickets[2].set_priority(Priority::LOW);
    assert_eq!(tickets[2].status().priority(), priority(9));
    assert_eq!(engine.waiting(&entity), 0);
    assert_eq!(conserved(&engine).committed, 3);
}

#[test]
fn an_operation_that_is_in_the_queue_already_goes_up_and_down_and_counts_once() {
    for policy in POLICIES {
        for quantum in [Duration::ZERO, Duration::MAX] {
            let (builder, _) = still();
            let engine = builder.capacity(4).quantum(quantum).policy(policy).build();
            let (entity, gate) = (Entity::new(0_u64), Entity::new(0_u64));
            let log = Log::default();
            let tickets: Arc<Mutex<Vec<Changed>>> = Arc::default();
            let others = tickets.clone();
            // The gate has the lane parked with all in it, if there is a quantum.
            let changes = Operation::update(&gate, move |n| {
                let others = others.lock().unwrap();
                others[2].set_priority(Priority::HIGH);
                others[0].set_priority(Priority::BACKGROUND);
                others[2].set_priority(priority(7));
                n + 1
            });
            let _first = engine.submit(log.noting(&entity, 9).priority(priority(9)));
            for who in 0..3 {
                let ticket = engine.submit(log.noting(&entity, who)).unwrap();
                tickets.lock().unwrap().push(ticket);
            }
            drop(engine.submit(changes.priority(priority(6))).unwrap());
            engine.serve();
            let order = log.take();
            if quantum.is_zero() && policy != Policy::Fold {
                assert_eq!(order, [9, 2, 1, 0]);
            } else {
                assert_eq!(order, [9, 0, 1, 2]);
            }
            assert_eq!(engine.waiting(&entity), 0);
            assert_eq!(conserved(&engine).committed, 5);
        }
    }
}

#[test]
fn what_is_part_of_an_operation_follows_its_priority_up_and_down() {
    let (builder, _) = still();
    let engine = builder.build();
    let entities = [(); 3].map(|()| Entity::new(0_u64));
    let log = Log::default();
    let parent = engine.submit(log.noting(&entities[0], 0)).unwrap();
    let child = log.noting(&entities[1], 1).class(Class::LOW);
    let child = engine.submit(child.within(&parent.context())).unwrap();
    let grandchild = log.noting(&entities[2], 2).priority(priority(7));
    let grandchild = engine.submit(grandchild.within(&child.context())).unwrap();
    let all = || [&parent, &child, &grandchild].map(|ticket| ticket.status().priority().get());
    assert_eq!(all(), [5, 5, 7]);
    parent.set_priority(Priority::HIGH);
    assert_eq!(all(), [8, 8, 8]);
    child.set_priority(priority(9));
    assert_eq!(all(), [8, 9, 9]);
    child.set_priority(Priority::BACKGROUND);
    assert_eq!(all(), [8, 8, 8], "at least as important as its parent");
    parent.set_priority(Priority::BACKGROUND);
    assert_eq!(all(), [1, 1, 7]);
    engine.serve();
    let mut all = log.take();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
    conserved(&engine);
}

#[test]
fn what_is_made_in_a_closure_is_part_of_it_and_on_another_thread_if_it_is_said() {
    for runs in [true, false] {
        let (builder, _) = still();
        let engine = builder.build();
        let (outer, inner) = (Entity::new(0_u64), Entity::new(0_u64));
        let (nested, target) = (engine.clone(), inner.clone());
        let operation = Operation::update(&outer, move |n| {
            let make = || Operation::update(&target, |n| n + 1).class(Class::LOW);
            let context = Context::current().unwrap();
            assert_eq!(context.priority(), Priority::HIGH);
            let here = nested.submit(make()).unwrap();
            let there = thread::scope(|scope| {
                let there = || {
                    assert!(Context::current().is_none());
                    let alone = nested.submit(make()).unwrap();
                    assert_eq!(alone.status().priority(), Priority::LOW);
                    nested.submit(make().within(&context)).unwrap()
                };
                scope.spawn(there).join().unwrap()
            });
            for part in [here, there] {
                assert_eq!(part.status().priority(), Priority::HIGH);
                // What runs on its caller's thread is no operation that anybody could name.
                assert_eq!(part.chain().len(), if runs { 1 } else { 2 });
            }
            n + 1
        });
        let operation = operation.priority(Priority::HIGH);
        assert!(Context::current().is_none());
        if runs {
            engine.run(&operation).unwrap();
        } else {
            engine.submit(operation).unwrap().wait().unwrap();
        }
        assert!(Context::current().is_none());
        engine.serve();
        assert_eq!(*inner.snapshot(), 3);
        conserved(&engine);
    }
}

#[test]
fn a_chain_of_a_million_is_dropped_without_recursion() {
    // The stack is much too small for a million drops inside each other, or for a thousand.
    let small = thread::Builder::new().stack_size(256 * 1_024);
    let chain = || {
        let (builder, _) = still();
        let engine = builder.capacity(usize::MAX).build();
        let entity = Entity::new(0_u64);
        let mut last = engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap();
        let first = last.id();
        for _ in 1..1_000_000 {
            assert!(last.cancel());
            let next = Operation::update(&entity, |n| n + 1).within(&last.context());
            last = engine.submit(next).unwrap();
        }
        engine.serve();
        assert_eq!(last.chain().len(), 1_000_000);
        assert_eq!(last.chain()[999_999], first);
        assert_eq!(conserved(&engine).cancelled, 999_999);
        drop(engine);
        drop(last);
    };
    small.spawn(chain).unwrap().join().unwrap();
}

// Waiting inside operations.

#[test]
fn what_is_waited_for_inside_an_operation_is_run_by_its_thread() {
    for policy in POLICIES {
        for workers in [0, 1] {
            for runs in [true, false] {
                let engine = Engine::builder().workers(workers).policy(policy).build();
                let entities: Vec<_> = (0..5).map(|_| Entity::new(0_u64)).collect();
                let operation = nest(&engine, &entities);
                if runs {
                    assert_eq!(*engine.run(&operation).unwrap(), 5);
                } else {
                    assert_eq!(*engine.submit(operation).unwrap().wait().unwrap(), 5);
                }
                let values = entities.iter().map(|entity| *entity.snapshot());
                assert!(values.eq([5, 4, 3, 2, 1]));
                assert_eq!(conserved(&engine).committed, 5);
            }
        }
    }
}

/// Adds one more than what the same on the other entities gives.
fn nest(
    engine: &Engine,
    entities: &[Entity<u64>],
) -> Operation<impl Body<Output = Snapshot<u64>, Error = Infallible> + use<>> {
    let (first, others) = entities.split_first().unwrap();
    let (engine, others) = (engine.clone(), others.to_vec());
    Operation::update(first, move |n| n + 1 + inner(&engine, &others))
}

fn inner(engine: &Engine, entities: &[Entity<u64>]) -> u64 {
    if entities.is_empty() {
        return 0;
    }
    // By a box, since an operation's type can't contain itself.
    let ticket: Box<dyn FnOnce() -> u64> = {
        let (first, others) = entities.split_first().unwrap();
        let (nested, others) = (engine.clone(), others.to_vec());
        let operation = Operation::update(first, move |n| n + 1 + inner(&nested, &others));
        let ticket = engine.submit(operation).unwrap();
        Box::new(move || *ticket.wait().unwrap())
    };
    ticket()
}

#[test]
fn whoever_waits_inside_an_operation_for_one_of_its_own_targets_is_told_so() {
    for workers in [0, 1] {
        for runs in [true, false] {
            let engine = Engine::builder().workers(workers).build();
            let (entity, other) = (Entity::new(0_u64), Entity::new(0_u64));
            let (nested, target, outer) = (engine.clone(), entity.clone(), other.clone());
            let seen: Arc<Mutex<Vec<String>>> = Arc::default();
            let note = seen.clone();
            let operation = Operation::update(&entity, move |n| {
                let same = nested
                    .submit(Operation::update(&target, |n| n + 1))
                    .unwrap();
                note.lock()
                    .unwrap()
                    .push(same.wait().unwrap_err().to_string());
                let both = Operation::transaction((outer.clone(), target.clone()), |tx, (a, b)| {
                    tx.update(a, |n| n + 1)?;
                    tx.update(b, |n| n + 1)?;
                    Ok::<_, Stop<Infallible>>(())
                });
                assert!(matches!(
                    nested.run(&both),
                    Err(OperationError::SelfConflict)
                ));
                let both = nested.submit(both).unwrap();
                assert!(matches!(both.wait(), Err(OperationError::SelfConflict)));
                n + 10
            })
            .retries(u32::MAX);
            if runs {
                engine.run(&operation).unwrap();
            } else {
                engine.submit(operation).unwrap().wait().unwrap();
            }
            let told = "the operation wants a target of the one that waits for it";
            assert_eq!(seen.lock().unwrap()[0], told);
            engine.serve();
            // Those that were not waited for are run all the same, one for each attempt at least.
            let counts = conserved(&engine);
            assert_eq!(*other.snapshot() * 2 + 10, *entity.snapshot());
            assert_eq!(counts.committed, counts.submitted);
        }
    }
}

#[test]
fn whoever_waits_inside_an_operation_for_a_stranger_that_runs_is_told_and_lends_its_priority() {
    let engine = Engine::builder().workers(2).build();
    let (a, b) = (Entity::new(0_u64), Entity::new(0_u64));
    let (held, stranger) = held(&a);
    let stranger = engine.submit(stranger.class(Class::LOW)).unwrap();
    held.runs.recv().unwrap();
    let context = stranger.context();
    assert_eq!(context.priority(), Priority::LOW);
    let place = Mutex::new(Some(stranger));
    let back = Arc::new(Mutex::new(None));
    let note = back.clone();
    let waits = Operation::update(&b, move |n| {
        let stranger = place.lock().unwrap().take().unwrap();
        // With a deadline it may be waited for.
        let stranger = stranger.wait_timeout(Duration::ZERO).unwrap_err();
        *note.lock().unwrap() = Some(stranger.wait());
        n + 1
    });
    engine
        .submit(waits.priority(Priority::HIGH))
        .unwrap()
        .wait()
        .unwrap();
    let told = back.lock().unwrap().take().unwrap();
    assert!(matches!(told, Err(OperationError::MayDeadlock)));
    assert_eq!(context.priority(), Priority::HIGH, "it was lent");
    held.go_on.send(()).unwrap();
    assert_eq!(conserved(&engine).committed, 2);
}

#[test]
fn what_was_lent_is_inherited_by_what_is_part_of_it() {
    let (builder, _) = still();
    let engine = builder.build();
    let entities = [(); 3].map(|()| Entity::new(0_u64));
    let low = Operation::update(&entities[0], |n| n + 1).class(Class::LOW);
    let low = engine.submit(low).unwrap();
    let part = Operation::update(&entities[1], |n| n + 1).class(Class::LOW);
    let part = engine.submit(part.within(&low.context())).unwrap();
    let place = Mutex::new(Some(low));
    let waits = Operation::update(&entities[2], move |n| {
        place.lock().unwrap().take().unwrap().wait().unwrap();
        n + 1
    });
    engine.run(&waits.priority(Priority::HIGH)).unwrap();
    assert_eq!(part.status().priority(), Priority::HIGH);
    engine.serve();
    conserved(&engine);
}

#[test]
fn an_operation_may_wait_for_many_others_with_one_thread() {
    for workers in [0, 1, 2] {
        let engine = Engine::builder().workers(workers).build();
        let sums = Entity::new(0_u64);
        let parts: Vec<_> = (0..100).map(|_| Entity::new(0_u64)).collect();
        let (nested, targets) = (engine.clone(), parts.clone());
        let operation = Operation::update(&sums, move |n| {
            let submit = |part| nested.submit(Operation::update(part, |n| n + 1)).unwrap();
            let tickets: Vec<_> = targets.iter().map(submit).collect();
            n + tickets
                .into_iter()
                .map(|ticket| *ticket.wait().unwrap())
                .sum::<u64>()
        });
        assert_eq!(*engine.submit(operation).unwrap().wait().unwrap(), 100);
        assert_eq!(conserved(&engine).committed, 101);
    }
}

// Cancelling.

#[test]
fn what_has_not_begun_is_cancelled_and_what_runs_is_asked_to_end() {
    for policy in POLICIES {
        let (builder, _) = still();
        let engine = builder.policy(policy).build();
        let entity = Entity::new(0_u64);
        let waits = engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap();
        assert!(waits.cancel());
        assert!(matches!(waits.wait(), Err(OperationError::Cancelled)));
        // Asked while it runs: it commits all the same, unless somebody was faster.
        for is_faster in [false, true] {
            let own: Arc<Mutex<Option<Changed>>> = Arc::default();
            let (myself, beside) = (own.clone(), entity.clone());
            let operation = Operation::update(&entity, move |n| {
                assert!(!myself.lock().unwrap().as_ref().unwrap().cancel());
                if is_faster {
                    beside.update(|n| n + 10);
                }
                n + 1
            });
            let ticket = engine.submit(operation.retrying(at_once())).unwrap();
            *own.lock().unwrap() = Some(ticket);
            engine.serve();
            let ticket = own.lock().unwrap().take().unwrap();
            let state = if is_faster {
                State::Cancelled
            } else {
                State::Succeeded
            };
            assert_eq!(ticket.status().state(), state);
        }
        assert_eq!(*entity.snapshot(), 11);
        let counts = conserved(&engine);
        assert_eq!((counts.committed, counts.cancelled), (1, 2));
    }
}

// Panics.

/// A value that panics when it is dropped, if it is told to.
struct Fragile {
    number: u64,
    breaks: bool,
}

impl Drop for Fragile {
    fn drop(&mut self) {
        if self.breaks {
            self.breaks = false;
            panic!("broken");
        }
    }
}

fn payload<O, F>(result: Result<O, OperationError<F>>) -> &'static str {
    match result {
        Err(OperationError::Panicked(panic)) => {
            let payload = panic.into_payload();
            payload.downcast_ref::<&'static str>().unwrap()
        }
        Err(_) => panic!("another error"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn a_panic_fails_its_operation_with_its_payload_and_the_lane_goes_on() {
    for policy in POLICIES {
        for workers in [0, 1] {
            let engine = Engine::builder().workers(workers).policy(policy).build();
            let entity = Entity::new(0_u64);
            let before = engine
                .submit(Operation::update(&entity, |n| n + 1))
                .unwrap();
            let body = engine
                .submit(Operation::update(&entity, |_| panic!("body")))
                .unwrap();
            let prepare = Operation::prepared(
                &entity,
                |_| -> Result<(), Infallible> { panic!("prepare") },
                |n, ()| Ok(Some(n + 100)),
            );
            let prepare = engine.submit(prepare).unwrap();
            let apply = Operation::prepared(
                &entity,
                |_| Ok::<_, Infallible>(()),
                |_, ()| panic!("apply"),
            );
            let apply = engine.submit(apply).unwrap();
            let both = Operation::transaction((entity.clone(),), |tx, (entity,)| {
                tx.update(entity, |n| n + 100)?;
                if tx.get(entity)? > 0 {
                    panic!("transaction");
                }
                Ok::<_, Stop<Infallible>>(())
            });
            let both = engine.submit(both).unwrap();
            let after = engine
                .submit(Operation::update(&entity, |n| n + 1))
                .unwrap();
            before.wait().unwrap();
            assert_eq!(body.status().state().is_final(), body.is_done());
            assert_eq!(payload(body.wait()), "body");
            assert_eq!(payload(prepare.wait()), "prepare");
            assert_eq!(payload(apply.wait()), "apply");
            assert_eq!(payload(both.wait()), "transaction");
            after.wait().unwrap();
            let run = engine.run(&Operation::update(&entity, |_| panic!("run")));
            assert_eq!(payload(run), "run");
            assert_eq!(*entity.snapshot(), 2);
            let counts = conserved(&engine);
            assert_eq!((counts.committed, counts.failed), (2, 5));
        }
    }
}

#[test]
fn a_panic_in_a_merge_fails_its_operation() {
    let (builder, _) = still();
    let engine = builder.policy(Policy::Merge).build();
    let entity = Entity::new(0_u64);
    let beside = entity.clone();
    let operation = Operation::merging(
        &entity,
        move |n| {
            beside.update(|n| n + 10);
            Ok::<_, Infallible>(Some(n + 1))
        },
        |_: Merge<'_, u64>| panic!("merge"),
    );
    let ticket = engine.submit(operation).unwrap();
    let after = engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap();
    engine.serve();
    assert_eq!(ticket.status().state(), State::Failed);
    assert_eq!(payload(ticket.wait()), "merge");
    after.wait().unwrap();
    assert_eq!(*entity.snapshot(), 11);
    conserved(&engine);
}

#[test]
fn a_panic_says_its_message_if_it_has_one() {
    let (builder, _) = still();
    let engine = builder.build();
    let entity = Entity::new(0_u64);
    let text = |panics: fn()| {
        let operation = Operation::update(&entity, move |n| {
            panics();
            n + 1
        });
        engine.run(&operation).unwrap_err().to_string()
    };
    assert_eq!(text(|| panic!("static")), "the closure panicked: static");
    let owned = text(|| panic!("number {}", std::hint::black_box(7)));
    assert_eq!(owned, "the closure panicked: number 7");
    let other = text(|| std::panic::panic_any(7));
    assert_eq!(other, "the closure panicked");
    conserved(&engine);
}

#[test]
fn a_panic_in_the_drop_of_a_value_leaves_every_operation_with_one_end() {
    for policy in POLICIES {
        for loses in [false, true] {
            let (builder, _) = still();
            let engine = builder.policy(policy).build();
            let entity = Entity::new(Fragile {
                number: 0,
                breaks: false,
            });
            let change = |breaks| {
                let (beside, once) = (entity.clone(), AtomicBool::new(!loses));
                let operation = Operation::update(&entity, move |value: &Fragile| {
                    if !once.swap(true, Ordering::Relaxed) {
                        beside.update(|value| Fragile {
                            number: value.number + 10,
                            breaks: false,
                        });
                    }
                    Fragile {
                        number: value.number + 1,
                        breaks,
                    }
                });
                engine.submit(operation.retrying(at_once())).unwrap()
            };
            let tickets = [change(true), change(true), change(false)];
            engine.serve();
            for ticket in tickets {
                assert!(ticket.is_done(), "{policy:?} {loses}");
                // Whatever it is: an end that is told.
                let _ = ticket.wait().map(|snapshot| snapshot.number);
            }
            let after = engine.run(&Operation::update(&entity, |value: &Fragile| Fragile {
                number: value.number + 1,
                breaks: false,
            }));
            after.unwrap();
            let counts = conserved(&engine);
            assert_eq!(counts.submitted, 4);
            assert_eq!(counts.committed + counts.failed, 4);
            if !loses {
                assert_eq!(entity.snapshot().number, counts.committed);
            }
        }
    }
}

#[test]
fn a_panic_in_the_drop_of_what_was_captured_stops_no_lane() {
    for policy in POLICIES {
        for workers in [0, 1] {
            let engine = Engine::builder().workers(workers).policy(policy).build();
            let entity = Entity::new(0_u64);
            let (held, first) = held(&entity);
            let first = (workers > 0).then(|| engine.submit(first).unwrap());
            if first.is_some() {
                held.runs.recv().unwrap();
            }
            for _ in 0..3 {
                let captured = Fragile {
                    number: 1,
                    breaks: true,
                };
                let operation = Operation::update(&entity, move |n| {
                    let captured = &captured;
                    n + captured.number
                });
                // Nobody waits, so the lane is the last to know it.
                drop(engine.submit(operation).unwrap());
            }
            let last = engine
                .submit(Operation::update(&entity, |n| n + 1))
                .unwrap();
            let _ = held.go_on.send(());
            last.wait().unwrap();
            let value = 4 + u64::from(first.is_some());
            assert_eq!(*entity.snapshot(), value);
            assert_eq!(conserved(&engine).committed, value);
        }
    }
}

// Folds.

#[test]
fn a_fold_gives_each_its_own_end_and_publishes_all_by_one_commit() {
    let (builder, _) = still();
    let engine = builder.policy(Policy::Fold).build();
    let entity = Entity::new(0_u64);
    let change = |who: u64| {
        Operation::try_update(&entity, move |n| match who {
            2 => Err("refused"),
            4 => panic!("panicked"),
            6 => Ok(None),
            _ => Ok(Some(n + (1 << who))),
        })
    };
    let tickets: Vec<_> = (0..8)
        .map(|who| engine.submit(change(who)).unwrap())
        .collect();
    engine.serve();
    for (who, ticket) in tickets.into_iter().enumerate() {
        let result = ticket.wait();
        match who {
            2 => assert_eq!(result.unwrap_err().into_refused(), Some("refused")),
            4 => assert_eq!(payload(result), "panicked"),
            // What all have made: the snapshot that was published.
            _ => assert_eq!(*result.unwrap(), 0b1010_1011),
        }
    }
    let end = entity.snapshot();
    assert_eq!((*end, end.stamp().version()), (0b1010_1011, 1));
    let counts = conserved(&engine);
    assert_eq!(
        (
            counts.committed,
            counts.unchanged,
            counts.failed,
            counts.folds
        ),
        (5, 1, 2, 1)
    );
}

#[test]
fn a_fold_takes_256_at_most() {
    let (builder, _) = still();
    let engine = builder.policy(Policy::Fold).build();
    let entity = Entity::new(0_u64);
    for _ in 0..1_000 {
        drop(
            engine
                .submit(Operation::update(&entity, |n| n + 1))
                .unwrap(),
        );
    }
    engine.serve();
    let end = entity.snapshot();
    assert_eq!((*end, end.stamp().version()), (1_000, 4));
    assert_eq!(conserved(&engine).folds, 4);
}

#[test]
fn a_fold_that_somebody_outside_has_overtaken_is_run_again() {
    let (builder, _) = still();
    let engine = builder.policy(Policy::Fold).build();
    let entity = Entity::new(0_u64);
    let runs = Arc::new(AtomicU32::new(0));
    let submit = |_| {
        let (beside, runs) = (entity.clone(), runs.clone());
        let operation = Operation::update(&entity, move |n| {
            if runs.fetch_add(1, Ordering::Relaxed) < 10 {
                beside.update(|n| n + 1_000);
            }
            n + 1
        });
        engine.submit(operation.retrying(at_once())).unwrap()
    };
    let tickets: Vec<_> = (0..10).map(submit).collect();
    engine.serve();
    for ticket in tickets {
        assert_eq!(ticket.status().retries(), 1);
        assert_eq!(*ticket.wait().unwrap(), 10_010);
    }
    assert_eq!(runs.load(Ordering::Relaxed), 20);
    assert_eq!(entity.snapshot().stamp().version(), 11);
    let counts = conserved(&engine);
    assert_eq!((counts.conflicts, counts.folds), (10, 1));
}

#[test]
fn a_fold_whose_end_is_invalid_is_undone_and_each_is_run_by_itself() {
    let (builder, _) = still();
    let engine = builder.policy(Policy::Fold).build();
    let validate = |n: &u64| if *n > 3 { Err("too large") } else { Ok(()) };
    let entity = Entity::builder(0_u64)
        .validate(validate)
        .try_build()
        .unwrap();
    let submit = |_| {
        engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap()
    };
    let tickets: Vec<_> = (0..5).map(submit).collect();
    engine.serve();
    let results: Vec<_> = tickets
        .into_iter()
        .map(|ticket| ticket.wait().is_ok())
        .collect();
    assert_eq!(results, [true, true, true, false, false]);
    let counts = conserved(&engine);
    assert_eq!((counts.committed, counts.failed), (3, 2));
    assert_eq!(entity.snapshot().stamp().version(), 3);
}

#[test]
fn a_transaction_is_run_by_itself_between_folds() {
    let (builder, _) = still();
    let engine = builder.policy(Policy::Fold).build();
    let entity = Entity::new(0_u64);
    for who in 0..9 {
        if who % 3 == 2 {
            let both = Operation::transaction((entity.clone(),), |tx, (entity,)| {
                tx.update(entity, |n| n + 1)?;
                Ok::<_, Stop<Infallible>>(())
            });
            drop(engine.submit(both).unwrap());
        } else {
            drop(
                engine
                    .submit(Operation::update(&entity, |n| n + 1))
                    .unwrap(),
            );
        }
    }
    engine.serve();
    let end = entity.snapshot();
    assert_eq!((*end, end.stamp().version()), (9, 6));
    let counts = conserved(&engine);
    assert_eq!((counts.committed, counts.folds), (9, 3));
}

// Shutting down.

#[test]
fn an_engine_that_finishes_runs_what_waits_and_one_that_cancels_does_not() {
    for policy in POLICIES {
        for how in [ShutDown::Finish, ShutDown::Cancel] {
            for workers in [0, 2] {
                let engine = Engine::builder().workers(workers).policy(policy).build();
                let entity = Entity::new(0_u64);
                let drops = Drops::default();
                let (held, first) = held(&entity);
                let first = (workers > 0).then(|| engine.submit(first).unwrap());
                if first.is_some() {
                    held.runs.recv().unwrap();
                }
                let submit = |_| {
                    let captured = drops.one();
                    let operation = Operation::update(&entity, move |n| {
                        let _ = &captured;
                        n + 1
                    });
                    engine.submit(operation).unwrap()
                };
                let tickets: Vec<_> = (0..100).map(submit).collect();
                if first.is_some() {
                    let busy = engine.shut_down(how, Some(Duration::ZERO)).unwrap_err();
                    assert_eq!(busy.unfinished, 101);
                    assert_eq!(busy.to_string(), "101 operations are still under way");
                }
                let _ = held.go_on.send(());
                engine.shut_down(how, None).unwrap();
                assert!(engine.is_shut_down() && engine.is_clean());
                let committed = u64::from(first.is_some());
                for ticket in tickets {
                    assert!(ticket.is_done());
                    match how {
                        ShutDown::Finish => assert!(ticket.wait().is_ok()),
                        ShutDown::Cancel => {
                            assert!(matches!(ticket.wait(), Err(OperationError::Cancelled)));
                        }
                    }
                }
                assert_eq!(drops.count(), 100, "nobody keeps what was captured");
                let run = engine.run(&Operation::update(&entity, |n| n + 1));
                assert!(matches!(
                    run,
                    Err(OperationError::NotTaken(NotTaken::ShutDown))
                ));
                engine.start();
                engine.run(&Operation::update(&entity, |n| n + 1)).unwrap();
                let counts = conserved(&engine);
                let ended = if how == ShutDown::Finish { 100 } else { 0 };
                assert_eq!(counts.committed, committed + ended + 1);
                assert_eq!(counts.cancelled, 100 - ended);
            }
        }
    }
}

#[test]
fn whoever_shuts_down_inside_an_operation_does_not_wait_for_itself() {
    for workers in [0, 1] {
        for how in [ShutDown::Finish, ShutDown::Cancel] {
            let engine = Engine::builder().workers(workers).build();
            let entity = Entity::new(0_u64);
            let nested = engine.clone();
            let operation = Operation::update(&entity, move |n| {
                let busy = nested.shut_down(how, None).unwrap_err();
                assert!(busy.unfinished >= 1);
                n + 1
            });
            let ticket = engine.submit(operation).unwrap();
            assert_eq!(*ticket.wait().unwrap(), 1);
            assert!(engine.is_shut_down());
            assert_eq!(conserved(&engine).committed, 1);
        }
    }
}

#[test]
fn when_the_last_handle_is_dropped_what_waits_is_cancelled_and_what_runs_ends() {
    for policy in POLICIES {
        let drops = Drops::default();
        let engine = Engine::builder().workers(1).policy(policy).build();
        let entity = Entity::new(0_u64);
        let (held, first) = held(&entity);
        let first = engine.submit(first).unwrap();
        held.runs.recv().unwrap();
        let submit = |_| {
            let captured = drops.one();
            let operation = Operation::update(&entity, move |n| {
                let _ = &captured;
                n + 1
            });
            engine.submit(operation).unwrap()
        };
        let mut tickets: Vec<_> = (0..50).map(submit).collect();
        let other = engine.clone();
        drop(engine);
        assert!(!other.is_shut_down(), "there is another handle");
        drop(other);
        // Some are awaited afterwards, and some by nobody.
        tickets.truncate(25);
        held.go_on.send(()).unwrap();
        assert_eq!(*first.wait().unwrap(), 1);
        for ticket in tickets {
            assert!(matches!(ticket.wait(), Err(OperationError::Cancelled)));
        }
        assert_eq!(*entity.snapshot(), 1);
        // Its thread may be about to drop the last of them.
        while drops.count() < 50 {
            thread::yield_now();
        }
    }
}

#[test]
fn when_an_engine_without_threads_is_dropped_everything_is_cancelled_at_once() {
    for policy in POLICIES {
        let drops = Drops::default();
        let (builder, _) = still();
        let engine = builder.policy(policy).build();
        let entity = Entity::new(0_u64);
        let mut tickets = Vec::new();
        for _ in 0..10 {
            let (one, other) = (drops.one(), drops.one());
            let update = Operation::update(&entity, move |n| {
                let _ = &one;
                n + 1
            });
            tickets.push(engine.submit(update).unwrap());
            let prepared = Operation::prepared(
                &entity,
                move |_| {
                    let _ = &other;
                    Ok::<_, Infallible>(())
                },
                |n, ()| Ok(Some(n + 1)),
            );
            tickets.push({
                drop(engine.submit(prepared).unwrap());
                engine
                    .submit(Operation::update(&entity, |n| n + 1))
                    .unwrap()
            });
        }
        drop(engine);
        for ticket in tickets {
            assert!(ticket.is_done());
            assert!(matches!(ticket.wait(), Err(OperationError::Cancelled)));
        }
        assert_eq!(drops.count(), 20);
        assert_eq!(*entity.snapshot(), 0);
    }
}

#[test]
fn a_result_may_be_taken_when_the_engine_is_gone() {
    for workers in [0, 1] {
        let engine = Engine::builder().workers(workers).build();
        let entity = Entity::new(0_u64);
        let ticket = engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap();
        engine.shut_down(ShutDown::Finish, None).unwrap();
        drop(engine);
        assert_eq!(*ticket.wait().unwrap(), 1);
    }
}

#[test]
fn whatever_an_operation_captured_is_dropped_once_however_it_ends() {
    for policy in POLICIES {
        let (builder, clock) = still();
        let engine = builder.capacity(3).policy(policy).build();
        let entity = Entity::new(0_u64);
        let drops = Drops::default();
        let make = |number| {
            let captured = drops.one();
            Operation::try_update(&entity, move |n| {
                let _ = &captured;
                if number == 4 {
                    Err(())
                } else {
                    Ok(Some(n + 1))
                }
            })
            .priority(priority(number))
            .patience(MILLISECOND)
        };
        let expires = engine.submit(make(1)).unwrap();
        clock.advance(MILLISECOND);
        engine.serve();
        let cancelled = engine.submit(make(3)).unwrap();
        let evicted = engine.submit(make(2)).unwrap();
        let fails = engine.submit(make(4)).unwrap();
        let runs = engine.submit(make(5)).unwrap();
        let refused = engine.submit(make(1)).unwrap_err();
        assert!(cancelled.cancel());
        engine.serve();
        assert_eq!(drops.count(), 0, "the tickets keep them");
        assert!(expires.wait().unwrap_err().rejection().is_some());
        assert!(matches!(cancelled.wait(), Err(OperationError::Cancelled)));
        assert!(evicted.wait().unwrap_err().rejection().is_some());
        assert!(fails.wait().unwrap_err().into_refused().is_some());
        runs.wait().unwrap();
        assert_eq!(drops.count(), 5);
        drop(refused);
        assert_eq!(drops.count(), 6);
        conserved(&engine);
    }
}

// Tasks.

#[test]
fn a_ticket_may_be_awaited_on_any_runtime() {
    for workers in [0, 2] {
        for policy in POLICIES {
            let engine = Engine::builder().workers(workers).policy(policy).build();
            let entity = Entity::new(0_u64);
            let submit = || {
                engine
                    .submit(Operation::update(&entity, |n| n + 1))
                    .unwrap()
            };
            assert_eq!(*pollster::block_on(submit()).unwrap(), 1);
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .build()
                .unwrap();
            let tasks: Vec<_> = (0..20).map(|_| runtime.spawn(submit())).collect();
            let values = tasks
                .into_iter()
                .map(|task| *runtime.block_on(task).unwrap().unwrap());
            assert_eq!(values.max(), Some(21));
            assert_eq!(conserved(&engine).committed, 21);
        }
    }
}

#[test]
fn a_task_is_woken_by_the_waker_of_its_last_poll_and_may_be_cancelled() {
    struct Flag(AtomicBool);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let engine = Engine::builder().workers(1).build();
    let entity = Entity::new(0_u64);
    let (held, first) = held(&entity);
    let first = engine.submit(first).unwrap();
    held.runs.recv().unwrap();
    let mut second = Box::pin(
        engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap(),
    );
    let flags = [(); 2].map(|()| Arc::new(Flag(AtomicBool::new(false))));
    for flag in &flags {
        let waker = Waker::from(flag.clone());
        let polled = second.as_mut().poll(&mut TaskContext::from_waker(&waker));
        assert!(polled.is_pending());
    }
    assert!(second.cancel());
    let woken = flags.each_ref().map(|flag| flag.0.load(Ordering::SeqCst));
    assert_eq!(woken, [false, true]);
    let waker = Waker::noop();
    match second.as_mut().poll(&mut TaskContext::from_waker(waker)) {
        Poll::Ready(Err(OperationError::Cancelled)) => {}
        other => panic!("{other:?}"),
    }
    held.go_on.send(()).unwrap();
    pollster::block_on(first).unwrap();
    assert_eq!(conserved(&engine).cancelled, 1);
}

#[test]
fn waiting_for_a_limited_time_gives_the_ticket_back() {
    let engine = Engine::builder().workers(1).build();
    let entity = Entity::new(0_u64);
    let (held, first) = held(&entity);
    let first = engine.submit(first).unwrap();
    held.runs.recv().unwrap();
    let first = first.wait_timeout(Duration::ZERO).unwrap_err();
    let first = first.wait_timeout(MILLISECOND).unwrap_err();
    held.go_on.send(()).unwrap();
    assert_eq!(*first.wait_timeout(Duration::MAX).unwrap().unwrap(), 1);
    conserved(&engine);
}

// Running beside a lane.

#[test]
fn run_does_not_wait_for_its_lane() {
    let engine = Engine::builder().workers(1).build();
    let entity = Entity::new(0_u64);
    let (held, first) = held(&entity);
    let first = engine.submit(first.retrying(at_once())).unwrap();
    held.runs.recv().unwrap();
    assert_eq!(
        *engine.run(&Operation::update(&entity, |n| n + 10)).unwrap(),
        10
    );
    // So the one in the lane has lost, and is attempted again.
    held.go_on.send(()).unwrap();
    held.runs.recv().unwrap();
    held.go_on.send(()).unwrap();
    assert_eq!(*first.wait().unwrap(), 11);
    let counts = conserved(&engine);
    assert_eq!((counts.committed, counts.conflicts), (2, 1));
}

#[test]
fn run_takes_an_idle_lane_and_hands_over_what_came_meanwhile() {
    for workers in [0, 1] {
        let engine = Engine::builder().workers(workers).build();
        let entity = Entity::new(0_u64);
        let came: Arc<Mutex<Option<Changed>>> = Arc::default();
        let (nested, target, note) = (engine.clone(), entity.clone(), came.clone());
        let operation = Operation::update(&entity, move |n| {
            let ticket = nested.submit(Operation::update(&target, |n| n + 1));
            *note.lock().unwrap() = Some(ticket.unwrap());
            n + 10
        });
        assert_eq!(*engine.run(&operation).unwrap(), 10);
        let ticket = came.lock().unwrap().take().unwrap();
        assert_eq!(*ticket.wait().unwrap(), 11);
        assert_eq!(conserved(&engine).conflicts, 0);
    }
}

#[test]
fn run_is_rejected_when_its_retries_are_used_up() {
    let (builder, _) = still();
    let engine = builder.build();
    let entity = Entity::new(0_u64);
    let beside = entity.clone();
    let operation = Operation::update(&entity, move |n| {
        // Past this thread too: whoever commits to its own target is told so.
        thread::scope(|scope| {
            scope.spawn(|| drop(beside.update(|n| n + 1)));
        });
        n + 100
    });
    let error = engine.run(&operation.retrying(at_once())).unwrap_err();
    assert_eq!(error.to_string(), "Max retries (5) exceeded");
    assert_eq!(error.rejection().unwrap().attempts, 6);
    assert_eq!(*entity.snapshot(), 6);
    let counts = conserved(&engine);
    assert_eq!((counts.rejected, counts.conflicts), (1, 6));
}

// Several entities.

#[test]
fn transactions_with_opposite_orders_neither_wait_for_each_other_nor_lose_anything() {
    for workers in [0, 1, 3] {
        let engine = Engine::builder().workers(workers).build();
        let accounts: Vec<_> = (0..4).map(|_| Entity::new(1_000_i64)).collect();
        thread::scope(|scope| {
            for who in 0..4_usize {
                let (engine, accounts) = (&engine, &accounts);
                scope.spawn(move || {
                    let transfer = |turn: usize| {
                        let (from, to) = (who, (who + 1 + turn % 3) % 4);
                        let both = [accounts[from].clone(), accounts[to].clone()];
                        let operation = Operation::transaction(both, |tx, [from, to]| {
                            tx.update(from, |n| n - 1)?;
                            tx.update(to, |n| n + 1)?;
                            Ok::<_, Stop<Infallible>>(())
                        });
                        let operation = operation.retries(u32::MAX);
                        engine.submit(operation).unwrap()
                    };
                    let tickets: Vec<_> = (0..200).map(transfer).collect();
                    for ticket in tickets {
                        ticket.wait().unwrap();
                    }
                });
            }
        });
        let sum: i64 = accounts.iter().map(|account| *account.snapshot()).sum();
        assert_eq!(sum, 4_000);
        let versions = accounts
            .iter()
            .map(|account| account.snapshot().stamp().version());
        assert_eq!(versions.sum::<u64>(), 1_600);
        assert_eq!(conserved(&engine).committed, 800);
    }
}

// Several engines, and what nobody serves.

#[test]
fn a_part_in_another_engine_is_run_there_however_important_its_parent_gets() {
    let (one, other) = (
        Engine::builder().workers(0).build(),
        Engine::builder().workers(0).build(),
    );
    let (outer, inner) = (Entity::new(0_u64), Entity::new(0_u64));
    let parent = one.submit(Operation::update(&outer, |n| n + 1)).unwrap();
    let part = Operation::update(&inner, |n| n + 1).class(Class::LOW);
    let part = other.submit(part.within(&parent.context())).unwrap();
    parent.set_priority(Priority::CRITICAL);
    assert_eq!(part.status().priority(), Priority::CRITICAL);
    one.serve();
    assert!(parent.is_done() && !part.is_done());
    other.serve();
    assert!(part.is_done());
    for engine in [&one, &other] {
        assert_eq!(engine.counts().committed, 1);
        engine.shut_down(ShutDown::Finish, None).unwrap();
        assert!(engine.is_clean());
    }
}

#[test]
fn a_validator_that_panics_fails_each_of_a_fold_and_the_lane_goes_on() {
    for workers in [0, 1] {
        let engine = Engine::builder()
            .workers(workers)
            .policy(Policy::Fold)
            .build();
        let unlucky = |n: &u64| {
            assert_ne!(*n, 13, "unlucky");
            Ok::<_, String>(())
        };
        let entity = Entity::builder(0_u64)
            .validate(unlucky)
            .try_build()
            .unwrap();
        let mut stage = engine.stage();
        let six = stage.add(Operation::update(&entity, |n| n + 6)).unwrap();
        let seven = stage.add(Operation::update(&entity, |n| n + 7)).unwrap();
        stage.resolve();
        // Together they can't be published, and then each is run by itself.
        assert_eq!(*six.wait().unwrap(), 6);
        assert!(matches!(seven.wait(), Err(OperationError::Panicked(_))));
        let more = engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap();
        assert_eq!(*more.wait().unwrap(), 7);
        engine.shut_down(ShutDown::Finish, None).unwrap();
        assert!(engine.is_clean());
    }
}

#[test]
fn an_engine_without_threads_that_is_dropped_inside_a_closure_cancels_what_waits() {
    let outer = Engine::builder().workers(0).build();
    let inner = Engine::builder().workers(0).build();
    let (entity, other) = (Entity::new(0_u64), Entity::new(0_u64));
    let waits = inner.submit(Operation::update(&entity, |n| n + 1)).unwrap();
    let inner = std::sync::Mutex::new(Some(inner));
    let drops = Operation::update(&other, move |n| {
        drop(inner.lock().unwrap().take());
        n + 1
    });
    outer.submit(drops).unwrap().wait().unwrap();
    assert!(matches!(waits.wait(), Err(OperationError::Cancelled)));
    assert_eq!(*entity.snapshot(), 0);
}

#[test]
fn a_destructor_that_waits_for_its_own_engine_is_told_that_it_would_wait_for_itself() {
    struct Service(Engine, std::sync::mpsc::Sender<bool>);
    impl Drop for Service {
        fn drop(&mut self) {
            let is_busy = self.0.shut_down(ShutDown::Finish, None).is_err();
            self.1.send(is_busy).unwrap();
        }
    }
    let engine = Engine::builder().workers(1).build();
    let entity = Entity::new(0_u64);
    let (sender, told) = std::sync::mpsc::channel();
    let service = Service(engine.clone(), sender);
    let operation = Operation::update(&entity, move |n| {
        let _ = &service;
        n + 1
    });
    drop(engine.submit(operation).unwrap());
    // Whether it is the worker that drops it last or, if that was faster than this thread, nobody has to wait.
    let _ = told.recv().unwrap();
    engine.shut_down(ShutDown::Finish, None).unwrap();
    assert_eq!(*entity.snapshot(), 1);
}
