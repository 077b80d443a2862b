//! Those who wait, against transactions; and transactions that wait.
//!
//! A lost wake-up is a thread that waits for ever: loom reports a deadlock.

use crate::support::{Value, World, model, spawn};
use crate::transaction::{commit, state, write_a_and_b};
use crate::wait::Task;
use snapcell::{
    Changes, Entity, Restart, Stop, Transact, Transaction, transaction, try_transaction,
};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};

/// Waits until an entity has something else than it was born with.
fn successor(entity: &Entity<Value>) -> u32 {
    entity.wait_for(|value| value.number() != 0).wait().number()
}

/// Replaces the values of two entities, whatever they are.
fn replace_both(world: &World, a: &Entity<Value>, b: &Entity<Value>, number: u32) {
    let changes = Changes::new()
        .replace(a, world.value(number))
        .replace(b, world.value(number));
    assert!(try_transaction(changes).is_ok());
}

model! {
    /// Somebody waits for A, which a transaction replaces.
    /// Invariant: it is woken, or sees it at once, and never waits at what is undecided.
    one_waiter {
        bound: Some(3),
        kills: [WaitAtUndecided, InstallWakesNobody],
        outcomes: ["10"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let waiter = world.spawn(&all, |_, [a, _]| successor(a));
        let [a, b] = &*all;
        replace_both(world, a, b, 10);
        waiter.join().unwrap().to_string()
    }
}

model! {
    /// The first one ever who waits for an entity, and a transaction that finds its mark.
    /// Invariant: whoever sees the mark finds the list.
    first_waiter {
        bound: Some(3),
        kills: [],
        outcomes: ["10"],
    }
    |world| {
        let [a, b] = world.in_order([0, 0].map(|number| Entity::new(world.value(number))));
        let waiter = {
            let a = a.clone();
            spawn(move || successor(&a))
        };
        replace_both(world, &a, &b, 10);
        waiter.join().unwrap().to_string()
    }
}

model! {
    /// Somebody waits for B, the first one ever; a transaction replaces A and B, and a commit to A may help it.
    /// Invariant: if it is the helper who takes the mark out of B, it is the helper who wakes; and it finds the
    /// list, though nothing that it has loaded says that there is one.
    woken_by_a_helper {
        bound: Some(2),
        kills: [],
        covers: [HelperInstall],
        outcomes: ["10"],
    }
    |world| {
        let all = Arc::new(world.in_order([0, 0].map(|number| Entity::new(world.value(number)))));
        let waiter = world.spawn(&all, |_, [_, b]| successor(b));
        let writer = world.spawn(&all, |world, [a, _]| drop(a.replace(world.value(5))));
        let [a, b] = &*all;
        replace_both(world, a, b, 10);
        writer.join().unwrap();
        waiter.join().unwrap().to_string()
    }
}

model! {
    /// Somebody waits for A; a transaction over A and B may be aborted after it took the mark out of A, by a
    /// thread that commits to B and then to A.
    /// Invariant: the mark that was taken out in vain is set again, and the waiter sees what becomes of A.
    aborted_with_a_mark {
        bound: Some(2),
        kills: [],
        covers: [PublishedAbort],
        outcomes: [
            "made, refused refused, 10: 10@1 10@1",
            "refused at A, made made, 6: 6@1 5@1",
            "refused at B, made made, 6: 6@1 5@1",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        let waiter = world.spawn(&all, |_, [a, _]| successor(a));
        let writer = world.spawn(&all, |world, [a, b]| {
            let first = commit(world, b, 5);
            format!("{first} {}", commit(world, a, 6))
        });
        let [a, b] = &*all;
        let mine = write_a_and_b(world, a, b);
        let (theirs, seen) = (writer.join().unwrap(), waiter.join().unwrap());
        format!("{mine}, {theirs}, {seen}: {}", state(&all))
    }
}

/// In a transaction: waits until one of two entities has something else than it was born with. Both.
fn either(tx: &Transaction<'_>, a: u32, b: u32) -> Result<String, Restart> {
    if a == 0 && b == 0 {
        return tx.retry();
    }
    Ok(format!("{a} {b}"))
}

model! {
    /// A transaction reads A and B and waits for a change of either, while somebody commits to B.
    /// Invariant: it is woken, or sees at once that what it has read was replaced.
    retry_against_a_commit {
        bound: None,
        kills: [RetryWithoutSecondLook],
        outcomes: ["0 1"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let waiter = world.spawn(&all, |_, [a, b]| {
            transaction(|tx| either(tx, tx.read(a)?.number(), tx.read(b)?.number()))
        });
        let [_, b] = &*all;
        drop(b.replace(world.value(1)));
        waiter.join().unwrap()
    }
}

model! {
    /// The same, against a transaction that replaces both.
    /// Invariant: it sees both, and never waits at what is undecided.
    retry_against_a_transaction {
        bound: Some(2),
        kills: [RetryWithoutSecondLook, WaitAtUndecided, InstallWakesNobody],
        outcomes: ["10 10"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let waiter = world.spawn(&all, |_, [a, b]| {
            transaction(|tx| either(tx, tx.read(a)?.number(), tx.read(b)?.number()))
        });
        let [a, b] = &*all;
        replace_both(world, a, b, 10);
        waiter.join().unwrap()
    }
}

model! {
    /// A task in a transaction that waits for a change of A or B, while another one replaces both.
    /// Invariant: it is woken, or was ready at once; and then it is ready.
    a_task {
        bound: Some(2),
        kills: [],
        outcomes: ["at once 10 10", "woken 10 10"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let writer = world.spawn(&all, |world, [a, b]| replace_both(world, a, b, 10));
        let [a, b] = &*all;
        let mut waiting = Transact::new().start(|tx| {
            Ok::<_, Stop<()>>(either(tx, tx.read(a)?.number(), tx.read(b)?.number())?)
        });
        let task = Arc::<Task>::default();
        let waker = Waker::from(Arc::clone(&task));
        let mut poll = || pin!(&mut waiting).poll(&mut Context::from_waker(&waker));
        let first = poll();
        writer.join().unwrap();
        let (how, seen) = match first {
            Poll::Ready(seen) => ("at once", seen),
            Poll::Pending => {
                assert!(task.0.load(SeqCst), "the commit wakes the task");
                match poll() {
                    Poll::Ready(seen) => ("woken", seen),
                    Poll::Pending => return String::from("woken in vain"),
                }
            }
        };
        format!("{how} {}", seen.unwrap())
    }
}
