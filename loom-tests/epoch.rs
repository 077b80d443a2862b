//! The second tier: rings, beacons and marks over crossbeam-epoch itself, by its own loom support.
//!
//! The other models run over an oracle that states what crossbeam-epoch promises. Here it is
//! crossbeam-epoch whose atomics loom explores, so a mistake in the use of its interface, or in the
//! promise as the oracle states it, would show. It is far too large for an exhaustive run: two
//! threads, two preemptions. `cargo loom-epoch` runs it; in other builds this file is empty.
#![cfg(snapcell_epoch_model)]

use snapcell::{Clock, Entity};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// A value whose reads and end loom follows.
struct Value {
    number: loom::cell::UnsafeCell<u32>,
    dropped: Arc<AtomicUsize>,
}

// SAFETY: loom runs all threads of a model on one; it is loom that finds the races.
unsafe impl Sync for Value {}

impl Value {
    fn new(number: u32, dropped: &Arc<AtomicUsize>) -> Self {
        Value {
            number: loom::cell::UnsafeCell::new(number),
            dropped: Arc::clone(dropped),
        }
    }

    fn number(&self) -> u32 {
        // SAFETY: loom panics if somebody writes meanwhile.
        self.number.with(|number| unsafe { *number })
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.number.with_mut(|_| ());
        }
        self.dropped.fetch_add(1, SeqCst);
    }
}

/// A reader looks, under a guard, while a writer commits often enough for the first value to come
/// out of its grace.
/// Invariant: a value ends after the reader's look; and some do end, or nothing was shown.
#[test]
fn a_reader_against_a_grace() {
    const COMMITS: u32 = 4;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let ended = Arc::new(AtomicUsize::new(0));
    let executions = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 20_000;
    builder.check({
        let (seen, ended, executions) = (
            Arc::clone(&seen),
            Arc::clone(&ended),
            Arc::clone(&executions),
        );
        move || {
            let dropped = Arc::new(AtomicUsize::new(0));
            let entity = Entity::builder(Value::new(0, &dropped))
                .clock(Clock::logical())
                .build();
            let reader = {
                let entity = entity.clone();
                loom::thread::spawn(move || {
                    let seen = entity.read(Value::number);
                    drop(entity);
                    seen
                })
            };
            for number in 1..=COMMITS {
                drop(entity.replace(Value::new(number, &dropped)));
            }
            let number = reader.join().unwrap();
            seen.lock()
                .unwrap()
                .insert((number, dropped.load(SeqCst) > 0));
            ended.fetch_max(dropped.load(SeqCst), SeqCst);
            executions.fetch_add(1, SeqCst);
            drop(entity);
            snapcell::internals::leave();
        }
    });
    let seen = seen.lock().unwrap();
    println!(
        "{} executions, bound 2, up to {} values ended, seen {seen:?}",
        executions.load(SeqCst),
        ended.load(SeqCst)
    );
    let numbers: BTreeSet<u32> = seen.iter().map(|(number, _)| *number).collect();
    assert_eq!(
        numbers,
        (0..=COMMITS).collect(),
        "the reader sees each of the values, in some execution"
    );
    assert!(
        ended.load(SeqCst) > 0,
        "no value came out of its grace, so nothing was shown"
    );
}
