//! Closures of transactions, against each other and against changes that were computed before.

use crate::moment::looks_in_opposite_order;
use crate::support::{Value, World, model};
use crate::transaction::{state, write_a_and_b};
use snapcell::{Changes, Entity, Stop, transaction, transaction_or_abort, try_transaction};
use std::cell::Cell;
use std::sync::Arc;

/// What two entities are, by a transaction that writes nothing. It is under a guard, so that no other fence comes
/// after what it sees than its own.
fn look_at_both(a: &Entity<Value>, b: &Entity<Value>) -> [u32; 2] {
    let _guard = snapcell::pin();
    transaction(|tx| {
        let a = tx.read(a)?.number();
        Ok([a, tx.read(b)?.number()])
    })
}

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
    /// A commit to A and one to B, which have nothing to do with each other, and two transactions that write
    /// nothing and read both, in opposite order.
    /// Invariant: the two agree which commit came first. Each may see neither, either or both; but if one sees
    /// that of A alone the other doesn't see that of B alone.
    two_looks {
        bound: Some(2),
        kills: [ValidateWithoutFence],
        outcomes: [
            "0 0, 0 0", "0 0, 0 1", "0 0, 1 0", "0 0, 1 1",
            "0 1, 0 0", "0 1, 0 1", "0 1, 1 1",
            "1 0, 0 0", "1 0, 1 0", "1 0, 1 1",
            "1 1, 0 0", "1 1, 0 1", "1 1, 1 0", "1 1, 1 1",
        ],
    }
    |world| {
        looks_in_opposite_order(world, look_at_both)
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

model! {
    /// A transaction reads A, and has one added to B when it commits, while another one writes both.
    /// Invariant: what is added to was current together with what was read, in those attempts too that are to be
    /// tried again.
    a_fold_beside_a_read {
        bound: Some(3),
        kills: [FoldWithoutSecondLook],
        outcomes: ["0, refused at B: 0@0 1@1", "10, made: 10@1 11@2"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let other = world.spawn(&all, |world, [a, b]| write_a_and_b(world, a, b));
        let [a, b] = &*all;
        let read = transaction(|tx| {
            let number = tx.get(a)?.number();
            tx.fold(b, move |value| {
                assert_eq!(value.number(), number, "both are from before or after");
                world.value(number + 1)
            });
            Ok(number)
        });
        let theirs = other.join().unwrap();
        format!("{read}, {theirs}: {}", state(&all))
    }
}

model! {
    /// A transaction has one added to A and to B when it commits, while another one writes both.
    /// Invariant: what is added to was current at one moment, in those attempts too that are to be tried again.
    two_folds {
        bound: Some(3),
        kills: [FoldWithoutSecondLook],
        outcomes: ["refused at A: 1@1 1@1", "refused at B: 1@1 1@1", "made: 11@2 11@2"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let other = world.spawn(&all, |world, [a, b]| write_a_and_b(world, a, b));
        let [a, b] = &*all;
        // Of each attempt, what its first closure has seen until the second has.
        let first = Cell::new(None);
        let one_more = |value: &Value| {
            let number = value.number();
            match first.take() {
                None => first.set(Some(number)),
                Some(other) => assert_eq!(number, other, "both are from before or after"),
            }
            world.value(number + 1)
        };
        transaction(|tx| {
            tx.fold(a, one_more);
            tx.fold(b, one_more);
            Ok(())
        });
        let theirs = other.join().unwrap();
        format!("{theirs}: {}", state(&all))
    }
}

model! {
    /// A transaction writes A, whose clock stands still in models, and B, whose own counts, beside a commit to B.
    /// Invariant: what it writes has one time, though A gets its place before B is looked at.
    one_time_for_both {
        bound: Some(4),
        kills: [KeepEarlyTimes],
        outcomes: ["the same time, B@1", "the same time, B@2"],
    }
    |world| {
        let all = Arc::new([Entity::new(world.value(0)), world.entity(0)]);
        let other = world.spawn(&all, |world, [_, b]| drop(b.replace(world.value(1))));
        let [a, b] = &*all;
        let changes = Changes::new().replace(a, world.value(2)).replace(b, world.value(2));
        let made = try_transaction(changes).expect("nothing was read");
        let [of_a, of_b] = [a, b].map(|entity| made.stamp(entity).expect("it was written"));
        drop(made);
        other.join().unwrap();
        let [shown_a, shown_b] = [a, b].map(|entity| entity.snapshot().stamp());
        assert_eq!(shown_a.version(), of_a.version());
        // Of B something later may be shown.
        let is_shown = shown_a == of_a && (shown_b == of_b || shown_b.version() > of_b.version());
        let is_one = of_a.time() == of_b.time() && is_shown;
        let times = if is_one { "the same time" } else { "two times" };
        format!("{times}, B@{}", of_b.version())
    }
}
