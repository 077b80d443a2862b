//! Changes that were computed before: one attempt, and everything is given back where it is refused.

use super::support::{Tally, Token, elsewhere, together};
use super::{alone, fewer_if_slow, in_order, logical, overtake, percent, values, version};
use snapcell::{
    ChangeRefusal, Changes, Clock, Entity, ManualClock, Snapshot, Stamp, snapshot_of, transaction,
    try_transaction,
};
use std::time::Duration;

fn stamp<T: Send + Sync + 'static, E: 'static>(entity: &Entity<T, E>) -> Stamp {
    entity.snapshot().stamp()
}

#[test]
fn changes_are_made_together_if_everything_is_as_expected() {
    alone(|| {
        let (a, b, c, d) = (logical(1), logical("b"), logical(3), logical(4));
        let changes = Changes::new()
            .write(&a, stamp(&a), 10)
            .replace(&b, "B")
            .require(&c, stamp(&c));
        assert_eq!((changes.len(), changes.is_empty()), (3, false));
        let made = try_transaction(changes).unwrap();
        assert_eq!(made.attempts(), 1);
        assert_eq!(made.stamp(&a), Some(Stamp::new(1, 1)));
        assert_eq!(made.stamp(&b), Some(Stamp::new(1, 1)));
        assert_eq!(made.stamp(&c), None, "it was not changed");
        assert_eq!(made.stamp(&d), None, "it took no part");
        assert_eq!((*a.snapshot(), *b.snapshot(), *c.snapshot()), (10, "B", 3));
        assert_eq!([version(&a), version(&b), version(&c)], [1, 1, 0]);
        drop(made);
        assert_eq!((a.into_inner(), b.into_inner()), (Ok(10), Ok("B")));
    });
}

#[test]
fn no_changes_are_made_at_once() {
    alone(|| {
        assert!(Changes::default().is_empty());
        let made = try_transaction(Changes::new()).unwrap();
        assert_eq!(made.attempts(), 1);
    });
}

#[test]
fn one_wrong_stamp_refuses_all() {
    alone(|| {
        for place in 0..4 {
            let entities = [logical(0), logical(0), logical(0), logical(0)];
            let before = entities.each_ref().map(stamp);
            overtake(&entities[place], 50);
            let [a, b, c, d] = &entities;
            let changes = Changes::new()
                .require(a, before[0])
                .write(b, before[1], 1)
                .require(c, before[2])
                .write(d, before[3], 1);
            let refused = try_transaction(changes).unwrap_err();
            assert_eq!((refused.index(), refused.is_conflict()), (place, true));
            assert_eq!(refused.refusal(), ChangeRefusal::Conflict);
            assert_eq!(refused.expected(), Stamp::new(0, 0));
            assert_eq!(refused.found(), Stamp::new(1, 1));
            for (at, entity) in entities.iter().enumerate() {
                assert_eq!(refused.is_about(entity), at == place);
                assert_eq!(version(entity), u64::from(at == place), "as it was");
            }
            assert!(!refused.is_about(&logical(0)), "a stranger");
        }
    });
}

/// Where transactions install last comes first here, and types take turns. So an operation that is taken for that
/// of another entity is seen by its number: the values are alike but for their types.
#[test]
fn each_value_comes_back_from_its_own_entity_though_they_came_against_the_order() {
    alone(|| {
        const EACH: usize = 20;
        let ones = in_order((0..EACH).map(|_| logical(0_u64)).collect());
        let others = in_order((0..EACH).map(|_| logical(0_i64)).collect());
        let (gate, old) = (logical(0), Stamp::new(9, 9));
        let numbers = || (0..EACH).rev();
        let mut changes = Changes::new();
        for n in numbers() {
            changes = changes
                .replace(&ones[n], 100 + n as u64)
                .replace(&others[n], 200 + n as i64);
        }
        let refused = try_transaction(changes.require(&gate, old)).unwrap_err();
        assert_eq!((refused.is_about(&gate), refused.index()), (true, 2 * EACH));
        let mut changes = refused.into_changes();
        for n in numbers() {
            assert_eq!(changes.take(&ones[n]), Some(100 + n as u64), "its own");
            assert_eq!(changes.take(&others[n]), Some(200 + n as i64), "its own");
        }

        // And so does what comes afterwards.
        let mut changes = Changes::new();
        for n in 0..EACH {
            changes = changes
                .replace(&others[n], 0)
                .replace(&ones[n], 0)
                .require(&gate, old);
        }
        let mut changes = try_transaction(changes).unwrap_err().into_changes();
        for n in numbers() {
            changes = changes.replace(&ones[n], 300 + n as u64);
            assert_eq!(changes.take(&others[n]), Some(0));
            changes = changes.replace(&others[n], 400 + n as i64);
        }
        assert_eq!(changes.len(), 2 * EACH + 1, "each once");
        for n in 0..EACH {
            assert_eq!(changes.take(&ones[n]), Some(300 + n as u64), "its own");
            assert_eq!(changes.take(&others[n]), Some(400 + n as i64), "its own");
        }
    });
}

#[test]
fn a_refusal_gives_every_value_back() {
    alone(|| {
        for size in [1, 2, 8, 9, 16, 17, 65, 300] {
            let tally = Tally::default();
            let entities: Vec<Entity<Token>> = (0..size).map(|_| logical(tally.token())).collect();
            let gate = logical(0);
            let old = stamp(&gate);
            gate.replace(1);
            let mut changes = Changes::new();
            for (n, entity) in entities.iter().enumerate() {
                changes = match n % 2 {
                    0 => changes.replace(entity, tally.token()),
                    _ => changes.write(entity, stamp(entity), tally.token()),
                };
            }
            let refused = try_transaction(changes.require(&gate, old)).unwrap_err();
            assert!(refused.is_about(&gate));
            assert_eq!(refused.index(), size);
            let mut changes = refused.into_changes();
            assert_eq!(changes.len(), size + 1);
            assert_eq!(tally.alive().len(), 2 * size, "all of them are there");
            for (n, entity) in entities.iter().enumerate().rev() {
                let token = changes.take(entity).expect("it was to get one");
                assert_eq!(token.number(), size + n, "its own");
                assert!(changes.take(entity).is_none(), "it is gone");
            }
            assert_eq!(changes.take(&gate), None, "nothing was to be written there");
            assert_eq!(changes.take(&logical(0)), None);
            assert!(entities.iter().all(|entity| version(entity) == 0));
            drop(changes);
            drop(entities);
            tally.assert_all_dropped_once(2 * size);
        }
    });
}

#[test]
fn refused_changes_may_be_tried_again_when_the_stamp_is_right() {
    alone(|| {
        let (a, b) = (logical(0), logical(String::from("b")));
        a.replace(1);
        let second = Stamp::new(2, 2);
        let changes = Changes::new()
            .write(&a, second, 7)
            .replace(&b, String::from("B"));
        let refused = try_transaction(changes).unwrap_err();
        assert_eq!(
            (refused.expected(), refused.found()),
            (second, Stamp::new(1, 1))
        );
        a.replace(2);
        assert!(try_transaction(refused.into_changes()).is_ok());
        assert_eq!((*a.snapshot(), &**b.snapshot()), (7, "B"));
    });
}

#[test]
fn what_was_taken_out_is_not_written() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let mut changes = Changes::new().write(&a, stamp(&a), 1).replace(&b, 1);
        assert_eq!(changes.take(&b), Some(1));
        let made = try_transaction(changes).unwrap();
        assert_eq!(
            (made.stamp(&a), made.stamp(&b)),
            (Some(Stamp::new(1, 1)), None)
        );
        assert_eq!((version(&a), version(&b)), (1, 0));

        let stale = stamp(&a);
        a.replace(5);
        let mut changes = Changes::new().write(&a, stale, 1).replace(&b, 1);
        assert_eq!(changes.take(&a), Some(1));
        let refused = try_transaction(changes).unwrap_err();
        assert!(refused.is_about(&a), "the stamp is still expected");
    });
}

#[test]
fn changes_that_are_dropped_are_not_made() {
    alone(|| {
        let tally = Tally::default();
        let entity = logical(tally.token());
        let changes = Changes::new().replace(&entity, tally.token());
        drop(changes);
        assert_eq!((tally.alive(), version(&entity)), (vec![0], 0));
        drop(entity);
        tally.assert_all_dropped_once(2);
    });
}

// The same entity twice.

#[test]
fn an_entity_that_comes_twice_gets_the_last_value() {
    alone(|| {
        let tally = Tally::default();
        let entity = logical(tally.token());
        let now = stamp(&entity);
        let changes = Changes::new()
            .replace(&entity, tally.token())
            .write(&entity, now, tally.token())
            .require(entity.clone(), now)
            .replace(entity.clone(), tally.token());
        assert_eq!(changes.len(), 1);
        let made = try_transaction(changes).unwrap();
        assert_eq!(made.stamp(&entity), Some(Stamp::new(1, 1)));
        drop(made);
        assert_eq!(entity.read(|token| token.number()), 3);
        snapcell::reclaim();
        assert_eq!(tally.alive(), [3]);
    });
}

#[test]
fn everything_that_is_expected_of_an_entity_must_be_true() {
    alone(|| {
        let (first, second, third) = (Stamp::new(0, 0), Stamp::new(1, 1), Stamp::new(2, 2));
        let entity = logical(0);
        entity.replace(1);
        let check = |expected: [Stamp; 2], wrong: Stamp| {
            let other = logical(0);
            let changes = Changes::new()
                .write(&entity, expected[0], 7)
                .replace(&other, 7)
                .write(&entity, expected[1], 8);
            let refused = try_transaction(changes).unwrap_err();
            assert!(refused.is_about(&entity) && refused.is_conflict());
            assert_eq!((refused.index(), refused.expected()), (0, wrong));
            assert_eq!(refused.found(), second);
            assert_eq!((version(&entity), version(&other)), (1, 0));
            let mut changes = refused.into_changes();
            assert_eq!(
                (changes.take(&entity), changes.take(&other)),
                (Some(8), Some(7))
            );
        };
        check([first, second], first);
        check([second, first], first);
        check([second, third], third);
        check([third, second], third);
        check([first, first], first);
        let both = Changes::new()
            .write(&entity, second, 7)
            .write(&entity, second, 8);
        assert!(try_transaction(both).is_ok());
        assert_eq!(*entity.snapshot(), 8);
    });
}

/// Whichever is expected, the other one is wrong.
#[test]
fn a_contradiction_is_refused_though_one_side_of_it_is_true() {
    alone(|| {
        let entity = logical(0);
        let (now, never) = (stamp(&entity), Stamp::new(9, 9));
        let changes = Changes::new().require(&entity, now).require(&entity, never);
        let refused = try_transaction(changes).unwrap_err();
        assert_eq!((refused.expected(), refused.found()), (never, now));
        let again = try_transaction(refused.into_changes()).unwrap_err();
        assert_eq!((again.expected(), again.found()), (never, now));
    });
}

// Stamps.

#[test]
fn a_stamp_is_the_version_and_the_time() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        a.replace(1);
        for wrong in [
            Stamp::new(1, 0),
            Stamp::new(1, 2),
            Stamp::new(0, 1),
            Stamp::new(2, 1),
        ] {
            let changes = Changes::new().write(&a, wrong, 2).replace(&b, 2);
            assert!(try_transaction(changes).is_err(), "{wrong}");
            let changes = Changes::new().require(&a, wrong).replace(&b, 2);
            assert!(try_transaction(changes).is_err(), "{wrong}");
            let changes = Changes::new().require(&a, wrong);
            assert!(try_transaction(changes).is_err(), "{wrong}");
        }
        assert_eq!((version(&a), version(&b)), (1, 0));
    });
}

#[test]
fn stamps_that_did_not_exist_together_are_refused_one_after_the_other() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let (old, new) = (stamp(&a), {
            transaction(|tx| {
                tx.write(&a, 1);
                tx.write(&b, 1);
                Ok(())
            });
            stamp(&b)
        });
        let changes = Changes::new().require(&a, old).require(&b, new);
        assert!(try_transaction(changes).unwrap_err().is_about(&a));
        let changes = Changes::new().require(&a, new).require(&b, old);
        assert!(try_transaction(changes).unwrap_err().is_about(&b));
        let changes = Changes::new().require(&a, new).require(&b, new);
        assert_eq!(
            try_transaction(changes).map(|made| made.attempts()).ok(),
            Some(1)
        );
    });
}

#[test]
fn all_that_is_changed_gets_one_time() {
    alone(|| {
        let clock = ManualClock::new();
        clock.set(Duration::from_nanos(70));
        let manual = Entity::builder(0).clock(Clock::manual(&clock)).build();
        let (counted, late) = (
            logical(0),
            Entity::builder(0)
                .clock(Clock::logical())
                .born(Stamp::new(5, 500))
                .build(),
        );
        let changes = Changes::new().replace(&manual, 1).replace(&counted, 1);
        let made = try_transaction(changes).unwrap();
        assert_eq!(made.stamp(&manual), Some(Stamp::new(1, 70)));
        assert_eq!(made.stamp(&counted), Some(Stamp::new(1, 70)));
        let changes = Changes::new().replace(&manual, 2).replace(&late, 2).write(
            &counted,
            Stamp::new(1, 70),
            2,
        );
        let made = try_transaction(changes).unwrap();
        assert_eq!(made.stamp(&manual), Some(Stamp::new(2, 501)));
        assert_eq!(made.stamp(&late), Some(Stamp::new(6, 501)));
        assert_eq!(made.stamp(&counted), Some(Stamp::new(2, 501)));
        let [m, c, l] = [&manual, &counted, &late].map(stamp);
        assert_eq!(
            [m, c, l],
            [Stamp::new(2, 501), Stamp::new(2, 501), Stamp::new(6, 501)]
        );
    });
}

#[test]
fn an_entity_at_its_last_version_refuses_and_gives_back() {
    alone(|| {
        let tally = Tally::default();
        let last = Entity::builder(tally.token())
            .born(Stamp::new(u64::MAX, 3))
            .build();
        let other = logical(tally.token());
        let changes = Changes::new().replace(&other, tally.token()).write(
            &last,
            Stamp::new(u64::MAX, 3),
            tally.token(),
        );
        let refused = try_transaction(changes).unwrap_err();
        assert_eq!(refused.refusal(), ChangeRefusal::VersionLimit);
        assert!(!refused.is_conflict() && refused.is_about(&last));
        assert_eq!(
            (refused.index(), refused.found()),
            (1, Stamp::new(u64::MAX, 3))
        );
        assert!(refused.to_string().contains("version"), "{refused}");
        let mut changes = refused.into_changes();
        let numbers = [&other, &last].map(|e| changes.take(e).map(|token| token.number()));
        assert_eq!(numbers, [Some(2), Some(3)]);
        assert_eq!((version(&other), version(&last)), (0, u64::MAX));
    });
}

#[test]
fn an_entity_that_is_not_born_yet_is_born_by_a_transaction_at_the_time_of_that() {
    alone(|| {
        let unborn = Stamp::new(u64::MAX, u64::MAX);
        let clock = ManualClock::new();
        clock.set(Duration::from_nanos(40));
        let built = |clock| Entity::builder(0).clock(clock).born(unborn).build();
        let [first, second] = [Clock::manual(&clock), Clock::logical()].map(built);
        let other = logical(0);
        let changes = Changes::new()
            .write(&first, unborn, 1)
            .replace(&second, 1)
            .replace(&other, 1);
        let done = try_transaction(changes).unwrap();
        let got = [&first, &second, &other].map(|entity| done.stamp(entity));
        let times = [(0, 40), (0, 40), (1, 40)];
        assert_eq!(got, times.map(|(v, t)| Some(Stamp::new(v, t))));
        drop(done);
        // Alone, and at time 0: that it was changed is said all the same.
        let alone = built(Clock::logical());
        let done = try_transaction(Changes::new().replace(&alone, 1)).unwrap();
        assert_eq!(done.stamp(&alone), Some(Stamp::new(0, 0)));
        drop(done);
        // Whoever only reads one doesn't get its time.
        let waiting = built(Clock::logical());
        transaction(|tx| {
            let read = tx.get(&waiting)?;
            tx.write(&other, read);
            Ok(())
        });
        assert_eq!(
            (stamp(&waiting), stamp(&other)),
            (unborn, Stamp::new(2, 41))
        );
    });
}

#[test]
fn what_is_written_is_not_earlier_than_what_was_only_read() {
    alone(|| {
        let (early, late) = (logical(0), logical(0));
        for n in 1..=5 {
            late.replace(n);
        }
        transaction(|tx| tx.get(&late).map(|n| tx.write(&early, n)));
        assert_eq!(stamp(&early), Stamp::new(1, 5));
        late.replace(6);
        let changes = Changes::new()
            .replace(&early, 6)
            .require(&late, stamp(&late));
        assert!(try_transaction(changes).is_ok());
        assert_eq!(
            (stamp(&early), stamp(&late)),
            (Stamp::new(2, 6), Stamp::new(6, 6))
        );
    });
}

// Entities as they are given.

#[test]
fn changes_may_keep_handles_of_their_own() {
    alone(|| {
        let tally = Tally::default();
        let changes = {
            let (a, b) = (logical(tally.token()), logical(tally.token()));
            let now = stamp(&a);
            Changes::new()
                .write(a, now, tally.token())
                .replace(b, tally.token())
        };
        assert_eq!(
            tally.alive(),
            [0, 1, 2, 3],
            "they live by the changes alone"
        );
        let made = try_transaction(changes).unwrap();
        drop(made);
        snapcell::reclaim();
        tally.assert_all_dropped_once(4);
    });
}

#[test]
fn a_validator_sees_each_value_before() {
    alone(|| {
        let (checked, other) = (percent(40), logical(0));
        let (changes, invalid) = Changes::new()
            .replace(&other, 1)
            .try_write(&checked, None, 200)
            .unwrap_err();
        assert_eq!((invalid.value, invalid.error), (200, "more than all"));
        let changes = changes
            .try_write(&checked, Some(stamp(&checked)), 60)
            .map_err(|(_, invalid)| invalid)
            .unwrap();
        assert!(try_transaction(changes).is_ok());
        assert_eq!((*checked.snapshot(), *other.snapshot()), (60, 1));
        let old = Stamp::new(0, 0);
        let changes = Changes::new().try_write(&checked, Some(old), 70);
        let refused = try_transaction(changes.map_err(|_| ()).unwrap()).unwrap_err();
        assert!(refused.is_about(&checked));
        assert_eq!(refused.into_changes().take(&checked), Some(70));
    });
}

/// One after the other, in either order: what is only required is left alone.
#[test]
fn what_is_required_keeps_its_snapshot() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let before = b.snapshot();
        for n in 1..=10 {
            let changes = Changes::new().require(&b, stamp(&b)).replace(&a, n);
            assert!(try_transaction(changes).is_ok());
            assert!(Snapshot::ptr_eq(&b.snapshot(), &before));
        }
        assert_eq!(version(&a), 10);
    });
}

// Others in the way.

#[test]
fn of_all_who_expect_the_same_exactly_one_succeeds() {
    alone(|| {
        let rounds = fewer_if_slow(300);
        let (a, b) = (logical(0_usize), logical(0_usize));
        let mut refusals = 0;
        for round in 1..=rounds {
            let before = snapshot_of((&a, &b)).into_inner();
            let results = together(3, |id| {
                let number = 10 * round + id;
                let changes = match id {
                    0 => Changes::new().write(&a, before.0.stamp(), number).write(
                        &b,
                        before.1.stamp(),
                        number,
                    ),
                    1 => Changes::new().write(&b, before.1.stamp(), number).write(
                        &a,
                        before.0.stamp(),
                        number,
                    ),
                    _ => Changes::new()
                        .write(&b, before.1.stamp(), number)
                        .require(&a, before.0.stamp())
                        .replace(&a, number),
                };
                try_transaction(changes).map(|_| number).map_err(|refused| {
                    let mut changes = refused.into_changes();
                    assert_eq!(changes.take(&a), Some(number));
                    assert_eq!(changes.take(&b), Some(number));
                })
            });
            let winners: Vec<_> = results.iter().flatten().copied().collect();
            let [winner] = winners[..] else {
                panic!("{} have succeeded", winners.len());
            };
            refusals += results.len() - 1;
            assert_eq!(values(&[a.clone(), b.clone()]), [winner; 2]);
            assert_eq!((version(&a), version(&b)), (round as u64, round as u64));
        }
        assert_eq!(refusals, 2 * rounds);
    });
}

#[test]
fn replacements_alone_are_never_refused() {
    alone(|| {
        let rounds = fewer_if_slow(2_000);
        let entities = [logical(0), logical(0), logical(0)];
        together(3, |id| {
            for n in 0..rounds {
                let mut changes = Changes::new();
                for step in 0..2 {
                    changes = changes.replace(&entities[(id + n + step) % 3], n);
                }
                assert!(try_transaction(changes).is_ok());
            }
        });
        let commits: u64 = entities.iter().map(version).sum();
        assert_eq!(commits, 2 * 3 * rounds as u64);
    });
}

#[test]
fn changes_stay_on_their_thread_and_entities_need_not() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let (expected, found) = elsewhere(|| {
            let old = stamp(&a);
            a.replace(1);
            let refused = try_transaction(Changes::new().write(&a, old, 2).replace(&b, 2));
            let refused = refused.unwrap_err();
            (refused.expected(), refused.found())
        });
        assert_eq!((expected, found), (Stamp::new(0, 0), Stamp::new(1, 1)));
    });
}
