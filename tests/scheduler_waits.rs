//! Engines: whatever an operation stays away for or is put behind, whoever waits for it isn't forgotten, and a
//! change of its priority does what it should to where it is just then.
//!
//! Where time matters the clock stands still, and what somebody else does happens inside a closure, so that it is
//! known when.
#![cfg(feature = "scheduler")]

#[path = "support/conserved.rs"]
mod conserved;

use conserved::conserved;
use snapcell::{
    Body, Class, Clock, Context, Engine, Entity, ManualClock, Operation, OperationError, Priority,
    Reason, RetryPolicy, ShutDown, Snapshot, State, Ticket,
};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

const DELAY: Duration = Duration::from_millis(10);

type Changed = Ticket<Snapshot<u64>, Infallible>;

/// Losers stay away for ten milliseconds.
fn later() -> RetryPolicy {
    RetryPolicy::exponential(DELAY, 1.0)
}

/// Commits from outside of every operation.
fn outside(entity: &Entity<u64>) {
    let outsider = || {
        let _ = entity.update(|n| n + 100);
    };
    thread::scope(|s| s.spawn(outsider).join()).unwrap();
}

/// An increment whose first attempt loses. `first` is called in it.
fn losing<F: Fn() + Send + Sync + 'static>(
    entity: &Entity<u64>,
    first: F,
) -> Operation<impl Body<Output = Snapshot<u64>, Error = Infallible> + use<F>> {
    let own = entity.clone();
    let attempts = AtomicU64::new(0);
    Operation::update(entity, move |n| {
        if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
            first();
            outside(&own);
        }
        n + 1
    })
    .retrying(later())
}

/// Counts how often it wakes.
#[derive(Default)]
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    fn poll(
        self: &Arc<Self>,
        ticket: &mut Changed,
    ) -> Poll<Result<Snapshot<u64>, OperationError<Infallible>>> {
        let waker = Waker::from(self.clone());
        Pin::new(ticket).poll(&mut TaskContext::from_waker(&waker))
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Says when something is so far, and goes on when it is told to.
struct Stop(Mutex<(Sender<()>, Receiver<()>)>);

/// The other side of it.
struct Driver {
    reached: Receiver<()>,
    go_on: Sender<()>,
}

fn stop() -> (Stop, Driver) {
    let ((say, reached), (go_on, told)) = (channel(), channel());
    (Stop(Mutex::new((say, told))), Driver { reached, go_on })
}

impl Stop {
    fn here(&self) {
        let both = self.0.lock().unwrap();
        both.0.send(()).unwrap();
        both.1.recv().unwrap();
    }
}

#[test]
fn what_is_waited_for_inside_an_operation_is_run_there_when_it_was_put_back() {
    for workers in [0, 2] {
        let engine = Engine::builder()
            .workers(workers)
            .clock(Clock::manual(&ManualClock::new()))
            .build();
        let (outer, inner) = (Entity::new(0_u64), Entity::new(0_u64));
        let (begun, is_begun) = channel();
        let is_begun = Mutex::new(is_begun);
        // It is no part of the other, so that it shows by its priority that the other waits for it.
        let stranger = losing(&inner, move || {
            begun.send(()).unwrap();
            let priority = || Context::current().map(|context| context.priority());
            while priority() != Some(Priority::CRITICAL) {
                thread::yield_now();
            }
        });
        let stranger = engine.submit(stranger).unwrap();
        let stranger = Mutex::new(Some(stranger));
        let waiting = Operation::update(&outer, move |n| {
            is_begun.lock().unwrap().recv().unwrap();
            let stranger = stranger.lock().unwrap().take().unwrap();
            // The clock stands still: it doesn't come back by itself.
            let done = stranger.wait_timeout(Duration::from_secs(100_000_000));
            n + *done.unwrap().unwrap()
        });
        let waiting = engine.submit(waiting.priority(Priority::CRITICAL)).unwrap();
        if workers == 0 {
            // One serves the one that waits, and the other the one that is waited for, which then leaves.
            thread::scope(|s| {
                for _ in 0..2 {
                    s.spawn(|| engine.serve());
                }
            });
        }
        assert_eq!(*waiting.wait().unwrap(), 101);
        assert_eq!(conserved(&engine).committed, 2);
    }
}

#[test]
fn a_part_that_is_awaited_inside_an_operation_is_run_by_the_poll() {
    for workers in [0, 1] {
        let engine = Engine::builder().workers(workers).build();
        let (outer, inner) = (Entity::new(0_u64), Entity::new(5_u64));
        let inside = engine.clone();
        let sum = Operation::update(&outer, move |n| {
            let part = inside.submit(Operation::update(&inner, |n| n + 1));
            n + *pollster::block_on(part.unwrap()).unwrap()
        });
        assert_eq!(*engine.submit(sum).unwrap().wait().unwrap(), 6);
    }
}

#[test]
fn a_task_whose_operation_stays_away_is_woken_when_it_comes_back_also_without_threads() {
    for workers in [0, 1] {
        let engine = Engine::builder().workers(workers).build();
        let entity = Entity::new(0_u64);
        let ticket = engine.submit(losing(&entity, || ())).unwrap();
        assert_eq!(*pollster::block_on(ticket).unwrap(), 101);
        assert_eq!(conserved(&engine).committed, 1);
    }
}

#[test]
fn a_task_is_called_when_whoever_served_leaves_something_behind() {
    // A thread leaves a lane after each operation.
    let engine = Engine::builder().workers(0).quantum(Duration::ZERO).build();
    let entity = Entity::new(0_u64);
    let (stop, driver) = stop();
    let first = Operation::update(&entity, move |n| {
        stop.here();
        n + 1
    });
    let first = engine.submit(first).unwrap();
    let mut second = engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap();
    let wakes = Arc::new(Wakes::default());
    thread::scope(|s| {
        let serving = s.spawn(move || first.wait().map(|first| *first));
        driver.reached.recv().unwrap();
        for _ in 0..10 {
            assert!(
                wakes.poll(&mut second).is_pending(),
                "the other one has the lane"
            );
        }
        assert_eq!(wakes.count(), 0);
        driver.go_on.send(()).unwrap();
        assert_eq!(serving.join().unwrap().unwrap(), 1);
    });
    assert_eq!(wakes.count(), 1);
    match wakes.poll(&mut second) {
        Poll::Ready(second) => assert_eq!(*second.unwrap(), 2),
        Poll::Pending => panic!("it is ready"),
    }
    assert!(engine.is_clean());
}

#[test]
fn a_change_of_priority_leaves_an_operation_away_for_as_long_as_it_has_to() {
    let clock = ManualClock::new();
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .build();
    let entity = Entity::new(0_u64);
    let ticket = engine
        .submit(losing(&entity, || ()).priority(Priority::LOW))
        .unwrap();
    engine.serve();
    for priority in [Priority::CRITICAL, Priority::LOW, Priority::HIGH] {
        ticket.set_priority(priority);
        engine.serve();
        assert_eq!(ticket.status().retries(), 1);
        assert_eq!(
            (ticket.status().state(), *entity.snapshot()),
            (State::Pending, 100)
        );
        assert_eq!(engine.waiting(&entity), 0);
        // Others have the lane meanwhile.
        engine
            .submit(Operation::update(&entity, |n| *n))
            .unwrap()
            .wait()
            .unwrap();
    }
    clock.advance(DELAY - Duration::from_nanos(1));
    engine.serve();
    assert_eq!(ticket.status().state(), State::Pending);
    clock.advance(Duration::from_nanos(1));
    engine.serve();
    assert_eq!(ticket.status().state(), State::Succeeded);
    assert_eq!((*ticket.wait().unwrap(), engine.is_clean()), (101, true));
}

/// An operation whose first phase notes that it was begun.
fn preparing(
    entity: &Entity<u64>,
    log: &Arc<Mutex<Vec<u64>>>,
    who: u64,
) -> Operation<impl Body<Output = Snapshot<u64>, Error = Infallible> + use<>> {
    let log = log.clone();
    let prepare = move |_: &Snapshot<u64>| {
        log.lock().unwrap().push(who);
        Ok(who)
    };
    Operation::prepared(entity, prepare, |n: &u64, who: &u64| Ok(Some(n + who)))
}

#[test]
fn what_is_to_be_prepared_takes_its_place_by_the_priority_that_it_has() {
    let engine = Engine::builder().workers(0).build();
    let entities: Vec<_> = (0..5).map(|_| Entity::new(0_u64)).collect();
    let log = Arc::default();
    let submit = |(who, entity)| engine.submit(preparing(entity, &log, who)).unwrap();
    let tickets: Vec<_> = (0..).zip(&entities).map(submit).collect();
    tickets[3].set_priority(Priority::HIGH);
    tickets[1].set_priority(Priority::LOW);
    // Up, down and up again, and down for good.
    for priority in [Priority::CRITICAL, Priority::LOW, Priority::CRITICAL] {
        tickets[4].set_priority(priority);
        tickets[0].set_priority(priority);
    }
    tickets[0].set_priority(Priority::BACKGROUND);
    engine.serve();
    assert_eq!(*log.lock().unwrap(), [4, 3, 2, 1, 0], "each once");
    assert_eq!(conserved(&engine).committed, 5);
    assert!(engine.is_clean());
}

#[test]
fn what_starves_before_it_is_prepared_is_told_that_its_patience_is_over() {
    const MORE_IMPORTANT: usize = 64;
    let clock = ManualClock::new();
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .build();
    let (entity, log) = (Entity::new(0_u64), Arc::default());
    let submit = |who| {
        let low = preparing(&entity, &log, who)
            .class(Class::LOW)
            .patience(DELAY);
        engine.submit(low).unwrap()
    };
    let starving: Arc<Vec<_>> = Arc::new((0..3).map(submit).collect());
    let early = Arc::new(AtomicU64::new(0));
    for _ in 0..MORE_IMPORTANT {
        let (starving, early) = (starving.clone(), early.clone());
        let other = Operation::update(&Entity::new(0_u64), move |n| {
            let told = starving.iter().all(Ticket::is_done);
            early.fetch_add(u64::from(told), Ordering::SeqCst);
            n + 1
        });
        drop(engine.submit(other).unwrap());
    }
    clock.advance(DELAY);
    engine.serve();
    assert!(
        early.load(Ordering::SeqCst) > 0,
        "while there was still something more important"
    );
    assert!(
        log.lock().unwrap().is_empty(),
        "nothing is prepared in vain"
    );
    let counts = conserved(&engine);
    assert_eq!(
        (counts.committed, counts.rejected),
        (MORE_IMPORTANT as u64, 3)
    );
    let Some(starving) = Arc::into_inner(starving) else {
        panic!("the others have ended");
    };
    for ticket in starving {
        let why = ticket.wait().unwrap_err().rejection().map(|why| why.reason);
        assert_eq!(why, Some(Reason::Expired { patience: DELAY }));
    }
    assert!(engine.is_clean());
}

#[test]
fn an_operation_that_holds_its_engine_is_gone_after_a_shut_down() {
    for how in [ShutDown::Finish, ShutDown::Cancel] {
        let engine = Engine::builder().workers(0).build();
        let entity = Entity::new(0_u64);
        let (inside, captured) = (engine.clone(), Arc::new(()));
        let lives = Arc::downgrade(&captured);
        let operation = Operation::update(&entity, move |n| {
            let _ = &captured;
            n + inside.unfinished()
        });
        drop(engine.submit(operation).unwrap());
        engine.shut_down(how, None).unwrap();
        assert!(lives.upgrade().is_none());
    }
}

/// Whoever serves calls destructors as well, between two closures, and nobody else goes on meanwhile.
#[test]
fn what_is_awaited_by_a_destructor_of_who_serves_is_run_by_the_poll() {
    struct Awaits(Option<Changed>, Sender<bool>);
    impl Drop for Awaits {
        fn drop(&mut self) {
            let ticket = self.0.take().unwrap();
            assert!(!ticket.is_done(), "it hasn't begun");
            self.1.send(pollster::block_on(ticket).is_ok()).unwrap();
        }
    }
    for workers in [0, 1] {
        let engine = Engine::builder().workers(workers).build();
        let (first, other) = (Entity::new(0_u64), Entity::new(0_u64));
        let (sender, told) = channel();
        // So that no worker is faster.
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let opened = Arc::clone(&gate);
        let begins = Operation::update(&first, move |n| {
            drop(opened.lock().unwrap());
            n + 1
        });
        drop(engine.submit(begins).unwrap());
        let later = engine.submit(Operation::update(&other, |n| n + 1)).unwrap();
        let awaits = Awaits(Some(later), sender);
        let ends = Operation::update(&first, move |n| {
            let _ = &awaits;
            n + 1
        });
        // Nobody keeps it, so it ends where it is run.
        drop(engine.submit(ends.priority(Priority::CRITICAL)).unwrap());
        drop(closed);
        if workers == 0 {
            engine.serve();
        }
        assert!(told.recv().unwrap());
        assert_eq!(*other.snapshot(), 1);
        engine.shut_down(ShutDown::Finish, None).unwrap();
        conserved(&engine);
    }
}
