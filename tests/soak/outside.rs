//! Commits past the engines, and those who wait for them.

use super::dice::Dice;
use super::seen::Mechanism;
use super::street::{House, ROOMS, Street};
use super::value::Value;
use snapcell::{Changes, Entity, transaction, try_transaction};
use std::convert::Infallible;
use std::panic::resume_unwind;
use std::thread;

/// A room of any house.
fn room<'s>(street: &'s Street, dice: &mut Dice) -> (&'s House, usize, &'s Entity<Value>) {
    let house = &street.houses[dice.below(street.houses.len())];
    let room = dice.below(ROOMS);
    (house, room, &house.rooms[room])
}

/// One commit, of any kind. It may be refused because somebody was faster: then it has no effect.
pub(crate) fn commit(street: &Street, dice: &mut Dice) {
    let (house, number, entity) = room(street, dice);
    let (house_2, number_2, entity_2) = room(street, dice);
    let is_one = Entity::ptr_eq(entity, entity_2);
    match dice.below(6) {
        0 => {
            entity.update(Value::next);
        }
        1 => {
            let updated = entity.try_update(|value| Ok::<_, Infallible>(Some(value.next())));
            assert!(updated.is_ok_and(|updated| updated.is_committed()));
        }
        2 => {
            let base = entity.snapshot();
            thread::yield_now();
            if entity.try_commit(base.stamp(), base.next()).is_err() {
                return street.seen.note(Mechanism::OutsideConflict);
            }
        }
        3 => {
            let base = entity.snapshot();
            thread::yield_now();
            if entity.try_commit_on(&base, base.next()).is_err() {
                return street.seen.note(Mechanism::OutsideConflict);
            }
        }
        4 if !is_one => {
            transaction(|tx| {
                tx.update(entity, Value::next)?;
                tx.update(entity_2, Value::next)
            });
            house_2.books.outside(number_2);
        }
        _ if !is_one => {
            let (one, two) = (entity.snapshot(), entity_2.snapshot());
            let changes = Changes::new().write(entity, one.stamp(), one.next()).write(
                entity_2,
                two.stamp(),
                two.next(),
            );
            if try_transaction(changes).is_err() {
                return street.seen.note(Mechanism::OutsideConflict);
            }
            house_2.books.outside(number_2);
        }
        _ => return,
    }
    house.books.outside(number);
    street.seen.note(Mechanism::Outside);
}

/// A thread waits until a value is as it wants it, or for the next change, which both come.
pub(crate) fn wait(street: &Street, dice: &mut Dice) {
    let (house, number, entity) = room(street, dice);
    let wanted = entity.snapshot().effects() + 3;
    let follows = dice.percent(50);
    let mechanism = if follows {
        Mechanism::Watched
    } else {
        Mechanism::WaitedFor
    };
    // Before it: so what comes then is a change.
    let mut watch = entity.watch();
    let outcome = thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            if follows {
                let seen = watch.stamp();
                let next = watch.changed().wait().expect("it stays open");
                assert!(next.stamp().version() > seen.version());
            } else {
                let end = entity.wait_for(|value| value.effects() >= wanted).wait();
                assert!(end.effects() >= wanted);
            }
        });
        for _ in 0..3 {
            thread::yield_now();
            entity.update(Value::next);
            house.books.outside(number);
        }
        waiter.join()
    });
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
    street.seen.note(mechanism);
}
