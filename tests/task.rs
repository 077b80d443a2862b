//! Operations in tasks: they wait without a thread, give back what they have taken, and go on for nobody else.
#![cfg(feature = "scheduler")]

use snapcell::{
    Class, Clock, Context, Engine, Entity, ManualClock, NotTaken, Operation, OperationError,
    Priority, Reason, RetryPolicy, ShutDown, Sleep,
};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Moves a clock, and is ready when it is polled for the second time.
struct Hand {
    clock: ManualClock,
    slept: Mutex<Vec<Duration>>,
}

impl Hand {
    fn new(clock: &ManualClock) -> Self {
        Hand {
            clock: clock.clone(),
            slept: Mutex::new(Vec::new()),
        }
    }

    fn slept(&self) -> Vec<Duration> {
        self.slept.lock().unwrap().clone()
    }
}

impl Sleep for Hand {
    async fn sleep(&self, long: Duration) {
        self.slept.lock().unwrap().push(long);
        self.clock.advance(long);
        let mut is_polled = false;
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            match std::mem::replace(&mut is_polled, true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

fn engine() -> (Engine, Hand) {
    let clock = ManualClock::new();
    clock.set(Duration::from_secs(1));
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .build();
    (engine, Hand::new(&clock))
}

/// Adds 100, and somebody else 1 in each of the first `times` windows.
fn interfered(value: &Entity<u32>, times: u32) -> impl Fn(&u32) -> u32 + use<> {
    let (other, looks) = (value.clone(), AtomicU32::new(0));
    move |n| {
        if looks.fetch_add(1, Ordering::Relaxed) < times {
            std::thread::scope(|s| _ = s.spawn(|| other.update(|n| n + 1).snapshot()).join());
        }
        n + 100
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(Waker::noop()))
}

#[test]
fn its_futures_may_go_to_other_threads() {
    fn goes<F: Future + Send>(_: &F) {}
    let (engine, hand) = engine();
    let operation = Operation::update(&Entity::new(0), |n| n + 1);
    goes(&engine.run_async(&operation, &hand));
    let ticket = engine.submit(operation).unwrap();
    goes(&ticket.timeout(Duration::ZERO, &hand));
    engine.serve();
}

#[test]
fn it_awaits_what_its_policy_says_and_commits() {
    let (engine, hand) = engine();
    let value = Entity::new(0);
    let operation =
        Operation::update(&value, interfered(&value, 3)).retrying(RetryPolicy::reference());
    let committed = pollster::block_on(engine.run_async(&operation, &hand)).unwrap();
    assert_eq!(*committed, 103);
    assert_eq!(hand.slept(), [20, 40, 80].map(Duration::from_millis));
    let counts = engine.counts();
    assert_eq!((counts.committed, counts.conflicts), (1, 3));
    assert!(engine.is_clean());
}

#[test]
fn it_ends_with_its_budget_and_with_its_patience() {
    let (engine, hand) = engine();
    let value = Entity::new(0);
    let lost = |times| {
        Operation::update(&value, interfered(&value, times)).retrying(RetryPolicy::reference())
    };
    let exhausted = lost(9).retries(2);
    let error = pollster::block_on(engine.run_async(&exhausted, &hand)).unwrap_err();
    let rejection = *error.rejection().unwrap();
    assert_eq!(
        (rejection.reason, rejection.attempts),
        (Reason::Exhausted { retries: 2 }, 3)
    );
    let patience = Duration::from_millis(50);
    let expired = lost(9).retries(20).patience(patience);
    let error = pollster::block_on(engine.run_async(&expired, &hand)).unwrap_err();
    assert_eq!(
        error.rejection().unwrap().reason,
        Reason::Expired { patience }
    );
    assert_eq!(engine.counts().rejected, 2);
    assert!(engine.is_clean());
}

#[test]
fn its_lane_is_free_while_it_awaits() {
    let (engine, hand) = engine();
    let value = Entity::new(0);
    let operation =
        Operation::update(&value, interfered(&value, 1)).retrying(RetryPolicy::reference());
    let mut task = pin!(engine.run_async(&operation, &hand));
    assert!(
        poll(task.as_mut()).is_pending(),
        "it has lost once, and waits"
    );
    let ticket = engine
        .submit(Operation::update(&value, |n| n + 10))
        .unwrap();
    engine.serve();
    assert!(ticket.is_done(), "the lane was served meanwhile");
    let Poll::Ready(committed) = poll(task.as_mut()) else {
        panic!("it has nothing to wait for");
    };
    assert_eq!(*committed.unwrap(), 111);
    assert!(engine.is_clean());
}

#[test]
fn a_future_that_is_dropped_leaves_nothing_behind() {
    let (engine, hand) = engine();
    let value = Entity::new(0);
    let reserving = RetryPolicy::reference().reserving_after(0);
    let operation = Operation::update(&value, interfered(&value, 1)).retrying(reserving);
    {
        let mut task = pin!(engine.run_async(&operation, &hand));
        assert!(poll(task.as_mut()).is_pending());
        assert_eq!(engine.unfinished(), 1);
        assert!(!engine.is_clean());
    }
    assert!(engine.is_clean());
    let counts = engine.counts();
    assert_eq!((counts.submitted, counts.cancelled), (1, 1));
    // And one that was never polled was never there.
    drop(engine.run_async(&operation, &hand));
    assert_eq!(engine.counts().submitted, 1);
}

#[test]
fn it_steps_back_for_a_reservation_and_for_a_bounded_time() {
    let (engine, hand) = engine();
    let value = Entity::new(0);
    let reserving = RetryPolicy::reference().reserving_after(0);
    let critical = Operation::update(&value, interfered(&value, 1)).retrying(reserving);
    let critical = critical.class(Class::STRUCTURAL);
    let holder = Hand::new(&ManualClock::new());
    let mut task = pin!(engine.run_async(&critical, &holder));
    assert!(
        poll(task.as_mut()).is_pending(),
        "it waits, and has the target reserved"
    );
    let low = Operation::update(&value, |n| n + 1).class(Class::LOW);
    pollster::block_on(engine.run_async(&low, &hand)).unwrap();
    let grace = engine.policies().grace();
    assert_eq!(hand.slept().iter().sum::<Duration>(), 4 * grace);
    let urgent = Operation::update(&value, |n| n + 1).class(Class::STRUCTURAL);
    pollster::block_on(engine.run_async(&urgent, &hand)).unwrap();
    assert_eq!(
        hand.slept().iter().sum::<Duration>(),
        4 * grace,
        "equals don't"
    );
    assert!(poll(task.as_mut()).is_ready());
    assert!(engine.is_clean());
}

#[test]
fn a_shut_down_that_cancels_ends_it_when_it_is_polled() {
    let (engine, hand) = engine();
    let value = Entity::new(0);
    let operation =
        Operation::update(&value, interfered(&value, 1)).retrying(RetryPolicy::reference());
    let mut task = pin!(engine.run_async(&operation, &hand));
    assert!(poll(task.as_mut()).is_pending());
    let still = engine
        .shut_down(ShutDown::Cancel, Some(Duration::ZERO))
        .unwrap_err();
    assert_eq!(still.unfinished, 1);
    assert!(matches!(
        poll(task.as_mut()),
        Poll::Ready(Err(OperationError::Cancelled))
    ));
    engine.shut_down(ShutDown::Cancel, None).unwrap();
    let refused = pollster::block_on(engine.run_async(&operation, &hand)).unwrap_err();
    assert!(matches!(
        refused,
        OperationError::NotTaken(NotTaken::ShutDown)
    ));
    assert_eq!(engine.counts().cancelled, 1);
}

#[test]
fn errors_and_panics_of_its_closure_are_its_own() {
    let (engine, hand) = engine();
    let value = Entity::new(0_u32);
    let refusing = Operation::try_update(&value, |_: &u32| Err::<Option<u32>, _>("no"));
    let refused = pollster::block_on(engine.run_async(&refusing, &hand)).unwrap_err();
    assert_eq!(refused.into_refused(), Some("no"));
    let panicking = Operation::update(&value, |_: &u32| panic!("oops"));
    let panicked = pollster::block_on(engine.run_async(&panicking, &hand)).unwrap_err();
    assert!(matches!(panicked, OperationError::Panicked(_)));
    assert_eq!(engine.counts().failed, 2);
    assert!(engine.is_clean());
}

#[test]
fn inside_an_operation_on_its_target_it_is_refused() {
    let (engine, hand) = engine();
    let value = Entity::new(0_u32);
    let (inner, hand) = (engine.clone(), Arc::new(hand));
    let other = value.clone();
    let outer = Operation::try_update(&value, move |_: &u32| {
        let increment = Operation::update(&other, |n| n + 1);
        match pollster::block_on(inner.run_async(&increment, &*hand)) {
            Err(OperationError::SelfConflict) => Err("it conflicts"),
            _ => Ok(None),
        }
    });
    assert_eq!(
        engine.run(&outer).unwrap_err().into_refused(),
        Some("it conflicts")
    );
}

#[test]
fn importance_is_inherited_where_a_context_says_so() {
    let (engine, hand) = engine();
    let value = Entity::new(0_u32);
    let parent =
        engine.submit(Operation::update(&Entity::new(0), |n| n + 1).class(Class::STRUCTURAL));
    let parent = parent.unwrap();
    let seen =
        |operation: Operation<_>| pollster::block_on(engine.run_async(&operation, &hand)).unwrap();
    let look = || {
        Operation::try_update(&value, |_: &u32| {
            let priority = Context::current().map(|context| context.priority().get());
            Ok::<_, ()>(priority.map(u32::from))
        })
    };
    assert_eq!(*seen(look()), 5);
    assert_eq!(*seen(look().within(&parent.context())), 10);
    assert_eq!(parent.status().priority(), Priority::CRITICAL);
    engine.serve();
}

#[test]
fn a_ticket_is_awaited_for_a_while_and_given_back() {
    let (engine, hand) = engine();
    let value = Entity::new(0_u32);
    let mut stage = engine.stage();
    let ticket = stage.add(Operation::update(&value, |n| n + 1)).unwrap();
    let second = Duration::from_secs(1);
    let ticket = pollster::block_on(ticket.timeout(second, &hand)).unwrap_err();
    assert_eq!(hand.slept(), [second]);
    stage.resolve();
    let answer = pollster::block_on(ticket.timeout(second, &hand)).expect("it is done");
    assert_eq!(*answer.unwrap(), 1);
}

#[test]
fn many_tasks_lose_nothing() {
    let engine = Engine::builder().workers(2).build();
    let value = Entity::new(0_u64);

    struct Again;
    impl Sleep for Again {
        async fn sleep(&self, _: Duration) {
            Hand::new(&ManualClock::new()).sleep(Duration::ZERO).await;
        }
    }

    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for n in 0..200 {
                    let increment = Operation::update(&value, |n| n + 1).retries(10_000);
                    if n % 4 == 0 {
                        engine.submit(increment).unwrap().wait().unwrap();
                    } else {
                        pollster::block_on(engine.run_async(&increment, &Again)).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(*value.snapshot(), 800);
    assert_eq!(engine.counts().committed, 800);
    engine.shut_down(ShutDown::Finish, None).unwrap();
    assert!(engine.is_clean());
}
