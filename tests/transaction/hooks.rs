//! What is called when all is over: after the commit, or instead of it.

use super::support::{elsewhere, panic_of};
use super::{PLANNED, alone, bounded, caught_in, logical, overtake, plan, version};
use snapcell::{
    Entity, Retry, Stamp, Stop, Transact, TransactionError, snapshot_of, transaction,
    transaction_or_abort,
};
use std::cell::{Cell, RefCell};
use std::time::Duration;

#[test]
fn a_hook_is_called_once_after_the_commit_in_order() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let said = RefCell::new(Vec::new());
        let result = transaction(|tx| {
            for n in 0..3 {
                let (a, b, said) = (&a, &b, &said);
                tx.after_commit(move || {
                    let both = elsewhere(|| snapshot_of((a, b)).into_inner());
                    said.borrow_mut().push((n, *both.0, *both.1));
                });
            }
            tx.after_abort(|| unreachable!("it commits"));
            tx.write(&a, 1);
            tx.write(&b, 1);
            assert_eq!(said.borrow().len(), 0, "not yet");
            Ok("done")
        });
        assert_eq!(said.take(), [(0, 1, 1), (1, 1, 1), (2, 1, 1)]);
        assert_eq!(result, "done");
    });
}

#[test]
fn hooks_are_called_where_nothing_or_one_entity_was_written() {
    alone(|| {
        let a = logical(0);
        let called = Cell::new(0);
        let call = || called.set(called.get() + 1);
        transaction(|tx| {
            tx.after_commit(call);
            Ok(())
        });
        transaction(|tx| {
            tx.after_commit(call);
            tx.get(&a)
        });
        transaction(|tx| {
            tx.after_commit(call);
            tx.update(&a, |n| n + 1)
        });
        assert_eq!((called.get(), *a.snapshot()), (3, 1));
    });
}

#[test]
fn an_attempt_that_is_tried_again_calls_none_of_its_hooks() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let said = RefCell::new(Vec::new());
        transaction(|tx| {
            let (attempt, said) = (tx.attempt(), &said);
            tx.after_commit(move || said.borrow_mut().push(attempt));
            tx.after_abort(|| unreachable!("it commits in the end"));
            tx.update(&a, |n| n + 1)?;
            if attempt < 3 {
                overtake(&a, 0);
            }
            tx.update(&b, |n| n + 1)
        });
        assert_eq!(said.take(), [3]);
    });
}

#[test]
fn a_hook_may_use_the_crate() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        transaction(|tx| {
            tx.write(&a, 1);
            tx.after_commit(|| {
                a.update(|n| n + 1);
                transaction(|tx| {
                    tx.update(&a, |n| n + 1)?;
                    tx.update(&b, |n| n + 1)?;
                    tx.after_commit(|| _ = b.update(|n| n + 10).attempts());
                    Ok(())
                });
                snapcell::reclaim();
            });
            Ok(())
        });
        assert_eq!((*a.snapshot(), *b.snapshot()), (3, 11));
        let aborted = transaction_or_abort::<(), _>(|tx| {
            tx.write(&a, 1);
            tx.after_abort(|| {
                transaction(|tx| tx.update(&b, |n| n + 100));
                snapcell::reclaim();
            });
            Err(Stop::Abort("no"))
        });
        assert_eq!((aborted, *a.snapshot(), *b.snapshot()), (Err("no"), 3, 111));
    });
}

/// Nothing of a transaction is in the way of what its hooks do: no guard, no handle.
#[test]
fn a_hook_runs_outside_of_everything() {
    alone(|| {
        let entity = logical(0);
        let handle = entity.clone();
        let taken = Cell::new(None);
        let slot = RefCell::new(Some(entity));
        transaction(|tx| {
            tx.write(handle.clone(), 5);
            tx.read(handle.clone())?;
            tx.after_commit(|| {
                for n in 0..100 {
                    handle.replace(n);
                }
                snapcell::reclaim();
                assert_eq!(snapcell::reclamation_lag().nodes, 0, "nobody is pinned");
                taken.set(slot.borrow_mut().take().map(drop));
            });
            Ok(())
        });
        assert!(taken.take().is_some());
        assert_eq!(handle.into_inner(), Ok(99), "the only handle");
    });
}

#[test]
fn the_panic_of_a_hook_comes_out_and_the_commit_stands() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let said = panic_of(|| {
            transaction(|tx| {
                tx.write(&a, 1);
                tx.write(&b, 1);
                tx.after_commit(plan);
                tx.after_abort(|| unreachable!("it has committed"));
                Ok(())
            })
        });
        assert_eq!(
            (said.as_str(), *a.snapshot(), *b.snapshot()),
            (PLANNED, 1, 1)
        );
    });
}

#[test]
fn each_hook_is_called_though_one_of_them_panics() {
    alone(|| {
        let a = logical(0);
        let called = Cell::new(0);
        let call = || called.set(called.get() + 1);
        let said = panic_of(|| {
            transaction(|tx| {
                tx.write(&a, 1);
                tx.after_commit(call);
                tx.after_commit(plan);
                tx.after_commit(call);
                Ok(())
            })
        });
        assert_eq!((said.as_str(), called.get()), (PLANNED, 2));
    });
}

// Instead of the commit.

#[test]
fn an_error_of_the_closure_calls_the_other_hooks() {
    alone(|| {
        let a = logical(0);
        let said = RefCell::new(Vec::new());
        let say = |what| {
            let said = &said;
            move || said.borrow_mut().push(what)
        };
        let result = transaction_or_abort(|tx| {
            tx.after_commit(|| unreachable!("it does not commit"));
            tx.after_abort(say("one"));
            tx.write(&a, 1);
            tx.after_abort(say("two"));
            Err::<(), _>(Stop::Abort("no"))
        });
        assert_eq!((result, said.take()), (Err("no"), vec!["one", "two"]));
        assert_eq!(version(&a), 0);
    });
}

#[test]
fn a_limit_calls_the_hooks_of_the_last_attempt() {
    alone(|| {
        let a = logical(0);
        let said = RefCell::new(Vec::new());
        let say = |attempt| {
            let said = &said;
            move || said.borrow_mut().push(attempt)
        };
        let (result, _) = bounded(2, |tx| {
            tx.after_abort(say(tx.attempt()));
            tx.update(&a, |n| n + 1)?;
            overtake(&a, 0);
            Ok(())
        });
        assert_eq!(result, Err(TransactionError::Exhausted { attempts: 3 }));
        assert_eq!(said.take(), [3]);

        let limited = Transact::new().timeout(Duration::ZERO);
        let result = limited.run::<(), ()>(|tx| {
            tx.after_abort(say(tx.attempt()));
            tx.get(&a)?;
            Ok(tx.retry()?)
        });
        assert_eq!(result, Err(TransactionError::TimedOut { attempts: 1 }));
        assert_eq!(said.take(), [1]);

        let last = Entity::builder(0).born(Stamp::new(u64::MAX, 0)).build();
        let (result, _) = bounded(0, |tx| {
            tx.after_abort(say(tx.attempt()));
            tx.write(&last, 1);
            Ok(())
        });
        assert_eq!(result, Err(TransactionError::VersionLimit));
        assert_eq!(said.take(), [1]);

        let (result, _) = bounded(5, |tx| {
            tx.after_abort(say(tx.attempt()));
            tx.retry::<()>()
        });
        assert_eq!(result, Err(TransactionError::NothingToWaitFor));
        assert_eq!(said.take(), [1]);
    });
}

/// A wait that a timeout ends, on a thread that has slept.
#[test]
fn a_timeout_while_it_waits_calls_the_hooks() {
    alone(|| {
        let (a, called) = (logical(0), Cell::new(0));
        let limited = Transact::new().timeout(Duration::from_millis(1));
        let result = limited.run::<(), ()>(|tx| {
            tx.after_abort(|| called.set(called.get() + 1));
            tx.get(&a)?;
            Ok(tx.retry()?)
        });
        assert!(matches!(result, Err(TransactionError::TimedOut { .. })));
        assert_eq!(called.get(), 1);
    });
}

#[test]
fn a_panic_of_the_closure_calls_the_hooks() {
    alone(|| {
        let (a, called) = (logical(0), Cell::new(0));
        let said = panic_of(|| {
            transaction(|tx| {
                tx.after_abort(|| called.set(called.get() + 1));
                tx.after_commit(|| unreachable!("it does not commit"));
                tx.write(&a, 1);
                plan::<Result<(), _>>()
            })
        });
        assert_eq!((said.as_str(), called.get(), version(&a)), (PLANNED, 1, 0));
    });
}

#[test]
fn a_panic_of_a_fold_calls_the_hooks() {
    alone(|| {
        let (a, b, called) = (logical(0), logical(0), Cell::new(0));
        let said = panic_of(|| {
            transaction(|tx| {
                tx.after_abort(|| called.set(called.get() + 1));
                tx.write(&a, 1);
                tx.fold(&b, |_| plan());
                Ok(())
            })
        });
        assert_eq!((said.as_str(), called.get()), (PLANNED, 1));
        assert_eq!((version(&a), version(&b)), (0, 0));
    });
}

#[test]
fn panics_of_hooks_that_follow_no_commit_are_counted_and_cost_no_other_hook() {
    alone(|| {
        let called = Cell::new(0);
        let call = || called.set(called.get() + 1);
        let aborted = caught_in(|| {
            let result = transaction_or_abort(|tx| {
                tx.after_abort(call);
                tx.after_abort(plan);
                tx.after_abort(plan);
                tx.after_abort(call);
                Err::<(), _>(Stop::Abort("no"))
            });
            assert_eq!(result, Err("no"));
        });
        assert_eq!((aborted, called.get()), (2, 2));
        let unwound = caught_in(|| {
            let said = panic_of(|| {
                transaction(|tx| {
                    tx.after_abort(plan);
                    tx.after_abort(call);
                    plan::<Result<(), _>>()
                })
            });
            assert_eq!(said, PLANNED, "the closure's own");
        });
        assert_eq!((unwound, called.get()), (1, 3));
    });
}

#[test]
fn hooks_of_a_limit_are_called_though_the_closure_did_not_run_again() {
    alone(|| {
        let entities = super::in_order((0..3).map(logical).collect::<Vec<Entity<i32>>>());
        let called = Cell::new(0);
        let result = Transact::new()
            .retries(Retry::at_most(4))
            .run::<(), ()>(|tx| {
                tx.after_abort(|| called.set(called.get() + 1));
                tx.write(&entities[0], 1);
                tx.write(&entities[1], 1);
                tx.fold(&entities[2], |n| {
                    overtake(&entities[1], 9);
                    n + 1
                });
                Ok(())
            });
        assert_eq!(result, Err(TransactionError::Exhausted { attempts: 5 }));
        assert_eq!(called.get(), 1);
    });
}
