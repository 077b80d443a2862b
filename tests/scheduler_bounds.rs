//! Engines: what bounds how long an operation waits: for its end, for a lane, for others' reservations, and inside another
//! one. What somebody else does happens inside a closure, so that it is known when.
#![cfg(feature = "scheduler")]

#[path = "support/conserved.rs"]
mod conserved;

use conserved::conserved;
use snapcell::{
    Body, Class, Clock, Engine, Entity, ManualClock, Operation, OperationError, Policy, Priority,
    Reason, RetryPolicy, ShutDown, Snapshot,
};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);
/// Far longer than any test takes.
const LONG: Duration = Duration::from_secs(100_000);

/// An increment that calls `first` in its first attempt.
fn calling<F: Fn() + Send + Sync + 'static>(
    entity: &Entity<u64>,
    first: F,
) -> Operation<impl Body<Output = Snapshot<u64>, Error = Infallible> + use<F>> {
    let attempts = AtomicU64::new(0);
    Operation::update(entity, move |n| {
        if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
            first();
        }
        n + 1
    })
}

/// An increment that says when it runs, and goes on when it is told to.
fn held(
    entity: &Entity<u64>,
) -> (
    Receiver<()>,
    Sender<()>,
    Operation<impl Body<Output = Snapshot<u64>, Error = Infallible> + use<>>,
) {
    let ((runs, is_running), (go_on, goes_on)) = (channel(), channel());
    let both = Mutex::new((runs, goes_on));
    let operation = calling(entity, move || {
        let both = both.lock().unwrap();
        both.0.send(()).unwrap();
        both.1.recv().unwrap();
    });
    (is_running, go_on, operation)
}

/// Reserves its target for its first attempt.
fn reserving() -> RetryPolicy {
    RetryPolicy::exponential(Duration::ZERO, 1.0).reserving_after(0)
}

/// Commits from outside of every operation.
fn outside(entity: &Entity<u64>) {
    let outsider = || {
        let _ = entity.update(|n| n + 100);
    };
    thread::scope(|s| s.spawn(outsider).join()).unwrap();
}

/// An engine without threads, of which the test says what time it is.
fn served_here(clock: &ManualClock) -> Engine {
    let builder = Engine::builder().workers(0);
    builder.clock(Clock::manual(clock)).build()
}

/// What is reserved is protected for so long.
fn grace(engine: &Engine, long: Duration) {
    let change = engine.change_policies(|policies| {
        policies.set_grace(long);
        Ok::<_, Infallible>(())
    });
    change.unwrap();
}

/// How many reservations were made.
fn reserved(engine: &Engine) -> u64 {
    let kinds = engine.metrics().kinds;
    kinds.iter().map(|kind| kind.reservations).sum()
}

/// Losers stay away for so long.
fn away(long: Duration) -> RetryPolicy {
    RetryPolicy::exponential(long, 1.0)
}

#[test]
fn a_ticket_that_is_polled_inside_an_operation_for_its_own_target_says_so() {
    for workers in [0, 1] {
        let engine = Engine::builder().workers(workers).build();
        let entity = Entity::new(0_u64);
        let (inside, own) = (engine.clone(), entity.clone());
        let told = Arc::new(Mutex::new(None));
        let note = told.clone();
        let outer = calling(&entity, move || {
            let same = inside.submit(Operation::update(&own, |n| n + 1)).unwrap();
            *note.lock().unwrap() = Some(pollster::block_on(same));
        });
        engine.submit(outer).unwrap().wait().unwrap();
        engine.serve();
        let told = told.lock().unwrap().take().unwrap();
        assert!(
            matches!(told, Err(OperationError::SelfConflict)),
            "{told:?}"
        );
        engine.shut_down(ShutDown::Finish, None).unwrap();
        assert_eq!((*entity.snapshot(), conserved(&engine).committed), (2, 2));
    }
}

#[test]
fn an_operation_of_another_engine_with_the_same_number_is_a_stranger() {
    let [one, other] = [(); 2].map(|()| Engine::builder().workers(1).build());
    let (a, b) = (Entity::new(0_u64), Entity::new(0_u64));
    let (is_running, go_on, stranger) = held(&b);
    let stranger = other.submit(stranger).unwrap();
    is_running.recv().unwrap();
    let number = stranger.id().get();
    let place = Mutex::new(Some(stranger));
    let told = Arc::new(Mutex::new(None));
    let note = told.clone();
    let waits = calling(&a, move || {
        let stranger = place.lock().unwrap().take().unwrap();
        *note.lock().unwrap() = Some(stranger.wait());
    });
    let waits = one.submit(waits).unwrap();
    assert_eq!(waits.id().get(), number, "or nothing is shown");
    waits.wait().unwrap();
    let told = told.lock().unwrap().take().unwrap();
    assert!(matches!(told, Err(OperationError::MayDeadlock)), "{told:?}");
    go_on.send(()).unwrap();
    conserved(&one);
    conserved(&other);
}

#[test]
fn what_starves_between_others_is_told_that_its_patience_is_over() {
    let clock = ManualClock::new();
    let engine = served_here(&clock);
    let increment = |entity: &Entity<u64>| Operation::update(entity, |n| n + 1);
    let [low, middle] = [(); 2].map(|()| Entity::new(0_u64));
    let low = engine
        .submit(
            increment(&low)
                .priority(Priority::BACKGROUND)
                .patience(Duration::MAX),
        )
        .unwrap();
    let middle = engine
        .submit(increment(&middle).patience(10 * MILLISECOND))
        .unwrap();
    let middle = Arc::new(Mutex::new(middle));
    let seen = Arc::new(AtomicU64::new(0));
    let urgent: Vec<_> = (0..100)
        .map(|_| {
            let (middle, seen) = (middle.clone(), seen.clone());
            let note = calling(&Entity::new(0), move || {
                let is_done = middle.lock().unwrap().is_done();
                seen.fetch_add(u64::from(is_done), Ordering::SeqCst);
            });
            engine.submit(note.priority(Priority::CRITICAL)).unwrap()
        })
        .collect();
    clock.advance(10 * MILLISECOND);
    engine.serve();
    assert!(seen.load(Ordering::SeqCst) > 50, "{seen:?} of 100 saw it");
    let middle = Arc::into_inner(middle).map(|middle| middle.into_inner().unwrap());
    for urgent in urgent {
        urgent.wait().unwrap();
    }
    // The closures that look at it are gone with their tickets.
    let middle = middle.or(None);
    drop(middle);
    low.wait().unwrap();
    assert_eq!(conserved(&engine).rejected, 1);
}

#[test]
fn a_fold_that_stays_away_for_long_leaves_its_lane_to_others() {
    for workers in [0, 1] {
        let engine = Engine::builder()
            .workers(workers)
            .policy(Policy::Fold)
            .clock(Clock::manual(&ManualClock::new()))
            .build();
        let entity = Entity::new(0_u64);
        let own = entity.clone();
        let loses = calling(&entity, move || outside(&own)).retrying(away(LONG));
        let loses = engine.submit(loses).unwrap();
        if workers == 0 {
            engine.serve();
        } else {
            // Until it has lost.
            while loses.status().retries() == 0 {
                thread::yield_now();
            }
        }
        let urgent = Operation::update(&entity, |n| n + 1).priority(Priority::CRITICAL);
        assert_eq!(*engine.submit(urgent).unwrap().wait().unwrap(), 101);
        assert!(!loses.is_done());
        engine.shut_down(ShutDown::Cancel, None).unwrap();
        assert!(matches!(loses.wait(), Err(OperationError::Cancelled)));
        let counts = conserved(&engine);
        assert_eq!(
            (counts.committed, counts.cancelled, counts.conflicts),
            (1, 1, 1)
        );
    }
}

#[test]
fn the_budget_for_steps_back_is_that_of_the_operation_however_often_it_comes_back() {
    let clock = ManualClock::new();
    let engine = served_here(&clock);
    let entity = Entity::new(0_u64);
    // By the clock, which stands still, what is reserved stays so, so each of them spends all of its budget.
    let while_reserved = |work: &dyn Fn()| {
        let (is_running, go_on, reserves) = held(&entity);
        let reserves = reserves.retrying(reserving()).priority(Priority::HIGH);
        thread::scope(|s| {
            let reserving = s.spawn(|| engine.run(&reserves).map(drop));
            is_running.recv().unwrap();
            work();
            go_on.send(()).unwrap();
            reserving.join().unwrap().unwrap();
        });
    };
    let own = entity.clone();
    let low = calling(&entity, move || outside(&own))
        .retrying(away(10 * MILLISECOND))
        .priority(Priority::LOW);
    let low = engine.submit(low).unwrap();
    let steps = || {
        engine
            .metrics()
            .kinds
            .iter()
            .map(|kind| kind.steps_back)
            .sum::<u64>()
    };
    while_reserved(&|| engine.serve());
    assert_eq!((low.status().retries(), steps()), (1, 1));
    clock.advance(10 * MILLISECOND);
    while_reserved(&|| engine.serve());
    assert!(low.is_done(), "it came back");
    assert_eq!(steps(), 1, "and had spent its budget");
    low.wait().unwrap();
    conserved(&engine);
}

#[test]
fn an_operation_reserves_for_four_graces_in_all_however_often_it_comes_back() {
    for (long, reservations) in [(MILLISECOND, 1), (10 * MILLISECOND, 2)] {
        let clock = ManualClock::new();
        let engine = served_here(&clock);
        grace(&engine, long);
        let entity = Entity::new(0_u64);
        let own = entity.clone();
        let low = calling(&entity, move || outside(&own));
        let low = low.retrying(away(10 * MILLISECOND).reserving_after(0));
        let low = engine.submit(low).unwrap();
        engine.serve();
        assert_eq!((low.status().retries(), reserved(&engine)), (1, 1));
        clock.advance(10 * MILLISECOND);
        engine.serve();
        low.wait().unwrap();
        assert_eq!(
            reserved(&engine),
            reservations,
            "as long as it may is over after 10 ms, or it is not"
        );
        conserved(&engine);
    }
}

#[test]
fn who_was_refused_a_reservation_may_have_it_later() {
    let clock = ManualClock::new();
    let engine = served_here(&clock);
    grace(&engine, MILLISECOND);
    let entity = Entity::new(0_u64);
    let (is_running, go_on, first) = held(&entity);
    let first = first.retrying(reserving()).priority(Priority::HIGH);
    let own = entity.clone();
    let second = calling(&entity, move || outside(&own));
    let second = second
        .retrying(away(10 * MILLISECOND).reserving_after(0))
        .priority(Priority::HIGH);
    let second = engine.submit(second).unwrap();
    thread::scope(|s| {
        let reserving = s.spawn(|| engine.run(&first).map(drop));
        is_running.recv().unwrap();
        engine.serve();
        go_on.send(()).unwrap();
        reserving.join().unwrap().unwrap();
    });
    assert_eq!((second.status().retries(), reserved(&engine)), (1, 1));
    clock.advance(10 * MILLISECOND);
    engine.serve();
    second.wait().unwrap();
    assert_eq!(reserved(&engine), 2, "nobody has it any more");
    conserved(&engine);
}

#[test]
fn who_has_stepped_back_for_long_may_reserve_afterwards() {
    let clock = ManualClock::new();
    let engine = served_here(&clock);
    grace(&engine, MILLISECOND);
    let entity = Entity::new(0_u64);
    let (is_running, go_on, reserves) = held(&entity);
    let reserves = reserves.retrying(reserving()).priority(Priority::HIGH);
    let own = entity.clone();
    let low = calling(&entity, move || {
        // All that was reserved by now is over.
        clock.advance(10 * MILLISECOND);
        outside(&own);
    });
    let low = low
        .retrying(RetryPolicy::exponential(Duration::ZERO, 1.0).reserving_after(1))
        .priority(Priority::LOW);
    thread::scope(|s| {
        let reserving = s.spawn(|| engine.run(&reserves).map(drop));
        is_running.recv().unwrap();
        engine.run(&low).unwrap();
        go_on.send(()).unwrap();
        reserving.join().unwrap().unwrap();
    });
    let steps = engine
        .metrics()
        .kinds
        .iter()
        .map(|kind| kind.steps_back)
        .sum::<u64>();
    assert_eq!((steps, reserved(&engine)), (1, 2));
    conserved(&engine);
}

#[test]
fn who_steps_back_in_a_lane_makes_way_for_what_is_more_important() {
    let clock = ManualClock::new();
    // A budget that would never be spent.
    let engine = served_here(&clock);
    grace(&engine, LONG);
    let entity = Entity::new(0_u64);
    let (is_running, go_on, reserves) = held(&entity);
    let reserves = reserves.retrying(reserving()).priority(Priority::HIGH);
    let increment = || Operation::update(&entity, |n| n + 1);
    thread::scope(|s| {
        let reserving = s.spawn(|| engine.run(&reserves).map(drop));
        is_running.recv().unwrap();
        let low = engine.submit(increment().priority(Priority::LOW)).unwrap();
        let serving = s.spawn(|| engine.serve());
        // Until it steps back.
        while engine
            .metrics()
            .kinds
            .iter()
            .all(|kind| kind.steps_back == 0)
        {
            thread::yield_now();
        }
        let urgent = engine
            .submit(increment().priority(Priority::CRITICAL))
            .unwrap();
        assert_eq!(*urgent.wait().unwrap(), 1);
        assert!(!low.is_done());
        go_on.send(()).unwrap();
        reserving.join().unwrap().unwrap();
        low.wait().unwrap();
        serving.join().unwrap();
    });
    assert_eq!((*entity.snapshot(), conserved(&engine).committed), (3, 3));
}

#[test]
fn who_steps_back_makes_no_way_for_what_would_not_be_served_before_it() {
    let clock = ManualClock::new();
    let engine = served_here(&clock);
    let entity = Entity::new(0_u64);
    let (is_running, go_on, reserves) = held(&entity);
    let reserves = reserves.retrying(reserving()).priority(Priority::CRITICAL);
    let increment = || Operation::update(&entity, |n| n + 1);
    // It is so much older that it goes first, though it is less important.
    let old = engine.submit(increment().priority(Priority::LOW)).unwrap();
    clock.advance(Duration::from_secs(1));
    let young = engine.submit(increment().priority(Priority::HIGH)).unwrap();
    thread::scope(|s| {
        let reserving = s.spawn(|| engine.run(&reserves).map(drop));
        is_running.recv().unwrap();
        // By the clock, which stands still, it spends all of its budget.
        engine.serve();
        assert_eq!((*old.wait().unwrap(), *young.wait().unwrap()), (1, 2));
        go_on.send(()).unwrap();
        reserving.join().unwrap().unwrap();
    });
    let kinds = engine.metrics().kinds;
    let sum = |of: fn(&snapcell::KindMetrics) -> u64| kinds.iter().map(of).sum::<u64>();
    assert_eq!(sum(|kind| kind.preemptions), 0);
    assert_eq!(sum(|kind| kind.steps_back), 2, "each of the two, once");
    conserved(&engine);
}

#[test]
fn who_has_won_its_round_does_not_play_again_when_it_comes_back() {
    let clock = ManualClock::new();
    let engine = Engine::builder()
        .workers(0)
        .policy(Policy::WinnerTakesAll)
        .clock(Clock::manual(&clock))
        .build();
    let entity = Entity::new(0_u64);
    let own = entity.clone();
    let first = calling(&entity, move || outside(&own))
        .retrying(away(10 * MILLISECOND))
        .priority(Priority::LOW);
    let first = engine.submit(first).unwrap();
    engine.serve();
    assert_eq!(first.status().retries(), 1, "it has lost, and stays away");
    let increment = || Operation::update(&entity, |n| n + 1);
    let second = engine.submit(increment().priority(Priority::HIGH)).unwrap();
    clock.advance(10 * MILLISECOND);
    engine.serve();
    assert_eq!(*second.wait().unwrap(), 101);
    assert_eq!(*first.wait().unwrap(), 102);
    conserved(&engine);
}

#[test]
fn run_gives_up_between_two_attempts_when_its_engine_cancels() {
    let engine = Engine::builder().workers(0).build();
    let entity = Entity::new(0_u64);
    let (own, closes) = (entity.clone(), engine.clone());
    let loses = calling(&entity, move || {
        outside(&own);
        let close = || closes.shut_down(ShutDown::Cancel, Some(Duration::ZERO));
        let busy = thread::scope(|s| s.spawn(close).join().unwrap());
        assert_eq!(busy.unwrap_err().unfinished, 1);
    });
    let cancelled = engine.run(&loses.retrying(away(MILLISECOND)));
    assert!(
        matches!(cancelled, Err(OperationError::Cancelled)),
        "{cancelled:?}"
    );
    engine.shut_down(ShutDown::Cancel, None).unwrap();
    assert_eq!((*entity.snapshot(), conserved(&engine).cancelled), (100, 1));
}

#[test]
fn a_destructor_that_waits_while_its_engine_is_dropped_is_told_so() {
    /// Waits for what it has when it is dropped.
    struct Waits<T>(Mutex<Option<T>>, Box<dyn Fn(T) + Send + Sync>);
    impl<T> Drop for Waits<T> {
        fn drop(&mut self) {
            if let Some(ticket) = self.0.get_mut().unwrap().take() {
                (self.1)(ticket);
            }
        }
    }
    let told = Arc::new(Mutex::new(None));
    let note = told.clone();
    let (x, y) = (Entity::new(0_u64), Entity::new(0_u64));
    let engine = Engine::builder().workers(0).build();
    let waited_for = engine.submit(Operation::update(&y, |n| n + 1)).unwrap();
    let waits = Waits(
        Mutex::new(Some(waited_for)),
        Box::new(move |ticket| *note.lock().unwrap() = Some(ticket.wait().map(|_| ()))),
    );
    let holds = calling(&x, move || {
        let _ = &waits;
    });
    let ticket = engine.submit(holds.priority(Priority::HIGH)).unwrap();
    drop(ticket);
    // Inside the closure of another engine nobody serves for this one.
    let others = Engine::builder().workers(0).build();
    let place = Mutex::new(Some(engine));
    let drops = calling(&Entity::new(0), move || drop(place.lock().unwrap().take()));
    others.run(&drops).unwrap();
    let told = told.lock().unwrap().take().expect("it was dropped");
    assert!(
        matches!(
            told,
            Err(OperationError::MayDeadlock | OperationError::Cancelled)
        ),
        "{told:?}"
    );
    assert_eq!((*x.snapshot(), *y.snapshot()), (0, 0));
}

#[test]
fn what_is_resolved_is_told_of_in_the_order_of_its_age() {
    let engine = Engine::builder().workers(0).registry(1_000).build();
    let entity = Entity::new(0_u64);
    let submit = || {
        let low = Operation::update(&entity, |n| n + 1).class(Class::LOW);
        engine.submit(low).unwrap()
    };
    // Threads take their numbers in blocks, so a later one may have a lower number.
    let mut tickets = Vec::new();
    for _ in 0..4 {
        tickets.push(submit());
        tickets.push(thread::scope(|s| s.spawn(submit).join().unwrap()));
    }
    let resolved = engine.resolve(&entity).unwrap();
    let ids: Vec<_> = tickets.iter().map(|ticket| ticket.id()).collect();
    assert_eq!(resolved.winner, Some(ids[0]));
    assert_eq!(resolved.lost, ids[1..]);
    engine.serve();
    for ticket in tickets.into_iter().skip(1) {
        let rejected = ticket.wait().unwrap_err();
        let reason = rejected.rejection().map(|rejection| rejection.reason);
        assert!(matches!(reason, Some(Reason::Lost { .. })), "{reason:?}");
    }
}
