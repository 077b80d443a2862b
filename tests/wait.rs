//! Waiting: for a snapshot, on a thread and in a task; by a watch, until the entity is closed; and
//! by a closure that is called. Whoever waits is woken, whoever else gives up or panics; a commit wakes
//! a few itself, however many wait; and each value is dropped exactly once.
//!
//! A lost wake-up is a test that never ends. A watchdog turns that into an abort with a message.

mod support;

use snapcell::{Callback, Clock, Closed, Entity, ManualClock, Snapshot, Stamp, TimedOut};
use std::future::Future;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};
use support::{Tally, Token, elsewhere, panic_of, together};

/// Longer than any of these tests takes, on a busy machine too.
const HANGS: Duration = Duration::from_secs(120);

/// Fewer where every access is checked.
const fn fewer_if_slow(number: usize) -> usize {
    if cfg!(snapcell_sanitize) {
        number / 20
    } else {
        number
    }
}

/// As [`support::alone`], and aborts if `body` never ends.
fn alone(body: impl FnOnce() + Send) {
    watched(Box::new(body));
}

/// The part of it that is the same for each test, and so is compiled once.
fn watched(body: Box<dyn FnOnce() + Send + '_>) {
    support::alone(|| {
        let name = thread::current().name().unwrap_or("a test").to_owned();
        let (_ended, end) = channel::<()>();
        let watchdog = move || {
            if end.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} hangs: a wake-up was lost, or somebody waits for himself");
                std::process::abort();
            }
        };
        thread::Builder::new().spawn(watchdog).unwrap();
        body();
    });
}

/// A task, as an executor knows it: how often it was woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Task {
    fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_by<R>(waiting: &mut (impl Future<Output = R> + Unpin), waker: &Waker) -> Poll<R> {
    Pin::new(waiting).poll(&mut Context::from_waker(waker))
}

/// Polls it once, as a part of the task.
fn poll<R>(waiting: &mut (impl Future<Output = R> + Unpin), task: &Arc<Task>) -> Poll<R> {
    poll_by(waiting, &task.waker())
}

fn logical<T: Send + Sync + 'static>(value: T) -> Entity<T> {
    Entity::builder(value).clock(Clock::logical()).build()
}

/// The stamp of an entity's first snapshot, by a logical clock.
const BIRTH: Stamp = Stamp::new(0, 0);

/// A check that holds for any entity, whatever its clock and validator.
trait Check {
    fn check<E: Send + 'static>(&self, entity: Entity<u64, E>);
}

/// Runs the check with an entity of each kind, at 0.
fn each_config(check: &impl Check) {
    check.check(Entity::new(0));
    check.check(logical(0));
    let stopped = Clock::manual(&ManualClock::new());
    check.check(Entity::builder(0).clock(stopped).build());
    let not_too_many = |n: &u64| if *n < 1000 { Ok(()) } else { Err("too many") };
    let validated = Entity::builder(0).validate(not_too_many).try_build();
    check.check(validated.unwrap());
}

/// Commits, whatever the entity's validator.
fn set<E: 'static>(entity: &Entity<u64, E>, number: u64) {
    assert!(entity.try_replace(number).is_ok());
}

// On a thread.

#[test]
fn what_is_there_already_is_returned_at_once() {
    struct AtOnce;
    impl Check for AtOnce {
        fn check<E: Send + 'static>(&self, entity: Entity<u64, E>) {
            let birth = entity.snapshot();
            set(&entity, 1);
            let now = entity.snapshot();
            let changed = entity.changed(birth.stamp()).wait();
            assert!(Snapshot::ptr_eq(&changed, &now));
            let found = entity.wait_for(|n| *n == 1).wait();
            assert!(Snapshot::ptr_eq(&found, &now));
            assert_eq!(entity.wait_for_map(|n| n.checked_sub(1)).wait(), 0);
        }
    }
    alone(|| each_config(&AtOnce));
}

#[test]
fn a_thread_waits_until_another_one_commits() {
    struct Another;
    impl Check for Another {
        fn check<E: Send + 'static>(&self, entity: Entity<u64, E>) {
            for round in 0..100 {
                let birth = entity.snapshot();
                let start = Barrier::new(4);
                thread::scope(|scope| {
                    let (entity, start) = (&entity, &start);
                    let changed = scope.spawn(move || {
                        start.wait();
                        entity.changed(birth.stamp()).wait()
                    });
                    let found = scope.spawn(move || {
                        start.wait();
                        entity.wait_for(|n| *n > round).wait()
                    });
                    let mapped = scope.spawn(move || {
                        start.wait();
                        entity.wait_for_map(|n| n.checked_sub(round + 1)).wait()
                    });
                    start.wait();
                    set(entity, round + 1);
                    assert_eq!(*changed.join().unwrap(), round + 1);
                    assert_eq!(*found.join().unwrap(), round + 1);
                    assert_eq!(mapped.join().unwrap(), 0);
                });
            }
        }
    }
    alone(|| each_config(&Another));
}

#[test]
fn any_other_stamp_is_a_change_a_newer_one_too() {
    alone(|| {
        let entity = logical(0);
        let seen = entity.changed(Stamp::new(7, 7)).wait();
        assert_eq!(seen.stamp(), BIRTH);
    });
}

#[test]
fn a_refused_value_wakes_nobody() {
    alone(|| {
        let even = |n: &u64| {
            if n.is_multiple_of(2) {
                Ok(())
            } else {
                Err("odd")
            }
        };
        let entity = Entity::builder(0).validate(even).try_build().unwrap();
        let task = Arc::<Task>::default();
        let mut waiting = entity.wait_for(|n| *n > 0);
        assert!(poll(&mut waiting, &task).is_pending());
        assert_eq!(
            entity.try_replace(1).map(drop).unwrap_err().into_proposed(),
            1
        );
        assert_eq!(task.wakes(), 0);
        set(&entity, 2);
        assert_eq!(task.wakes(), 1);
        assert!(poll(&mut waiting, &task).is_ready());
    });
}

#[test]
fn what_is_there_is_found_though_the_deadline_is_past() {
    alone(|| {
        let entity = logical(1);
        let past = now();
        assert_eq!(
            entity.wait_for(|n| *n == 1).wait_deadline(past).as_deref(),
            Ok(&1)
        );
        let found = entity.wait_for(|n| *n == 1).wait_timeout(Duration::ZERO);
        assert_eq!(found.as_deref(), Ok(&1));
        assert_eq!(entity.wait_for_map(|n| Some(*n)).wait_deadline(past), Ok(1));
    });
}

#[test]
fn what_does_not_come_in_time_is_timed_out() {
    alone(|| {
        let entity = logical(0_u64);
        let past = now();
        assert_eq!(entity.changed(BIRTH).wait_deadline(past), Err(TimedOut));
        for timeout in [Duration::ZERO, Duration::from_millis(1)] {
            assert_eq!(entity.changed(BIRTH).wait_timeout(timeout), Err(TimedOut));
            assert_eq!(
                entity.wait_for(|n| *n == 1).wait_timeout(timeout),
                Err(TimedOut)
            );
            let mapped = entity
                .wait_for_map(|n| n.checked_sub(1))
                .wait_timeout(timeout);
            assert_eq!(mapped, Err(TimedOut));
        }
        assert_eq!(
            TimedOut.to_string(),
            "what was waited for did not come in time"
        );
    });
}

#[allow(
    clippy::disallowed_methods,
    reason = "a deadline is an instant of the system's clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_timeout_that_no_clock_can_tell_is_none() {
    alone(|| {
        let entity = logical(0);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| entity.changed(BIRTH).wait_timeout(Duration::MAX));
            entity.replace(1);
            assert_eq!(waiter.join().unwrap().as_deref(), Ok(&1));
        });
    });
}

#[test]
fn whoever_times_out_takes_no_wake_up_along() {
    alone(|| {
        let last = fewer_if_slow(3_000) as u64;
        let entity = Entity::new(0);
        together(4, |thread| match thread {
            0 => (1..=last).for_each(|n| drop(entity.replace(n))),
            1 => assert_eq!(*entity.wait_for(|n| *n == last).wait(), last),
            // Give up now and now, at moments when they may just have been woken.
            _ => {
                let patience = Duration::from_micros(10 * thread as u64);
                while entity
                    .wait_for(|n| *n == last)
                    .wait_timeout(patience)
                    .is_err()
                {}
            }
        });
    });
}

#[test]
fn a_wait_that_was_polled_may_go_on_as_a_blocking_one() {
    alone(|| {
        let entity = logical(0);
        let task = Arc::<Task>::default();
        let mut waiting = entity.changed(BIRTH);
        assert!(poll(&mut waiting, &task).is_pending());
        thread::scope(|scope| {
            let waiter = scope.spawn(move || waiting.wait());
            entity.replace(1);
            assert_eq!(*waiter.join().unwrap(), 1);
        });
    });
}

#[test]
fn a_wait_that_was_polled_and_woken_may_go_on_as_a_blocking_one() {
    alone(|| {
        let entity = logical(0);
        let [first, second] = [(); 2].map(|()| Arc::<Task>::default());
        let mut woken = entity.changed(BIRTH);
        let mut other = entity.changed(BIRTH);
        assert!(poll(&mut woken, &first).is_pending());
        assert!(poll(&mut other, &second).is_pending());
        entity.replace(1);
        assert_eq!(first.wakes(), 1);
        assert_eq!(*woken.wait(), 1);
        assert_eq!(second.wakes(), 1, "and the other one is woken all the same");
    });
}

// In a task.

#[test]
fn it_can_be_awaited_on_any_runtime() {
    alone(|| {
        let entity = Entity::new(0);
        let wait = async |n| *entity.wait_for(move |now| *now == n).await;
        let plain = || pollster::block_on(wait(1));
        let current = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(wait(1))
        };
        let several = || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .build()
                .unwrap();
            let tasks = [(); 8].map(|()| {
                let entity = entity.clone();
                runtime.spawn(async move { *entity.wait_for(|n| *n == 1).await })
            });
            runtime.block_on(async {
                for task in tasks {
                    assert_eq!(task.await.unwrap(), 1);
                }
            });
            1
        };
        thread::scope(|scope| {
            let waiters = [
                scope.spawn(plain),
                scope.spawn(current),
                scope.spawn(several),
            ];
            entity.replace(1);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), 1);
            }
        });
    });
}

#[test]
fn tasks_and_threads_wait_for_each_other() {
    alone(|| {
        let rounds = fewer_if_slow(2_000) as u64;
        let entity = Entity::new(0_u64);
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in (0..2 * rounds).step_by(2) {
                    entity.wait_for(|now| *now == n).wait();
                    entity.replace(n + 1);
                }
            });
            pollster::block_on(async {
                for n in (1..2 * rounds).step_by(2) {
                    entity.wait_for(|now| *now == n).await;
                    entity.replace(n + 1);
                }
            });
        });
        assert_eq!(*entity.snapshot(), 2 * rounds);
    });
}

#[test]
fn a_select_that_goes_another_way_takes_no_wake_up_along() {
    alone(|| {
        let last = fewer_if_slow(2_000) as u64;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let (entity, tick) = (Entity::new(0), Entity::new(0_u64));
        let restless = (0..4).map(|_| {
            let (entity, tick) = (entity.clone(), tick.clone());
            runtime.spawn(async move {
                let mut given_up = 0;
                loop {
                    let seen = tick.snapshot().stamp();
                    tokio::select! {
                        _ = entity.wait_for(|n| *n == last) => return given_up,
                        _ = tick.changed(seen) => given_up += 1,
                    }
                }
            })
        });
        let restless: Vec<_> = restless.collect();
        let steady = {
            let entity = entity.clone();
            runtime.spawn(async move { *entity.wait_for(|n| *n == last).await })
        };
        for n in 1..=last {
            tick.replace(n);
            entity.replace(n);
        }
        runtime.block_on(async {
            assert_eq!(steady.await.unwrap(), last);
            for task in restless {
                task.await.unwrap();
            }
        });
    });
}

#[test]
fn whoever_is_dropped_after_it_was_woken_takes_no_wake_up_along() {
    alone(|| {
        let entity = logical(0);
        let tasks = [(); 4].map(|()| Arc::<Task>::default());
        let waiting = tasks.each_ref().map(|task| {
            let mut waiting = entity.changed(BIRTH);
            assert!(poll(&mut waiting, task).is_pending());
            waiting
        });
        entity.replace(1);
        assert_eq!(tasks[0].wakes(), 1);
        let [first, second, third, mut last] = waiting;
        drop((third, first, second));
        assert_eq!(tasks[3].wakes(), 1);
        assert!(poll(&mut last, &tasks[3]).is_ready());
    });
}

#[test]
fn whoever_is_dropped_before_a_commit_is_not_woken_by_it() {
    alone(|| {
        let entity = logical(0);
        let [first, second] = [(); 2].map(|()| Arc::<Task>::default());
        let mut given_up = entity.changed(BIRTH);
        let mut waiting = entity.changed(BIRTH);
        assert!(poll(&mut given_up, &first).is_pending());
        assert!(poll(&mut waiting, &second).is_pending());
        drop(given_up);
        assert_eq!(second.wakes(), 0);
        entity.replace(1);
        assert_eq!((first.wakes(), second.wakes()), (0, 1));
        assert_eq!(Arc::strong_count(&first), 1, "nor is its waker kept");
    });
}

#[test]
fn all_are_woken_though_one_of_them_is_dropped() {
    alone(|| {
        let entity = logical(0);
        let tasks = [(); 4].map(|()| Arc::<Task>::default());
        let mut waiting = tasks.each_ref().map(|task| {
            let mut waiting = entity.changed(BIRTH);
            assert!(poll(&mut waiting, task).is_pending());
            Some(waiting)
        });
        entity.replace(1);
        waiting[0] = None;
        let second = waiting[1].as_mut().map(|second| poll(second, &tasks[1]));
        assert!(second.is_some_and(|second| second.is_ready()));
        assert_eq!(tasks.map(|task| task.wakes()), [1; 4]);
    });
}

#[test]
fn whoever_waits_again_is_woken_again() {
    alone(|| {
        let entity = logical(0);
        let [first, second] = [(); 2].map(|()| Arc::<Task>::default());
        let mut for_three = entity.wait_for(|n| *n == 3);
        let mut for_two = entity.wait_for(|n| *n == 2);
        assert!(poll(&mut for_three, &first).is_pending());
        assert!(poll(&mut for_two, &second).is_pending());
        for n in 1..=3 {
            entity.replace(n);
            let ready = [
                poll(&mut for_three, &first).is_ready(),
                n <= 2 && poll(&mut for_two, &second).is_ready(),
            ];
            assert_eq!(ready, [n == 3, n == 2]);
        }
        assert_eq!((first.wakes(), second.wakes()), (3, 2));
    });
}

#[test]
fn the_task_that_polled_last_is_woken() {
    alone(|| {
        let entity = logical(0);
        let [first, second] = [(); 2].map(|()| Arc::<Task>::default());
        let mut waiting = entity.changed(BIRTH);
        assert!(poll(&mut waiting, &first).is_pending());
        assert!(poll(&mut waiting, &second).is_pending());
        entity.replace(1);
        assert_eq!((first.wakes(), second.wakes()), (0, 1));
        assert!(poll(&mut waiting, &first).is_ready());
    });
}

#[test]
fn a_poll_without_a_wake_up_changes_nothing() {
    alone(|| {
        let entity = logical(0);
        let task = Arc::<Task>::default();
        let mut looks = 0;
        let mut waiting = entity.wait_for(|n| {
            looks += 1;
            *n == 1
        });
        for _ in 0..10 {
            assert!(poll(&mut waiting, &task).is_pending());
        }
        entity.replace(1);
        assert_eq!(task.wakes(), 1);
        assert!(poll(&mut waiting, &task).is_ready());
        drop(waiting);
        assert_eq!(looks, 2, "at first, and after the change");
    });
}

#[test]
fn a_wait_goes_on_on_another_thread() {
    alone(|| {
        let entity = logical(0);
        let task = Arc::<Task>::default();
        let mut waiting = entity.changed(BIRTH);
        assert!(poll(&mut waiting, &task).is_pending());
        thread::scope(|scope| {
            let waiter = scope.spawn(move || pollster::block_on(waiting));
            entity.replace(1);
            assert_eq!(*waiter.join().unwrap(), 1);
        });
    });
}

#[test]
fn a_poll_after_the_end_looks_once_more() {
    alone(|| {
        let entity = logical(1);
        let task = Arc::<Task>::default();
        let mut waiting = entity.wait_for(|n| *n != 2);
        assert!(poll(&mut waiting, &task).is_ready());
        assert!(poll(&mut waiting, &task).is_ready());
        entity.replace(2);
        assert!(poll(&mut waiting, &task).is_pending());
        entity.replace(3);
        assert_eq!(task.wakes(), 1);
        assert!(poll(&mut waiting, &task).is_ready());
    });
}

#[test]
fn a_wait_that_is_never_polled_waits_for_nothing() {
    alone(|| {
        let entity = logical(0);
        let task = Arc::<Task>::default();
        let idle = entity.changed(BIRTH);
        let mut waiting = entity.changed(BIRTH);
        assert!(poll(&mut waiting, &task).is_pending());
        entity.replace(1);
        assert_eq!(task.wakes(), 1);
        drop(idle);
    });
}

#[test]
fn a_commit_wakes_a_few_itself_however_many_wait_and_all_are_woken() {
    /// A task that knows whether it was woken by the thread that polled it.
    struct Near {
        task: Arc<Task>,
        near: Arc<Task>,
        home: thread::ThreadId,
    }
    impl Wake for Near {
        fn wake(self: Arc<Self>) {
            if thread::current().id() == self.home {
                Arc::clone(&self.near).wake();
            }
            Arc::clone(&self.task).wake();
        }
    }

    alone(|| {
        let counts = [500, fewer_if_slow(10_000)].map(|crowd| {
            let entity = logical(0);
            let near = Arc::<Task>::default();
            let tasks: Vec<_> = (0..crowd).map(|_| Arc::<Task>::default()).collect();
            let mut waiting: Vec<_> = tasks
                .iter()
                .map(|task| {
                    let near = Near {
                        task: Arc::clone(task),
                        near: Arc::clone(&near),
                        home: thread::current().id(),
                    };
                    (entity.wait_for(|n| *n == 2), Waker::from(Arc::new(near)))
                })
                .collect();
            for (waiting, waker) in &mut waiting {
                assert!(poll_by(waiting, waker).is_pending());
            }
            entity.replace(1);
            let in_the_commit = near.wakes();
            // Those who don't look any more don't wait for this one.
            entity.replace(2);
            // All are woken by the first one, and each is then there.
            for ((waiting, waker), task) in waiting.iter_mut().zip(&tasks) {
                while task.wakes() == 0 {
                    thread::yield_now();
                }
                assert!(poll_by(waiting, waker).is_ready());
            }
            assert!(tasks.iter().all(|task| task.wakes() == 1), "and once only");
            in_the_commit
        });
        assert_eq!(
            counts[0], counts[1],
            "a commit's cost doesn't depend on their number"
        );
        assert!((1..500).contains(&counts[0]));
    });
}

/// A task of a thread that runs several.
struct Unpark {
    thread: thread::Thread,
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

#[test]
fn nobody_hangs_where_others_give_up_at_random() {
    alone(|| {
        const EACH: usize = 16;
        const LAST: u64 = 20;
        let mut given_up = 0;
        for round in 0..fewer_if_slow(200) {
            let (entity, start) = (Entity::new(0_u64), Barrier::new(4));
            let ends = together(4, |thread| {
                start.wait();
                if thread == 0 {
                    (1..=LAST).for_each(|n| drop(entity.replace(n)));
                    return (0, 0);
                }
                let mut random = fastrand::Rng::with_seed((4 * round + thread) as u64);
                let mut tasks: Vec<_> = (0..EACH)
                    .map(|_| {
                        let unpark = Arc::new(Unpark {
                            thread: thread::current(),
                            is_woken: AtomicBool::new(true),
                        });
                        (entity.wait_for(|n| *n == LAST), unpark)
                    })
                    .collect();
                let (mut woken, mut given_up) = (0, 0);
                while !tasks.is_empty() {
                    // Somebody goes, who may have been woken.
                    if random.u8(..3) == 0 {
                        drop(tasks.swap_remove(random.usize(..tasks.len())));
                        given_up += 1;
                    }
                    let mut polled = false;
                    tasks.retain_mut(|(waiting, task)| {
                        if !task.is_woken.swap(false, Ordering::SeqCst) {
                            return true;
                        }
                        polled = true;
                        let is_ready = poll_by(waiting, &Arc::clone(task).into()).is_ready();
                        woken += usize::from(is_ready);
                        !is_ready
                    });
                    if !polled && !tasks.is_empty() {
                        thread::park();
                    }
                }
                (woken, given_up)
            });
            let gave_up: usize = ends.iter().map(|(_, given_up)| given_up).sum();
            let woken: usize = ends.iter().map(|(woken, _)| woken).sum();
            assert_eq!(woken + gave_up, 3 * EACH, "each was woken, or gave up");
            given_up += gave_up;
        }
        assert!(given_up > 0, "nobody gave up, so nothing was shown");
    });
}

// What a condition may do.

#[test]
fn a_condition_that_panics_leaves_nothing_behind() {
    alone(|| {
        let entity = logical(0);
        let tasks = [(); 3].map(|()| Arc::<Task>::default());
        let careful = |n: &u32| {
            assert!(*n != 1, "one is bad");
            *n == 2
        };
        let mut panics = entity.wait_for(careful);
        let mut others = [(); 2].map(|()| entity.wait_for(|n| *n == 2));
        assert!(poll(&mut panics, &tasks[0]).is_pending());
        for (other, task) in others.iter_mut().zip(&tasks[1..]) {
            assert!(poll(other, task).is_pending());
        }
        entity.replace(1);
        assert_eq!(
            panic_of(|| poll(&mut panics, &tasks[0]).is_ready()),
            "one is bad"
        );
        assert!(
            tasks.iter().all(|task| task.wakes() == 1),
            "the others are woken"
        );
        for (other, task) in others.iter_mut().zip(&tasks[1..]) {
            assert!(poll(other, task).is_pending());
        }
        assert_eq!(panic_of(|| entity.wait_for(careful).wait()), "one is bad");
        entity.replace(2);
        assert_eq!(tasks[0].wakes(), 1, "it doesn't wait any more");
        assert!(
            poll(&mut panics, &tasks[0]).is_ready(),
            "it may go on, even"
        );
        for (other, task) in others.iter_mut().zip(&tasks[1..]) {
            assert!(poll(other, task).is_ready());
        }
    });
}

#[test]
fn a_condition_that_panics_on_a_thread_costs_no_other_its_wake_up() {
    alone(|| {
        let entity = Entity::new(0);
        let panicked = together(6, |thread| match thread {
            0 => {
                entity.replace(1);
                entity.replace(2);
                false
            }
            1..4 => {
                let condition = |n: &u32| if *n == 2 { panic!("two is bad") } else { false };
                panic_of(|| entity.wait_for(condition).wait()) == "two is bad"
            }
            _ => *entity.wait_for(|n| *n == 2).wait() != 2,
        });
        assert_eq!(panicked, [false, true, true, true, false, false]);
    });
}

#[test]
fn a_condition_may_commit_to_the_entity_that_it_looks_at() {
    alone(|| {
        let entity = logical(0);
        let found = entity.wait_for(|n| {
            if *n < 5 {
                entity.replace(n + 1);
            }
            *n == 5
        });
        assert_eq!(found.wait().stamp(), Stamp::new(5, 5));
        let task = Arc::<Task>::default();
        let mut waiting = entity.wait_for(|n| {
            if *n < 8 {
                entity.replace(n + 1);
            }
            *n == 9
        });
        assert!(
            poll(&mut waiting, &task).is_pending(),
            "at 8 there is nothing to do"
        );
        assert_eq!(*entity.snapshot(), 8);
        entity.replace(9);
        assert_eq!(task.wakes(), 1);
        assert!(poll(&mut waiting, &task).is_ready());
    });
}

#[test]
fn a_condition_may_wait_itself() {
    alone(|| {
        let (outer, inner) = (Entity::new(0), Entity::new(0));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let both = |n: &u32| *n == 1 && *inner.wait_for(|n| *n == 1).wait() == 1;
                *outer.wait_for(both).wait()
            });
            outer.replace(1);
            inner.replace(1);
            assert_eq!(waiter.join().unwrap(), 1);
        });
    });
}

#[test]
fn a_closure_that_computes_may_wait_for_the_very_entity() {
    alone(|| {
        let entity = Entity::new(0);
        let looks = AtomicUsize::new(0);
        thread::scope(|scope| {
            let computing = scope.spawn(|| {
                let committed = entity.update(|seen| {
                    if looks.fetch_add(1, Ordering::SeqCst) == 0 {
                        let in_vain = entity.wait_for(|n| *n == 7).wait_timeout(Duration::ZERO);
                        assert_eq!(in_vain, Err(TimedOut));
                    }
                    entity.wait_for(|n| *n == 1).wait();
                    seen + 10
                });
                *committed.current()
            });
            while looks.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            entity.replace(1);
            assert_eq!(computing.join().unwrap(), 11, "computed again from the 1");
        });
        assert!(entity.read(|_| *entity.wait_for(|n| *n == 11).wait() == 11));
    });
}

// Many threads.

#[test]
fn everybody_sees_the_last_of_many_commits() {
    struct Crowd;
    impl Check for Crowd {
        fn check<E: Send + 'static>(&self, entity: Entity<u64, E>) {
            let (last, start) = (fewer_if_slow(900) as u64, Barrier::new(8));
            let seen = together(8, |thread| {
                start.wait();
                match thread {
                    0 => (1..=last).for_each(|n| set(&entity, n)),
                    1..4 => drop(entity.wait_for(|n| *n == last).wait()),
                    4 => drop(pollster::block_on(entity.wait_for(|n| *n == last))),
                    // Each change that they get to see is newer than the one before.
                    _ => {
                        let mut seen = entity.snapshot();
                        while *seen != last {
                            let next = entity.changed(seen.stamp()).wait();
                            assert!(next.stamp() > seen.stamp() && *next > *seen);
                            seen = next;
                        }
                    }
                }
                *entity.snapshot()
            });
            assert_eq!(seen, [last; 8]);
        }
    }
    alone(|| each_config(&Crowd));
}

#[test]
fn a_token_goes_round_a_ring_of_threads() {
    alone(|| {
        const THREADS: usize = 8;
        let laps = fewer_if_slow(1_000);
        let turn = Entity::new(0_usize);
        together(THREADS, |thread| {
            for lap in 0..laps {
                let mine = lap * THREADS + thread;
                turn.wait_for(|turn| *turn == mine).wait();
                turn.update(|turn| turn + 1);
            }
        });
        assert_eq!(*turn.snapshot(), laps * THREADS);
        assert_eq!(turn.snapshot().stamp().version(), (laps * THREADS) as u64);
    });
}

#[test]
fn a_token_goes_along_a_chain_of_entities() {
    alone(|| {
        const THREADS: usize = 8;
        let laps = fewer_if_slow(500) as u64;
        let chain = [(); THREADS].map(|()| Entity::new(0_u64));
        together(THREADS, |thread| {
            for lap in 1..=laps {
                if thread > 0 {
                    chain[thread - 1].wait_for(|n| *n >= lap).wait();
                } else {
                    // Not before the last one is done with the lap before.
                    chain[THREADS - 1].wait_for(|n| *n == lap - 1).wait();
                }
                chain[thread].replace(lap);
            }
        });
        for link in chain {
            assert_eq!(*link.snapshot(), laps);
        }
    });
}

#[test]
fn a_writer_waits_until_its_values_were_taken() {
    alone(|| {
        let rounds = fewer_if_slow(1_000);
        let tally = Tally::default();
        let slot = Entity::new(None);
        let taken = together(2, |thread| {
            let mut taken = Vec::new();
            for _ in 0..rounds {
                if thread == 0 {
                    slot.wait_for(Option::is_none).wait();
                    slot.replace(Some(Arc::new(tally.token())));
                } else {
                    let token = slot.wait_for_map(|slot: &Option<Arc<Token>>| slot.clone());
                    taken.push(token.wait().number());
                    slot.replace(None);
                }
            }
            taken
        });
        assert_eq!(taken[1], (0..rounds).collect::<Vec<_>>());
        snapcell::reclaim();
        tally.assert_all_dropped_once(rounds);
    });
}

// By a watch.

#[test]
fn a_watch_knows_what_was_seen() {
    alone(|| {
        let entity = logical(0);
        let mut watch = entity.watch();
        assert_eq!((**watch.seen(), watch.stamp()), (0, BIRTH));
        assert!(!watch.has_changed(), "what is current counts as seen");
        entity.replace(1);
        assert!(watch.has_changed());
        assert_eq!(**watch.seen(), 0, "until somebody looks");
        assert_eq!(**watch.get(), 1);
        assert!(!watch.has_changed());
        assert_eq!(watch.stamp(), Stamp::new(1, 1));
        entity.replace(2);
        entity.replace(3);
        assert_eq!(*watch.changed().wait().unwrap(), 3, "the latest, not each");
        assert!(!watch.has_changed());
        assert_eq!((**watch.seen(), watch.is_closed()), (3, false));
    });
}

#[test]
fn what_was_seen_can_be_made_unseen() {
    alone(|| {
        let entity = logical(0);
        let mut watch = entity.watch();
        watch.mark_unseen();
        assert!(watch.has_changed());
        assert_eq!(*watch.changed().wait().unwrap(), 0, "at once");
        watch.mark_unseen();
        assert_eq!(**watch.get(), 0);
        assert!(!watch.has_changed(), "a look is a look");
        watch.mark_unseen();
        entity.replace(1);
        assert_eq!(*watch.changed().wait().unwrap(), 1);
        let task = Arc::<Task>::default();
        assert!(poll(&mut watch.changed(), &task).is_pending(), "once only");
        drop(entity);
        watch.mark_unseen();
        assert_eq!(
            watch.changed().wait().as_deref(),
            Ok(&1),
            "the last one too"
        );
        assert_eq!(watch.changed().wait(), Err(Closed));
    });
}

#[test]
fn a_wait_that_is_given_up_has_seen_nothing() {
    alone(|| {
        let entity = logical(0);
        let task = Arc::<Task>::default();
        let mut watch = entity.watch();
        assert!(poll(&mut watch.changed(), &task).is_pending());
        let mut given_up = watch.changed();
        assert!(poll(&mut given_up, &task).is_pending());
        entity.replace(1);
        drop(given_up);
        assert!(watch.has_changed());
        assert_eq!(*watch.changed().wait().unwrap(), 1);
    });
}

#[test]
fn a_watch_waits_for_a_condition_and_what_fulfils_it_is_seen() {
    alone(|| {
        let entity = logical(0);
        let mut watch = entity.watch();
        assert_eq!(
            *watch.wait_for(|n| *n == 0).wait().unwrap(),
            0,
            "seen or not"
        );
        let timeout = watch.wait_for(|n| *n == 2).wait_timeout(Duration::ZERO);
        assert_eq!(timeout, Err(TimedOut));
        entity.replace(1);
        let in_vain = watch.wait_for(|n| *n == 2).wait_timeout(Duration::ZERO);
        assert_eq!(in_vain, Err(TimedOut));
        assert!(watch.has_changed(), "what is not it is not seen");
        entity.replace(2);
        assert_eq!(*watch.wait_for(|n| *n == 2).wait().unwrap(), 2);
        assert!(!watch.has_changed());
        drop(entity);
        assert_eq!(watch.wait_for(|n| *n == 2).wait().as_deref(), Ok(&2));
        assert_eq!(watch.wait_for(|n| *n == 3).wait(), Err(Closed));
        assert_eq!(Closed.to_string(), "the entity is closed");
    });
}

#[test]
fn the_last_value_comes_before_the_end() {
    struct Last;
    impl Check for Last {
        fn check<E: Send + 'static>(&self, entity: Entity<u64, E>) {
            let mut watches = [(); 3].map(|()| entity.watch());
            set(&entity, 1);
            drop(entity.clone());
            assert!(!watches[0].is_closed(), "another handle is left");
            set(&entity, 2);
            drop(entity);
            for watch in &mut watches {
                assert!(watch.is_closed() && watch.has_changed());
                assert_eq!(watch.changed().wait().as_deref(), Ok(&2));
                assert_eq!(watch.changed().wait(), Err(Closed));
                assert_eq!(watch.changed().wait(), Err(Closed), "and so it remains");
                assert_eq!(**watch.get(), 2);
                assert!(!watch.has_changed());
            }
        }
    }
    alone(|| each_config(&Last));
}

#[test]
fn the_end_wakes_everybody() {
    alone(|| {
        for _ in 0..fewer_if_slow(500) {
            let entity = Entity::new(0);
            let watches = Mutex::new([(); 4].map(|()| entity.watch()).to_vec());
            let entity = Mutex::new(Some(entity));
            let start = Barrier::new(5);
            together(5, |thread| {
                if thread == 0 {
                    let entity = entity.lock().unwrap().take();
                    start.wait();
                    return drop(entity);
                }
                let mut watch = watches.lock().unwrap().pop().unwrap();
                start.wait();
                let end = match thread {
                    1 | 2 => watch.changed().wait(),
                    3 => watch.wait_for(|n| *n == 1).wait(),
                    _ => pollster::block_on(watch.changed()),
                };
                assert_eq!(end, Err(Closed));
            });
        }
    });
}

#[test]
fn an_entity_that_is_given_up_for_its_value_is_closed() {
    alone(|| {
        let entity = logical(0);
        let mut watch = entity.watch();
        entity.replace(1);
        let refused = entity.into_inner();
        assert_eq!(*refused.unwrap_err(), 1, "somebody watches it");
        assert!(watch.is_closed());
        assert_eq!(watch.changed().wait().as_deref(), Ok(&1));
        assert_eq!(watch.changed().wait(), Err(Closed));

        let entity = logical(2);
        drop(entity.watch());
        assert_eq!(entity.into_inner(), Ok(2), "nobody watches any more");
    });
}

#[test]
fn a_clone_of_a_watch_has_seen_the_same_and_goes_its_own_way() {
    alone(|| {
        let entity = logical(0);
        let mut first = entity.watch();
        entity.replace(1);
        let mut second = first.clone();
        assert!(second.has_changed());
        assert_eq!(**second.seen(), 0);
        assert_eq!(**first.get(), 1);
        assert!(second.has_changed());
        first.mark_unseen();
        let third = first.clone();
        assert!(third.has_changed());
        drop((entity, first));
        assert_eq!(second.changed().wait().as_deref(), Ok(&1));
        assert_eq!(second.clone().changed().wait(), Err(Closed));
        drop(second);
        assert_eq!(**third.seen(), 1);
    });
}

#[test]
fn the_last_watch_ends_the_last_value() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let mut first = entity.watch();
        let second = entity.watch();
        entity.replace(tally.token());
        entity.replace(tally.token());
        snapcell::reclaim();
        assert_eq!(
            tally.alive(),
            [0, 2],
            "what they have seen, and what is current"
        );
        drop(entity);
        assert_eq!(tally.alive(), [0, 2]);
        assert_eq!(first.get().number(), 2);
        assert_eq!(tally.alive(), [0, 2]);
        elsewhere(move || drop(second));
        assert_eq!(tally.alive(), [2]);
        elsewhere(move || drop(first));
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn watches_handles_and_commits_race_and_nothing_is_lost() {
    alone(|| {
        let made = AtomicUsize::new(0);
        let tally = Tally::default();
        let token = || {
            made.fetch_add(1, Ordering::Relaxed);
            tally.token()
        };
        for _ in 0..fewer_if_slow(500) {
            let entity = Entity::new(token());
            let watches = Mutex::new(vec![entity.watch(), entity.watch()]);
            let handles = Mutex::new(vec![entity.clone(), entity]);
            let start = Barrier::new(4);
            together(4, |thread| {
                if thread < 2 {
                    let handle = handles.lock().unwrap().pop().unwrap();
                    start.wait();
                    let other = handle.clone();
                    other.replace(token());
                    drop(other.watch());
                    drop(handle);
                    other.replace(token());
                } else {
                    let mut watch = watches.lock().unwrap().pop().unwrap();
                    start.wait();
                    let mut other = watch.clone();
                    while watch.changed().wait().is_ok() {}
                    // Closed for one, closed for all; and all saw the same one last.
                    assert!(other.is_closed());
                    assert_eq!(other.get().number(), watch.seen().number());
                }
            });
        }
        snapcell::reclaim();
        tally.assert_all_dropped_once(made.into_inner());
    });
}

#[test]
fn a_consumer_sees_newer_and_newer_ones_the_last_of_them_and_the_end() {
    alone(|| {
        let last = fewer_if_slow(5_000);
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let watches = [(); 4].map(|()| entity.watch());
        let seen = thread::scope(|scope| {
            let consumers = watches.map(|mut watch| {
                scope.spawn(move || {
                    let mut seen = vec![watch.seen().number()];
                    while let Ok(next) = watch.changed().wait() {
                        seen.push(next.number());
                    }
                    seen
                })
            });
            for _ in 0..last {
                entity.replace(tally.token());
            }
            drop(entity);
            consumers.map(|consumer| consumer.join().unwrap())
        });
        for seen in seen {
            assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
            assert_eq!((seen.first(), seen.last()), (Some(&0), Some(&last)));
        }
        snapcell::reclaim();
        tally.assert_all_dropped_once(last + 1);
    });
}

// By a closure that is called.

#[test]
fn a_callback_is_called_with_the_latest_and_with_the_last() {
    struct Called;
    impl Check for Called {
        fn check<E: Send + 'static>(&self, entity: Entity<u64, E>) {
            let (tell, told) = channel();
            let callback = entity.on_commit(move |seen| tell.send(**seen).unwrap());
            for n in 1..=900 {
                set(&entity, n);
            }
            drop(entity);
            callback.join().unwrap();
            let calls: Vec<u64> = told.iter().collect();
            assert!(calls.is_sorted_by(|a, b| a < b), "{calls:?}");
            assert_eq!(calls.last(), Some(&900));
        }
    }
    alone(|| each_config(&Called));
}

#[test]
fn changes_that_come_while_it_runs_are_one_call() {
    alone(|| {
        let entity = logical(0);
        let (tell, told) = channel();
        let (go_on, gone_on) = channel();
        let callback = entity.on_commit(move |seen| {
            tell.send(**seen).unwrap();
            gone_on.recv().unwrap();
        });
        entity.replace(1);
        assert_eq!(told.recv(), Ok(1));
        for n in 2..=9 {
            entity.replace(n);
        }
        go_on.send(()).unwrap();
        assert_eq!(told.recv(), Ok(9));
        go_on.send(()).unwrap();
        callback.stop().unwrap();
        assert!(told.recv().is_err(), "the closure is gone");
    });
}

#[test]
fn what_is_current_at_the_start_is_no_change() {
    alone(|| {
        let entity = logical(1);
        let (tell, told) = channel();
        let callback = entity.on_commit(move |seen| tell.send(**seen).unwrap());
        drop(entity);
        callback.join().unwrap();
        assert!(told.recv().is_err());
    });
}

#[test]
fn stop_waits_for_the_end_of_a_call_and_comes_before_the_next() {
    alone(|| {
        let entity = logical(0);
        let ended = Arc::new(AtomicBool::new(false));
        let (tell, told) = channel();
        let (go_on, gone_on) = channel::<()>();
        let callback = {
            let ended = Arc::clone(&ended);
            entity.on_commit(move |seen| {
                tell.send(**seen).unwrap();
                gone_on.recv().unwrap();
                ended.store(true, Ordering::SeqCst);
            })
        };
        entity.replace(1);
        assert_eq!(told.recv(), Ok(1));
        thread::scope(|scope| {
            let stop = scope.spawn(|| {
                callback.stop().unwrap();
                ended.load(Ordering::SeqCst)
            });
            go_on.send(()).unwrap();
            assert!(stop.join().unwrap(), "it has waited");
        });
        entity.replace(2);
        assert!(told.recv().is_err(), "there are no more calls");
        assert_eq!(entity.into_inner(), Ok(2), "nobody watches any more");
    });
}

#[test]
fn drop_stops_the_calls_and_waits_for_nobody() {
    alone(|| {
        let entity = logical(0);
        let (tell, told) = channel();
        let (go_on, gone_on) = channel::<()>();
        let callback = entity.on_commit(move |seen| {
            tell.send(**seen).unwrap();
            gone_on.recv().unwrap();
        });
        entity.replace(1);
        assert_eq!(told.recv(), Ok(1));
        entity.replace(2);
        drop(callback);
        go_on.send(()).unwrap();
        assert!(told.recv().is_err(), "not a second call");
    });
}

#[test]
fn the_panic_of_a_callback_comes_out_where_its_end_is_awaited() {
    alone(|| {
        type Await = fn(Callback<u32>) -> Result<(), Box<dyn std::any::Any + Send>>;
        for end in [Callback::join as Await, Callback::stop as Await] {
            let entity = logical(0);
            let (tell, told) = channel();
            let callback = entity.on_commit(move |seen| {
                tell.send(**seen).unwrap();
                panic!("planned");
            });
            let mut watch = entity.watch();
            entity.replace(1);
            assert_eq!(told.recv(), Ok(1));
            assert!(told.recv().is_err(), "the closure is gone");
            entity.replace(2);
            assert_eq!(*watch.changed().wait().unwrap(), 2, "others don't notice");
            let panic = end(callback).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"planned"));
        }
    });
}

#[test]
fn a_callback_may_commit_to_the_entity_that_it_looks_at() {
    alone(|| {
        let entity = logical(0);
        let callback = {
            let entity = entity.clone();
            entity.clone().on_commit(move |seen| {
                if **seen % 2 == 1 {
                    entity.update(|n| n + 1);
                }
            })
        };
        for n in (0..20).step_by(2) {
            entity.replace(n + 1);
            assert_eq!(*entity.wait_for(|now| *now == n + 2).wait(), n + 2);
        }
        callback.stop().unwrap();
        assert_eq!(entity.into_inner(), Ok(20));
    });
}

#[test]
fn a_callback_may_be_dropped_in_its_own_closure() {
    alone(|| {
        let entity = logical(0);
        let slot = Arc::new(Mutex::new(None));
        let (tell, told) = channel();
        let callback = {
            let slot = Arc::clone(&slot);
            entity.on_commit(move |seen| {
                drop(slot.lock().unwrap().take());
                tell.send(**seen).unwrap();
            })
        };
        *slot.lock().unwrap() = Some(callback);
        entity.replace(1);
        assert_eq!(told.recv(), Ok(1));
        assert!(told.recv().is_err(), "that was the last call");
        entity.replace(2);
    });
}

#[test]
fn many_callbacks_see_the_last_value_each() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let (tell, told) = channel();
        let callbacks: Vec<_> = (0..16)
            .map(|nth| {
                let tell = tell.clone();
                entity.on_commit(move |seen| tell.send((nth, seen.number())).unwrap())
            })
            .collect();
        drop(tell);
        for _ in 0..100 {
            entity.replace(tally.token());
        }
        drop(entity);
        for callback in callbacks {
            callback.join().unwrap();
        }
        let mut last = [0; 16];
        for (nth, number) in told {
            assert!(number > last[nth]);
            last[nth] = number;
        }
        assert_eq!(last, [100; 16]);
        snapcell::reclaim();
        tally.assert_all_dropped_once(101);
    });
}

// What user code may do to it: wakers.

/// A waker that panics, or does what else it is told to.
struct Call<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Call<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

#[test]
fn a_commit_does_not_panic_where_a_waker_does() {
    alone(|| {
        let entity = logical(0);
        let waker = Waker::from(Arc::new(Call(|| panic!("planned"))));
        let mut waiting = entity.changed(BIRTH);
        assert!(poll_by(&mut waiting, &waker).is_pending());
        let before = snapcell::destructor_panics();
        entity.replace(1);
        assert_eq!(snapcell::destructor_panics() - before, 1);
        // What is left of it is another matter.
        std::mem::forget(waiting);
        entity.replace(2);
        assert_eq!(*entity.wait_for(|n| *n == 2).wait(), 2);
    });
}

#[test]
fn a_waker_that_panics_costs_nobody_a_wake_up() {
    alone(|| {
        let entity = logical(0);
        let waker = Waker::from(Arc::new(Call(|| panic!("planned"))));
        let tasks: Vec<_> = (0..100).map(|_| Arc::<Task>::default()).collect();
        let mut panics: Vec<_> = (0..3).map(|_| entity.changed(BIRTH)).collect();
        let mut others: Vec<_> = tasks.iter().map(|_| entity.changed(BIRTH)).collect();
        for panics in &mut panics {
            assert!(poll_by(panics, &waker).is_pending());
        }
        for (other, task) in others.iter_mut().zip(&tasks) {
            assert!(poll(other, task).is_pending());
        }
        let before = snapcell::destructor_panics();
        entity.replace(1);
        assert!(poll_by(&mut panics[0], &waker).is_ready());
        for (other, task) in others.iter_mut().zip(&tasks) {
            while task.wakes() == 0 {
                thread::yield_now();
            }
            assert!(poll(other, task).is_ready());
        }
        assert_eq!(snapcell::destructor_panics() - before, 3);
        drop(panics);
        entity.replace(2);
        assert_eq!(*entity.wait_for(|n| *n == 2).wait(), 2);
    });
}

/// A task of an executor that keeps its tasks in their wakers only, and that has gone.
struct Orphan(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Wake for Orphan {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_that_is_the_last_to_hold_its_task_drops_it() {
    alone(|| {
        let entity = logical(0);
        let dropped = Arc::<Task>::default();
        let task = {
            let (entity, dropped) = (entity.clone(), DropFlag(Arc::clone(&dropped)));
            let body = async move {
                entity.wait_for(|n| *n == 2).await;
                drop(dropped);
            };
            Arc::new(Orphan(Mutex::new(Some(Box::pin(body)))))
        };
        let waker = Waker::from(Arc::clone(&task));
        let mut body = task.0.lock().unwrap().take().unwrap();
        assert!(
            body.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        *task.0.lock().unwrap() = Some(body);
        drop((task, waker));
        assert_eq!(dropped.wakes(), 0);
        entity.replace(1);
        assert_eq!(dropped.wakes(), 1);
        entity.replace(2);
    });
}

/// Wakes its task when it is dropped.
struct DropFlag(Arc<Task>);

impl Drop for DropFlag {
    fn drop(&mut self) {
        Arc::clone(&self.0).wake();
    }
}

#[test]
fn a_waker_may_wait_and_commit() {
    alone(|| {
        let entity = logical(0);
        let waker = {
            let entity = entity.clone();
            Waker::from(Arc::new(Call(move || {
                entity.update(|n| n + 1);
                entity.wait_for(|n| *n > 1).wait();
            })))
        };
        let mut waiting = entity.changed(BIRTH);
        assert!(poll_by(&mut waiting, &waker).is_pending());
        entity.replace(1);
        assert_eq!(*entity.snapshot(), 2);
        assert!(poll_by(&mut waiting, &waker).is_ready());
    });
}

// What the types promise.

#[test]
fn what_waits_may_be_sent_and_shared() {
    alone(|| {
        fn check<T: Send + Sync + Unpin>(_: &T) {}
        let entity = Entity::new(0);
        let mut watch = entity.watch();
        check(&entity.changed(BIRTH));
        check(&entity.wait_for(|n| *n == 1));
        check(&entity.wait_for_map(|n| Some(*n)));
        check(&watch.changed());
        check(&watch.wait_for(|n| *n == 1));
        check(&watch);
        check(&entity.on_commit(|_| {}));
        check(&TimedOut);
        check(&Closed);
        // The error of a validator stays where it is.
        type Homebound = std::rc::Rc<str>;
        let validated = Entity::builder(0).validate(|_| Ok::<(), Homebound>(()));
        let validated = validated.try_build().unwrap();
        check(&validated.changed(BIRTH));
        check(&validated.watch());
        check(&validated.on_commit(|_| {}));
    });
}

#[test]
fn what_waits_may_cross_a_caught_panic() {
    alone(|| {
        fn check<T: UnwindSafe>(_: &T) {}
        check(&TimedOut);
        check(&Closed);
        let entity = Entity::new(0);
        check(&entity.watch());
        let caught = catch_unwind(AssertUnwindSafe(|| {
            entity.wait_for(|_| panic!("planned")).wait()
        }));
        assert!(caught.is_err());
    });
}

#[test]
fn errors_are_small_and_can_be_boxed() {
    fn check<T: Copy + Eq + std::fmt::Debug + std::error::Error + Send + Sync + 'static>(error: T) {
        assert_eq!(size_of::<T>(), 0);
        let boxed: Box<dyn std::error::Error + Send + Sync> = error.into();
        assert_eq!(boxed.downcast_ref(), Some(&error));
    }
    check(TimedOut);
    check(Closed);
}

#[test]
fn debug_output_tells_what_there_is_to_know() {
    alone(|| {
        let entity = logical(5);
        let mut waiting = entity.changed(BIRTH);
        assert_eq!(
            format!("{waiting:?}"),
            "Waiting { is_registered: false, .. }"
        );
        assert!(poll(&mut waiting, &Arc::default()).is_pending());
        assert_eq!(
            format!("{waiting:?}"),
            "Waiting { is_registered: true, .. }"
        );
        let watch = entity.watch();
        assert_eq!(
            format!("{watch:?}"),
            "Watch { seen: 5, stamp: 0@0, has_changed: false, is_closed: false }"
        );
        entity.replace(6);
        let callback = entity.on_commit(|_| {});
        assert_eq!(
            format!("{callback:?}"),
            "Callback { is_stopped: false, .. }"
        );
        drop(waiting);
        drop(entity);
        assert_eq!(
            format!("{watch:?}"),
            "Watch { seen: 5, stamp: 0@0, has_changed: true, is_closed: true }"
        );
        assert_eq!(format!("{TimedOut:?} {Closed:?}"), "TimedOut Closed");
        callback.join().unwrap();
    });
}
