//! `or_else`: the second is done where the first would wait, and as if the first had never been, but for what
//! it has read.

use super::support::{Tally, panic_of};
use super::{PLANNED, alone, bounded, logical, overtake, plan, values, version};
use snapcell::{
    Entity, Restart, Stop, Transact, Transaction, TransactionError, transaction,
    transaction_or_abort,
};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn the_second_is_left_alone_where_the_first_succeeds() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let result = transaction(|tx| {
            tx.or_else(
                |tx| {
                    tx.write(&a, 1);
                    Ok("first")
                },
                |_| unreachable!("the first one does not wait"),
            )
        });
        assert_eq!((result, *a.snapshot(), *b.snapshot()), ("first", 1, 0));
    });
}

#[test]
fn what_the_first_wrote_is_undone() {
    alone(|| {
        let tally = Tally::default();
        let texts = ["w", "u", "f", "wf", "fu", "untouched"].map(|s| logical(s.to_owned()));
        let [written, updated, folded, both, read, new] = &texts;
        let token = logical(tally.token());
        transaction(|tx| {
            tx.write(written, String::from("W"));
            tx.update(updated, |s| format!("{s}U"))?;
            tx.fold(folded, |s| format!("{s}F"));
            tx.write(both, String::from("W"));
            tx.fold(read, |s| format!("{s}F"));
            tx.write(&token, tally.token());
            tx.or_else(
                |tx| {
                    for entity in &texts {
                        tx.fold(entity, |s| format!("{s}?"));
                        tx.update(entity, |s| format!("{s}!"))?;
                        tx.write(entity, String::from("gone"));
                    }
                    tx.write(&token, tally.token());
                    assert_eq!(tx.read(both)?, "gone");
                    tx.retry()
                },
                |tx| {
                    assert_eq!(tx.read(written)?, "W");
                    assert_eq!(tx.read(updated)?, "uU");
                    assert_eq!(tx.read(both)?, "W");
                    assert_eq!(tx.read(read)?, "fuF", "a fold that is read later");
                    assert_eq!(tx.read(new)?, "untouched");
                    assert_eq!(tx.read(&token)?.number(), 1);
                    tx.fold(both, |s| format!("{s}F"));
                    Ok(())
                },
            )
        });
        let now: Vec<_> = texts.iter().map(|e| e.snapshot().to_string()).collect();
        assert_eq!(now, ["W", "uU", "fF", "WF", "fuF", "untouched"]);
        assert_eq!(version(new), 0);
        assert_eq!(token.read(|t| t.number()), 1);
        drop(token);
        snapcell::reclaim();
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn what_was_borrowed_in_the_first_stays_until_the_end() {
    alone(|| {
        let (a, b) = (logical(String::from("a")), logical(String::from("b")));
        transaction(|tx| {
            let kept = RefCell::new(Vec::new());
            let keep = |text: &str, address: *const String| {
                kept.borrow_mut().push((text.to_owned(), address));
            };
            let before = tx.read(&a)?;
            tx.or_else(
                |tx| {
                    tx.write(&a, String::from("first"));
                    let written = tx.read(&a)?;
                    tx.update(&a, |s| format!("{s}, again"))?;
                    let again = tx.read(&a)?;
                    let read = tx.read(&b)?;
                    for text in [written, again, read] {
                        keep(text, text);
                    }
                    tx.retry()
                },
                |tx| {
                    assert!(std::ptr::eq(tx.read(&a)?, before), "as it was");
                    tx.write(&a, String::from("second"));
                    Ok(())
                },
            )?;
            // The borrows of the first can't leave it, but their places can't have been used again either.
            let now = tx.read(&a)?;
            assert!(
                kept.borrow()
                    .iter()
                    .all(|(_, place)| !std::ptr::eq(*place, now))
            );
            assert_eq!((before.as_str(), now.as_str()), ("a", "second"));
            Ok(())
        });
        assert_eq!(*a.snapshot(), "second");
    });
}

#[test]
fn a_value_that_both_sides_borrow_outlives_both() {
    alone(|| {
        let (a, b) = (logical(String::from("a")), logical(0));
        let result = transaction(|tx| {
            let seen = Cell::new(None);
            tx.or_else(
                |_| {
                    seen.set(Some(tx.read(&a)?));
                    tx.write(&a, String::from("gone"));
                    seen.set(Some(tx.read(&a)?));
                    tx.retry()
                },
                |tx| {
                    tx.write(&b, 1);
                    Ok(())
                },
            )?;
            Ok(seen.take().cloned())
        });
        assert_eq!(
            result.as_deref(),
            Some("gone"),
            "it was lent by the attempt"
        );
    });
}

#[test]
fn what_the_first_read_still_must_not_change() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let (result, runs) = bounded(5, |tx| {
            tx.or_else(
                |tx| {
                    tx.get(&a)?;
                    tx.retry()
                },
                |tx| {
                    tx.write(&b, 1);
                    Ok(())
                },
            )?;
            if tx.attempt() == 1 {
                overtake(&a, 1);
            }
            Ok(())
        });
        assert_eq!(
            (result, runs),
            (Ok(()), 2),
            "that it is still so decides for the second"
        );
    });
}

#[test]
fn hooks_of_the_first_are_undone() {
    alone(|| {
        let (a, said) = (logical(0), RefCell::new(Vec::new()));
        let say = |what: &'static str| {
            let said = &said;
            move || said.borrow_mut().push(what)
        };
        transaction(|tx| {
            tx.after_commit(say("before"));
            tx.or_else(
                |tx| {
                    tx.after_commit(say("first"));
                    tx.after_abort(say("first, abort"));
                    tx.get(&a)?;
                    tx.retry()
                },
                |tx| {
                    tx.after_commit(say("second"));
                    Ok(())
                },
            )?;
            tx.after_commit(say("after"));
            Ok(())
        });
        assert_eq!(said.take(), ["before", "second", "after"]);
        let aborted = transaction_or_abort(|tx| {
            tx.after_abort(say("before"));
            tx.or_else(
                |tx| {
                    tx.after_abort(say("first"));
                    Ok(tx.retry()?)
                },
                |tx| {
                    tx.after_abort(say("second"));
                    Err::<(), _>(Stop::Abort("no"))
                },
            )
        });
        assert_eq!(
            (aborted, said.take()),
            (Err("no"), vec!["before", "second"])
        );
    });
}

/// Says that it was dropped, and commits to an entity as it is.
struct Ends<'a>(
    &'a Entity<i32>,
    &'a RefCell<Vec<&'static str>>,
    &'static str,
);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.update(|n| n + 1);
        self.1.borrow_mut().push(self.2);
    }
}

/// Found by looking: they were dropped at once, so the attempt had read what it had changed itself, and was
/// tried again for ever.
#[test]
fn undone_hooks_are_dropped_when_nothing_of_the_attempt_is_left() {
    alone(|| {
        let (a, b, said) = (logical(0), logical(0), RefCell::new(Vec::new()));
        let say = |what: &'static str| {
            let said = &said;
            move || said.borrow_mut().push(what)
        };
        let (result, runs) = bounded(5, |tx| {
            tx.or_else(
                |tx| {
                    let owned = Ends(&a, &said, "undone, commit");
                    tx.after_commit(move || drop(owned));
                    let owned = Ends(&a, &said, "undone, abort");
                    tx.after_abort(move || drop(owned));
                    tx.get(&a)?;
                    tx.retry()
                },
                |tx| {
                    assert_eq!(said.borrow().len(), 0);
                    let owned = Ends(&a, &said, "not called");
                    tx.after_abort(move || drop(owned));
                    tx.after_commit(say("called"));
                    tx.update(&b, |n| n + 1)
                },
            )
        });
        assert_eq!((result, runs), (Ok(()), 1));
        assert_eq!(
            said.take(),
            ["called", "not called", "undone, commit", "undone, abort"]
        );
        assert_eq!((*a.snapshot(), *b.snapshot()), (3, 1));
        // Of an attempt that is tried again: before the next one.
        let (result, runs) = bounded(5, |tx| {
            if tx.attempt() == 2 {
                assert_eq!(said.take(), ["undone, commit"]);
            }
            tx.or_else(
                |tx| {
                    let owned = Ends(&a, &said, "undone, commit");
                    tx.after_commit(move || drop(owned));
                    tx.get(&a)?;
                    tx.retry()
                },
                |tx| {
                    if tx.attempt() == 1 {
                        overtake(&a, 10);
                    }
                    tx.update(&b, |n| n + 1)
                },
            )
        });
        assert_eq!((result, runs), (Ok(()), 2));
        assert_eq!(said.take(), ["undone, commit"]);
        // And where there is no commit.
        let aborted = transaction_or_abort(|tx| {
            tx.or_else(
                |tx| {
                    let owned = Ends(&a, &said, "undone, abort");
                    tx.after_abort(move || drop(owned));
                    tx.get(&a)?;
                    Ok(tx.retry()?)
                },
                |tx| {
                    tx.after_abort(say("called"));
                    tx.get(&b)?;
                    Err::<(), _>(Stop::Abort("no"))
                },
            )
        });
        assert_eq!(
            (aborted, said.take()),
            (Err("no"), vec!["called", "undone, abort"])
        );
    });
}

#[test]
fn they_nest() {
    fn wait<R>(tx: &Transaction<'_>) -> Result<R, Restart> {
        tx.retry()
    }
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let result = transaction(|tx| {
            tx.update(&a, |n| n + 1)?;
            tx.or_else(
                |tx| {
                    tx.update(&a, |n| n + 10)?;
                    tx.or_else(
                        |tx| {
                            tx.update(&a, |n| n + 100)?;
                            wait(tx)
                        },
                        |tx| {
                            tx.update(&a, |n| n + 1_000)?;
                            tx.fold(&b, |n| n + 1);
                            wait::<i32>(tx)
                        },
                    )
                },
                |tx| {
                    tx.or_else(
                        |tx| {
                            tx.update(&a, |n| n + 10_000)?;
                            tx.or_else(wait, |tx| {
                                tx.update(&a, |n| n + 100_000)?;
                                tx.fold(&b, |n| n + 2);
                                tx.get(&a)
                            })
                        },
                        |_| unreachable!("something was found"),
                    )
                },
            )
        });
        assert_eq!(result, 110_001);
        assert_eq!((*a.snapshot(), *b.snapshot()), (110_001, 2));
    });
}

#[test]
fn any_number_of_alternatives_may_be_tried_in_turn() {
    fn first_of<'e>(tx: &Transaction<'e>, queues: &'e [Entity<Vec<u32>>]) -> Result<u32, Restart> {
        let [queue, rest @ ..] = queues else {
            return tx.retry();
        };
        tx.or_else(
            |tx| {
                let mut items = tx.get(queue)?;
                let Some(item) = items.pop() else {
                    return tx.retry();
                };
                tx.write(queue, items);
                Ok(item)
            },
            |tx| first_of(tx, rest),
        )
    }
    alone(|| {
        let mut queues: Vec<_> = (0..200).map(|_| logical(Vec::new())).collect();
        queues[177] = logical(vec![5, 7]);
        assert_eq!(transaction(|tx| first_of(tx, &queues)), 7);
        assert_eq!(*queues[177].snapshot(), [5]);
        assert!(
            queues
                .iter()
                .enumerate()
                .all(|(n, q)| n == 177 || version(q) == 0)
        );
    });
}

#[test]
fn an_error_of_the_first_is_no_reason_for_the_second() {
    alone(|| {
        let a = logical(0);
        let result = transaction_or_abort(|tx| {
            tx.or_else(
                |tx| {
                    tx.write(&a, 1);
                    Err::<(), _>(Stop::Abort("no"))
                },
                |_| unreachable!("the first one does not wait"),
            )
        });
        assert_eq!((result, version(&a)), (Err("no"), 0));
    });
}

#[test]
fn whoever_is_overtaken_in_the_first_starts_again() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let result = transaction(|tx| {
            tx.or_else(
                |tx| {
                    tx.get(&a)?;
                    if tx.attempt() == 1 {
                        overtake(&a, 1);
                    }
                    tx.get(&b)?;
                    Ok(tx.attempt())
                },
                |_| unreachable!("being overtaken is no `retry`"),
            )
        });
        assert_eq!(result, 2);
    });
}

#[test]
fn a_first_that_would_wait_for_what_never_existed_together_starts_again() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let runs = Cell::new(0);
        let result = transaction(|tx| {
            runs.set(runs.get() + 1);
            tx.or_else(
                |tx| {
                    let (x, y) = (tx.get(&a)?, tx.get(&b)?);
                    if runs.get() == 1 {
                        overtake(&a, 1);
                    }
                    if x == 0 {
                        tx.retry()
                    } else {
                        Ok(("first", x, y))
                    }
                },
                |tx| Ok(("second", tx.get(&a)?, tx.get(&b)?)),
            )
        });
        assert_eq!((result, runs.get()), (("first", 1, 0), 2));
    });
}

#[test]
fn an_alternative_that_panics_and_is_caught_is_undone() {
    alone(|| {
        let tally = Tally::default();
        let token = logical(tally.token());
        let (a, b) = (logical(0), logical(0));
        transaction(|tx| {
            tx.write(&a, 1);
            let panicking = AssertUnwindSafe(|| {
                tx.or_else(
                    |tx| {
                        tx.update(&a, |n| n + 10)?;
                        tx.fold(&b, |n| n + 10);
                        tx.write(&token, tally.token());
                        plan::<Result<(), Restart>>()
                    },
                    |_| unreachable!("a panic is no `retry`"),
                )
            });
            assert!(catch_unwind(panicking).is_err());
            assert_eq!(tx.get(&a)?, 1);
            tx.update(&b, |n| n + 1)
        });
        assert_eq!((*a.snapshot(), *b.snapshot(), version(&token)), (1, 1, 0));
        drop(token);
        snapcell::reclaim();
        tally.assert_all_dropped_once(2);
    });
}

/// What was undone leaves nothing to be done after the commit either.
#[test]
fn hooks_of_an_alternative_that_panics_and_is_caught_are_undone() {
    alone(|| {
        let (a, called) = (logical(0), Cell::new(false));
        transaction(|tx| {
            let panicking = AssertUnwindSafe(|| {
                tx.or_else(
                    |tx| {
                        tx.write(&a, 1);
                        tx.after_commit(|| called.set(true));
                        plan::<Result<(), Restart>>()
                    },
                    |_| unreachable!("a panic is no `retry`"),
                )
            });
            assert!(catch_unwind(panicking).is_err());
            Ok(())
        });
        assert_eq!(version(&a), 0, "its write is undone");
        assert!(!called.get(), "and so what was to follow the write");
    });
}

#[test]
fn a_panic_in_an_alternative_ends_the_transaction() {
    alone(|| {
        let a = logical(0);
        let message = panic_of(|| {
            transaction(|tx| {
                tx.write(&a, 1);
                tx.or_else(
                    |tx| {
                        tx.write(&a, 2);
                        tx.retry::<()>()
                    },
                    |tx| {
                        tx.write(&a, 3);
                        plan()
                    },
                )
            })
        });
        assert_eq!((message.as_str(), version(&a)), (PLANNED, 0));
        transaction(|tx| tx.update(&a, |n| n + 1));
        assert_eq!(*a.snapshot(), 1, "nothing of it is left in the next one");
    });
}

#[test]
fn if_both_wait_the_transaction_waits() {
    alone(|| {
        let a = logical(0);
        let result: Result<(), _> = Transact::new()
            .timeout(std::time::Duration::ZERO)
            .run(|tx| {
                tx.or_else(
                    |tx| {
                        tx.get(&a)?;
                        Ok(tx.retry()?)
                    },
                    |tx| Err::<(), Stop<()>>(tx.retry::<()>().unwrap_err().into()),
                )
            });
        assert_eq!(result, Err(TransactionError::TimedOut { attempts: 1 }));
    });
}

#[test]
fn a_fold_that_was_undone_is_never_called() {
    alone(|| {
        let tally = Tally::default();
        let a = logical(0);
        let token = tally.token();
        let called = Cell::new(0);
        let slot = RefCell::new(Some(token));
        transaction(|tx| {
            tx.fold(&a, |n| n + 1);
            tx.or_else(
                |tx| {
                    let token = slot.borrow_mut().take();
                    let called = &called;
                    tx.fold(&a, move |n| {
                        called.set(called.get() + usize::from(token.is_some()));
                        n + 10
                    });
                    tx.retry()
                },
                |tx| {
                    tx.fold(&a, |n| n + 100);
                    Ok(())
                },
            )
        });
        assert_eq!((values(&[a]), called.get()), (vec![101], 0));
        tally.assert_all_dropped_once(1);
    });
}
