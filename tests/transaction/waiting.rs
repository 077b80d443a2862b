//! `retry`: waiting for a change of what was read, on a thread and in a task. Whoever waits is woken by each
//! way to commit, and by nothing else is anything published.
//!
//! Where a thread is to sleep before somebody commits, nobody can know whether it does yet. So the tests
//! commit when it has looked; that it may be on its way to sleep, or asleep, or hasn't begun, are all cases
//! that must come out right, and each is met in some of the rounds.

use super::support::{Tally, elsewhere, panic_of, together};
use super::{alone, bounded, fewer_if_slow, logical, overtake, values, version};
use snapcell::{
    Changes, Entity, Restart, Retry, Snapshot, Stop, Transact, Transacting, Transaction,
    TransactionError, transaction, transaction_or_abort, try_transaction,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

/// A task, as an executor knows it: how often it was woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Task {
    fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls it once, as a part of the task.
fn poll<R>(future: &mut (impl Future<Output = R> + Unpin), task: &Arc<Task>) -> Poll<R> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(task))))
}

/// A task that takes the number of an entity as soon as it isn't zero.
fn taking<'e>(
    entity: &'e Entity<u32>,
) -> Transacting<'e, u32, (), impl FnMut(&Transaction<'e>) -> Result<u32, Stop<()>>> {
    Transact::new().start(move |tx| take(tx, entity))
}

fn take<'e>(tx: &Transaction<'e>, entity: &'e Entity<u32>) -> Result<u32, Stop<()>> {
    match tx.get(entity)? {
        0 => Ok(tx.retry()?),
        n => {
            tx.write(entity, 0);
            Ok(n)
        }
    }
}

/// The same of a handle.
fn take_owned(tx: &Transaction<'_>, entity: Entity<u32>) -> Result<u32, Stop<()>> {
    let n = tx.get(entity.clone())?;
    if n == 0 {
        return Ok(tx.retry()?);
    }
    tx.write(entity, 0);
    Ok(n)
}

fn fill<'e>(tx: &Transaction<'e>, entity: &'e Entity<u32>, n: u32) -> Result<(), Restart> {
    match tx.get(entity)? {
        0 => {
            tx.write(entity, n);
            Ok(())
        }
        _ => tx.retry(),
    }
}

// Who wakes.

type Way = fn(&Entity<u32>, &Entity<u32>);

/// Every way to commit, each to the first entity.
const WAYS: &[(&str, Way)] = &[
    ("replace", |e, _| _ = e.replace(1).stamp()),
    ("update", |e, _| _ = e.update(|n| n + 1).stamp()),
    ("modify", |e, _| _ = e.modify(|n| *n += 1).stamp()),
    ("try_commit", |e, _| {
        assert!(e.try_commit(e.snapshot().stamp(), 1).is_ok());
    }),
    ("try_commit_on", |e, _| {
        assert!(e.try_commit_on(&e.snapshot(), 1).is_ok());
    }),
    ("a transaction of one", |e, _| {
        transaction(|tx| tx.update(e, |n| n + 1))
    }),
    ("a fold alone", |e, _| {
        transaction(|tx| {
            tx.fold(e, |n| n + 1);
            Ok(())
        });
    }),
    ("a transaction of two", |e, other| {
        transaction(|tx| {
            tx.update(other, |n| n + 1)?;
            tx.update(e, |n| n + 1)
        });
    }),
    ("a transaction that reads another", |e, other| {
        transaction(|tx| {
            tx.write(e, 1 + tx.get(other)?);
            Ok(())
        });
    }),
    ("changes", |e, other| {
        let changes = Changes::new().replace(e, 1).replace(other, 1);
        assert!(try_transaction(changes).is_ok());
    }),
];

#[test]
fn each_way_to_commit_wakes_a_task() {
    alone(|| {
        for (name, way) in WAYS {
            let (entity, other) = (logical(0), logical(0));
            let task = Arc::new(Task::default());
            let mut taking = taking(&entity);
            assert_eq!(poll(&mut taking, &task), Poll::Pending);
            assert_eq!(task.wakes(), 0, "{name}");
            way(&entity, &other);
            assert!(task.wakes() > 0, "{name} wakes nobody");
            assert_eq!(poll(&mut taking, &task), Poll::Ready(Ok(1)), "{name}");
            assert_eq!((*entity.snapshot(), version(&entity)), (0, 2));
        }
    });
}

#[test]
fn each_way_to_commit_wakes_a_thread() {
    alone(|| {
        for (name, way) in WAYS {
            for round in 0..fewer_if_slow(20) {
                let (entity, other) = (logical(0), logical(0));
                let looks = AtomicU32::new(0);
                thread::scope(|s| {
                    let waiter = s.spawn(|| {
                        transaction_or_abort(|tx| {
                            let taken = take(tx, &entity);
                            looks.fetch_add(1, Ordering::SeqCst);
                            taken
                        })
                    });
                    // Before it looks, or after it has.
                    while round % 2 == 0 && looks.load(Ordering::SeqCst) == 0 {
                        thread::yield_now();
                    }
                    for _ in 0..round {
                        thread::yield_now();
                    }
                    way(&entity, &other);
                    assert_eq!(waiter.join().unwrap(), Ok(1), "{name}");
                });
                assert_eq!((*entity.snapshot(), version(&entity)), (0, 2));
            }
        }
    });
}

#[test]
fn a_change_of_any_entity_that_was_read_wakes() {
    alone(|| {
        for size in [2, 3, 9, 17, 64, 65, 100] {
            for place in [0, size / 2, size - 1] {
                let entities: Vec<_> = (0..size).map(|_| logical(0)).collect();
                let handles = entities.clone();
                let task = Arc::new(Task::default());
                let mut sum = Transact::new().start(|tx| {
                    let mut sum = 0;
                    for (n, entity) in handles.iter().enumerate() {
                        sum += match n % 3 {
                            0 => tx.get(entity)?,
                            1 => *tx.read(entity)?,
                            _ => u32::try_from(tx.require(entity)?.version()).unwrap(),
                        };
                    }
                    match sum {
                        0 => Ok::<_, Stop<()>>(tx.retry()?),
                        sum => Ok(sum),
                    }
                });
                assert_eq!(poll(&mut sum, &task), Poll::Pending);
                overtake(&entities[place], 1);
                assert_eq!(task.wakes(), 1, "{place} of {size}");
                assert_eq!(poll(&mut sum, &task), Poll::Ready(Ok(1)));
            }
        }
    });
}

#[test]
fn a_transaction_over_many_wakes_whoever_waits_for_any_of_them() {
    alone(|| {
        for size in [2, 9, 17, 63, 64, 65, 100] {
            let entities: Vec<_> = (0..size).map(|_| logical(0)).collect();
            let tasks: Vec<_> = entities.iter().map(|_| Arc::new(Task::default())).collect();
            let mut waiting: Vec<_> = entities.iter().map(taking).collect();
            for (waiting, task) in waiting.iter_mut().zip(&tasks) {
                assert_eq!(poll(waiting, task), Poll::Pending);
            }
            transaction(|tx| entities.iter().try_for_each(|e| tx.update(e, |n| n + 1)));
            for (n, (waiting, task)) in waiting.iter_mut().zip(&tasks).enumerate() {
                assert!(task.wakes() > 0, "{n} of {size}");
                assert_eq!(poll(waiting, task), Poll::Ready(Ok(1)));
            }
            assert!(values(&entities).iter().all(|n| *n == 0));
        }
    });
}

/// The task is woken in vain at most: what it waits for is as it was.
#[test]
fn whoever_only_looks_at_what_is_awaited_ends_no_wait() {
    alone(|| {
        let (entity, other) = (logical(0), logical(0));
        let task = Arc::new(Task::default());
        let mut taking = taking(&entity);
        assert_eq!(poll(&mut taking, &task), Poll::Pending);
        for _ in 0..3 {
            transaction(|tx| {
                tx.require(&entity)?;
                tx.update(&other, |n| n + 1)
            });
            assert_eq!(poll(&mut taking, &task), Poll::Pending);
        }
        let (result, _) = bounded(0, |tx| {
            tx.write(&entity, 9);
            tx.get(&other)?;
            overtake(&other, 5);
            tx.get(&entity)?;
            tx.update(&other, |n| n + 1)
        });
        assert!(result.is_err(), "a transaction that is refused");
        assert_eq!(poll(&mut taking, &task), Poll::Pending);
        let before = task.wakes();
        entity.replace(4);
        assert!(task.wakes() > before, "whatever came in between");
        assert_eq!(poll(&mut taking, &task), Poll::Ready(Ok(4)));
    });
}

#[test]
fn what_is_only_written_is_not_waited_for() {
    alone(|| {
        let (read, written, folded) = (logical(0), logical(0), logical(0));
        let task = Arc::new(Task::default());
        let mut waiting = Transact::new().start(|tx| {
            tx.write(&written, 1);
            tx.fold(&folded, |n| n + 1);
            assert_eq!(tx.get(&written)?, 1);
            match tx.get(&read)? {
                0 => Ok::<_, Stop<()>>(tx.retry()?),
                n => Ok(n),
            }
        });
        assert_eq!(poll(&mut waiting, &task), Poll::Pending);
        written.replace(50);
        folded.replace(50);
        assert_eq!(
            (task.wakes(), poll(&mut waiting, &task)),
            (0, Poll::Pending)
        );
        read.replace(7);
        assert_eq!(
            (task.wakes(), poll(&mut waiting, &task)),
            (1, Poll::Ready(Ok(7)))
        );
        assert_eq!((*written.snapshot(), *folded.snapshot()), (1, 51));
    });
}

#[test]
fn nothing_is_published_by_whoever_waits() {
    alone(|| {
        let tally = Tally::default();
        let (gate, a) = (logical(0), logical(0));
        let token = logical(tally.token());
        let task = Arc::new(Task::default());
        let mut waiting = Transact::new().start(|tx| {
            tx.update(&a, |n| n + 1)?;
            tx.write(&token, tally.token());
            match tx.get(&gate)? {
                0 => Ok::<_, Stop<()>>(tx.retry()?),
                n => Ok(n),
            }
        });
        assert_eq!(poll(&mut waiting, &task), Poll::Pending);
        assert_eq!(
            (version(&a), version(&token), tally.alive()),
            (0, 0, vec![0])
        );
        gate.replace(1);
        assert_eq!(poll(&mut waiting, &task), Poll::Ready(Ok(1)));
        assert_eq!((*a.snapshot(), token.read(|t| t.number())), (1, 2));
        drop(waiting);
        drop(token);
        snapcell::reclaim();
        tally.assert_all_dropped_once(3);
    });
}

// Alternatives.

#[test]
fn a_change_of_what_either_alternative_has_read_wakes() {
    alone(|| {
        for which in 0..2 {
            let entities = [logical(0), logical(0)];
            let [left, right] = &entities;
            let task = Arc::new(Task::default());
            let mut either =
                Transact::new().start(|tx| tx.or_else(|tx| take(tx, left), |tx| take(tx, right)));
            assert_eq!(poll(&mut either, &task), Poll::Pending);
            overtake(&entities[which], 5);
            assert_eq!(task.wakes(), 1);
            assert_eq!(poll(&mut either, &task), Poll::Ready(Ok(5)));
            assert_eq!(values(&entities), [0, 0]);
        }
    });
}

#[test]
fn a_thread_takes_from_whichever_queue_gets_something() {
    alone(|| {
        let queues: Vec<_> = (0..5).map(|_| logical(0)).collect();
        fn any<'e>(tx: &Transaction<'e>, queues: &'e [Entity<u32>]) -> Result<u32, Stop<()>> {
            match queues {
                [] => Ok(tx.retry()?),
                [first, rest @ ..] => tx.or_else(|tx| take(tx, first), |tx| any(tx, rest)),
            }
        }
        let rounds = fewer_if_slow(500) as u32;
        let taken = thread::scope(|s| {
            let taker = s.spawn(|| {
                (0..rounds)
                    .map(|_| u64::from(transaction_or_abort(|tx| any(tx, &queues)).unwrap()))
                    .sum::<u64>()
            });
            for n in 1..=rounds {
                // One after the other, since whoever puts waits for an empty place.
                transaction(|tx| fill(tx, &queues[n as usize % 5], n));
            }
            taker.join().unwrap()
        });
        assert_eq!(taken, u64::from(rounds) * u64::from(rounds + 1) / 2);
    });
}

// Nothing to wait for.

#[test]
fn whoever_waits_must_have_read_something() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let (result, runs) = bounded(9, |tx| tx.retry::<()>());
        assert_eq!((result, runs), (Err(TransactionError::NothingToWaitFor), 1));
        let (result, _) = bounded(9, |tx| {
            tx.write(&a, 1);
            tx.fold(&b, |n| n + 1);
            tx.get(&a)?;
            tx.retry::<()>()
        });
        assert_eq!(
            result,
            Err(TransactionError::NothingToWaitFor),
            "own writes don't count"
        );
        assert!(panic_of(|| transaction(|tx| tx.retry::<()>())).contains("wait"));
        let said = panic_of(|| transaction_or_abort::<(), ()>(|tx| Ok(tx.retry()?)));
        assert!(said.contains("wait"), "{said}");
        let task = Arc::new(Task::default());
        let mut waiting = Transact::new().start::<(), (), _>(|tx| Ok(tx.retry()?));
        let nothing = Poll::Ready(Err(TransactionError::NothingToWaitFor));
        assert_eq!(poll(&mut waiting, &task), nothing);
        assert_eq!((version(&a), version(&b)), (0, 0));
    });
}

#[test]
fn what_was_required_can_be_waited_for() {
    alone(|| {
        let a = logical(0);
        let task = Arc::new(Task::default());
        let mut waiting = Transact::new().start(|tx| {
            if tx.require(&a)?.version() == 0 {
                return Ok::<_, Stop<()>>(tx.retry()?);
            }
            Ok(tx.attempt())
        });
        assert_eq!(poll(&mut waiting, &task), Poll::Pending);
        a.replace(0);
        assert_eq!(poll(&mut waiting, &task), Poll::Ready(Ok(2)));
    });
}

/// It has read something else before it noticed, so it doesn't wait at all.
#[test]
fn whoever_is_outdated_already_does_not_wait() {
    alone(|| {
        let a = logical(0);
        let mut runs = 0;
        let seen = transaction(|tx| {
            runs += 1;
            let n = tx.get(&a)?;
            if runs < 4 {
                overtake(&a, runs);
            }
            if n < 3 { tx.retry() } else { Ok(n) }
        });
        assert_eq!((seen, runs), (3, 4));
    });
}

#[test]
fn a_wait_that_came_of_values_that_never_existed_together_is_no_wait() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let mut runs = 0;
        transaction(|tx| {
            runs += 1;
            let (x, y) = (tx.get(&a)?, tx.get(&b)?);
            if runs == 1 {
                elsewhere(|| {
                    transaction(|tx| {
                        tx.write(&a, 1);
                        tx.write(&b, 1);
                        Ok(())
                    });
                });
            }
            assert_eq!(x, y);
            if x == 0 { tx.retry() } else { Ok(()) }
        });
        assert_eq!(runs, 2);
    });
}

// Limits.

#[test]
fn a_wait_ends_with_its_timeout() {
    alone(|| {
        let a = logical(0);
        for timeout in [Duration::ZERO, Duration::from_millis(1)] {
            let result = Transact::new().timeout(timeout).run(|tx| take(tx, &a));
            assert!(matches!(
                result,
                Err(TransactionError::TimedOut { attempts: 1.. })
            ));
        }
        assert_eq!(version(&a), 0);
        // Nobody is left on the list of those who wait.
        a.replace(1);
        assert_eq!(Transact::new().run(|tx| take(tx, &a)), Ok(1));
    });
}

#[test]
fn waits_are_counted_as_attempts() {
    alone(|| {
        let a = logical(0);
        let task = Arc::new(Task::default());
        let mut waiting = Transact::new().retries(Retry::at_most(2)).start(|tx| {
            tx.get(&a)?;
            Ok::<(), Stop<()>>(tx.retry()?)
        });
        for n in 1..=2 {
            assert_eq!(poll(&mut waiting, &task), Poll::Pending);
            a.replace(n);
        }
        let exhausted = Poll::Ready(Err(TransactionError::Exhausted { attempts: 3 }));
        assert_eq!(poll(&mut waiting, &task), exhausted);
    });
}

// In a task.

#[test]
fn it_can_be_awaited_on_any_runtime() {
    alone(|| {
        let stock = Entity::new(0_u32);
        let plain = || pollster::block_on(taking(&stock)).unwrap();
        let current = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(taking(&stock)).unwrap()
        };
        let several = || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .build()
                .unwrap();
            let tasks = [(); 8].map(|()| {
                let stock = stock.clone();
                runtime.spawn(Transact::new().start(move |tx| take_owned(tx, stock.clone())))
            });
            runtime.block_on(async {
                let mut sum = 0;
                for task in tasks {
                    sum += task.await.unwrap().unwrap();
                }
                sum
            })
        };
        let taken: u32 = thread::scope(|s| {
            let takers = [s.spawn(plain), s.spawn(current), s.spawn(several)];
            for n in 1..=10 {
                transaction(|tx| fill(tx, &stock, n));
            }
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!((taken, *stock.snapshot()), (55, 0));
    });
}

#[test]
fn a_transaction_that_need_not_wait_is_ready_at_once() {
    alone(|| {
        let (a, b) = (logical(1), logical(0));
        let task = Arc::new(Task::default());
        let mut moving = Transact::new().start(|tx| {
            let n = tx.get(&a)?;
            tx.write(&a, 0);
            tx.fold(&b, move |m| m + n);
            Ok::<_, Stop<()>>(n)
        });
        assert_eq!(version(&a), 0, "nothing happens before it is polled");
        assert_eq!(poll(&mut moving, &task), Poll::Ready(Ok(1)));
        assert_eq!((*a.snapshot(), *b.snapshot(), task.wakes()), (0, 1, 0));
    });
}

#[test]
fn one_that_is_overtaken_again_and_again_lets_others_run() {
    alone(|| {
        let a = logical(0);
        let task = Arc::new(Task::default());
        let mut runs = 0;
        let mut losing = Transact::new().start(|tx| {
            runs += 1;
            let n = tx.get(&a)?;
            if runs < 1_000 {
                overtake(&a, n + 1);
            }
            tx.write(&a, 5_000);
            Ok::<_, Stop<()>>(tx.attempt())
        });
        let mut polls = 1;
        let attempts = loop {
            match poll(&mut losing, &task) {
                Poll::Ready(result) => break result,
                Poll::Pending => {
                    assert_eq!(task.wakes(), polls, "it asks to be polled again");
                    polls += 1;
                }
            }
        };
        assert_eq!(attempts, Ok(1_000), "all polls together");
        drop(losing);
        assert_eq!((runs, *a.snapshot()), (1_000, 5_000));
        assert!(polls > 10 && polls < 1_000, "{polls} polls");
    });
}

#[test]
fn a_poll_without_a_wake_up_changes_nothing() {
    alone(|| {
        let a = logical(0);
        let task = Arc::new(Task::default());
        let runs = AtomicU32::new(0);
        let mut waiting = Transact::new().start(|tx| {
            runs.fetch_add(1, Ordering::SeqCst);
            take(tx, &a)
        });
        for _ in 0..5 {
            assert_eq!(poll(&mut waiting, &task), Poll::Pending);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1, "nothing has changed");
        a.replace(3);
        assert_eq!(task.wakes(), 1);
        assert_eq!(poll(&mut waiting, &task), Poll::Ready(Ok(3)));
    });
}

#[test]
fn the_task_that_polled_last_is_woken() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let tasks = [(); 3].map(|()| Arc::new(Task::default()));
        let mut waiting =
            Transact::new().start(|tx| tx.or_else(|tx| take(tx, &a), |tx| take(tx, &b)));
        for task in &tasks {
            assert_eq!(poll(&mut waiting, task), Poll::Pending);
        }
        b.replace(1);
        assert_eq!(tasks.each_ref().map(|task| task.wakes()), [0, 0, 1]);
        assert_eq!(poll(&mut waiting, &tasks[0]), Poll::Ready(Ok(1)));
    });
}

#[test]
fn a_task_goes_on_on_another_thread() {
    alone(|| {
        let a = logical(0);
        let task = Arc::new(Task::default());
        let mut taking = taking(&a);
        for n in 0..4 {
            assert_eq!(elsewhere(|| poll(&mut taking, &task)), Poll::Pending, "{n}");
        }
        overtake(&a, 7);
        assert_eq!(task.wakes(), 1);
        assert_eq!(elsewhere(|| poll(&mut taking, &task)), Poll::Ready(Ok(7)));
        elsewhere(move || drop(taking));
    });
}

#[test]
fn a_task_that_is_dropped_has_done_nothing() {
    alone(|| {
        let tally = Tally::default();
        let (a, token) = (logical(0), logical(tally.token()));
        let task = Arc::new(Task::default());
        let never_polled = taking(&a);
        drop(never_polled);
        let mut waiting = Transact::new().start(|tx| {
            tx.write(&token, tally.token());
            take(tx, &a)
        });
        assert_eq!(poll(&mut waiting, &task), Poll::Pending);
        drop(waiting);
        assert_eq!(tally.alive(), [0]);
        assert_eq!(Arc::strong_count(&task), 1, "nobody keeps its waker");
        a.replace(1);
        assert_eq!((task.wakes(), version(&token)), (0, 0));
        let mut woken = taking(&a);
        a.replace(0);
        assert_eq!(poll(&mut woken, &task), Poll::Pending);
        a.replace(2);
        assert_eq!(task.wakes(), 1);
        drop(woken);
        assert_eq!(
            *a.snapshot(),
            2,
            "woken, and dropped before it took anything"
        );
        drop(token);
        snapcell::reclaim();
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn whoever_is_dropped_takes_no_wake_up_along() {
    alone(|| {
        let a = logical(0);
        let tasks: Vec<_> = (0..6).map(|_| Arc::new(Task::default())).collect();
        let mut waiting: Vec<_> = tasks.iter().map(|_| taking(&a)).collect();
        for (waiting, task) in waiting.iter_mut().zip(&tasks) {
            assert_eq!(poll(waiting, task), Poll::Pending);
        }
        drop(waiting.remove(3));
        a.replace(1);
        let wakes: Vec<_> = tasks.iter().map(|task| task.wakes()).collect();
        assert_eq!(wakes, [1, 1, 1, 0, 1, 1]);
    });
}

/// A forgotten one is none of the others' business.
#[test]
fn a_task_that_is_forgotten_is_in_nobodys_way() {
    alone(|| {
        let a = logical(0);
        let task = Arc::new(Task::default());
        let mut forgotten = taking(&a);
        assert_eq!(poll(&mut forgotten, &task), Poll::Pending);
        std::mem::forget(forgotten);
        let mut waiting = taking(&a);
        assert_eq!(poll(&mut waiting, &task), Poll::Pending);
        a.replace(1);
        assert_eq!(poll(&mut waiting, &task), Poll::Ready(Ok(1)));
    });
}

#[test]
fn a_task_that_waits_keeps_the_handles_that_it_was_given() {
    alone(|| {
        let tally = Tally::default();
        let token = Entity::new(tally.token());
        let gate = logical(0);
        let task = Arc::new(Task::default());
        let given = Mutex::new(Some(token));
        let snapshot: Mutex<Option<Snapshot<_>>> = Mutex::default();
        let mut waiting = Transact::new().start(|tx| {
            if let Some(token) = given.lock().unwrap().take() {
                *snapshot.lock().unwrap() = Some(token.snapshot());
                tx.read(token)?;
            }
            match tx.get(&gate)? {
                0 => Ok::<_, Stop<()>>(tx.retry()?),
                n => Ok(n),
            }
        });
        assert_eq!(poll(&mut waiting, &task), Poll::Pending);
        assert_eq!(tally.alive(), [0]);
        drop(snapshot.lock().unwrap().take());
        assert_eq!(tally.alive(), [0], "its handle is the last one");
        gate.replace(1);
        assert_eq!(poll(&mut waiting, &task), Poll::Ready(Ok(1)));
        snapcell::reclaim();
        assert_eq!(tally.alive(), [0; 0], "it didn't ask for it again");
        drop(waiting);
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn a_select_that_goes_another_way_drops_the_transaction() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let task = Arc::new(Task::default());
        let selecting = async {
            tokio::select! {
                biased;
                n = taking(&a) => ("a", n),
                n = taking(&b) => ("b", n),
            }
        };
        let mut selecting = std::pin::pin!(selecting);
        let waker = Waker::from(Arc::clone(&task));
        let mut context = Context::from_waker(&waker);
        let _entered = runtime.enter();
        assert!(selecting.as_mut().poll(&mut context).is_pending());
        b.replace(4);
        assert_eq!(task.wakes(), 1);
        let ready = selecting.as_mut().poll(&mut context);
        assert_eq!(ready, Poll::Ready(("b", Ok(4))));
        a.replace(1);
        assert_eq!(task.wakes(), 1, "nobody waits there any more");
        assert_eq!((*a.snapshot(), *b.snapshot()), (1, 0));
    });
}

// Many.

/// Each takes one and gives one to the next, over entities in a ring, on threads and in tasks.
#[test]
fn whoever_waits_in_a_ring_is_woken_by_the_one_before() {
    alone(|| {
        let size = 6;
        let ring: Vec<_> = (0..size).map(|_| Entity::new(0_u32)).collect();
        let rounds = fewer_if_slow(300) as u32;
        ring[0].replace(1);
        together(size, |at| {
            let (mine, next) = (&ring[at], &ring[(at + 1) % size]);
            for _ in 0..rounds {
                let step = |tx: &Transaction<'_>| {
                    let n = take_owned(tx, mine.clone())?;
                    tx.write(next.clone(), n + 1);
                    Ok::<_, Stop<()>>(())
                };
                if at % 2 == 0 {
                    Transact::new().run(step).unwrap();
                } else {
                    pollster::block_on(Transact::new().start(step)).unwrap();
                }
            }
        });
        let mut left = values(&ring);
        left.sort_unstable();
        assert_eq!(left, [0, 0, 0, 0, 0, 1 + rounds * size as u32]);
    });
}

/// Producers and consumers over a place for one; nobody may sleep for ever.
#[test]
fn whoever_puts_and_whoever_takes_wait_for_each_other() {
    alone(|| {
        let rounds = fewer_if_slow(400) as u32;
        let places = [Entity::new(0_u32), Entity::new(0)];
        let put = Entity::new(0_u64);
        let taken = Entity::new(0_u64);
        together(6, |id| {
            for n in 1..=rounds {
                if id % 2 == 0 {
                    transaction(|tx| {
                        let [first, second] = &places;
                        tx.fold(&put, move |sum| sum + u64::from(n));
                        tx.or_else(|tx| fill(tx, first, n), |tx| fill(tx, second, n))
                    });
                } else {
                    let got = transaction_or_abort(|tx| {
                        tx.or_else(|tx| take(tx, &places[1]), |tx| take(tx, &places[0]))
                    });
                    let got = u64::from(got.unwrap());
                    taken.update(|sum| sum + got);
                }
            }
        });
        let expected = 3 * u64::from(rounds) * u64::from(rounds + 1) / 2;
        assert_eq!((*put.snapshot(), *taken.snapshot()), (expected, expected));
        assert_eq!(values(&places), [0, 0]);
    });
}
