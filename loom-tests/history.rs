//! What an entity was: commits against each other and against those who look back.
//!
//! A segment of the history has three places here, so a fourth version needs another one. A history is shown as
//! its numbers; each value is the number of its version.

use crate::support::{Entities, Value, World, model};
use snapcell::{Clock, Entity, Retain};
use std::sync::Arc;

/// Entities that keep their histories, after so many commits, in the order in which transactions install.
fn keeping<const N: usize>(world: &World, retain: Retain, commits: u32) -> Entities<N> {
    let entities = std::array::from_fn(|_| {
        let entity = Entity::builder(world.value(0))
            .clock(Clock::logical())
            .retain(retain)
            .build();
        for number in 1..=commits {
            drop(entity.replace(world.value(number)));
        }
        entity
    });
    Arc::new(world.in_order(entities))
}

/// Commits the next number.
fn step(world: &World, entity: &Entity<Value>) {
    drop(entity.update(|value| world.value(value.number() + 1)));
}

/// The numbers of the history, which are consecutive and belong to their versions.
fn shown(entity: &Entity<Value>) -> String {
    let history: Vec<_> = entity.history().collect();
    for (snapshot, before) in history[1..].iter().zip(&history) {
        assert_eq!(snapshot.number(), before.number() + 1, "without a hole");
    }
    let numbers = history.iter().map(|snapshot| {
        assert_eq!(snapshot.stamp().version(), u64::from(snapshot.number()));
        snapshot.number().to_string()
    });
    numbers.collect::<Vec<_>>().join(" ")
}

model! {
    /// A commit, and somebody who takes the history.
    /// Invariant: what has been replaced is in it.
    a_commit {
        bound: None,
        kills: [RecordAfterCommit, ForgetKept],
        outcomes: ["0", "0 1"],
    }
    |world| {
        let all = keeping::<1>(world, Retain::All, 0);
        let reader = world.spawn(&all, |_, [a]| shown(a));
        step(world, &all[0]);
        reader.join().unwrap()
    }
}

model! {
    /// Two commits race to record what both are about to replace.
    /// Invariant: it is recorded once, and so is what the faster one has published.
    two_commits {
        bound: Some(4),
        kills: [LoserKeepsCount, ForgetKept],
        outcomes: ["0 1 2"],
    }
    |world| {
        let all = keeping::<1>(world, Retain::All, 0);
        let other = world.spawn(&all, |world, [a]| step(world, a));
        step(world, &all[0]);
        other.join().unwrap();
        shown(&all[0])
    }
}

model! {
    /// Two commits, of which one at least needs another segment, and somebody who takes the history.
    /// Invariant: the list has no gaps, and the history no holes.
    two_commits_and_a_reader {
        bound: Some(3),
        kills: [RecordAfterCommit],
        outcomes: ["0 1 2 3", "0 1 2 3 4", "0 1 2 3 4 5"],
    }
    |world| {
        let all = keeping::<1>(world, Retain::All, 3);
        let other = world.spawn(&all, |world, [a]| step(world, a));
        let reader = world.spawn(&all, |_, [a]| shown(a));
        step(world, &all[0]);
        other.join().unwrap();
        let seen = reader.join().unwrap();
        assert_eq!(shown(&all[0]), "0 1 2 3 4 5");
        seen
    }
}

model! {
    /// Two commits, of which the second records what the first has published, and somebody who looks for that. All
    /// under guards of their own, so that nothing but the place itself leads from one to the other.
    /// Invariant: who finds it sees it whole.
    found_without_the_head {
        bound: Some(3),
        kills: [],
        outcomes: ["none", "2"],
    }
    |world| {
        let all = keeping::<1>(world, Retain::All, 1);
        let other = world.spawn(&all, |world, [a]| {
            let _guard = snapcell::pin();
            step(world, a);
        });
        let reader = world.spawn(&all, |_, [a]| {
            let _guard = snapcell::pin();
            a.at(2).map_or(String::from("none"), |found| found.number().to_string())
        });
        let guard = snapcell::pin();
        step(world, &all[0]);
        drop(guard);
        other.join().unwrap();
        reader.join().unwrap()
    }
}

model! {
    /// A transaction of A and B, and somebody who takes the history of A.
    /// Invariant: transactions record what they replace, before anybody can see it replaced.
    a_transaction {
        bound: Some(5),
        kills: [RecordSinglesOnly],
        outcomes: ["0", "0 1"],
    }
    |world| {
        let all = keeping::<2>(world, Retain::All, 0);
        let reader = world.spawn(&all, |_, [a, _]| shown(a));
        let [a, b] = &*all;
        snapcell::transaction(|tx| {
            tx.update(a, |value| world.value(value.number() + 1))?;
            tx.update(b, |value| world.value(value.number() + 1))
        });
        let seen = reader.join().unwrap();
        assert_eq!([a, b].map(shown), ["0 1", "0 1"]);
        seen
    }
}

model! {
    /// A transaction of A and B against a commit to B.
    /// Invariant: whoever comes second, all that was current is recorded, and nothing else.
    a_transaction_and_a_commit {
        bound: Some(3),
        kills: [RecordSinglesOnly],
        covers: [Help, PublishedAbort],
        outcomes: ["0 1, 0 1 2"],
    }
    |world| {
        let all = keeping::<2>(world, Retain::All, 0);
        let other = world.spawn(&all, |world, [_, b]| step(world, b));
        let [a, b] = &*all;
        snapcell::transaction(|tx| {
            tx.update(a, |value| world.value(value.number() + 1))?;
            tx.update(b, |value| world.value(value.number() + 1))
        });
        other.join().unwrap();
        [a, b].map(shown).join(", ")
    }
}

model! {
    /// Of an entity that keeps two, somebody looks for the version before the current one, while a commit
    /// lets go what is older.
    /// Invariant: it is there, unless it isn't the one before the current one any more.
    let_go {
        bound: None,
        kills: [ForgetTooMuch],
        outcomes: ["1", "1 is gone"],
    }
    |world| {
        let all = keeping::<1>(world, Retain::last(2), 2);
        let reader = world.spawn(&all, |_, [a]| match a.at(1) {
            Some(found) => found.number().to_string(),
            None => {
                assert_eq!(a.snapshot().stamp().version(), 3, "it was let go in time");
                String::from("1 is gone")
            }
        });
        step(world, &all[0]);
        let seen = reader.join().unwrap();
        assert_eq!(shown(&all[0]), "2 3");
        seen
    }
}

model! {
    /// The history of an entity that keeps two, while commits let go what is older: what the reader is about to
    /// show, too, if it is slow.
    /// Invariant: there are always two.
    a_history_of_two {
        bound: Some(3),
        kills: [ShowWhatIsLeft],
        outcomes: ["1 2", "2 3", "3 4", "4 5"],
    }
    |world| {
        let all = keeping::<1>(world, Retain::last(2), 2);
        let reader = world.spawn(&all, |_, [a]| shown(a));
        for _ in 0..3 {
            step(world, &all[0]);
        }
        reader.join().unwrap()
    }
}
