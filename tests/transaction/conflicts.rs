//! Others are in the way: closures run again, and see only what existed together; attempts are counted and
//! bounded; and what can't be done ends in an error that says why.

use super::support::{Tally, elsewhere, panic_of};
use super::{alone, bounded, in_order, logical, once, overtake, values, version};
use snapcell::{
    Changes, Entity, Retry, Stamp, Stop, Transact, TransactionError, transaction,
    transaction_or_abort, try_transaction,
};
use std::cell::{Cell, RefCell};
use std::time::Duration;

// Opacity.

#[test]
fn no_closure_sees_two_values_that_did_not_exist_together() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let both = |n| {
            transaction(|tx| {
                tx.write(&a, n);
                tx.write(&b, n);
                Ok(())
            });
        };
        let mut runs = 0;
        let seen = transaction(|tx| {
            runs += 1;
            let first = tx.get(&a)?;
            if runs <= 3 {
                elsewhere(|| both(runs));
            }
            let second = tx.get(&b)?;
            assert_eq!(first, second, "they are always equal");
            Ok(second)
        });
        assert_eq!((seen, runs), (3, 4));
    });
}

#[test]
fn each_kind_of_read_notices_that_an_earlier_one_is_outdated() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        for kind in 0..6 {
            let mut noticed = false;
            transaction(|tx| {
                tx.get(&a)?;
                if tx.attempt() == 1 {
                    overtake(&a, kind);
                }
                let next = match kind {
                    0 => tx.get(&b).map(drop),
                    1 => tx.read(&b).map(drop),
                    2 => tx.require(&b).map(drop),
                    3 => tx.update(&b, |n| n + 1),
                    4 => {
                        tx.fold(&b, |n| n + 1);
                        tx.read(&b).map(drop)
                    }
                    _ => {
                        tx.fold(&b, |n| n + 1);
                        tx.update(&b, |n| n + 1)
                    }
                };
                noticed |= next.is_err();
                next
            });
            assert!(noticed, "kind {kind}");
        }
    });
}

#[test]
fn a_second_look_at_the_same_entity_sees_the_same() {
    alone(|| {
        let a = logical(0);
        transaction(|tx| {
            let first = tx.get(&a)?;
            if tx.attempt() == 1 {
                overtake(&a, 1);
                // Whatever it is, it is not the other value.
                assert!(tx.get(&a).is_ok_and(|n| n == 0) || tx.get(&a).is_err());
                assert!(tx.read(&a).is_ok_and(|n| *n == 0) || tx.read(&a).is_err());
            } else {
                assert_eq!((first, tx.get(&a)?, *tx.read(&a)?), (1, 1, 1));
            }
            tx.update(&a, |n| n + 10)
        });
        assert_eq!((*a.snapshot(), version(&a)), (11, 2));
    });
}

#[test]
fn a_closure_that_reads_what_nobody_changes_is_not_disturbed_by_others() {
    alone(|| {
        let (a, b, c) = (logical(0), logical(0), logical(0));
        transaction(|tx| {
            assert_eq!(tx.attempt(), 1);
            tx.get(&a)?;
            overtake(&c, 1);
            tx.get(&b)?;
            overtake(&c, 2);
            // Others look at the same, and say so.
            elsewhere(|| {
                transaction(|tx| {
                    tx.require(&a)?;
                    tx.get(&b)?;
                    tx.update(&c, |n| n + 1)
                });
            });
            tx.update(&a, |n| n + 1)
        });
        assert_eq!(values(&[a, b, c]), [1, 0, 3]);
    });
}

#[test]
fn a_read_that_was_outdated_and_swallowed_makes_the_closure_run_again() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let mut runs = 0;
        let result = transaction(|tx| {
            runs += 1;
            let first = tx.get(&a)?;
            if runs == 1 {
                overtake(&a, 1);
            }
            // Whoever does not pass the error on.
            let second = tx.get(&b).unwrap_or(-1);
            tx.write(&b, second + 1);
            Ok((first, second))
        });
        assert_eq!((result, runs), ((1, 0), 2));
        assert_eq!((*b.snapshot(), version(&b)), (1, 1));
    });
}

/// It should pass the error on. Whoever asks again instead gets no other answer.
#[test]
fn whoever_goes_on_after_a_restart_sees_no_two_values_that_did_not_exist_together() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let both = |n| {
            transaction(|tx| {
                tx.write(&a, n);
                tx.write(&b, n);
                Ok(())
            });
        };
        for kind in 0..4 {
            let mut asked_again = false;
            transaction(|tx| {
                let x = tx.get(&a)?;
                if tx.attempt() == 1 {
                    elsewhere(|| both(x + 1));
                }
                let ask = || match kind {
                    0 => tx.get(&b),
                    1 => tx.read(&b).copied(),
                    2 => tx.require(&b).and_then(|_| tx.get(&b)),
                    _ => tx.update(&b, |n| *n).and_then(|()| tx.get(&b)),
                };
                if ask().is_err() {
                    asked_again = true;
                    if let Ok(y) = ask() {
                        assert_eq!(x, y, "they are always equal; kind {kind}");
                    }
                }
                ask().map(drop)
            });
            assert!(asked_again);
        }
    });
}

#[test]
fn an_error_that_came_of_outdated_reads_is_not_returned() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let mut runs = 0;
        let result = transaction_or_abort(|tx| {
            runs += 1;
            let (x, y) = (tx.get(&a)?, tx.get(&b)?);
            if runs == 1 {
                // After the last read: only the end can notice.
                elsewhere(|| {
                    transaction(|tx| {
                        tx.write(&a, 1);
                        tx.write(&b, 1);
                        Ok(())
                    });
                });
            }
            Err::<(), _>(Stop::Abort((x, y)))
        });
        assert!(
            [((0, 0), 1), ((1, 1), 2)].contains(&(result.unwrap_err(), runs)),
            "both existed at one moment"
        );
    });
}

#[test]
fn an_error_after_a_swallowed_restart_is_of_one_moment() {
    alone(|| {
        let (a, b, c) = (logical(0), logical(0), logical(0));
        let mut runs = 0;
        let result = transaction_or_abort(|tx| {
            runs += 1;
            let (x, y) = (tx.get(&a)?, tx.get(&b)?);
            if runs == 1 {
                overtake(&a, 1);
            }
            let z = tx.get(&c).unwrap_or(-1);
            Err::<(), _>(Stop::Abort((x, y, z)))
        });
        assert_eq!((result, runs), (Err((1, 0, 0)), 2), "-1 never existed");
    });
}

// Attempts, and their bounds.

#[test]
fn attempts_are_counted_from_one() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let attempts = RefCell::new(Vec::new());
        transaction(|tx| {
            attempts.borrow_mut().push(tx.attempt());
            tx.update(&a, |n| n + 1)?;
            if tx.attempt() < 5 {
                overtake(&a, 0);
            }
            tx.update(&b, |n| n + 1)
        });
        assert_eq!(attempts.take(), [1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_bound_is_kept_and_nothing_is_published() {
    alone(|| {
        let tally = Tally::default();
        for retries in [0, 1, 5] {
            let (a, b) = (logical(0), logical(0));
            let token = logical(tally.token());
            let (result, runs) = bounded(retries, |tx| {
                let n = tx.get(&a)?;
                tx.write(&token, tally.token());
                tx.fold(&b, |n| n + 1);
                overtake(&a, n + 1);
                Ok(())
            });
            let attempts = retries + 1;
            assert_eq!(result, Err(TransactionError::Exhausted { attempts }));
            assert_eq!((runs, *a.snapshot()), (attempts, attempts as i32));
            assert_eq!((version(&b), version(&token)), (0, 0));
        }
        snapcell::reclaim();
        tally.assert_all_dropped_once(3 + 1 + 2 + 6);
    });
}

#[test]
fn the_last_attempt_that_is_allowed_may_commit() {
    alone(|| {
        let a = logical(0);
        let (result, runs) = bounded(3, |tx| {
            let n = tx.get(&a)?;
            if tx.attempt() <= 3 {
                overtake(&a, n + 1);
            }
            tx.write(&a, 100);
            Ok(tx.attempt())
        });
        assert_eq!((result, runs, *a.snapshot()), (Ok(4), 4, 100));
    });
}

#[test]
fn an_attempt_that_waits_counts_as_failed() {
    alone(|| {
        let a = logical(0);
        let (result, runs) = bounded(0, |tx| {
            tx.get(&a)?;
            tx.retry::<()>()
        });
        assert_eq!(
            (result, runs),
            (Err(TransactionError::Exhausted { attempts: 1 }), 1)
        );
    });
}

#[test]
fn a_closure_that_commits_to_what_it_has_read_loses_to_itself() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let (result, runs) = bounded(9, |tx| {
            tx.update(&a, |n| n + 1)?;
            a.replace(0);
            tx.update(&b, |n| n + 1)
        });
        assert_eq!(
            (result, runs),
            (Err(TransactionError::Exhausted { attempts: 10 }), 10)
        );
        assert_eq!(
            (version(&a), version(&b)),
            (10, 0),
            "the inner commits stand"
        );
    });
}

#[test]
fn a_timeout_ends_it_after_the_attempt_that_is_under_way() {
    alone(|| {
        let a = logical(0);
        let limited = Transact::new().timeout(Duration::ZERO);
        let result = limited.run::<_, ()>(|tx| Ok(tx.update(&a, |n| n + 1)?));
        assert_eq!(
            (result, *a.snapshot()),
            (Ok(()), 1),
            "the first one is made"
        );
        let mut runs = 0;
        let result = limited.run::<_, ()>(|tx| {
            runs += 1;
            tx.get(&a)?;
            overtake(&a, 5);
            Ok(tx.update(&a, |n| n + 1)?)
        });
        assert_eq!(
            (result, runs),
            (Err(TransactionError::TimedOut { attempts: 1 }), 1)
        );
        assert_eq!((*a.snapshot(), version(&a)), (5, 2));
    });
}

#[test]
fn a_timeout_that_no_clock_can_tell_is_none() {
    alone(|| {
        let a = logical(0);
        let result = Transact::new().timeout(Duration::MAX).run::<_, ()>(|tx| {
            tx.update(&a, |n| n + 1)?;
            if tx.attempt() < 4 {
                overtake(&a, 0);
            }
            Ok(tx.attempt())
        });
        assert_eq!((result, *a.snapshot()), (Ok(4), 1));
    });
}

#[test]
fn of_two_limits_either_ends_it() {
    alone(|| {
        let a = logical(0);
        let forever = Duration::from_secs(3_600);
        let conflicting = |limits: Transact| {
            limits.run::<(), ()>(|tx| {
                tx.update(&a, |n| n + 1)?;
                overtake(&a, 0);
                Ok(())
            })
        };
        let exhausted = conflicting(Transact::new().timeout(forever).retries(Retry::at_most(1)));
        assert_eq!(exhausted, Err(TransactionError::Exhausted { attempts: 2 }));
        let late = conflicting(
            Transact::new()
                .retries(Retry::at_most(9))
                .timeout(Duration::ZERO),
        );
        assert_eq!(late, Err(TransactionError::TimedOut { attempts: 1 }));
    });
}

#[test]
fn limits_may_be_used_again() {
    alone(|| {
        let a = logical(0);
        let limits = Transact::new().retries(Retry::at_most(1));
        for n in 1..=3 {
            let result = limits.run::<_, ()>(|tx| {
                tx.update(&a, |n| n + 1)?;
                Ok(tx.attempt())
            });
            assert_eq!((result, *a.snapshot()), (Ok(1), n));
        }
    });
}

// Others commit between the closure and the exchange, to what was only written.

/// A commit to the entity in this place of the order, when all heads have been looked at.
#[test]
fn whoever_loses_without_having_read_tries_again_without_its_closure() {
    alone(|| {
        for size in [2, 3, 9, 17, 70] {
            for place in [0, (size - 1) / 2, size - 2] {
                let tally = Tally::default();
                let entities = in_order((0..size).map(|_| logical(0)).collect::<Vec<_>>());
                let tokens: Vec<_> = entities.iter().map(|_| logical(tally.token())).collect();
                let (last, others) = entities.split_last().unwrap();
                let get_in_the_way = once(|| overtake(&others[place], 1_000));
                let (folded, mut runs) = (Cell::new(0), 0);
                let limits = Transact::new();
                let attempts = limits.run::<_, ()>(|tx| {
                    runs += 1;
                    for entity in others {
                        tx.write(entity, 7);
                    }
                    for token in &tokens {
                        tx.write(token, tally.token());
                    }
                    // Looked at last among its kind, and so after the others.
                    tx.fold(last, |n| {
                        folded.set(folded.get() + 1);
                        get_in_the_way();
                        n + 1
                    });
                    Ok(tx.attempt())
                });
                assert_eq!((attempts, runs), (Ok(1), 1), "one run of the closure");
                assert_eq!(folded.get(), 2, "{size}, {place}: two looks");
                assert!(values(others).iter().all(|value| *value == 7));
                let versions: Vec<_> = others.iter().map(version).collect();
                for (at, version) in versions.into_iter().enumerate() {
                    // One for the search for the order.
                    assert_eq!(version, 2 + u64::from(at == place));
                }
                for (number, token) in tokens.iter().enumerate() {
                    assert_eq!(
                        token.read(|t| t.number()),
                        size + number,
                        "moved, not copied"
                    );
                    assert_eq!(version(token), 1);
                }
                drop(tokens);
                snapcell::reclaim();
                tally.assert_all_dropped_once(2 * size);
            }
        }
    });
}

/// As above, so often that the bound is reached.
#[test]
fn a_bound_holds_where_the_closure_does_not_run_again() {
    alone(|| {
        let tally = Tally::default();
        let entities = in_order((0..4).map(|_| logical(3)).collect::<Vec<_>>());
        let [first, second, third, last] = &entities[..] else {
            unreachable!("four were made");
        };
        let token = logical(tally.token());
        let folded = Cell::new(0);
        let (result, runs) = bounded(6, |tx| {
            tx.write(first, 1);
            tx.write(second, 1);
            tx.write(third, 1);
            tx.write(&token, tally.token());
            tx.fold(last, |n| {
                folded.set(folded.get() + 1);
                overtake([first, second, third][folded.get() % 3], 50);
                n + 1
            });
            Ok(())
        });
        assert_eq!(result, Err(TransactionError::Exhausted { attempts: 7 }));
        assert_eq!((runs, folded.get()), (1, 7));
        assert_eq!(values(&entities), [50, 50, 50, 3]);
        assert_eq!((version(last), version(&token)), (1, 0));
        drop(token);
        snapcell::reclaim();
        tally.assert_all_dropped_once(2);
    });
}

/// What was only read changes in that moment: the closure runs again.
#[test]
fn whoever_loses_what_was_read_runs_its_closure_again() {
    alone(|| {
        for place in 0..3 {
            let entities = in_order((0..4).map(logical).collect::<Vec<Entity<i32>>>());
            let (last, others) = entities.split_last().unwrap();
            let get_in_the_way = once(|| overtake(&others[place], 1_000));
            let mut runs = 0;
            let sum = transaction(|tx| {
                runs += 1;
                let mut sum = 0;
                for entity in others {
                    sum += tx.get(entity)?;
                }
                tx.fold(last, |_| {
                    get_in_the_way();
                    -1
                });
                Ok(sum)
            });
            assert_eq!(runs, 2);
            assert_eq!(sum, values(others).iter().sum::<i32>(), "with the new one");
            assert!(sum >= 1_000);
            assert_eq!(*last.snapshot(), -1);
        }
    });
}

/// Other transactions look at the same entities in that moment: nothing changes, and nobody runs again.
#[test]
fn whoever_is_in_the_way_without_a_change_costs_no_run_of_the_closure() {
    alone(|| {
        for place in 0..3 {
            let entities = in_order((0..4).map(logical).collect::<Vec<Entity<i32>>>());
            let other = logical(0);
            let (last, others) = entities.split_last().unwrap();
            let get_in_the_way = once(|| {
                elsewhere(|| {
                    transaction(|tx| {
                        tx.require(&others[place])?;
                        tx.update(&other, |n| n + 1)
                    });
                });
            });
            let mut runs = 0;
            let folded = Cell::new(0);
            transaction(|tx| {
                runs += 1;
                for entity in others {
                    tx.update(entity, |n| n + 1)?;
                }
                tx.fold(last, |n| {
                    folded.set(folded.get() + 1);
                    get_in_the_way();
                    n + 1
                });
                Ok(())
            });
            assert_eq!((runs, folded.get(), *other.snapshot()), (1, 2, 1));
            assert_eq!(entities.iter().map(version).collect::<Vec<_>>(), [2; 4]);
        }
    });
}

/// What was read changes together with what is to be folded, after the closure: the fold doesn't see that.
#[test]
fn a_fold_sees_nothing_that_never_was_beside_what_was_read() {
    alone(|| {
        let entities = in_order(vec![logical(0), logical(0)]);
        for [read, folded] in [[0, 1], [1, 0]] {
            let (read, folded) = (&entities[read], &entities[folded]);
            let before = *read.snapshot();
            let meanwhile = once(|| {
                elsewhere(|| {
                    transaction(|tx| {
                        tx.update(read, |n| n + 10)?;
                        tx.update(folded, |n| n + 10)
                    });
                });
            });
            let (mut runs, folds) = (0, Cell::new(0));
            transaction(|tx| {
                runs += 1;
                let number = tx.get(read)?;
                meanwhile();
                let folds = &folds;
                tx.fold(folded, move |n| {
                    folds.set(folds.get() + 1);
                    assert_eq!(*n, number, "they are always equal");
                    *n
                });
                Ok(())
            });
            assert_eq!(
                (runs, folds.get()),
                (2, 1),
                "the first attempt folds nothing"
            );
            assert_eq!(values(&entities), [before + 10; 2]);
        }
    });
}

#[test]
fn a_fold_that_commits_to_its_own_entity_loses_to_itself() {
    alone(|| {
        for others in [0, 2] {
            let a = logical(0);
            let rest: Vec<_> = (0..others).map(|_| logical(0)).collect();
            let (result, runs) = bounded(3, |tx| {
                for entity in &rest {
                    tx.write(entity, 1);
                }
                tx.fold(&a, |n| {
                    a.replace(n + 1);
                    n + 100
                });
                Ok(())
            });
            assert_eq!(result, Err(TransactionError::Exhausted { attempts: 4 }));
            assert_eq!((runs, *a.snapshot(), version(&a)), (1, 4, 4));
            assert!(rest.iter().all(|e| version(e) == 0));
        }
    });
}

// The end of versions.

fn at_the_end<T: Send + Sync + 'static>(value: T) -> Entity<T> {
    Entity::builder(value)
        .born(Stamp::new(u64::MAX, 0))
        .clock(snapcell::Clock::logical())
        .build()
}

#[test]
fn an_entity_at_its_last_version_is_not_changed_any_more() {
    alone(|| {
        let (a, last) = (logical(0), at_the_end(0));
        for kind in 0..4 {
            let (result, runs) = bounded(9, |tx| {
                tx.write(&a, 1);
                match kind {
                    0 => tx.write(&last, 1),
                    1 => tx.update(&last, |n| n + 1)?,
                    2 => tx.fold(&last, |n| n + 1),
                    _ => tx.try_write(&last, 1).unwrap(),
                }
                Ok(())
            });
            assert_eq!((result, runs), (Err(TransactionError::VersionLimit), 1));
            assert_eq!(
                (version(&a), *last.snapshot(), version(&last)),
                (0, 0, u64::MAX)
            );
        }
        let (result, _) = bounded(0, |tx| tx.update(&last, |n| n + 1));
        assert_eq!(result, Err(TransactionError::VersionLimit), "alone too");
    });
}

#[test]
fn an_entity_at_its_last_version_may_be_read_with_others() {
    alone(|| {
        let (a, last) = (logical(0), at_the_end(7));
        transaction(|tx| {
            let stamp = tx.require(&last)?;
            assert_eq!(stamp, Stamp::new(u64::MAX, 0));
            tx.write(&a, tx.get(&last)?);
            Ok(())
        });
        assert_eq!((*a.snapshot(), version(&last)), (7, u64::MAX));
        assert_eq!(*snapcell::snapshot_of((&a, &last)).1, 7);
        let changes = Changes::new()
            .replace(&a, 8)
            .require(&last, last.snapshot().stamp());
        assert!(try_transaction(changes).is_ok());
    });
}

#[test]
fn the_version_before_the_last_is_no_limit_yet() {
    alone(|| {
        let last = Entity::builder(0).born(Stamp::new(u64::MAX - 1, 0)).build();
        let a = logical(0);
        let write = || {
            bounded(0, |tx| {
                tx.write(&a, 1);
                tx.write(&last, 1);
                Ok(())
            })
            .0
        };
        assert_eq!(write(), Ok(()));
        assert_eq!((version(&last), version(&a)), (u64::MAX, 1));
        assert_eq!(write(), Err(TransactionError::VersionLimit));
        assert_eq!((version(&last), version(&a)), (u64::MAX, 1));
    });
}

#[test]
fn without_a_limit_the_end_of_versions_is_a_panic() {
    alone(|| {
        let (a, last) = (logical(0), at_the_end(0));
        let both = || {
            transaction(|tx| {
                tx.write(&a, 1);
                tx.write(&last, 1);
                Ok(())
            });
        };
        let said = panic_of(both);
        assert!(said.contains("version"), "{said}");
        let said = panic_of(|| {
            transaction_or_abort::<(), ()>(|tx| {
                tx.write(&last, 1);
                Ok(())
            })
        });
        assert!(said.contains("version"), "{said}");
        assert_eq!((version(&a), *last.snapshot()), (0, 0));
        transaction(|tx| {
            tx.write(&a, 1);
            Ok(())
        });
        assert_eq!(*a.snapshot(), 1, "the next one is none the worse for it");
    });
}

// Errors of the closure.

#[test]
fn a_closure_that_gives_up_leaves_everything_as_it_was() {
    alone(|| {
        let tally = Tally::default();
        let (a, b) = (logical(0), logical(0));
        let token = logical(tally.token());
        let result = transaction_or_abort(|tx| {
            tx.update(&a, |n| n + 1)?;
            tx.fold(&b, |n| n + 1);
            tx.write(&token, tally.token());
            Err::<(), _>(Stop::Abort(String::from("no")))
        });
        assert_eq!(result, Err(String::from("no")));
        assert_eq!([version(&a), version(&b), version(&token)], [0; 3]);
        let result: Result<(), _> = Transact::new().run(|tx| {
            tx.write(&token, tally.token());
            Err(Stop::Abort("no"))
        });
        assert_eq!(result, Err(TransactionError::Aborted("no")));
        assert_eq!(tally.alive(), [0]);
        drop(token);
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn a_restart_passes_through_the_error_of_the_closure() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let mut runs = 0;
        let result = transaction_or_abort::<_, &str>(|tx| {
            runs += 1;
            tx.get(&a)?;
            if runs == 1 {
                overtake(&a, 1);
            }
            let stop: Result<i32, Stop<&str>> = tx.get(&b).map_err(Stop::from);
            if runs == 1 {
                assert!(matches!(stop, Err(Stop::Restart(_))));
            }
            Ok(stop? + 1)
        });
        assert_eq!((result, runs), (Ok(1), 2));
    });
}

/// Each looks at both, and takes one away if there are two: write skew would leave nothing.
#[test]
fn two_transactions_that_read_what_the_other_one_writes_come_one_after_the_other() {
    alone(|| {
        let (a, b) = (logical(1), logical(1));
        let meanwhile = once(|| {
            let taken = elsewhere(|| {
                transaction(|tx| {
                    let is_enough = tx.get(&a)? + tx.get(&b)? == 2;
                    if is_enough {
                        tx.update(&b, |n| n - 1)?;
                    }
                    Ok(is_enough)
                })
            });
            assert!(taken);
        });
        let taken = transaction(|tx| {
            let is_enough = tx.get(&a)? + tx.get(&b)? == 2;
            meanwhile();
            if is_enough {
                tx.update(&a, |n| n - 1)?;
            }
            Ok(is_enough)
        });
        assert!(!taken);
        assert_eq!((*a.snapshot(), *b.snapshot()), (1, 0));
    });
}
