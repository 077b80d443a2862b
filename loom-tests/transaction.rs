//! Transactions against commits, looks and each other.
//!
//! The entities are called A, B and C, in the order in which every transaction installs its nodes. All are
//! born with 0, and everything that is tried expects that. An outcome says what became of each thread's
//! work, in the order of the threads, and then `value@version` of each entity.

use crate::support::{Value, World, model};
use snapcell::{Changes, Entity, Refused, Stamp, Transacted, try_transaction};

pub(crate) const BIRTH: Stamp = Stamp::new(0, 0);

/// Tries to write a number to two entities that have these names. If that is refused the values come back.
pub(crate) fn write_both(
    world: &World,
    entities: [&Entity<Value>; 2],
    number: u32,
    names: [&str; 2],
) -> String {
    let [first, second] = entities;
    let changes = Changes::new()
        .write(first, BIRTH, world.value(number))
        .write(second, BIRTH, world.value(number));
    match try_transaction(changes) {
        Ok(made) => {
            let stamps = entities.map(|entity| made.stamp(entity).map(Stamp::version));
            assert_eq!(stamps, [Some(1); 2]);
            String::from("made")
        }
        Err(refused) => {
            assert_eq!(refused.expected(), BIRTH);
            assert_ne!(refused.found(), BIRTH);
            let name = names[refused.index()];
            let mut changes = refused.into_changes();
            for entity in entities {
                let value = changes.take(entity).expect("all values come back");
                assert_eq!(value.number(), number);
            }
            format!("refused at {name}")
        }
    }
}

/// Tries to write a number to A and B.
pub(crate) fn write_a_and_b(world: &World, a: &Entity<Value>, b: &Entity<Value>) -> String {
    write_both(world, [a, b], 10, ["A", "B"])
}

/// Tries to write a number to an entity if another one is as it was born.
fn write_if(
    world: &World,
    written: (&Entity<Value>, &str),
    number: u32,
    read: (&Entity<Value>, &str),
) -> String {
    let changes = Changes::new()
        .write(written.0, BIRTH, world.value(number))
        .require(read.0, BIRTH);
    made(try_transaction(changes), [written.1, read.1])
}

/// What has become of changes of entities that have these names.
fn made<const N: usize>(result: Result<Transacted<'_>, Refused<'_>>, names: [&str; N]) -> String {
    match result {
        Ok(_) => String::from("made"),
        Err(refused) => {
            assert_eq!(refused.expected(), BIRTH);
            assert_ne!(refused.found(), BIRTH);
            format!("refused at {}", names[refused.index()])
        }
    }
}

/// Tries to commit a number.
pub(crate) fn commit(world: &World, entity: &Entity<Value>, number: u32) -> &'static str {
    match entity.try_commit(BIRTH, world.value(number)) {
        Ok(_) => "made",
        Err(_) => "refused",
    }
}

/// What entities have in the end.
pub(crate) fn state<const N: usize>(entities: &[Entity<Value>; N]) -> String {
    let states = entities.each_ref().map(|entity| {
        let snapshot = entity.snapshot();
        format!("{}@{}", snapshot.number(), snapshot.stamp().version())
    });
    states.join(" ")
}

pub(crate) fn look(entity: &Entity<Value>) -> u32 {
    entity.read(Value::number)
}

model! {
    /// Two transactions write A and B, and name them in opposite order.
    /// Invariant: one of them takes effect. And since both install in the same order, neither is aborted
    /// once others can see a node of it: whoever comes second to A helps the first.
    two_transactions {
        bound: Some(4),
        kills: [DecideEarly, LoserRetires, Unsorted],
        covers: [HelperInstall],
        never: [PublishedAbort],
        outcomes: [
            "made, refused at A: 1@1 1@1",
            "made, refused at B: 1@1 1@1",
            "refused at A, made: 2@1 2@1",
            "refused at B, made: 2@1 2@1",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        let other = world.spawn(&all, |world, [a, b]| write_both(world, [b, a], 2, ["B", "A"]));
        let [a, b] = &*all;
        let mine = write_both(world, [a, b], 1, ["A", "B"]);
        let theirs = other.join().unwrap();
        format!("{mine}, {theirs}: {}", state(&all))
    }
}

model! {
    /// A transaction, and somebody who looks at A and then at B.
    /// Invariant: who sees its A sees its B.
    two_loads {
        bound: Some(5),
        kills: [DecideEarly],
        outcomes: ["0 0", "0 10", "10 10"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = world.spawn(&all, |_, [a, b]| format!("{} {}", look(a), look(b)));
        let [a, b] = &*all;
        assert_eq!(write_a_and_b(world, a, b), "made");
        reader.join().unwrap()
    }
}

model! {
    /// As before, under one guard: no fence comes between the two looks, so the order is that of the
    /// transaction's own words.
    two_loads_under_one_guard {
        bound: Some(6),
        kills: [DecideEarly],
        outcomes: ["0 0", "0 10", "10 10"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = world.spawn(&all, |_, [a, b]| {
            let guard = snapcell::pin();
            let first = a.load(&guard).number();
            format!("{first} {}", b.load(&guard).number())
        });
        let [a, b] = &*all;
        // Nothing gets out of its grace before this goes, which leaves less to be tried.
        let guard = snapcell::pin();
        assert_eq!(write_a_and_b(world, a, b), "made");
        let seen = reader.join().unwrap();
        drop(guard);
        seen
    }
}

model! {
    /// A transaction, and somebody who looks at B, which is installed last, and then at A.
    /// Invariant: who sees its B sees its A.
    two_loads_backwards {
        bound: Some(5),
        kills: [],
        outcomes: ["0 0", "0 10", "10 10"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = world.spawn(&all, |_, [a, b]| format!("{} {}", look(b), look(a)));
        let [a, b] = &*all;
        assert_eq!(write_a_and_b(world, a, b), "made");
        reader.join().unwrap()
    }
}

model! {
    /// A transaction, a commit to A, and somebody who looks at A twice.
    /// Invariant: what was seen once is not undone.
    two_loads_of_one {
        bound: Some(2),
        kills: [DecideEarly, FreeVerdictAtOnce],
        outcomes: [
            "made, refused, 0 0: 10@1 10@1",
            "made, refused, 0 10: 10@1 10@1",
            "made, refused, 10 10: 10@1 10@1",
            "refused at A, made, 0 0: 5@1 0@0",
            "refused at A, made, 0 5: 5@1 0@0",
            "refused at A, made, 5 5: 5@1 0@0",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        let writer = world.spawn(&all, |world, [a, _]| commit(world, a, 5));
        let reader = world.spawn(&all, |_, [a, _]| format!("{} {}", look(a), look(a)));
        let [a, b] = &*all;
        let mine = write_a_and_b(world, a, b);
        let (theirs, seen) = (writer.join().unwrap(), reader.join().unwrap());
        format!("{mine}, {theirs}, {seen}: {}", state(&all))
    }
}

model! {
    /// A transaction, and a commit to A, which helps if it finds it under way.
    a_commit_helps {
        bound: Some(5),
        kills: [AbortInsteadOfHelp, LoserRetires, ReplaceUndecided, FreeVerdictAtOnce],
        covers: [HelperInstall],
        outcomes: ["made, refused: 10@1 10@1", "refused at A, made: 5@1 0@0"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let writer = world.spawn(&all, |world, [a, _]| commit(world, a, 5));
        let [a, b] = &*all;
        let mine = write_a_and_b(world, a, b);
        let theirs = writer.join().unwrap();
        format!("{mine}, {theirs}: {}", state(&all))
    }
}

model! {
    /// A transaction, and two commits to A, which may both help.
    two_commits_help {
        bound: Some(2),
        kills: [AbortInsteadOfHelp],
        covers: [HelperInstall],
        outcomes: [
            "made, refused, refused: 10@1 10@1",
            "refused at A, made, refused: 5@1 0@0",
            "refused at A, refused, made: 6@1 0@0",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        let writers = [5, 6].map(|number| {
            world.spawn(&all, move |world, [a, _]| commit(world, a, number))
        });
        let [a, b] = &*all;
        let mine = write_a_and_b(world, a, b);
        let [first, second] = writers.map(|writer| writer.join().unwrap());
        format!("{mine}, {first}, {second}: {}", state(&all))
    }
}

model! {
    /// One transaction writes A and B, another B and C.
    /// Invariant: one of them takes effect, and the other is refused at what they share.
    overlapping_transactions {
        bound: Some(4),
        kills: [AbortInsteadOfHelp, DecideEarly],
        covers: [HelperInstall, PublishedAbort],
        outcomes: ["made, refused at B: 10@1 10@1 0@0", "refused at B, made: 0@0 7@1 7@1"],
    }
    |world| {
        let all = world.entities([0, 0, 0]);
        let other = world.spawn(&all, |world, [_, b, c]| write_both(world, [b, c], 7, ["B", "C"]));
        let [a, b, _] = &*all;
        let mine = write_a_and_b(world, a, b);
        let theirs = other.join().unwrap();
        format!("{mine}, {theirs}: {}", state(&all))
    }
}

model! {
    /// A transaction, and a thread that commits to B and then to A: against the order of installs, so it
    /// meets a transaction that it has doomed.
    commits_against_the_order {
        bound: Some(3),
        kills: [TakeUndecided, ForgetHollow, ReplaceUndecided, RetireBeforeSettling],
        covers: [Help, PublishedAbort],
        outcomes: [
            "made, refused refused: 10@1 10@1",
            "refused at A, made made: 6@1 5@1",
            "refused at B, made made: 6@1 5@1",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        let writer = world.spawn(&all, |world, [a, b]| {
            let first = commit(world, b, 5);
            format!("{first} {}", commit(world, a, 6))
        });
        let [a, b] = &*all;
        let mine = write_a_and_b(world, a, b);
        let theirs = writer.join().unwrap();
        format!("{mine}, {theirs}: {}", state(&all))
    }
}

model! {
    /// The same, where a transaction that has only read B has left something at its head. It stands for what B was
    /// born with, but is not the first there, and what is committed over it is the third: whoever helps finds that
    /// B has changed by nothing else.
    /// Invariant: as before. A commit to B that is made leaves the transaction none.
    commits_over_what_was_only_read {
        bound: Some(3),
        kills: [FollowCurrent],
        covers: [Help, PublishedAbort],
        outcomes: [
            "made, refused refused: 10@1 10@1 7@1",
            "refused at A, made made: 6@1 5@1 7@1",
            "refused at B, made made: 6@1 5@1 7@1",
        ],
    }
    |world| {
        let all = world.entities([0, 0, 0]);
        let [a, b, c] = &*all;
        assert_eq!(write_if(world, (c, "C"), 7, (b, "B")), "made");
        let writer = world.spawn(&all, |world, [a, b, _]| {
            let first = commit(world, b, 5);
            format!("{first} {}", commit(world, a, 6))
        });
        let mine = write_a_and_b(world, a, b);
        let theirs = writer.join().unwrap();
        format!("{mine}, {theirs}: {}", state(&all))
    }
}

model! {
    /// A transaction, a commit to B and a commit to A, on a thread each.
    commits_on_two_threads {
        bound: Some(2),
        kills: [TakeUndecided, RetireAtInstall],
        covers: [HelperInstall, PublishedAbort],
        outcomes: [
            "made, refused, refused: 10@1 10@1",
            "refused at A, made, made: 6@1 5@1",
            "refused at B, made, made: 6@1 5@1",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        let writers = [
            world.spawn(&all, |world, [_, b]| commit(world, b, 5)),
            world.spawn(&all, |world, [a, _]| commit(world, a, 6)),
        ];
        let [a, b] = &*all;
        let mine = write_a_and_b(world, a, b);
        let [first, second] = writers.map(|writer| writer.join().unwrap());
        format!("{mine}, {first}, {second}: {}", state(&all))
    }
}

model! {
    /// Each of two transactions writes what the other one only reads (write skew).
    /// Invariant: one of them takes effect: what is read counts as much as what is written.
    write_skew {
        bound: Some(4),
        kills: [TakeUndecided, NoProxies],
        covers: [HelperInstall],
        outcomes: ["made, refused at A: 1@1 0@0", "refused at B, made: 0@0 2@1"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let other = world.spawn(&all, |world, [a, b]| write_if(world, (b, "B"), 2, (a, "A")));
        let [a, b] = &*all;
        let mine = write_if(world, (a, "A"), 1, (b, "B"));
        let theirs = other.join().unwrap();
        format!("{mine}, {theirs}: {}", state(&all))
    }
}

model! {
    /// A transaction writes A and reads B, while a thread commits to B and then looks at A.
    /// Invariant: if the commit to B comes after the transaction, so does the look at A. A transaction that
    /// looks once more at what it has read, and decides then, would let the commit in between.
    what_is_read_is_current_at_the_commit {
        bound: Some(4),
        kills: [NoProxies, ValidateThenDecide],
        covers: [PublishedAbort],
        outcomes: ["made, made 1: 1@1 2@1", "refused at B, made 0: 0@0 2@1"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let other = world.spawn(&all, |world, [a, b]| {
            let committed = commit(world, b, 2);
            format!("{committed} {}", look(a))
        });
        let [a, b] = &*all;
        let mine = write_if(world, (a, "A"), 1, (b, "B"));
        let theirs = other.join().unwrap();
        format!("{mine}, {theirs}: {}", state(&all))
    }
}

model! {
    /// A transaction over A and B; a thread that commits to B, and then makes a transaction that writes C
    /// and only reads A; and a commit to A. So the first may be aborted with its node at A, where a proxy
    /// takes the place of that node: what is current at A is the same all the while, and what is at the head
    /// is not.
    /// Invariant: nobody puts the aborted node back.
    what_is_current_is_not_what_is_at_the_head {
        bound: Some(2),
        kills: [CompareLogical, PredecessorIsHead, NeverSettle],
        covers: [HelperInstall, PublishedAbort],
        outcomes: [
            "made, refused, refused at A, refused: 10@1 10@1 0@0",
            "refused at A, made, made, made: 6@1 5@1 7@1",
            "refused at A, made, refused at A, made: 6@1 5@1 0@0",
            "refused at B, made, made, made: 6@1 5@1 7@1",
            "refused at B, made, refused at A, made: 6@1 5@1 0@0",
        ],
    }
    |world| {
        let all = world.entities([0, 0, 0]);
        let reader = world.spawn(&all, |world, [a, b, c]| {
            let committed = commit(world, b, 5);
            format!("{committed}, {}", write_if(world, (c, "C"), 7, (a, "A")))
        });
        let writer = world.spawn(&all, |world, [a, ..]| commit(world, a, 6));
        let [a, b, _] = &*all;
        let mine = write_a_and_b(world, a, b);
        let (read, written) = (reader.join().unwrap(), writer.join().unwrap());
        format!("{mine}, {read}, {written}: {}", state(&all))
    }
}

model! {
    /// A transaction over A, B and C, which is finished by a thread that then replaces B. So its owner finds
    /// something else at B, goes no further, and learns from the verdict that it was made. It looks at C
    /// under a guard that is older than all this: no fence comes between.
    /// Invariant: the owner sees what it has written, whoever installed it.
    what_others_have_finished {
        bound: Some(3),
        kills: [],
        covers: [HelperInstall],
        outcomes: [
            "made, refused, C is 10: 10@1 6@2 10@1",
            "refused at A, made, C is 0: 5@1 6@1 0@0",
            "refused at B, made, C is 0: 5@1 6@1 0@0",
        ],
    }
    |world| {
        let all = world.entities([0, 0, 0]);
        let other = world.spawn(&all, |world, [a, b, _]| {
            let tried = commit(world, a, 5);
            drop(b.replace(world.value(6)));
            tried
        });
        let [a, b, c] = &*all;
        let guard = snapcell::pin();
        let changes = [a, b, c].into_iter().fold(Changes::new(), |changes, entity| {
            changes.write(entity, BIRTH, world.value(10))
        });
        let mine = made(try_transaction(changes), ["A", "B", "C"]);
        let seen = c.load(&guard).number();
        drop(guard);
        let theirs = other.join().unwrap();
        format!("{mine}, {theirs}, C is {seen}: {}", state(&all))
    }
}
