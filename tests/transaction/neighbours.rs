//! What transactions do is a commit to everybody else: to readers, watches, callbacks, whoever waits, whoever
//! commits by a stamp or a snapshot. And what they only look at is as it was, to everybody.

use super::support::{Tally, elsewhere};
use super::{alone, logical, version};
use snapcell::{Changes, Entity, Snapshot, Stamp, snapshot_of, transaction, try_transaction};
use std::sync::mpsc::channel;
use std::thread;

/// Writes `value` to the entity, and something to another one.
fn write<T: Clone + Send + Sync + 'static>(entity: &Entity<T>, value: T) {
    let other = logical(0);
    transaction(|tx| {
        tx.write(entity.clone(), value.clone());
        tx.write(&other, 1);
        Ok(())
    });
}

/// Has a transaction depend on the entity, which stays as it is.
fn look_at<T: Clone + Send + Sync + 'static>(entity: &Entity<T>) {
    let other = logical(0);
    transaction(|tx| {
        tx.require(entity.clone())?;
        tx.write(&other, 1);
        Ok(())
    });
}

#[test]
fn every_read_sees_what_a_transaction_has_written() {
    alone(|| {
        let entity = logical(0);
        let mut reader = entity.reader();
        let mut watch = entity.watch();
        for n in 1..=5 {
            write(&entity, n);
            assert!(reader.is_stale() && watch.has_changed());
            assert_eq!((**reader.get(), reader.is_stale()), (n, false));
            assert_eq!((**watch.get(), watch.has_changed()), (n, false));
            assert_eq!(entity.read(|n| *n), n);
            let guard = snapcell::pin();
            assert_eq!(*entity.load(&guard), n);
            let stamp = Stamp::new(n as u64, n as u64);
            assert_eq!((entity.snapshot().stamp(), reader.stamp()), (stamp, stamp));
            assert!(!entity.has_conflict(stamp));
        }
    });
}

#[test]
fn to_be_looked_at_changes_nothing() {
    alone(|| {
        let entity = logical(7);
        let before = entity.snapshot();
        let mut reader = entity.reader();
        let watch = entity.watch();
        let guard = snapcell::pin();
        let loaded = entity.load(&guard);
        for _ in 0..3 {
            look_at(&entity);
            assert!(!reader.is_stale(), "nobody has committed");
            assert!(!watch.has_changed() && !watch.is_closed());
            assert!(!entity.has_conflict(before.stamp()));
            assert!(Snapshot::ptr_eq(&entity.snapshot(), &before));
            assert!(Snapshot::ptr_eq(reader.get(), &before));
            assert!(std::ptr::eq(entity.load(&guard).value(), loaded.value()));
            assert_eq!(entity.read(|n| *n), 7);
        }
    });
}

#[test]
fn every_commit_goes_on_from_what_a_transaction_has_left() {
    alone(|| {
        for left_by in [write::<i32> as fn(&Entity<i32>, i32), |e, _| look_at(e)] {
            let entity = logical(0);
            let leave = || {
                left_by(&entity, 50);
                (entity.snapshot(), version(&entity))
            };
            let (base, before) = leave();
            let made = entity.try_commit(base.stamp(), 1).unwrap();
            assert_eq!(*made.previous(), *base);
            assert_eq!(made.stamp().version(), before + 1);
            let (base, before) = leave();
            let made = entity.try_commit_on(&base, 2).unwrap();
            assert!(Snapshot::ptr_eq(&made.previous().snapshot(), &base));
            assert_eq!(made.stamp().version(), before + 1);
            let (base, before) = leave();
            let made = entity.update(|n| n + 1);
            assert_eq!((made.attempts(), *made.current()), (1, *base + 1));
            assert_eq!(made.stamp().version(), before + 1);
            let (_, before) = leave();
            assert_eq!(entity.replace(3).stamp().version(), before + 1);
            let (base, before) = leave();
            let made = entity
                .commit_or_merge(&base, 4, |_| unreachable!("it is the current one"))
                .unwrap();
            assert_eq!(made.stamp().version(), before + 1);
            let (_, before) = leave();
            assert_eq!(entity.modify(|n| *n = 9).stamp().version(), before + 1);
            let unchanged = entity.try_update::<()>(|_| Ok(None));
            assert_eq!(
                unchanged.map(|u| u.stamp().version()).ok(),
                Some(before + 1)
            );
        }
    });
}

#[test]
fn a_stale_base_is_refused_and_shown_the_winner() {
    alone(|| {
        let entity = logical(0);
        let base = entity.snapshot();
        write(&entity, 5);
        look_at(&entity);
        let winner = entity.snapshot();
        let error = entity.try_commit(base.stamp(), 1).map(drop).unwrap_err();
        assert!(error.is_conflict() && Snapshot::ptr_eq(error.current(), &winner));
        let error = entity.try_commit_on(&base, 1).map(drop).unwrap_err();
        assert!(error.is_conflict() && Snapshot::ptr_eq(error.current(), &winner));
        let merged = entity.commit_or_merge(&base, 1, |sides| Some(sides.theirs + sides.mine));
        assert_eq!(merged.map(|made| *made.current()).ok(), Some(6));
    });
}

/// Looked at between look and exchange: that is no commit, and refuses nobody.
#[test]
fn whoever_computes_while_others_only_look_loses_nothing() {
    alone(|| {
        let entity = logical(1);
        let made = entity.update(|n| {
            elsewhere(|| look_at(&entity));
            n + 1
        });
        assert_eq!((made.attempts(), *made.current()), (1, 2));
        drop(made);
        let base = entity.snapshot();
        let made = entity.try_update::<()>(|n| {
            elsewhere(|| look_at(&entity));
            Ok(Some(n + 1))
        });
        assert!(made.is_ok());
        assert_eq!(version(&entity), base.stamp().version() + 1);
        let checked = Entity::builder(0)
            .validate(|_| Ok::<_, ()>(()))
            .try_build()
            .unwrap();
        let stamp = checked.snapshot().stamp();
        let other = logical(0);
        let made = checked.try_update::<()>(|n| {
            transaction(|tx| {
                tx.require(&checked)?;
                tx.update(&other, |n| n + 1)
            });
            Ok(Some(n + 1))
        });
        assert!(made.is_ok(), "on the same thread too: it is no commit");
        assert_eq!(checked.snapshot().stamp().version(), stamp.version() + 1);
    });
}

#[test]
fn whoever_waits_for_an_entity_is_woken_by_transactions() {
    alone(|| {
        let (entity, other) = (logical(0), logical(0));
        let mut watch = entity.watch();
        let before = entity.snapshot().stamp();
        thread::scope(|s| {
            let all = [
                s.spawn(|| *entity.wait_for(|n| *n == 3).wait()),
                s.spawn(|| entity.wait_for_map(|n| (*n == 3).then_some(3)).wait()),
                s.spawn(|| pollster::block_on(async { *entity.wait_for(|n| *n == 3).await })),
                s.spawn(|| {
                    let mut seen = entity.changed(before).wait();
                    while *seen != 3 {
                        seen = entity.changed(seen.stamp()).wait();
                    }
                    *seen
                }),
                s.spawn(move || {
                    while **watch.get() != 3 {
                        watch.changed().wait().expect("it is open");
                    }
                    **watch.seen()
                }),
            ];
            for _ in 0..3 {
                transaction(|tx| {
                    tx.update(&other, |n| n + 1)?;
                    tx.update(&entity, |n| n + 1)
                });
                look_at(&entity);
            }
            for waiter in all {
                assert_eq!(waiter.join().unwrap(), 3);
            }
        });
    });
}

#[test]
fn callbacks_are_called_for_transactions_and_not_for_looks() {
    alone(|| {
        let entity = logical(0);
        let (called, calls) = channel();
        let callback = entity.on_commit(move |seen| called.send((**seen, seen.stamp())).unwrap());
        for n in 1..=5 {
            look_at(&entity);
            write(&entity, n);
            let call = calls.recv().expect("it is called");
            assert_eq!(call, (n, Stamp::new(n as u64, n as u64)));
        }
        look_at(&entity);
        assert!(callback.stop().is_ok());
        assert!(calls.recv().is_err(), "no call but those");
    });
}

#[test]
fn a_watch_sees_the_last_value_of_a_transaction_and_the_end() {
    alone(|| {
        let tally = Tally::default();
        let (entity, other) = (Entity::new(tally.token()), logical(0));
        let mut watch = entity.watch();
        transaction(|tx| {
            tx.write(&entity, tally.token());
            tx.write(&other, 1);
            Ok(())
        });
        let another = logical(0);
        transaction(|tx| {
            tx.require(&entity)?;
            tx.write(&another, 1);
            Ok(())
        });
        drop(entity);
        assert!(watch.is_closed());
        assert_eq!(watch.changed().wait().map(|s| s.number()), Ok(1));
        assert!(watch.changed().wait().is_err());
        assert_eq!(watch.get().number(), 1);
        drop(watch);
        snapcell::reclaim();
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn a_wait_on_an_entity_ends_by_a_handle_that_a_transaction_gives_up() {
    alone(|| {
        let entity = logical(0);
        let mut watch = entity.watch();
        let other = logical(0);
        thread::scope(|s| {
            let watcher = s.spawn(move || {
                let mut last = 0;
                while let Ok(seen) = watch.changed().wait() {
                    last = *seen;
                }
                last
            });
            let given = std::cell::RefCell::new(Some(entity));
            transaction(|tx| {
                if let Some(entity) = given.borrow_mut().take() {
                    tx.write(entity, 9);
                }
                tx.write(&other, 1);
                Ok(())
            });
            assert_eq!(
                watcher.join().unwrap(),
                9,
                "the last value, and then the end"
            );
        });
    });
}

// `into_inner`.

#[test]
fn the_only_handle_takes_the_value_out_whatever_a_transaction_has_left() {
    alone(|| {
        for last in 0..4 {
            let tally = Tally::default();
            let (entity, other) = (Entity::new(tally.token()), logical(0));
            let stamp = entity.snapshot().stamp();
            match last {
                0 => {
                    let changes = Changes::new().replace(&entity, tally.token());
                    assert!(try_transaction(changes.replace(&other, 1)).is_ok());
                }
                1 => {
                    let changes = Changes::new().require(&entity, stamp);
                    assert!(try_transaction(changes.replace(&other, 1)).is_ok());
                }
                2 => drop(snapshot_of((&entity, &other))),
                _ => {
                    let changes = Changes::new().replace(&entity, tally.token());
                    let refused = try_transaction(changes.require(&other, Stamp::new(9, 9)));
                    assert!(refused.is_err());
                }
            }
            let expected = usize::from(last == 0);
            let token = entity.into_inner().ok().expect("nobody else has it");
            assert_eq!(token.number(), expected);
            assert!(tally.alive().contains(&expected));
            drop(token);
            snapcell::reclaim();
            assert_eq!(tally.alive(), [0; 0]);
        }
    });
}

#[test]
fn the_value_is_not_taken_from_whoever_holds_it() {
    alone(|| {
        let (entity, other) = (logical(0), logical(0));
        write(&entity, 1);
        look_at(&entity);
        let handle = entity.clone();
        assert_eq!(*handle.into_inner().unwrap_err(), 1, "another handle");
        let held = entity.snapshot();
        assert_eq!(*entity.into_inner().unwrap_err(), 1, "a snapshot");
        drop(held);
        let watched = logical(0);
        write(&watched, 2);
        let watch = watched.watch();
        assert_eq!(*watched.into_inner().unwrap_err(), 2, "a watch");
        drop(watch);
        drop(other);
    });
}

#[test]
fn debug_output_shows_what_is_current() {
    alone(|| {
        let (entity, other) = (logical(0), logical(0));
        write(&entity, 5);
        look_at(&entity);
        assert_eq!(format!("{entity:?}"), "Entity { stamp: 1@1, value: 5 }");
        transaction(|tx| {
            tx.write(&entity, 6);
            tx.write(&other, 6);
            let before = format!("{entity:?}");
            assert_eq!(
                before, "Entity { stamp: 1@1, value: 5 }",
                "not before the commit"
            );
            Ok(())
        });
        assert_eq!(format!("{entity:?}"), "Entity { stamp: 2@2, value: 6 }");
    });
}
