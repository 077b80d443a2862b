//! Real threads, and laws that no run may break (`stress/laws.rs` has both).
//!
//! Each test is there twice: small in every `cargo test`, and at full size in `cargo stress`. A run in
//! which nobody was ever overtaken is no evidence: it is repeated under more pressure, and fails if
//! that doesn't help.

#[path = "stress/laws.rs"]
mod laws;
#[path = "support/payload.rs"]
mod payload;
#[allow(dead_code, reason = "this test needs little of what others share")]
mod support;
#[path = "support/tracked.rs"]
mod tracked;

use laws::{Config, Report, join, run};
use payload::Payload;
use snapcell::{Entity, Snapshot};
use std::array;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracked::{Tracked, alone};

type Run = fn(&Config) -> Report;

/// Every payload, with its name and its run.
const PAYLOADS: [(&str, Run); 6] = [
    ("u64", run::<u64>),
    ("[u64; 16]", run::<[u64; 16]>),
    ("[u8; 1024]", run::<[u8; 1024]>),
    ("String", run::<String>),
    ("Tracked", run::<Tracked>),
    ("Arc<Tracked>", run::<Arc<Tracked>>),
];

/// Numbers of committing threads.
const WRITERS: [usize; 4] = [2, 4, 8, 16];

/// Calls `check` with every payload and number of threads, under both clocks by turns.
fn each_config(commits: u64, pressure: u32, mut check: impl FnMut(&str, Run, Config)) {
    for (row, (name, run)) in PAYLOADS.into_iter().enumerate() {
        for (column, writers) in WRITERS.into_iter().enumerate() {
            let config = Config {
                writers,
                commits,
                readers: true,
                together: false,
                logical: (row + column) % 2 == 1,
                pressure,
            };
            check(name, run, config);
        }
    }
}

/// Runs, again and with growing pressure if it must be, until writers have been in each other's way.
fn until_conflicts(name: &str, run: Run, config: Config) -> Report {
    for pressure in config.pressure..=3 {
        let report = run(&Config { pressure, ..config });
        if report.conflicts > 0 {
            return report;
        }
        println!("{name}: no conflict at pressure {pressure}, so this run doesn't count");
    }
    panic!("{name}, {config:?}: no conflict under any pressure, so the laws were not put to a test")
}

fn commits_obey_the_laws(commits: u64, pressure: u32) {
    println!("{commits} commits for each line, pressure {pressure}:");
    each_config(commits, pressure, |name, run, config| {
        let (report, time) = timed(|| until_conflicts(name, run, config));
        let Report { conflicts, looks } = report;
        let Config {
            writers, logical, ..
        } = config;
        let clock = if logical { "logical" } else { "monotonic" };
        print!("{name:>12}, {writers:>2} writers, {clock:>9} clock: ");
        println!("{conflicts:>7} conflicts, {looks:>9} looks, {time:>6.2?}");
    });
}

#[test]
fn twenty_thousand_commits_obey_the_laws() {
    commits_obey_the_laws(20_000, 0);
}

#[test]
#[ignore = "takes a minute in release: run by `cargo stress`"]
fn a_million_commits_obey_the_laws_at_each_pressure() {
    for pressure in 0..=2 {
        commits_obey_the_laws(1_000_000, pressure);
    }
}

/// Threads make entities, put handles and snapshots where others find them, commit to what they
/// find, and drop it, whoever's it was.
fn entities_come_and_go(threads: u64, rounds: u64) {
    type Place = Mutex<Option<(Entity<Tracked>, Snapshot<Tracked>)>>;
    alone(|| {
        let market: [Place; 8] = array::from_fn(|_| Mutex::default());
        thread::scope(|s| {
            let market = &market;
            let threads: Vec<_> = (0..threads)
                .map(|id| {
                    s.spawn(move || {
                        for round in 0..rounds {
                            let mine = Entity::new(Tracked::make(round));
                            let given = (mine.clone(), mine.snapshot());
                            let place = &market[((id + 3 * round) % 8) as usize];
                            let found = place
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .replace(given);
                            mine.update(|value| Tracked::make(value.number() + 1));
                            let Some((entity, snapshot)) = found else {
                                continue;
                            };
                            // Its maker has committed once, or is about to; nobody else has it.
                            let commit = entity.replace(Tracked::make(round)).stamp();
                            assert!((1..=2).contains(&commit.version()), "{commit}");
                            assert_eq!(snapshot.stamp().version(), 0);
                            drop(entity);
                            snapshot.number();
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(join);
        });
    });
}

#[test]
fn entities_come_and_go_in_small() {
    entities_come_and_go(4, 5_000);
}

#[test]
#[ignore = "takes some seconds in release: run by `cargo stress`"]
fn entities_come_and_go_in_large() {
    entities_come_and_go(8, 500_000);
}

/// Generations of threads commit a few times, or some hundred times, and end with what they have
/// retired still in their hands. Some leave a snapshot to the next generation.
fn threads_end_with_full_rings(generations: u64) {
    alone(|| {
        let entity = Entity::new(Tracked::make(0));
        let mut kept: Vec<Snapshot<Tracked>> = Vec::new();
        let mut commits = 0;
        for generation in 0..generations {
            let sizes: [u64; 3] =
                array::from_fn(|id| 1 + (generation * 37 + id as u64 * 211) % 600);
            commits += sizes.iter().sum::<u64>();
            kept = thread::scope(|s| {
                let (entity, inherited) = (&entity, Arc::new(Mutex::new(kept)));
                let threads = sizes.map(|size| {
                    let inherited = Arc::clone(&inherited);
                    s.spawn(move || {
                        let heirloom = inherited
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .pop();
                        for _ in 0..size {
                            entity.update(|value| Tracked::make(value.number() + 1));
                        }
                        if let Some(snapshot) = heirloom {
                            assert_eq!(snapshot.number(), snapshot.stamp().version());
                        }
                        entity.snapshot()
                    })
                });
                threads.into_iter().map(join).collect()
            });
        }
        let last = entity.snapshot();
        assert_eq!((last.number(), last.stamp().version()), (commits, commits));
    });
}

#[test]
fn threads_end_with_full_rings_in_small() {
    threads_end_with_full_rings(50);
}

#[test]
#[ignore = "takes some seconds in release: run by `cargo stress`"]
fn threads_end_with_full_rings_in_large() {
    threads_end_with_full_rings(5_000);
}

/// A thread commits so much behind somebody's guard that hundreds of beacons wait before what it leaves
/// when it ends. Giving up after some rounds in which only beacons went out was a bug.
#[test]
fn what_an_ended_thread_left_is_freed_behind_any_number_of_beacons() {
    alone(|| {
        let entity = Entity::new(Tracked::make(0));
        let guard = snapcell::pin();
        thread::scope(|s| {
            join(s.spawn(|| {
                for number in 0..300_000 {
                    entity.replace(Tracked::make(number));
                }
            }));
        });
        assert!(snapcell::reclamation_lag().nodes >= 300_000);
        drop(guard);
    });
}

/// What `work` returns, and how long it takes.
fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    #[allow(
        clippy::disallowed_methods,
        reason = "for a human to read: no test depends on it"
    )]
    let start = Instant::now();
    (work(), start.elapsed())
}
