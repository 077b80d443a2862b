//! Many threads, random schedules: what is too large for loom.
//!
//! shuttle sees sequentially consistent memory only, so it says nothing of orderings, and a great
//! deal of protocols with many threads. `cargo shuttle` runs this with 10 000 schedules for each
//! test, and prints the seed of a schedule that fails; in other builds the file is empty.
#![cfg(snapcell_shuttle)]

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;
use snapcell::{Clock, Entity};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

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
