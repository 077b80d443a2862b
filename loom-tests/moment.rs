//! Snapshots of several entities at one instant.
//!
//! Entities and outcomes as in `transaction.rs`; a moment is shown as the two values.

use crate::support::{Value, World, model};
use crate::transaction::{commit, state, write_a_and_b};
use snapcell::{Entity, snapshot_of};

/// What two entities are at one instant.
fn both(a: &Entity<Value>, b: &Entity<Value>) -> [u32; 2] {
    let moment = snapshot_of((a, b));
    let (a, b) = &*moment;
    [a.number(), b.number()]
}

fn shown([a, b]: [u32; 2]) -> String {
    format!("{a} {b}")
}

/// Replaces the value of an entity.
fn replace(world: &World, entity: &Entity<Value>, number: u32) {
    drop(entity.replace(world.value(number)));
}

model! {
    /// Invariant: a transaction is seen as a whole, or not at all.
    a_transaction {
        bound: Some(3),
        kills: [],
        outcomes: ["0 0", "10 10"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = world.spawn(&all, |_, [a, b]| shown(both(a, b)));
        let [a, b] = &*all;
        assert_eq!(write_a_and_b(world, a, b), "made");
        reader.join().unwrap()
    }
}

model! {
    /// A transaction, a commit to A, and a snapshot of both.
    /// Invariant: it shows what one of them has made, or nothing.
    a_transaction_and_a_commit {
        bound: Some(2),
        kills: [],
        covers: [HelperInstall],
        outcomes: [
            "made, refused, 0 0: 10@1 10@1",
            "made, refused, 10 10: 10@1 10@1",
            "refused at A, made, 0 0: 5@1 0@0",
            "refused at A, made, 5 0: 5@1 0@0",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        let writer = world.spawn(&all, |world, [a, _]| commit(world, a, 5));
        let reader = world.spawn(&all, |_, [a, b]| shown(both(a, b)));
        let [a, b] = &*all;
        let mine = write_a_and_b(world, a, b);
        let (theirs, seen) = (writer.join().unwrap(), reader.join().unwrap());
        format!("{mine}, {theirs}, {seen}: {}", state(&all))
    }
}

model! {
    /// A commit to A and one to B, which have nothing to do with each other, and two snapshots of both,
    /// which look in opposite order.
    /// Invariant: the two agree which commit came first: not "1 0" and "0 1".
    two_moments {
        bound: Some(3),
        kills: [],
        outcomes: [
            "0 0, 0 0", "0 0, 0 1", "0 0, 1 0", "0 0, 1 1",
            "0 1, 0 0", "0 1, 0 1", "0 1, 1 1",
            "1 0, 0 0", "1 0, 1 0", "1 0, 1 1",
            "1 1, 0 0", "1 1, 0 1", "1 1, 1 0", "1 1, 1 1",
        ],
    }
    |world| {
        looks_in_opposite_order(world, both)
    }
}

/// Commits to A and to B, which have nothing to do with each other, while two threads look at both by
/// `look`, in opposite order. What they see.
pub(crate) fn looks_in_opposite_order(
    world: &World,
    look: fn(&Entity<Value>, &Entity<Value>) -> [u32; 2],
) -> String {
    let all = world.entities([0, 0]);
    let writer = world.spawn(&all, |world, [_, b]| replace(world, b, 1));
    let readers = [
        world.spawn(&all, move |_, [a, b]| look(a, b)),
        world.spawn(&all, move |_, [a, b]| {
            let [b, a] = look(b, a);
            [a, b]
        }),
    ];
    let [a, _] = &*all;
    // Nothing gets out of its grace before this goes, which leaves less to be tried.
    let guard = snapcell::pin();
    replace(world, a, 1);
    writer.join().unwrap();
    let seen = readers.map(|reader| shown(reader.join().unwrap()));
    drop(guard);
    seen.join(", ")
}

model! {
    /// Commits to A, B, A and B, which use each other's memory again, and a snapshot of both.
    /// Invariant: it shows one of the states that there were.
    memory_that_is_used_again {
        bound: Some(3),
        kills: [NeverSettle],
        outcomes: ["0 0", "1 0", "1 1", "2 1", "2 2"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = world.spawn(&all, |_, [a, b]| shown(both(a, b)));
        let [a, b] = &*all;
        for number in 1..=2 {
            replace(world, a, number);
            replace(world, b, number);
        }
        reader.join().unwrap()
    }
}

model! {
    /// As before, with commits to A, B and A. After two looks between which something has changed, which
    /// takes two commits, the snapshot is taken by a transaction that changes nothing.
    /// Invariant: it shows one of the states that there were, however it was taken.
    taken_by_a_transaction {
        bound: Some(3),
        kills: [TakeUndecided, OnePass],
        outcomes: [
            "0 0", "1 0", "1 1", "2 1",
            "1 1 by a transaction", "2 1 by a transaction",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = world.spawn(&all, |_, [a, b]| {
            let moment = snapshot_of(&[a, b][..]);
            let how = if moment.took_transaction() { " by a transaction" } else { "" };
            format!("{} {}{how}", moment[0].number(), moment[1].number())
        });
        let [a, b] = &*all;
        replace(world, a, 1);
        replace(world, b, 1);
        replace(world, a, 2);
        let seen = reader.join().unwrap();
        assert_eq!(state(&all), "2@2 1@1");
        seen
    }
}
