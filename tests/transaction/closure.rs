//! What a closure reads and writes by: nobody else is in its way here.

use super::support::{Tally, elsewhere};
use super::{alone, logical, overtake, percent, values, version};
use snapcell::{
    Clock, Entity, ManualClock, Snapshot, Stamp, Transaction, snapshot_of, transaction,
    transaction_or_abort,
};
use std::cell::Cell;
use std::time::Duration;

// Reading.

#[test]
fn what_a_transaction_returns_is_what_its_closure_returns() {
    alone(|| {
        let (name, age) = (Entity::new("ann"), Entity::new(7));
        let line = transaction(|tx| Ok(format!("{} is {}", tx.get(&name)?, tx.get(&age)?)));
        assert_eq!(line, "ann is 7");
        assert_eq!((version(&name), version(&age)), (0, 0), "nothing changed");
    });
}

#[test]
fn a_transaction_that_does_nothing_commits() {
    alone(|| {
        assert_eq!(transaction(|tx| Ok(tx.attempt())), 1);
        assert_eq!(
            transaction_or_abort(|_| Ok::<_, snapcell::Stop<()>>(7)),
            Ok(7)
        );
    });
}

#[test]
fn several_values_may_be_borrowed_side_by_side() {
    alone(|| {
        let (a, b) = (Entity::new(vec![1, 2]), Entity::new(String::from("x")));
        let joined = transaction(|tx| {
            let (numbers, text, again) = (tx.read(&a)?, tx.read(&b)?, tx.read(&a)?);
            assert!(std::ptr::eq(numbers, again), "the same value each time");
            assert!(std::ptr::eq(numbers, &*a.snapshot()), "and no copy");
            Ok(format!("{numbers:?}{text}"))
        });
        assert_eq!(joined, "[1, 2]x");
    });
}

#[test]
fn a_borrowed_value_stays_whatever_is_written_later() {
    alone(|| {
        let entity = Entity::new(String::from("first"));
        transaction(|tx| {
            let first = tx.read(&entity)?;
            tx.write(&entity, String::from("second"));
            let second = tx.read(&entity)?;
            tx.write(&entity, String::from("third"));
            tx.write(&entity, String::from("fourth"));
            let fourth = tx.read(&entity)?;
            tx.update(&entity, |s| format!("{s}, fifth"))?;
            tx.fold(&entity, |s| format!("{s}, sixth"));
            let sixth = tx.read(&entity)?;
            tx.write(&entity, String::from("last"));
            let all = [first, second, fourth, sixth].map(String::as_str);
            assert_eq!(all, ["first", "second", "fourth", "fourth, fifth, sixth"]);
            Ok(())
        });
        assert_eq!(*entity.snapshot(), "last");
        assert_eq!(
            version(&entity),
            1,
            "one commit, however often it is written"
        );
    });
}

#[test]
fn a_borrowed_value_stays_though_others_replace_it() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let other = Entity::new(0);
        let mut runs = 0;
        transaction(|tx| {
            runs += 1;
            let token = tx.read(&entity)?;
            if runs == 1 {
                elsewhere(|| {
                    for _ in 0..1_000 {
                        entity.replace(tally.token());
                    }
                    snapcell::reclaim();
                });
                assert_eq!(token.number(), 0, "it is there, if not current");
                assert!(tally.alive().contains(&0));
                let next = tx.get(&other);
                assert!(next.is_err(), "and that shows at the next read");
                return next;
            }
            assert_eq!(token.number(), 1_000);
            tx.get(&other)
        });
        assert_eq!(runs, 2);
        snapcell::reclaim();
        assert_eq!(tally.alive(), [1_000]);
        drop(entity);
        tally.assert_all_dropped_once(1_001);
    });
}

#[test]
fn own_writes_are_read() {
    alone(|| {
        let (a, b) = (Entity::new(1), Entity::new(2));
        transaction(|tx| {
            tx.write(&a, 10);
            assert_eq!((tx.get(&a)?, *tx.read(&a)?), (10, 10));
            tx.update(&a, |n| n + 1)?;
            assert_eq!((tx.get(&a)?, *tx.read(&a)?), (11, 11));
            tx.update(&b, |n| n + tx.get(&a).unwrap())?;
            assert_eq!((tx.get(&b)?, *tx.read(&b)?), (13, 13));
            Ok(())
        });
        assert_eq!(values(&[a, b]), [11, 13]);
    });
}

#[test]
fn nobody_else_sees_a_write_before_the_commit() {
    alone(|| {
        let (a, b) = (Entity::new(1), Entity::new(1));
        let before = a.snapshot();
        transaction(|tx| {
            tx.write(&a, 2);
            tx.fold(&b, |n| n + 1);
            assert_eq!((*a.snapshot(), *b.snapshot()), (1, 1), "not on this thread");
            elsewhere(|| {
                let both = snapshot_of((&a, &b));
                assert_eq!((*both.0, *both.1), (1, 1), "nor on another one");
                assert!(!a.has_conflict(before.stamp()));
            });
            Ok(())
        });
        assert_eq!(values(&[a, b]), [2, 2]);
    });
}

// The same entity twice, one call after the other.

#[test]
fn the_last_write_counts() {
    alone(|| {
        let tally = Tally::default();
        let entity = logical(tally.token());
        transaction(|tx| {
            for _ in 0..10 {
                tx.write(&entity, tally.token());
            }
            Ok(())
        });
        assert_eq!(entity.read(|token| token.number()), 10);
        assert_eq!(entity.snapshot().stamp(), Stamp::new(1, 1));
        snapcell::reclaim();
        assert_eq!(tally.alive(), [10]);
        drop(entity);
        tally.assert_all_dropped_once(11);
    });
}

#[test]
fn updates_build_on_each_other() {
    alone(|| {
        let entity = logical(1);
        transaction(|tx| {
            for _ in 0..10 {
                tx.update(&entity, |n| n * 2)?;
            }
            Ok(())
        });
        assert_eq!((*entity.snapshot(), version(&entity)), (1024, 1));
    });
}

#[test]
fn folds_are_applied_in_order() {
    alone(|| {
        let entity = logical(String::new());
        transaction(|tx| {
            for letter in 'a'..='e' {
                tx.fold(&entity, move |s| format!("{s}{letter}"));
            }
            Ok(())
        });
        assert_eq!((entity.snapshot().as_str(), version(&entity)), ("abcde", 1));
    });
}

/// Every order of two calls on one entity, and what comes of it.
#[test]
fn each_call_builds_on_the_one_before() {
    fn check(calls: &[(&str, i64)]) {
        let entity = logical(3);
        let seen = transaction(|tx| {
            let mut seen = Vec::new();
            for (call, number) in calls {
                let number = *number;
                match *call {
                    "read" => seen.push(*tx.read(&entity)?),
                    "get" => seen.push(tx.get(&entity)?),
                    "require" => assert_eq!(tx.require(&entity)?, Stamp::new(0, 0)),
                    "write" => tx.write(&entity, number),
                    "update" => tx.update(&entity, |n| n * 10 + number)?,
                    "fold" => tx.fold(&entity, move |n| n * 10 + number),
                    other => unreachable!("there is no {other}"),
                }
            }
            Ok(seen)
        });
        let (mut value, mut expected, mut writes) = (3, Vec::new(), false);
        for (call, number) in calls {
            match *call {
                "read" | "get" => expected.push(value),
                "write" => (value, writes) = (*number, true),
                "update" | "fold" => (value, writes) = (value * 10 + number, true),
                _ => {}
            }
        }
        assert_eq!(seen, expected, "{calls:?}");
        assert_eq!(*entity.snapshot(), value, "{calls:?}");
        assert_eq!(version(&entity), u64::from(writes), "{calls:?}");
    }
    alone(|| {
        let calls = ["read", "get", "require", "write", "update", "fold"];
        for a in calls {
            check(&[(a, 1)]);
            for b in calls {
                check(&[(a, 1), (b, 2)]);
                for c in calls {
                    check(&[(a, 1), (b, 2), (c, 3)]);
                    for d in calls {
                        check(&[(a, 1), (b, 2), (c, 3), (d, 4)]);
                    }
                }
            }
        }
    });
}

// What makes the commit depend on an entity, and what doesn't: told by whether the closure runs again.

/// How often the closure runs that makes these calls, if another thread commits to the entity after them the
/// first time; and what becomes of the entity.
macro_rules! runs_after {
    ($entity:ident, $tx:ident, $calls:block) => {{
        let $entity = logical(1_i64);
        let other = logical(0_i64);
        let mut runs = 0;
        let attempts = transaction(|$tx| {
            runs += 1;
            // Something else besides, so that it takes more than one exchange.
            $tx.write(&other, i64::from(runs));
            $calls;
            if runs == 1 {
                overtake(&$entity, 100);
            }
            Ok($tx.attempt())
        });
        assert_eq!(attempts, runs, "each run was an attempt");
        assert_eq!(version(&other), 1, "one of them has committed");
        assert_eq!(*other.snapshot(), i64::from(runs), "the last one");
        (runs, *$entity.snapshot())
    }};
}

#[test]
fn what_was_read_must_not_change_until_the_commit() {
    alone(|| {
        assert_eq!(runs_after!(e, tx, { tx.read(&e)? }), (2, 100));
        assert_eq!(runs_after!(e, tx, { tx.get(&e)? }), (2, 100));
        assert_eq!(runs_after!(e, tx, { tx.require(&e)? }), (2, 100));
        assert_eq!(runs_after!(e, tx, { tx.update(&e, |n| n + 1)? }), (2, 101));
        let read_then_write = runs_after!(e, tx, {
            tx.get(&e)?;
            tx.write(&e, 7);
        });
        assert_eq!(read_then_write, (2, 7));
        let required_then_folded = runs_after!(e, tx, {
            tx.require(&e)?;
            tx.fold(&e, |n| n + 1);
        });
        assert_eq!(required_then_folded, (2, 101));
        let folded_then_required = runs_after!(e, tx, {
            tx.fold(&e, |n| n + 1);
            tx.require(&e)?;
        });
        assert_eq!(folded_then_required, (2, 101));
        let written_then_required = runs_after!(e, tx, {
            tx.write(&e, 7);
            tx.require(&e)?;
        });
        assert_eq!(written_then_required, (2, 7));
        let folded_then_read = runs_after!(e, tx, {
            tx.fold(&e, |n| n + 1);
            tx.get(&e)?;
        });
        assert_eq!(folded_then_read, (2, 101), "it counts as read");
        let folded_then_updated = runs_after!(e, tx, {
            tx.fold(&e, |n| n + 1);
            tx.update(&e, |n| n * 2)?;
        });
        assert_eq!(folded_then_updated, (2, 202), "and so it does here");
    });
}

#[test]
fn what_was_only_written_may_change_until_the_commit() {
    alone(|| {
        assert_eq!(runs_after!(e, tx, { tx.write(&e, 7) }), (1, 7));
        assert_eq!(runs_after!(e, tx, { tx.fold(&e, |n| n + 1) }), (1, 101));
        let written_then_read = runs_after!(e, tx, {
            tx.write(&e, 7);
            assert_eq!(tx.get(&e)?, 7);
        });
        assert_eq!(written_then_read, (1, 7), "its own write is all it read");
        let written_then_updated = runs_after!(e, tx, {
            tx.write(&e, 7);
            tx.update(&e, |n| n + 1)?;
        });
        assert_eq!(written_then_updated, (1, 8));
        let written_then_folded = runs_after!(e, tx, {
            tx.write(&e, 7);
            tx.fold(&e, |n| n + 1);
        });
        assert_eq!(written_then_folded, (1, 8));
        let folded_then_written = runs_after!(e, tx, {
            tx.fold(&e, |n| n + 1);
            tx.write(&e, 7);
        });
        assert_eq!(folded_then_written, (1, 7), "the fold is written over");
        let folded_twice = runs_after!(e, tx, {
            tx.fold(&e, |n| n + 1);
            tx.fold(&e, |n| n * 2);
        });
        assert_eq!(folded_twice, (1, 202));
    });
}

#[test]
fn a_fold_is_applied_to_what_is_current_at_the_commit() {
    alone(|| {
        let (count, other) = (logical(0), logical(0));
        let applied_to = Cell::new(-1);
        transaction(|tx| {
            tx.fold(&count, |n| {
                applied_to.set(*n);
                n + 1
            });
            assert_eq!(applied_to.get(), -1, "not now");
            tx.write(&other, 1);
            overtake(&count, 41);
            assert_eq!(tx.attempt(), 1, "nobody is in the way of that");
            Ok(())
        });
        assert_eq!(applied_to.get(), 41);
        assert_eq!((*count.snapshot(), version(&count)), (42, 2));
    });
}

#[test]
fn a_fold_alone_is_a_transaction_too() {
    alone(|| {
        let count = logical(0);
        transaction(|tx| {
            tx.fold(&count, |n| n + 1);
            Ok(())
        });
        assert_eq!((*count.snapshot(), version(&count)), (1, 1));
    });
}

#[test]
fn a_closure_that_only_reads_ends_with_what_existed_together() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let mut runs = 0;
        let seen = transaction(|tx| {
            runs += 1;
            let first = tx.get(&a)?;
            if runs == 1 {
                elsewhere(|| {
                    transaction(|tx| {
                        tx.write(&a, 1);
                        tx.write(&b, 1);
                        Ok(())
                    });
                });
            }
            Ok((first, tx.get(&b)?))
        });
        assert_eq!((seen, runs), ((1, 1), 2));
    });
}

/// The commit of another thread comes after the last read: no read is left that could notice.
#[test]
fn what_was_read_together_is_no_longer_current_at_the_end_and_need_not_be() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let seen = transaction(|tx| {
            let seen = (tx.get(&a)?, tx.get(&b)?);
            if tx.attempt() == 1 {
                overtake(&a, 1);
            }
            Ok(seen)
        });
        assert!(
            seen == (0, 0) || seen == (1, 0),
            "either is what existed at one moment: {seen:?}"
        );
    });
}

// `require`.

#[test]
fn require_tells_the_stamp_of_what_is_current() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        a.replace(1);
        a.replace(2);
        let stamps = transaction(|tx| {
            tx.write(&a, 7);
            Ok((tx.require(&a)?, tx.require(&b)?))
        });
        assert_eq!(stamps, (Stamp::new(2, 2), Stamp::new(0, 0)));
        assert_eq!(a.snapshot().stamp(), Stamp::new(3, 3));
        assert_eq!(b.snapshot().stamp(), Stamp::new(0, 0), "it is as it was");
    });
}

#[test]
fn what_is_required_keeps_its_snapshot() {
    alone(|| {
        let (a, b, c) = (logical(0), logical(0), logical(0));
        let (required, read) = (b.snapshot(), c.snapshot());
        for n in 1..=10 {
            transaction(|tx| {
                tx.require(&b)?;
                tx.get(&c)?;
                tx.write(&a, n);
                Ok(())
            });
            assert!(Snapshot::ptr_eq(&b.snapshot(), &required));
            assert!(Snapshot::ptr_eq(&c.snapshot(), &read));
        }
        assert_eq!((*a.snapshot(), version(&a)), (10, 10));
    });
}

// Entities as they are given.

#[test]
fn entities_of_different_types_change_together() {
    alone(|| {
        struct Unlike;
        let small = Entity::new(1_u8);
        let large = Entity::new([0_u64; 200]);
        let text = Entity::new(String::from("a"));
        let unit = Entity::new(());
        let unlike = Entity::new(Unlike);
        let checked = percent(40);
        transaction(|tx| {
            tx.update(&small, |n| n + 1)?;
            tx.update(&large, |all| all.map(|n| n + 1))?;
            tx.update(&text, |s| format!("{s}b"))?;
            tx.write(&unit, ());
            tx.write(&unlike, Unlike);
            tx.try_write(&checked, 50).unwrap();
            assert_eq!(tx.entities(), 6);
            Ok(())
        });
        assert_eq!((*small.snapshot(), &**text.snapshot()), (2, "ab"));
        assert!(large.read(|all| all.iter().all(|n| *n == 1)));
        assert_eq!(*checked.snapshot(), 50);
        let versions = [
            version(&small),
            version(&large),
            version(&text),
            version(&unit),
            version(&unlike),
            version(&checked),
        ];
        assert_eq!(versions, [1; 6]);
    });
}

#[test]
fn over_aligned_values_are_written_where_they_belong() {
    #[derive(Clone, Copy)]
    #[repr(align(256))]
    struct Wide(u64);
    alone(|| {
        let entities: [Entity<Wide>; 3] = std::array::from_fn(|n| Entity::new(Wide(n as u64)));
        for _ in 0..100 {
            transaction(|tx| {
                let first = tx.get(&entities[0])?;
                tx.write(&entities[0], tx.get(&entities[1])?);
                tx.write(&entities[1], tx.get(&entities[2])?);
                tx.write(&entities[2], first);
                assert_eq!((&raw const *tx.read(&entities[2])?).addr() % 256, 0);
                Ok(())
            });
            for entity in &entities {
                let snapshot = entity.snapshot();
                assert_eq!((&raw const *snapshot).addr() % 256, 0);
            }
        }
        let numbers: Vec<_> = entities.iter().map(|e| e.read(|wide| wide.0)).collect();
        assert_eq!(numbers, [1, 2, 0], "100 turns of three");
    });
}

#[test]
fn a_handle_and_a_borrow_of_it_are_the_same_entity() {
    alone(|| {
        let entity = logical(1);
        transaction(|tx| {
            tx.write(entity.clone(), 2);
            assert_eq!(tx.get(&entity)?, 2);
            tx.update(&entity, |n| n + 1)?;
            assert_eq!(tx.get(entity.clone())?, 3);
            assert_eq!(*tx.read(entity.clone())?, 3);
            tx.fold(entity.clone(), |n| n + 1);
            tx.require(entity.clone())?;
            assert_eq!(tx.entities(), 1);
            Ok(())
        });
        assert_eq!((*entity.snapshot(), version(&entity)), (4, 1));
        assert_eq!(entity.into_inner(), Ok(4), "all other handles are gone");
    });
}

#[test]
fn a_transaction_keeps_an_entity_that_nobody_else_keeps() {
    alone(|| {
        let tally = Tally::default();
        let left = Entity::new(0);
        transaction(|tx| {
            let temporary = Entity::new(tally.token());
            let kept = temporary.clone();
            drop(temporary);
            let token = tx.read(kept)?;
            assert_eq!((token.number(), tally.alive()), (0, vec![0]));
            let brief = Entity::new(tally.token());
            tx.write(brief, tally.token());
            tx.write(&left, 1);
            Ok(())
        });
        snapcell::reclaim();
        assert_eq!(*left.snapshot(), 1);
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn entities_made_in_the_closure_are_written_with_others() {
    alone(|| {
        let outer = logical(0);
        let made = transaction(|tx| {
            let made = logical(0);
            tx.write(made.clone(), 5);
            tx.write(&outer, 5);
            Ok(made)
        });
        assert_eq!((*made.snapshot(), version(&made)), (5, 1));
        assert_eq!(made.snapshot().stamp(), outer.snapshot().stamp());
    });
}

#[test]
fn a_function_may_be_given_the_transaction_and_its_entities() {
    fn move_all<'e>(
        tx: &Transaction<'e>,
        from: &'e Entity<u32>,
        to: &'e Entity<u32>,
    ) -> Result<u32, snapcell::Restart> {
        let amount = tx.get(from)?;
        tx.write(from, 0);
        tx.update(to, |n| n + amount)?;
        Ok(amount)
    }
    alone(|| {
        let entities = [5, 6, 7].map(Entity::new);
        let [a, b, c] = &entities;
        let moved = transaction(|tx| Ok(move_all(tx, a, b)? + move_all(tx, b, c)?));
        assert_eq!((moved, values(&entities)), (5 + 11, vec![0, 0, 18]));
    });
}

#[test]
fn it_tells_how_many_entities_it_is_about() {
    alone(|| {
        let entities: Vec<Entity<u32>> = (0..40).map(Entity::new).collect();
        transaction(|tx| {
            assert_eq!(tx.entities(), 0);
            for (n, entity) in entities.iter().enumerate() {
                match n % 4 {
                    0 => drop(tx.get(entity)?),
                    1 => tx.write(entity, 0),
                    2 => drop(tx.require(entity)?),
                    _ => tx.fold(entity, |n| n + 1),
                }
                assert_eq!(tx.entities(), n + 1);
            }
            for entity in &entities {
                tx.get(entity)?;
            }
            assert_eq!(tx.entities(), 40);
            Ok(())
        });
    });
}

// How many.

/// Around each number at which something may be arranged differently inside.
const SIZES: [usize; 14] = [1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 100, 1_000];

#[test]
fn any_number_of_entities_change_together() {
    alone(|| {
        for size in SIZES {
            let entities: Vec<_> = (0..size).map(logical).collect();
            let sum = transaction(|tx| {
                let mut sum = 0;
                for entity in &entities {
                    sum += tx.get(entity)?;
                }
                // In another order, each twice.
                for entity in entities.iter().rev().chain(&entities) {
                    tx.update(entity, |n| n + 1)?;
                }
                assert_eq!(tx.entities(), size);
                Ok(sum)
            });
            assert_eq!(sum, size * (size - 1) / 2);
            for (n, entity) in entities.iter().enumerate() {
                let now = entity.snapshot();
                assert_eq!((*now, now.stamp()), (n + 2, Stamp::new(1, 1)));
            }
        }
    });
}

#[test]
fn any_number_of_entities_are_only_read() {
    alone(|| {
        for size in SIZES {
            let entities: Vec<_> = (0..size).map(logical).collect();
            let out = logical(0);
            let before: Vec<_> = entities.iter().map(Entity::snapshot).collect();
            let sum = transaction(|tx| {
                let mut sum = 0;
                for (n, entity) in entities.iter().enumerate() {
                    sum += match n % 3 {
                        0 => tx.get(entity)?,
                        1 => *tx.read(entity)?,
                        _ => {
                            tx.require(entity)?;
                            n
                        }
                    };
                }
                tx.write(&out, sum);
                Ok(sum)
            });
            assert_eq!((sum, *out.snapshot()), (size * (size - 1) / 2, sum));
            for (entity, before) in entities.iter().zip(before) {
                assert!(Snapshot::ptr_eq(&entity.snapshot(), &before));
            }
        }
    });
}

#[test]
fn room_for_many_is_no_harm_to_the_next_transaction() {
    alone(|| {
        let entities: Vec<_> = (0..1_000).map(|_| logical(0)).collect();
        for round in 0..200 {
            // Large and small by turns: what is kept for the next one has to fit any.
            let size = [1_000, 1, 17, 2, 65][round % 5];
            let few = &entities[..size];
            transaction(|tx| {
                assert_eq!(tx.entities(), 0);
                few.iter().try_for_each(|e| tx.update(e, |n| n + 1))
            });
        }
        assert_eq!(*entities[0].snapshot(), 200);
        assert_eq!(*entities[999].snapshot(), 40);
    });
}

// Validators.

#[test]
fn a_refused_value_is_given_back_and_the_transaction_goes_on() {
    alone(|| {
        let (checked, other) = (percent(40), Entity::new(0));
        transaction(|tx| {
            let refused = tx.try_write(&checked, 101).unwrap_err();
            assert_eq!((refused.value, refused.error), (101, "more than all"));
            assert_eq!(tx.get(&checked)?, 40);
            tx.write(&other, 1);
            Ok(())
        });
        assert_eq!((*checked.snapshot(), version(&checked)), (40, 0));
        assert_eq!(*other.snapshot(), 1);
        transaction(|tx| {
            tx.try_write(&checked, 60).unwrap();
            assert!(tx.try_write(&checked, 200).is_err());
            assert_eq!(tx.get(&checked)?, 60, "the earlier write stands");
            Ok(())
        });
        assert_eq!((*checked.snapshot(), version(&checked)), (60, 1));
    });
}

#[test]
fn an_entity_without_a_validator_refuses_nothing() {
    alone(|| {
        let entity = Entity::new(0);
        transaction(|tx| {
            assert!(tx.try_write(&entity, 1).is_ok());
            Ok(())
        });
        assert_eq!(*entity.snapshot(), 1);
    });
}

#[test]
fn a_validator_that_never_refuses_sees_each_value_before_it_is_published() {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    alone(|| {
        let seen = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&seen);
        let entity: Entity<i32> = Entity::builder(0)
            .validate::<Infallible>(move |_| {
                counting.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .build();
        let seen = || seen.swap(0, Ordering::SeqCst);
        assert_eq!(seen(), 1, "the first value");
        entity.replace(1);
        assert_eq!(seen(), 1, "what is replaced");
        entity.update(|n| n + 1);
        assert_eq!(seen(), 1, "what is updated");
        transaction(|tx| {
            tx.write(&entity, 3);
            Ok(())
        });
        assert_eq!(seen(), 1, "what a transaction writes");
    });
}

// Time.

#[test]
fn all_that_is_written_has_the_same_time() {
    alone(|| {
        let default: Vec<_> = (0..5).map(Entity::new).collect();
        for round in 1..=20 {
            transaction(|tx| {
                default.iter().try_for_each(|e| tx.update(e, |n| n + 1))?;
                Ok(())
            });
            let stamps: Vec<_> = default.iter().map(|e| e.snapshot().stamp()).collect();
            assert_eq!(stamps, [Stamp::new(round, stamps[0].time()); 5]);
        }
    });
}

#[test]
fn the_time_is_the_largest_that_any_entity_asks_for() {
    alone(|| {
        let clock = ManualClock::new();
        clock.set(Duration::from_nanos(50));
        let manual = Entity::builder(0).clock(Clock::manual(&clock)).build();
        let counted = Entity::builder(0)
            .clock(Clock::logical())
            .born(Stamp::new(3, 1_000))
            .build();
        let both = || {
            transaction(|tx| {
                tx.write(&manual, 1);
                tx.write(&counted, 1);
                Ok(())
            });
            (manual.snapshot().stamp(), counted.snapshot().stamp())
        };
        assert_eq!(both(), (Stamp::new(1, 1_001), Stamp::new(4, 1_001)));
        clock.set(Duration::from_nanos(5_000));
        assert_eq!(both(), (Stamp::new(2, 5_000), Stamp::new(5, 5_000)));
        assert_eq!(both(), (Stamp::new(3, 5_001), Stamp::new(6, 5_001)));
        clock.set(Duration::ZERO);
        assert_eq!(both(), (Stamp::new(4, 5_002), Stamp::new(7, 5_002)));
        let alone = manual.replace(9).stamp();
        assert_eq!(alone, Stamp::new(5, 5_002), "its own clock is behind");
    });
}

#[test]
fn the_monotonic_clock_counts_beside_others() {
    alone(|| {
        let clock = ManualClock::new();
        let monotonic = Entity::new(0);
        let manual = Entity::builder(0).clock(Clock::manual(&clock)).build();
        let both = || {
            transaction(|tx| {
                tx.fold(&monotonic, |n| n + 1);
                tx.fold(&manual, |n| n + 1);
                Ok(())
            });
            let times = [monotonic.snapshot(), manual.snapshot()].map(|s| s.stamp().time());
            assert_eq!(times[0], times[1]);
            times[0]
        };
        let before = Entity::new(0).snapshot().stamp().time();
        let first = both();
        let after = Entity::new(0).snapshot().stamp().time();
        assert!(
            before <= first && first <= after,
            "{before} {first} {after}"
        );
        // A thousand years from now.
        let far = Duration::from_secs(500 * 365 * 24 * 3_600);
        clock.set(far);
        let far = far.as_nanos() as u64;
        assert_eq!(both(), far);
        clock.set(Duration::ZERO);
        assert_eq!(both(), far, "time never goes backwards");
        assert_eq!(monotonic.replace(0).stamp().time(), far);
    });
}

#[test]
fn what_is_only_read_is_not_later_than_what_follows_from_it() {
    alone(|| {
        let late = Entity::builder(0)
            .clock(Clock::logical())
            .born(Stamp::new(0, 9_000))
            .build();
        let (a, b) = (logical(0), logical(0));
        transaction(|tx| {
            tx.get(&late)?;
            tx.require(&late)?;
            tx.write(&a, 1);
            tx.write(&b, 1);
            Ok(())
        });
        let stamps = [&a, &b, &late].map(|e| e.snapshot().stamp());
        assert_eq!(
            stamps,
            [
                Stamp::new(1, 9_000),
                Stamp::new(1, 9_000),
                Stamp::new(0, 9_000)
            ]
        );
    });
}

#[test]
fn a_time_at_its_end_stays_there() {
    alone(|| {
        let last = Entity::builder(0)
            .clock(Clock::logical())
            .born(Stamp::new(0, u64::MAX))
            .build();
        let other = logical(0);
        for n in 1..4 {
            transaction(|tx| {
                tx.write(&last, n);
                tx.write(&other, n);
                Ok(())
            });
            let stamps = [&last, &other].map(|e| e.snapshot().stamp());
            assert_eq!(stamps, [Stamp::new(n, u64::MAX); 2]);
        }
    });
}

// Inside one another.

#[test]
fn a_transaction_inside_a_closure_commits_by_itself() {
    alone(|| {
        let (outer, inner, log) = (logical(0), logical(0), logical(0));
        let mut runs = 0;
        transaction(|tx| {
            runs += 1;
            tx.update(&outer, |n| n + 1)?;
            let seen = transaction(|nested| {
                nested.update(&inner, |n| n + 1)?;
                nested.fold(&log, |n| n + 1);
                nested.get(&inner)
            });
            assert_eq!(seen, runs, "its effect stays each time");
            if runs == 1 {
                overtake(&outer, 100);
            }
            Ok(())
        });
        assert_eq!((*outer.snapshot(), *inner.snapshot(), runs), (101, 2, 2));
        assert_eq!(version(&log), 2);
    });
}

#[test]
fn a_closure_may_commit_to_what_it_does_not_read() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        transaction(|tx| {
            assert_eq!(tx.attempt(), 1);
            tx.update(&a, |n| n + 1)?;
            b.update(|n| n + 1);
            b.replace(5);
            assert!(b.try_commit(b.snapshot().stamp(), 6).is_ok());
            Ok(())
        });
        assert_eq!((*a.snapshot(), *b.snapshot(), version(&b)), (1, 6, 3));
    });
}

#[test]
fn a_closure_may_commit_to_what_it_writes_blindly_before_it_does() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        transaction(|tx| {
            tx.write(&a, 1);
            tx.fold(&b, |n| n + 1);
            a.replace(70);
            b.replace(70);
            Ok(())
        });
        assert_eq!((*a.snapshot(), version(&a)), (1, 2));
        assert_eq!((*b.snapshot(), version(&b)), (71, 2));
    });
}

#[test]
fn transactions_nest_as_deep_as_the_stack_allows() {
    fn dive(entities: &[Entity<u32>]) -> u32 {
        let [first, rest @ ..] = entities else {
            return 0;
        };
        transaction(|tx| {
            tx.update(first, |n| n + 1)?;
            let below = dive(rest);
            tx.update(first, |n| n + below)?;
            Ok(below + 1)
        })
    }
    alone(|| {
        let entities: Vec<_> = (0..100).map(|_| logical(0)).collect();
        assert_eq!(dive(&entities), 100);
        let expected: Vec<_> = (1..=100).rev().collect();
        assert_eq!(values(&entities), expected);
    });
}

#[test]
fn an_inner_closure_may_look_through_the_outer_transaction() {
    alone(|| {
        let (a, b) = (logical(1), logical(0));
        transaction(|outer| {
            outer.write(&a, 7);
            transaction(|inner| {
                inner.write(&b, outer.get(&a)?);
                Ok(())
            });
            Ok(())
        });
        assert_eq!((*a.snapshot(), *b.snapshot()), (7, 7));
    });
}

/// Whose error it is can't be told, so it is the inner one that runs again: for ever, without a bound.
#[test]
fn an_inner_closure_that_passes_on_the_restart_of_an_outer_one_runs_again_itself() {
    alone(|| {
        let (a, b, c) = (logical(0), logical(0), logical(0));
        transaction(|outer| {
            outer.get(&a)?;
            if outer.attempt() == 1 {
                overtake(&a, 1);
            }
            let (result, runs) = super::bounded(3, |inner| {
                inner.update(&b, |n| n + 1)?;
                outer.get(&c)
            });
            if outer.attempt() == 1 {
                let exhausted = snapcell::TransactionError::Exhausted { attempts: 4 };
                assert_eq!((result, runs), (Err(exhausted), 4));
                return outer.get(&c).map(drop);
            }
            assert_eq!((result, runs), (Ok(0), 1));
            Ok(())
        });
        assert_eq!(version(&b), 1);
    });
}

#[test]
fn a_transaction_runs_inside_the_closures_of_plain_calls() {
    alone(|| {
        let (plain, a, b) = (logical(0), logical(0), logical(0));
        let both = || {
            transaction(|tx| {
                tx.update(&a, |n| n + 1)?;
                tx.update(&b, |n| n + 1)
            });
        };
        plain.update(|n| {
            both();
            n + 1
        });
        plain.read(|_| both());
        let guard = snapcell::pin();
        both();
        drop(guard);
        let committed = plain.replace(2);
        both();
        drop(committed);
        let base = plain.snapshot();
        plain.replace(3);
        let merged = plain.commit_or_merge(&base, 4, |sides| {
            both();
            Some(*sides.mine)
        });
        assert!(merged.is_ok());
        drop(merged);
        assert_eq!(values(&[plain, a, b]), [4, 5, 5]);
    });
}

/// As plain commits do: whoever computes for an entity and commits to it meanwhile loses to himself.
#[test]
fn a_transaction_inside_an_update_of_the_same_entity_is_found_out() {
    alone(|| {
        for others in 0..3 {
            let entity = logical(0);
            let rest: Vec<_> = (0..others).map(|_| logical(0)).collect();
            let result = entity.try_update::<()>(|n| {
                transaction(|tx| {
                    rest.iter().try_for_each(|e| tx.update(e, |n| n + 1))?;
                    tx.update(&entity, |n| n + 10)
                });
                Ok(Some(n + 1))
            });
            let error = result.map(|_| ()).unwrap_err();
            assert!(
                matches!(error, snapcell::UpdateError::SelfConflict { .. }),
                "with {others} others: {error:?}"
            );
            assert_eq!(*entity.snapshot(), 10, "the inner commit stands");
        }
    });
}

#[test]
fn an_update_inside_an_update_of_another_entity_is_part_of_the_transaction() {
    alone(|| {
        let (a, b) = (logical(1), logical(2));
        transaction(|tx| {
            tx.update(&a, |n| {
                tx.update(&b, |m| m + n).unwrap();
                // And of the same one: the outer one has the last word.
                tx.write(&a, 50);
                assert_eq!(tx.get(&a), Ok(50));
                tx.or_else(|tx| tx.retry(), |tx| tx.update(&b, |m| m * 10))
                    .unwrap();
                n + 1
            })
        });
        assert_eq!((*a.snapshot(), *b.snapshot()), (2, 30));
        assert_eq!((version(&a), version(&b)), (1, 1));
    });
}
