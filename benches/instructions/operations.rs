//! What is counted, each in its steady state.
//!
//! Everything that happens once is over before the counting begins: the thread is registered, the
//! clock is measured, the pool is full, and what is retired comes out of its grace as fast as it goes
//! in. [`REPEATS`] is a multiple of what recurs, so each round has the same share of it: a beacon at
//! every 256th retirement, a look for marks at every 128th pin.

use snapcell::{Clock, Entity, Stamp, snapshot_of, transaction};
use std::hint::black_box;

/// How often a round repeats its operation.
pub(crate) const REPEATS: u32 = 1024;
/// Rounds before the one that is counted.
const ROUNDS: u32 = 8;

/// Repeats an operation, and returns what the last one returned.
pub(crate) type Round = Box<dyn FnMut() -> u64>;

/// The name of an operation, in the table and in the baseline, and what makes its round.
pub(crate) type Operation = (&'static str, fn() -> Round);

/// The loop of a round, which is there in each, around nothing.
pub(crate) fn empty() -> Round {
    steady(7, |seven| *seven, 7)
}

/// All that are counted, in the order of the table.
pub(crate) const OPERATIONS: &[Operation] = &[
    ("pin", || {
        let pin = |seven: &mut u64| {
            let _guard = snapcell::pin();
            *seven
        };
        steady(7, pin, 7)
    }),
    ("load, one guard", || {
        let subject = (Entity::new(7), snapcell::pin());
        steady(subject, |(entity, guard)| *entity.load(guard), 7)
    }),
    ("read", || {
        steady(Entity::new(7), |entity| entity.read(|n| *n), 7)
    }),
    ("read, after a transaction", || {
        let (entity, other) = (Entity::new(0), Entity::new(0));
        transaction(|tx| {
            tx.write(&entity, 7);
            tx.write(&other, 7);
            Ok(())
        });
        steady(entity, |entity| entity.read(|n| *n), 7)
    }),
    ("snapshot and its drop", || {
        steady(Entity::new(7), |entity| *entity.snapshot(), 7)
    }),
    ("reader, unchanged", || {
        steady(Entity::new(7).reader(), |reader| **reader.get(), 7)
    }),
    ("reader's is_stale, unchanged", || {
        let reader = Entity::new(7).reader();
        steady(reader, |reader| reader.is_stale().into(), 0)
    }),
    ("update", || update(Entity::new(0_u64), |n| n + 1)),
    ("update, logical clock", || {
        update(logical(0_u64), |n| n + 1)
    }),
    ("update, logical clock, 128 B", || {
        update(logical([0; 16]), next)
    }),
    ("update, logical clock, 1 KiB", || {
        update(logical([0; 128]), next)
    }),
    ("modify, logical clock, 1 KiB", || {
        let modify =
            |entity: &mut Entity<[u64; 128]>| entity.modify(|v| v[0] += 1).stamp().version();
        steady(logical([0; 128]), modify, COMMITS)
    }),
    ("try_commit, logical clock", || {
        let subject = (logical(0), Stamp::new(0, 0));
        let commit = |(entity, stamp): &mut (Entity<u64>, Stamp)| {
            match entity.try_commit(*stamp, 7) {
                Ok(committed) => *stamp = committed.stamp(),
                Err(error) => panic!("nobody else commits: {error}"),
            }
            stamp.version()
        };
        steady(subject, commit, COMMITS)
    }),
    ("try_commit, refused", || {
        let foreign = Stamp::new(9, 9);
        let commit = move |entity: &mut Entity<u64>| match entity.try_commit(foreign, 7) {
            Ok(_) => panic!("the entity is at another stamp"),
            Err(conflict) => conflict.into_proposed(),
        };
        steady(logical(0), commit, 7)
    }),
    ("replace, logical clock", || {
        let replace = |entity: &mut Entity<u64>| entity.replace(7).stamp().version();
        steady(logical(0), replace, COMMITS)
    }),
    ("transaction, two read and written", || {
        let both = [(); 2].map(|()| logical(0));
        let commit = |both: &mut [Entity<u64>; 2]| {
            let [a, b] = &*both;
            transaction(|tx| {
                let (m, n) = (tx.get(a)?, tx.get(b)?);
                tx.write(a, m + 1);
                tx.write(b, n + 1);
                Ok(m + 1)
            })
        };
        steady(both, commit, COMMITS)
    }),
    ("transaction, two read", || {
        let both = [(); 2].map(|()| Entity::new(3));
        let look = |both: &mut [Entity<u64>; 2]| {
            let [a, b] = &*both;
            transaction(|tx| Ok(tx.get(a)? + tx.get(b)?)) + 1
        };
        steady(both, look, 7)
    }),
    ("snapshot_of two, and its drop", || {
        let look = |both: &mut [Entity<u64>; 2]| {
            let moment = snapshot_of((&both[0], &both[1]));
            *moment.0 + *moment.1 + 1
        };
        steady([(); 2].map(|()| Entity::new(3)), look, 7)
    }),
    ("clone of a handle and its drop", || {
        let clone = |entity: &mut Entity<u64>| {
            drop(black_box(entity.clone()));
            7
        };
        steady(Entity::new(7), clone, 7)
    }),
    ("birth and end of an entity", || {
        let live = |seven: &mut u64| {
            drop(black_box(Entity::new(*seven)));
            *seven
        };
        steady(7, live, 7)
    }),
];

/// The version after the rounds that are not counted.
const COMMITS: u64 = (ROUNDS * REPEATS) as u64;

fn update<T: Send + Sync>(entity: Entity<T>, next: impl Fn(&T) -> T + Copy + 'static) -> Round {
    let update = move |entity: &mut Entity<T>| entity.update(next).stamp().version();
    steady(entity, update, COMMITS)
}

/// A whole copy, with a larger count.
fn next<const N: usize>(value: &[u64; N]) -> [u64; N] {
    let mut next = *value;
    next[0] += 1;
    next
}

fn logical<T: Send + Sync>(value: T) -> Entity<T> {
    Entity::builder(value).clock(Clock::logical()).build()
}

/// The round of an operation on a subject, after [`ROUNDS`] of it, the last of which must return
/// `expected`.
fn steady<S: 'static>(
    mut subject: S,
    operation: impl Fn(&mut S) -> u64 + 'static,
    expected: u64,
) -> Round {
    let mut round = move || {
        let mut last = 0;
        for _ in 0..REPEATS {
            last = black_box(operation(black_box(&mut subject)));
        }
        last
    };
    let last = (0..ROUNDS).map(|_| round()).last();
    assert_eq!(
        last,
        Some(expected),
        "what is counted gives the right result"
    );
    Box::new(round)
}
