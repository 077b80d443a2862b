//! Who keeps what alive: what a transaction replaces, what it never publishes, entities that end right
//! after it, snapshots that outlive it all. Each value is dropped exactly once, and memory goes back.

use super::support::{Tally, Token, elsewhere, together};
use super::{alone, fewer_if_slow, logical, version};
use snapcell::{Changes, Entity, Snapshot, Transaction, snapshot_of, transaction, try_transaction};
use std::cell::RefCell;
use std::mem;

#[test]
fn what_was_replaced_lives_as_long_as_its_snapshots() {
    alone(|| {
        let tally = Tally::default();
        let entities = [(); 3].map(|()| logical(tally.token()));
        let mut kept: Vec<Vec<Snapshot<Token>>> = Vec::new();
        for _ in 0..50 {
            kept.push(snapshot_of(&entities[..]).into_inner());
            transaction(|tx| {
                for entity in &entities {
                    tx.write(entity, tally.token());
                }
                Ok(())
            });
            snapcell::reclaim();
        }
        assert_eq!(tally.alive().len(), 51 * 3);
        for (round, snapshots) in kept.iter().enumerate() {
            for (n, snapshot) in snapshots.iter().enumerate() {
                assert_eq!(snapshot.number(), 3 * round + n);
                assert_eq!(snapshot.stamp().version(), round as u64);
            }
        }
        kept.drain(..25);
        snapcell::reclaim();
        assert_eq!(tally.alive().len(), 26 * 3, "each by itself");
        elsewhere(move || drop(entities));
        drop(kept);
        snapcell::reclaim();
        tally.assert_all_dropped_once(51 * 3);
    });
}

#[test]
fn what_was_replaced_waits_for_guards_and_is_freed_then() {
    alone(|| {
        let tally = Tally::default();
        let (a, b) = (logical(tally.token()), logical(tally.token()));
        let write_both = || {
            transaction(|tx| {
                tx.write(&a, tally.token());
                tx.write(&b, tally.token());
                Ok(())
            });
        };
        let guard = snapcell::pin();
        let (x, y) = (a.load(&guard), b.load(&guard));
        for _ in 0..2_000 {
            write_both();
        }
        assert_eq!((x.number(), y.number()), (0, 1));
        assert!(tally.alive().len() >= 4_000, "the guard is in the way");
        assert!(snapcell::reclamation_lag().nodes >= 2_000);
        drop(guard);
        snapcell::reclaim();
        assert_eq!(tally.alive(), [4_000, 4_001]);
        for _ in 0..20_000 {
            write_both();
        }
        assert!(
            tally.alive().len() < 8_000,
            "later ones free what earlier ones replaced"
        );
    });
}

#[test]
fn an_entity_that_ends_after_a_transaction_drops_its_value_once() {
    alone(|| {
        for kind in 0..4 {
            for handles in 1..=2 {
                let tally = Tally::default();
                let entity = Entity::new(tally.token());
                let other = logical(0);
                let clone = (handles == 2).then(|| entity.clone());
                transaction(|tx| {
                    match kind {
                        0 => tx.write(&entity, tally.token()),
                        1 => drop(tx.require(&entity)?),
                        2 => tx.fold(&entity, |_| tally.token()),
                        _ => drop(tx.read(&entity)?.number()),
                    }
                    tx.write(&other, 1);
                    Ok(())
                });
                elsewhere(move || drop(clone));
                drop(entity);
                snapcell::reclaim();
                let made = 1 + usize::from(kind == 0 || kind == 2);
                tally.assert_all_dropped_once(made);
            }
        }
    });
}

#[test]
fn the_last_value_ends_with_the_last_handle_and_after_a_transaction_a_little_later() {
    alone(|| {
        let tally = Tally::default();
        let plain = Entity::new(tally.token());
        // Neither of these is one that others could have to finish.
        transaction(|tx| Ok(tx.read(&plain)?.number()));
        transaction(|tx| {
            tx.write(&plain, tally.token());
            Ok(())
        });
        snapcell::reclaim();
        drop(plain);
        assert_eq!(tally.alive(), [0; 0], "at once");

        let (entity, taken, other) = (
            Entity::new(tally.token()),
            Entity::new(tally.token()),
            logical(0),
        );
        transaction(|tx| {
            tx.require(&entity)?;
            tx.require(&taken)?;
            tx.write(&other, 1);
            Ok(())
        });
        let guard = snapcell::pin();
        assert_eq!(taken.into_inner().ok().map(|token| token.number()), Some(3));
        assert_eq!(tally.alive(), [2], "what is taken out is there at once");
        drop(entity);
        drop(guard);
        snapcell::reclaim();
        tally.assert_all_dropped_once(4);
    });
}

#[test]
fn entities_end_while_others_go_on_with_what_they_shared() {
    alone(|| {
        let tally = Tally::default();
        let rounds = fewer_if_slow(3_000);
        let stay = [logical(0_u64), logical(0)];
        together(3, |id| {
            for round in 0..rounds {
                let brief = Entity::new(tally.token());
                transaction(|tx| {
                    tx.write(brief.clone(), tally.token());
                    tx.fold(&stay[(id + round) % 2], |n| n + 1);
                    Ok(())
                });
                if round % 3 == 0 {
                    assert!(brief.into_inner().is_ok_and(|token| token.number() > 0));
                }
            }
        });
        snapcell::reclaim();
        tally.assert_all_dropped_once(3 * rounds * 2);
        let commits: u64 = stay.iter().map(version).sum();
        assert_eq!(commits, 3 * rounds as u64);
        assert_eq!(stay.iter().map(|e| *e.snapshot()).sum::<u64>(), commits);
    });
}

/// A value that holds entities of its own, which were in transactions, and so on down.
#[test]
fn a_chain_of_entities_in_values_ends_on_a_small_stack() {
    struct Link(Option<Entity<Link>>, Token);
    alone(|| {
        let tally = Tally::default();
        let length = fewer_if_slow(20_000);
        let other = logical(0);
        let mut last = Entity::new(Link(None, tally.token()));
        for _ in 1..length {
            transaction(|tx| {
                tx.require(last.clone())?;
                tx.update(&other, |n| n + 1)
            });
            last = Entity::new(Link(Some(last), tally.token()));
        }
        last.read(|Link(next, token)| {
            assert_eq!((next.is_some(), token.number()), (true, length - 1))
        });
        drop(last);
        // Each link ends a grace after the one before.
        for _ in 0..length {
            if tally.alive().is_empty() {
                break;
            }
            snapcell::reclaim();
        }
        tally.assert_all_dropped_once(length);
    });
}

/// Each snapshot holds the one before, all were made by transactions, and all end at once.
#[test]
fn a_history_of_transactions_ends_on_a_small_stack() {
    struct Link(Option<Snapshot<Link>>, Token);
    alone(|| {
        let tally = Tally::default();
        let length = fewer_if_slow(100_000);
        elsewhere(|| {
            let (entity, count) = (Entity::new(Link(None, tally.token())), logical(0));
            for _ in 1..length {
                transaction(|tx| {
                    tx.write(&entity, Link(Some(entity.snapshot()), tally.token()));
                    tx.update(&count, |n| n + 1)
                });
            }
            let last = entity.snapshot();
            assert_eq!(
                last.0.as_ref().map(|link| link.1.number()),
                Some(length - 2)
            );
        });
        snapcell::reclaim();
        tally.assert_all_dropped_once(length);
    });
}

#[test]
fn values_that_were_computed_in_vain_are_dropped_before_the_next_attempt() {
    alone(|| {
        let tally = Tally::default();
        let (a, token) = (logical(0), logical(tally.token()));
        transaction(|tx| {
            if tx.attempt() > 1 {
                assert_eq!(tally.alive(), [0], "those of the attempt before");
            }
            tx.get(&a)?;
            for _ in 0..3 {
                tx.write(&token, tally.token());
                tx.read(&token)?;
            }
            if tx.attempt() < 4 {
                super::overtake(&a, 1);
            }
            tx.update(&a, |n| n + 1)
        });
        drop(token);
        snapcell::reclaim();
        tally.assert_all_dropped_once(1 + 4 * 3);
    });
}

#[test]
fn a_transaction_that_is_made_of_many_updates_of_one_entity_keeps_what_it_lent_until_its_end() {
    alone(|| {
        let tally = Tally::default();
        let entity = logical((0, tally.token()));
        let rounds = 1_000;
        transaction(|tx| {
            for _ in 0..rounds {
                tx.update(&entity, |(n, _)| (n + 1, tally.token()))?;
            }
            Ok(())
        });
        snapcell::reclaim();
        assert_eq!(
            (entity.read(|(n, _)| *n), tally.alive()),
            (rounds, vec![rounds])
        );
        drop(entity);
        tally.assert_all_dropped_once(rounds + 1);
    });
}

// Threads that end.

/// Runs something at the very end of its thread.
struct AtTheEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtTheEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
}

fn keep(what: impl std::any::Any) {
    KEPT.with_borrow_mut(|all| all.push(Box::new(what)));
}

#[test]
fn a_thread_may_run_transactions_to_its_very_end() {
    alone(|| {
        for uses_the_crate_first in [false, true] {
            let tally = Tally::default();
            let (a, b) = (logical(0), logical(0));
            let token = logical(tally.token());
            let all = (a.clone(), b.clone(), token.clone(), tally.clone());
            elsewhere(move || {
                let (a, b, token, tally) = all;
                let run = move || {
                    transaction(|tx| {
                        tx.update(&a, |n| n + 1)?;
                        tx.fold(&b, |n| n + 1);
                        tx.write(&token, tally.token());
                        Ok(())
                    });
                    let both = snapshot_of((&a, &b));
                    assert_eq!(*both.0, *both.1);
                    let changes = Changes::new().replace(&a, *both.0).replace(&b, *both.1);
                    assert!(try_transaction(changes).is_ok());
                };
                if uses_the_crate_first {
                    run();
                    keep(AtTheEnd(run));
                } else {
                    keep(AtTheEnd(run.clone()));
                    run();
                }
            });
            assert_eq!((*a.snapshot(), *b.snapshot(), version(&token)), (2, 2, 2));
            drop(token);
            snapcell::reclaim();
            tally.assert_all_dropped_once(3);
        }
    });
}

#[test]
fn what_an_ended_thread_has_replaced_is_dropped_by_others() {
    alone(|| {
        let tally = Tally::default();
        let (a, b) = (logical(tally.token()), logical(tally.token()));
        let rounds = 700;
        together(3, |_| {
            for _ in 0..rounds {
                transaction(|tx| {
                    tx.write(&a, tally.token());
                    tx.write(&b, tally.token());
                    Ok(())
                });
            }
        });
        snapcell::reclaim();
        assert_eq!(tally.alive().len(), 2);
        drop((a, b));
        snapcell::reclaim();
        tally.assert_all_dropped_once(2 + 3 * rounds * 2);
    });
}

/// What is leaked on purpose is leaked, and nobody else is the worse for it.
#[test]
fn changes_that_are_forgotten_are_in_nobodys_way() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        mem::forget(
            Changes::new()
                .replace(&a, 1)
                .require(&b, b.snapshot().stamp()),
        );
        transaction(|tx| {
            tx.update(&a, |n| n + 1)?;
            tx.update(&b, |n| n + 1)
        });
        assert_eq!((*a.snapshot(), *b.snapshot()), (1, 1));
    });
}

/// More than one closure at a time, of different transactions, each with entities of the other's.
#[test]
fn handles_that_transactions_keep_are_given_up_at_their_end() {
    alone(|| {
        let entity = logical(0);
        let keep = |tx: &Transaction<'_>| {
            for _ in 0..5 {
                tx.write(entity.clone(), 1);
                tx.fold(entity.clone(), |n| n + 1);
            }
        };
        transaction(|tx| {
            keep(tx);
            Ok(())
        });
        _ = snapcell::transaction_or_abort::<(), _>(|tx| {
            keep(tx);
            Err(snapcell::Stop::Abort(()))
        });
        let gate = logical(0);
        transaction(|tx| {
            keep(tx);
            tx.get(&gate)?;
            if tx.attempt() == 1 {
                super::overtake(&gate, 1);
            }
            tx.update(&gate, |n| n + 1)
        });
        assert_eq!(entity.into_inner(), Ok(2), "no other handle is left");
    });
}
