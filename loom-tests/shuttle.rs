//! Many threads, random schedules: what is too large for loom.
//!
//! shuttle sees sequentially consistent memory only, so it says nothing of orderings, and a great
//! deal of protocols with many threads. `cargo shuttle` runs this with 10 000 schedules for each
//! test, and prints the seed of a schedule that fails; in other builds the file is empty.
#![cfg(snapcell_shuttle)]

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

const SCHEDULES: usize = 10_000;

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
    shuttle::Runner::new(RandomScheduler::new(SCHEDULES / 2), config()).run(move || random());
    shuttle::Runner::new(PctScheduler::new(3, SCHEDULES / 2), config()).run(move || body());
    println!("{SCHEDULES} schedules, {} retries", retried.load(SeqCst));
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
