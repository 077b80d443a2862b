//! Closures of transactions, against each other and against changes that were computed before.

use crate::support::{Value, World, model};
use crate::transaction::{state, write_a_and_b};
use snapcell::{Entity, Stop, transaction, transaction_or_abort};

/// Adds one to both.
fn add_one(world: &World, a: &Entity<Value>, b: &Entity<Value>) {
    transaction(|tx| {
        for entity in [a, b] {
            let number = tx.get(entity)?.number();
            tx.write(entity, world.value(number + 1));
        }
        Ok(())
    });
}

model! {
    /// Two transactions read A and B and add one to each.
    /// Invariant: nothing that is added gets lost.
    two_add_one {
        bound: Some(2),
        kills: [NeverSettle, DecideEarly],
        covers: [HelperInstall],
        never: [PublishedAbort],
        outcomes: ["2@2 2@2"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let other = world.spawn(&all, |world, [a, b]| add_one(world, a, b));
        let [a, b] = &*all;
        add_one(world, a, b);
        other.join().unwrap();
        state(&all)
    }
}

model! {
    /// A closure reads A and then B, while a transaction writes both.
    /// Invariant: it sees both as they were before or as they are after, in those attempts too that are to
    /// be tried again.
    opacity {
        bound: Some(3),
        kills: [TakeUndecided],
        outcomes: ["0", "10"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = world.spawn(&all, |_, [a, b]| {
            transaction(|tx| {
                let a = tx.read(a)?.number();
                let b = tx.read(b)?.number();
                assert_eq!(a, b, "seen together, in whatever attempt");
                Ok(a)
            })
        });
        let [a, b] = &*all;
        assert_eq!(write_a_and_b(world, a, b), "made");
        reader.join().unwrap().to_string()
    }
}

model! {
    /// A closure reads A, writes B, and gives up if A has changed, while a transaction writes both.
    /// Invariant: what it gives up for was so; and what it has written before that is nowhere.
    giving_up {
        bound: Some(3),
        kills: [],
        covers: [HelperInstall],
        outcomes: ["done, refused at B: 0@0 7@1", "gave up, made: 10@1 10@1"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let other = world.spawn(&all, |world, [a, b]| {
            let result = transaction_or_abort(|tx| {
                tx.write(b, world.value(7));
                match tx.read(a)?.number() {
                    0 => Ok(()),
                    number => Err(Stop::Abort(number)),
                }
            });
            match result {
                Ok(()) => "done",
                Err(number) => {
                    assert_eq!(number, 10);
                    "gave up"
                }
            }
        });
        let [a, b] = &*all;
        let mine = write_a_and_b(world, a, b);
        let theirs = other.join().unwrap();
        format!("{theirs}, {mine}: {}", state(&all))
    }
}
