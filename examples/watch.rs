//! A configuration that changes, and everybody who looks on: tasks on tokio and on the smallest executor
//! there is, threads that have something else to do too, subscriptions, and a callback.
//!
//! ```text
//! cargo run --release --example watch
//! cargo run --release --example watch -- --changes 100000 --waiters 8
//! ```
//! Whoever waits is shown the latest revision, not each. But all see the last one, and nobody an older
//! one after a newer: that is asserted. (A wrong argument is exit code 2.)
#![forbid(unsafe_code)]

use clap::{Parser, value_parser};
use snapcell::{Closed, Entity, Snapshot, TimedOut, Watch};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Changes a configuration while many look on.
#[derive(Parser)]
#[command(name = "watch", version)]
struct Arguments {
    /// How often the configuration changes
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    changes: u64,

    /// How many of each kind look on
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u32).range(1..=100))]
    waiters: u32,
}

/// What is shared. Nobody changes one: a change is a new one.
struct Config {
    revision: u64,
    workers: u64,
}

/// What one of those who look on has seen.
struct Seen {
    who: &'static str,
    current: Snapshot<Config>,
    changes: u64,
}

impl Seen {
    fn new(who: &'static str, config: &Entity<Config>) -> Self {
        Seen {
            who,
            current: config.snapshot(),
            changes: 0,
        }
    }

    fn next(&mut self, next: Snapshot<Config>) {
        let before = self.current.revision;
        assert!(next.revision > before, "an older one after a newer");
        assert_eq!(next.workers, next.revision % 8, "half of a change");
        self.current = next;
        self.changes += 1;
    }
}

/// A task, on any runtime. What it holds across the `.await` is a snapshot; a guard may not be.
async fn task(mut seen: Seen, config: Entity<Config>, last: u64) -> Seen {
    while seen.current.revision < last {
        let next = config.changed(seen.current.stamp()).await;
        seen.next(next);
    }
    seen
}

/// A thread that looks after something else when nothing changes for a while.
fn busy_thread(mut seen: Seen, config: Entity<Config>, last: u64) -> Seen {
    while seen.current.revision < last {
        let changed = config.changed(seen.current.stamp());
        match changed.wait_timeout(Duration::from_micros(100)) {
            Ok(next) => seen.next(next),
            Err(TimedOut) => thread::yield_now(),
        }
    }
    seen
}

/// A subscriber doesn't know which change is the last one. It is told when there are no more: a watch
/// is no handle, and doesn't keep the entity open.
fn subscriber(mut seen: Seen, mut watch: Watch<Config>) -> Seen {
    loop {
        match watch.changed().wait() {
            Ok(next) => seen.next(next),
            Err(Closed) => return seen,
        }
    }
}

fn main() {
    let Arguments { changes, waiters } = Arguments::parse();
    let config = Entity::new(Config {
        revision: 0,
        workers: 0,
    });

    // It is called on a thread of its own, so no commit waits for it.
    let called = Arc::new(Mutex::new(Seen::new("callback", &config)));
    let callback = config.on_commit({
        let called = Arc::clone(&called);
        move |current| called.lock().unwrap().next(current.clone())
    });

    let runtime = tokio::runtime::Runtime::new().expect("tokio starts its threads");
    let mut everybody = thread::scope(|scope| {
        let (mut tasks, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..waiters {
            let on_tokio = task(Seen::new("tokio", &config), config.clone(), changes);
            tasks.push(runtime.spawn(on_tokio));
            let on_pollster = task(Seen::new("pollster", &config), config.clone(), changes);
            threads.push(scope.spawn(|| pollster::block_on(on_pollster)));
            let (seen, handle) = (Seen::new("thread", &config), config.clone());
            threads.push(scope.spawn(move || busy_thread(seen, handle, changes)));
            let (seen, watch) = (Seen::new("watch", &config), config.watch());
            threads.push(scope.spawn(|| subscriber(seen, watch)));
        }

        for _ in 0..changes {
            config.update(|now| Config {
                revision: now.revision + 1,
                workers: (now.revision + 1) % 8,
            });
            thread::yield_now();
        }
        // Once the others are done with their handles too, the entity is closed.
        drop(config);

        let tasks = tasks.into_iter().map(|task| runtime.block_on(task));
        let mut everybody: Vec<Seen> = tasks.map(|seen| seen.expect("no task panics")).collect();
        let threads = threads.into_iter().map(|thread| thread.join());
        everybody.extend(threads.map(|seen| seen.expect("no thread panics")));
        everybody
    });
    callback.join().expect("the callback does not panic");
    let called = Arc::into_inner(called).expect("the callback is gone");
    everybody.push(called.into_inner().unwrap());

    everybody.sort_by_key(|seen| seen.who);
    for seen in &everybody {
        let (who, shown, last) = (seen.who, seen.changes, seen.current.revision);
        println!("{who:>8} was shown {shown:>4} of {changes} changes, {last} as the last one");
        assert_eq!(last, changes, "everybody sees the last one");
    }
}
