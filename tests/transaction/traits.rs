//! What the public types implement, and what they look like.

use super::{alone, bounded, logical, overtake};
use snapcell::{
    ChangeRefusal, Changes, Entity, Moment, Refused, Restart, Retry, Snapshot, Stop, Transact,
    Transacted, Transacting, Transaction, TransactionError, snapshot_of, transaction,
    try_transaction,
};
use std::error::Error;
use std::fmt::Debug;
use std::marker::PhantomPinned;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

/// Whether a type has a trait, as a value, so that a missing one fails a test and not the build.
macro_rules! has {
    ($ty:ty: $bound:path) => {{
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "one of the two is shadowed, which is the point")]
        trait Absent {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Absent for Probe<T> {}
        #[allow(dead_code, reason = "one of the two is shadowed, which is the point")]
        impl<T: ?Sized + $bound> Probe<T> {
            const ANSWER: bool = true;
        }
        <Probe<$ty>>::ANSWER
    }};
}

type Body = fn(&Transaction<'static>) -> Result<u8, Stop<String>>;
type Waiting = Transacting<'static, u8, String, Body>;

#[test]
fn what_is_plain_data_may_go_anywhere() {
    assert!(has!(Transact: Send) && has!(Transact: Sync) && has!(Transact: Copy));
    assert!(has!(Restart: Send) && has!(Restart: Sync) && has!(Restart: UnwindSafe));
    assert!(has!(Stop<String>: Send) && has!(Stop<String>: Sync));
    assert!(has!(TransactionError<String>: Send) && has!(TransactionError<String>: Sync));
    assert!(has!(TransactionError<u8>: Copy) && has!(ChangeRefusal: Copy));
    type Both = Moment<(Snapshot<u8>, Snapshot<String>)>;
    assert!(has!(Both: Send) && has!(Both: Sync) && has!(Both: Clone) && has!(Both: Unpin));
    assert!(has!(Both: UnwindSafe) && has!(Both: RefUnwindSafe));
}

#[test]
fn an_attempt_stays_on_its_thread() {
    assert!(!has!(Transaction<'static>: Send) && !has!(Transaction<'static>: Sync));
}

#[test]
fn a_task_may_be_spawned_if_its_closure_may_be_sent() {
    assert!(has!(Waiting: Send) && has!(Waiting: Unpin));
    type Homebound = Box<dyn FnMut(&Transaction<'static>) -> Result<u8, Stop<u8>>>;
    assert!(!has!(Transacting<'static, u8, u8, Homebound>: Send));
    assert!(
        has!(Transacting<'static, Rc<u8>, Rc<u8>, Body>: Send),
        "what comes of it is made where it is polled"
    );
    assert!(has!(Transacting<'static, PhantomPinned, (), (PhantomPinned, Body)>: Unpin));
}

#[test]
fn a_task_is_a_future_that_a_runtime_takes() {
    fn spawned(_: impl Future<Output = Result<u32, TransactionError<()>>> + Send + 'static) {}
    let stock = Entity::new(1_u32);
    spawned(Transact::new().start(move |tx| Ok(tx.get(stock.clone())?)));
}

#[test]
fn errors_are_errors_that_any_caller_can_box() {
    fn boxed(_: Box<dyn Error + Send + Sync + 'static>) {}
    boxed(TransactionError::Aborted(std::fmt::Error).into());
    boxed(TransactionError::<std::fmt::Error>::VersionLimit.into());
    let (a, b) = (logical(0), logical(0));
    transaction(|tx| {
        tx.get(&a)?;
        if tx.attempt() == 1 {
            overtake(&a, 1);
        }
        if let Err(restart) = tx.get(&b) {
            boxed(restart.into());
            return tx.get(&b).map(drop);
        }
        Ok(())
    });
    let refused = try_transaction(Changes::new().require(&a, snapcell::Stamp::new(9, 9)));
    let error: Box<dyn Error + '_> = refused.unwrap_err().into();
    assert!(
        error.to_string().contains("expected stamp 9@9, found 1@1"),
        "{error}"
    );
}

/// Unlike the errors of plain commits.
#[test]
fn changes_and_what_comes_of_them_stay_on_their_thread() {
    assert!(!has!(Changes<'static>: Send) && !has!(Changes<'static>: Sync));
    assert!(!has!(Refused<'static>: Send) && !has!(Refused<'static>: Sync));
    assert!(!has!(Transacted<'static>: Send) && !has!(Transacted<'static>: Sync));
}

#[test]
fn everything_may_be_moved() {
    assert!(has!(Changes<'static>: Unpin) && has!(Refused<'static>: Unpin));
    assert!(has!(Transacted<'static>: Unpin) && has!(Transaction<'static>: Unpin));
}

#[test]
fn debug_output_tells_what_there_is_to_know() {
    alone(|| {
        let (a, b) = (logical(1), logical(2));
        transaction(|tx| {
            assert_eq!(
                format!("{tx:?}"),
                "Transaction { attempt: 1, entities: 0, .. }"
            );
            tx.update(&a, |_| {
                // In the midst of a call.
                assert_eq!(
                    format!("{tx:?}"),
                    "Transaction { attempt: 1, entities: 1, .. }"
                );
                5
            })?;
            tx.fold(&b, |n| n + 1);
            assert_eq!(
                format!("{tx:?}"),
                "Transaction { attempt: 1, entities: 2, .. }"
            );
            Ok(())
        });
        let changes = Changes::new()
            .replace(&a, 1)
            .require(&b, b.snapshot().stamp());
        assert_eq!(format!("{changes:?}"), "Changes { entities: 2, .. }");
        let made = try_transaction(changes).unwrap();
        assert_eq!(
            format!("{made:?}"),
            "Transacted { entities: 2, attempts: 1, .. }"
        );
        drop(made);
        let changes = Changes::new()
            .replace(&b, 1)
            .require(&a, snapcell::Stamp::new(9, 8));
        let refused = try_transaction(changes).unwrap_err();
        assert_eq!(
            format!("{refused:?}"),
            "Refused { refusal: Conflict, index: 1, expected: 9@8, found: 2@2, .. }"
        );
        assert_eq!(
            refused.to_string(),
            "conflict at entity 1: expected stamp 9@8, found 2@2"
        );
        drop(refused);
        let moment = snapshot_of((&a, &b));
        assert_eq!(
            format!("{moment:?}"),
            "Moment { snapshots: (1, 3), attempts: 1, .. }"
        );
        let task = Transact::new().start::<_, (), _>(|tx| Ok(tx.get(&a)?));
        let shown = format!("{task:?}");
        assert_eq!(shown, "Transacting { attempts: 0, is_waiting: false, .. }");
        drop(task);
        let shown = format!("{:?}", Transact::new().retries(Retry::at_most(3)));
        assert!(shown.starts_with("Transact { "), "{shown}");
    });
}

#[test]
fn errors_say_what_happened() {
    alone(|| {
        let a = logical(0);
        let exhausted = bounded(2, |tx| {
            tx.get(&a)?;
            overtake(&a, 1);
            tx.update(&a, |n| n + 1)
        })
        .0
        .unwrap_err();
        assert_eq!(exhausted, TransactionError::Exhausted { attempts: 3 });
        fn say<F: std::fmt::Display>(error: TransactionError<F>) -> String {
            error.to_string()
        }
        let said = say(TransactionError::<String>::Exhausted { attempts: 3 });
        assert!(said.contains('3'), "{said}");
        let said = say(TransactionError::<String>::TimedOut { attempts: 4 });
        assert!(said.contains('4') && said.contains("time"), "{said}");
        assert_eq!(
            say(TransactionError::Aborted("overdrawn")),
            "aborted: overdrawn"
        );
        let source = TransactionError::Aborted(std::fmt::Error);
        assert!(
            source
                .source()
                .is_some_and(|source| source.is::<std::fmt::Error>())
        );
        assert!(
            TransactionError::<std::fmt::Error>::VersionLimit
                .source()
                .is_none()
        );
        let b = logical(0);
        let mut said = Vec::new();
        transaction(|tx| {
            tx.get(&a)?;
            if tx.attempt() == 1 {
                overtake(&a, 9);
                let overtaken = tx.get(&b).unwrap_err();
                let retry = tx.retry::<()>().unwrap_err();
                assert_ne!(overtaken, retry);
                said.extend([overtaken.to_string(), retry.to_string()]);
            }
            tx.get(&b)
        });
        assert_ne!(said[0], said[1]);
        assert!(
            said.iter()
                .all(|said| !said.is_empty() && !said.ends_with('.'))
        );
    });
}

#[test]
fn small_answers_are_compared() {
    fn check<T: Eq + Debug>() {}
    check::<TransactionError<u8>>();
    check::<ChangeRefusal>();
    check::<Restart>();
    check::<Stop<u8>>();
}

/// A transaction leaves everything as it was when its closure panics, so it may be caught.
#[test]
fn what_is_given_back_may_cross_a_caught_panic() {
    assert!(has!(Transact: UnwindSafe) && has!(Transact: RefUnwindSafe));
    assert!(has!(TransactionError<u8>: UnwindSafe) && has!(Stop<u8>: UnwindSafe));
}
