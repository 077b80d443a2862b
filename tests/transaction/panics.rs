//! Panics of closures, folds, validators, `Clone` and destructors: nothing of the transaction is published,
//! every value is dropped once, and the next transaction knows nothing of it.

use super::bomb::Bomb;
use super::support::{Tally, Token, elsewhere, panic_of, together};
use super::{PLANNED, alone, caught_in, in_order, logical, once, overtake, plan, values, version};
use snapcell::{
    Changes, Clock, Entity, Stamp, Stop, Transact, transaction, transaction_or_abort,
    try_transaction,
};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Asserts that no guard was left behind, and that transactions go on over these.
fn assert_unharmed(entities: &[Entity<i32>]) {
    let before = values(entities);
    let extra = logical(0);
    for n in 0..100 {
        extra.replace(n);
    }
    snapcell::reclaim();
    assert_eq!(
        snapcell::reclamation_lag().nodes,
        0,
        "a guard was left behind"
    );
    for run in [
        |f: &(dyn Fn() + Sync)| f(),
        |f: &(dyn Fn() + Sync)| elsewhere(f),
    ] {
        run(&|| {
            transaction(|tx| {
                assert_eq!((tx.attempt(), tx.entities()), (1, 0));
                entities.iter().try_for_each(|e| tx.update(e, |n| n + 1))
            });
        });
    }
    let after: Vec<_> = before.iter().map(|n| n + 2).collect();
    assert_eq!(values(entities), after);
}

#[test]
fn a_closure_that_panics_publishes_nothing() {
    alone(|| {
        let tally = Tally::default();
        let entities = [logical(1), logical(2), logical(3)];
        let token = logical(tally.token());
        let said = panic_of(|| {
            transaction(|tx| {
                tx.write(&entities[0], 10);
                tx.update(&entities[1], |n| n + 10)?;
                tx.fold(&entities[2], |n| n + 10);
                tx.read(&token)?;
                tx.write(&token, tally.token());
                tx.write(token.clone(), tally.token());
                plan::<Result<(), _>>()
            })
        });
        assert_eq!(said, PLANNED);
        assert_eq!(tally.alive(), [0]);
        assert_eq!(values(&entities), [1, 2, 3]);
        assert_unharmed(&entities);
        drop(token);
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn the_closure_of_an_update_that_panics_publishes_nothing() {
    alone(|| {
        let entities = [logical(1), logical(2)];
        for own_write in [false, true] {
            let said = panic_of(|| {
                transaction(|tx| {
                    tx.write(&entities[0], 10);
                    if own_write {
                        tx.write(&entities[1], 10);
                    }
                    tx.update(&entities[1], |_| plan())
                })
            });
            assert_eq!((said.as_str(), values(&entities)), (PLANNED, vec![1, 2]));
        }
        assert_unharmed(&entities);
    });
}

#[test]
fn a_panic_that_the_closure_catches_is_its_own_business() {
    alone(|| {
        let entities = [logical(1), logical(2), logical(3)];
        let [a, b, c] = &entities;
        transaction(|tx| {
            tx.write(a, 10);
            let caught = catch_unwind(AssertUnwindSafe(|| tx.update(a, |_| plan())));
            assert!(caught.is_err());
            let caught = catch_unwind(AssertUnwindSafe(|| tx.update(b, |_| plan())));
            assert!(caught.is_err());
            tx.write(c, 30);
            let caught = catch_unwind(AssertUnwindSafe(|| tx.fold(c, |_| plan())));
            assert!(caught.is_err(), "it is applied to an own write at once");
            assert_eq!((tx.get(a)?, tx.get(b)?, tx.get(c)?), (10, 2, 30));
            Ok(())
        });
        assert_eq!(values(&entities), [10, 2, 30]);
        assert_eq!(entities.each_ref().map(version), [1, 0, 1]);
    });
}

#[test]
fn a_fold_that_panics_at_the_commit_publishes_nothing() {
    alone(|| {
        for place in 0..3 {
            let tally = Tally::default();
            let entities = in_order(vec![logical(1), logical(2), logical(3)]);
            let before: Vec<_> = entities.iter().map(version).collect();
            let tokens = [logical(tally.token()), logical(tally.token())];
            let said = panic_of(|| {
                transaction(|tx| {
                    for (n, entity) in entities.iter().enumerate() {
                        tx.fold(entity, move |v| if n == place { plan() } else { v + 10 });
                    }
                    for token in &tokens {
                        tx.write(token, tally.token());
                    }
                    Ok(())
                })
            });
            assert_eq!(said, PLANNED);
            assert_eq!(entities.iter().map(version).collect::<Vec<_>>(), before);
            assert_eq!(tally.alive(), [0, 1]);
            assert_unharmed(&entities);
            drop(tokens);
            tally.assert_all_dropped_once(4);
        }
    });
}

/// The first time it is applied, others get in between, so that values were made already.
#[test]
fn a_fold_that_panics_when_it_is_applied_again_publishes_nothing() {
    alone(|| {
        let tally = Tally::default();
        let entities = in_order(vec![logical(1), logical(1), logical(1)]);
        let [first, second, last] = &entities[..] else {
            unreachable!("three were made");
        };
        let made = logical(tally.token());
        let meanwhile = once(|| overtake(second, 50));
        let (folds, made_again) = (Cell::new(0), Cell::new(0));
        let said = panic_of(|| {
            transaction(|tx| {
                tx.write(first, 10);
                tx.write(second, 10);
                let (tally, folds, meanwhile) = (&tally, &folds, &meanwhile);
                let made_again = &made_again;
                tx.fold(&made, |_| {
                    made_again.set(made_again.get() + 1);
                    tally.token()
                });
                tx.fold(last, move |n| {
                    folds.set(folds.get() + 1);
                    if folds.get() == 2 {
                        plan()
                    }
                    meanwhile();
                    n + 1
                });
                Ok(())
            })
        });
        assert_eq!((said.as_str(), folds.get()), (PLANNED, 2));
        assert_eq!(values(&entities), [1, 50, 1]);
        assert_eq!(tally.alive(), [0]);
        drop(made);
        snapcell::reclaim();
        tally.assert_all_dropped_once(1 + made_again.get());
        assert_unharmed(&entities);
    });
}

#[test]
fn a_validator_that_panics_publishes_nothing() {
    alone(|| {
        let tally = Tally::default();
        let checked: Entity<(bool, Token), ()> = Entity::builder((true, tally.token()))
            .validate(|(is_fine, _)| if *is_fine { Ok(()) } else { plan() })
            .try_build()
            .ok()
            .unwrap();
        let entities = [logical(1)];
        let said = panic_of(|| {
            transaction(|tx| {
                tx.write(&entities[0], 10);
                _ = tx.try_write(&checked, (false, tally.token()));
                Ok(())
            })
        });
        assert_eq!(said, PLANNED);
        let said = panic_of(|| {
            let changes = Changes::new().replace(&entities[0], 10);
            changes
                .try_write(&checked, None, (false, tally.token()))
                .is_ok()
        });
        assert_eq!(said, PLANNED);
        assert_eq!((tally.alive(), values(&entities)), (vec![0], vec![1]));
        assert_unharmed(&entities);
        drop(checked);
        snapcell::reclaim();
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn a_clone_that_panics_publishes_nothing() {
    struct Fragile(Token);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            let Fragile(_) = self;
            plan()
        }
    }
    alone(|| {
        let tally = Tally::default();
        let fragile = logical(Fragile(tally.token()));
        let entities = [logical(1)];
        for own_write in [false, true] {
            let said = panic_of(|| {
                transaction(|tx| {
                    tx.write(&entities[0], 10);
                    if own_write {
                        tx.write(&fragile, Fragile(tally.token()));
                    }
                    tx.get(&fragile).map(drop)
                })
            });
            assert_eq!(said, PLANNED);
        }
        assert_eq!((tally.alive(), values(&entities)), (vec![0], vec![1]));
        assert_unharmed(&entities);
        assert_eq!(fragile.read(|f| f.0.number()), 0);
    });
}

#[test]
fn a_panic_in_an_inner_closure_ends_both() {
    alone(|| {
        let entities = [logical(1), logical(2), logical(3)];
        let [a, b, c] = &entities;
        let said = panic_of(|| {
            transaction(|tx| {
                tx.write(a, 10);
                transaction(|inner| {
                    inner.write(c, 30);
                    Ok(())
                });
                transaction(|inner| {
                    inner.write(b, 20);
                    plan::<Result<(), _>>()
                });
                Ok(())
            })
        });
        assert_eq!(said, PLANNED);
        assert_eq!(values(&entities), [1, 2, 30], "what had committed stands");
        assert_unharmed(&entities);
    });
}

#[test]
fn a_panic_in_a_task_ends_the_task() {
    alone(|| {
        let entities = [logical(1), logical(2)];
        let task = || {
            let entities = &entities;
            Transact::new().start::<(), (), _>(move |tx| {
                tx.write(&entities[0], 10);
                tx.update(&entities[1], |_| plan())?;
                Ok(())
            })
        };
        assert_eq!(panic_of(|| pollster::block_on(task())), PLANNED);
        assert_eq!(values(&entities), [1, 2]);
        assert_unharmed(&entities);
    });
}

#[test]
fn a_panic_on_another_thread_is_that_threads_alone() {
    alone(|| {
        let entities = [logical(0), logical(0), logical(0)];
        let panics: usize = together(4, |id| {
            (0..600)
                .filter(|n| {
                    let run = || {
                        transaction(|tx| {
                            for step in 0..2 {
                                tx.update(&entities[(id + n + step) % 3], |v| {
                                    if n % 3 == 0 && step == 1 {
                                        plan()
                                    } else {
                                        v + 1
                                    }
                                })?;
                            }
                            Ok(())
                        });
                    };
                    if n % 3 == 0 {
                        panic_of(run) == PLANNED
                    } else {
                        run();
                        false
                    }
                })
                .count()
        })
        .into_iter()
        .sum();
        assert_eq!(panics, 4 * 200);
        assert_eq!(values(&entities).iter().sum::<i32>(), 4 * 400 * 2);
        let commits: u64 = entities.iter().map(version).sum();
        assert_eq!(commits, 4 * 400 * 2);
    });
}

// Destructors.

#[test]
fn replaced_values_whose_destructors_panic_hit_nobody() {
    alone(|| {
        let tally = Tally::default();
        let bombs: Vec<_> = (0..5).map(|_| logical(Bomb::armed(&tally))).collect();
        let panics = caught_in(|| {
            transaction(|tx| {
                for bomb in &bombs {
                    tx.write(bomb, Bomb::dud(&tally));
                }
                Ok(())
            });
            snapcell::reclaim();
        });
        assert_eq!((panics, tally.alive()), (5, vec![5, 6, 7, 8, 9]));
        assert!(
            bombs
                .iter()
                .all(|bomb| bomb.read(|b| b.token.number()) >= 5)
        );
        drop(bombs);
        snapcell::reclaim();
        tally.assert_all_dropped_once(10);
    });
}

#[test]
fn values_that_were_never_published_hit_nobody_when_the_transaction_ends() {
    alone(|| {
        let tally = Tally::default();
        let bombs: Vec<_> = (0..3).map(|_| logical(Bomb::dud(&tally))).collect();
        let write_all = |tx: &snapcell::Transaction<'_>| {
            for bomb in &bombs {
                tx.write(bomb.clone(), Bomb::armed(&tally));
            }
        };
        let aborted = caught_in(|| {
            let result = transaction_or_abort::<(), _>(|tx| {
                write_all(tx);
                Err(Stop::Abort("no"))
            });
            assert_eq!(result, Err("no"));
        });
        assert_eq!(aborted, 3, "an error of the closure");
        let unwound = caught_in(|| {
            let said = panic_of(|| {
                transaction(|tx| {
                    write_all(tx);
                    plan::<Result<(), _>>()
                })
            });
            assert_eq!(said, PLANNED);
        });
        assert_eq!(unwound, 3, "a panic of the closure");
        let gate = logical(0);
        let overtaken = caught_in(|| {
            transaction(|tx| {
                tx.get(&gate)?;
                if tx.attempt() == 1 {
                    write_all(tx);
                    overtake(&gate, 1);
                }
                tx.update(&gate, |n| n + 1)
            });
        });
        assert_eq!(overtaken, 3, "an attempt that is tried again");
        let refused = caught_in(|| {
            let mut changes = Changes::new().require(&gate, Stamp::new(9, 9));
            for bomb in &bombs {
                changes = changes.replace(bomb, Bomb::armed(&tally));
            }
            drop(try_transaction(changes));
        });
        assert_eq!(refused, 3, "changes that are given up");
        drop(bombs);
        snapcell::reclaim();
        tally.assert_all_dropped_once(3 + 4 * 3);
    });
}

/// Whoever's it is, it is dropped once, and the transaction is none the worse.
#[test]
fn a_value_that_is_written_over_may_panic_and_is_dropped_once() {
    alone(|| {
        let tally = Tally::default();
        let bomb = logical(Bomb::dud(&tally));
        let other = logical(0);
        for is_lent in [false, true] {
            _ = catch_unwind(AssertUnwindSafe(|| {
                transaction(|tx| {
                    tx.write(&other, 1);
                    tx.write(&bomb, Bomb::armed(&tally));
                    if is_lent {
                        tx.read(&bomb)?;
                    }
                    _ = catch_unwind(AssertUnwindSafe(|| tx.write(&bomb, Bomb::dud(&tally))));
                    assert!(!tx.read(&bomb)?.armed, "the newer one is there");
                    Ok(())
                });
            }));
            assert!(bomb.read(|b| !b.armed));
        }
        assert_eq!(version(&bomb), 2);
        drop(bomb);
        snapcell::reclaim();
        tally.assert_all_dropped_once(5);
    });
}

#[test]
fn what_closures_have_captured_may_panic_when_it_is_dropped() {
    alone(|| {
        let tally = Tally::default();
        let entities = [logical(1), logical(2)];
        let bombs: Cell<Vec<Bomb>> = Cell::new((0..2).map(|_| Bomb::armed(&tally)).collect());
        let take = || {
            let mut all = bombs.take();
            let bomb = all.pop().unwrap();
            bombs.set(all);
            bomb
        };
        let panics = caught_in(|| {
            transaction(|tx| {
                for entity in &entities {
                    let bomb = take();
                    tx.fold(entity, move |n| n + i32::from(bomb.is_armed()));
                }
                Ok(())
            });
        });
        assert_eq!(panics, 2, "it has nothing to do with the caller");
        assert_eq!(values(&entities), [2, 3], "the transaction has committed");
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn a_destructor_may_run_transactions() {
    struct Farewell {
        log: Entity<u32>,
        other: Entity<u32>,
        token: Token,
    }
    impl Drop for Farewell {
        fn drop(&mut self) {
            let _ = self.token.number();
            transaction(|tx| {
                tx.fold(&self.log, |n| n + 1);
                tx.fold(&self.other, |n| n + 1);
                Ok(())
            });
        }
    }
    alone(|| {
        let tally = Tally::default();
        let (log, other) = (logical(0), logical(0));
        let make = || Farewell {
            log: log.clone(),
            other: other.clone(),
            token: tally.token(),
        };
        let all: Vec<_> = (0..4).map(|_| logical(make())).collect();
        for _ in 0..50 {
            transaction(|tx| {
                for entity in &all {
                    tx.write(entity, make());
                    // Written over, and so dropped in the midst of it.
                    tx.write(entity, make());
                }
                Ok(())
            });
        }
        let aborted = transaction_or_abort(|tx| {
            tx.write(&all[0], make());
            Err::<(), _>(Stop::Abort("no"))
        });
        assert_eq!(aborted, Err("no"));
        snapcell::reclaim();
        drop(all);
        for _ in 0..3 {
            snapcell::reclaim();
        }
        let made = 4 + 50 * 8 + 1;
        tally.assert_all_dropped_once(made);
        assert_eq!(
            (*log.snapshot(), *other.snapshot()),
            (made as u32, made as u32)
        );
        assert_eq!(version(&log), made as u64);
    });
}

/// A destructor that commits to what the transaction that drops it is about.
#[test]
fn a_destructor_may_commit_to_what_is_being_written() {
    struct Meddler(Option<Entity<u32>>);
    impl Drop for Meddler {
        fn drop(&mut self) {
            if let Some(entity) = &self.0 {
                entity.update(|n| n + 1);
            }
        }
    }
    alone(|| {
        let count = Entity::builder(0).clock(Clock::logical()).build();
        let meddlers = logical(Meddler(None));
        for _ in 0..300 {
            transaction(|tx| {
                tx.write(&meddlers, Meddler(Some(count.clone())));
                tx.update(&count, |n| n + 1)
            });
        }
        drop(meddlers);
        for _ in 0..3 {
            snapcell::reclaim();
        }
        assert_eq!(*count.snapshot(), 600);
        assert_eq!(version(&count), 600);
    });
}
