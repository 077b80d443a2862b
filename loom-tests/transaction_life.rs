//! Transactions against the end of their entities, and against what is kept and used again: nodes, verdicts,
//! snapshots of cached readers.
//!
//! Whoever helps a transaction looks at all its heads, and has handles of none. So in some of these models an
//! entity ends while a helper is late.

use crate::support::{JoinHandle, Value, World, model, spawn};
use crate::transaction::{BIRTH, commit, look, state, write_a_and_b};
use snapcell::{Changes, Entity, Reader, try_transaction};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

/// Two entities that have nothing but a value: no clock, nobody who waits or watches. So all of them that
/// remains is a block.
fn bare(world: &World) -> [Entity<Value>; 2] {
    world.in_order([0, 0].map(|number| Entity::new(world.value(number))))
}

/// A change of what is written blindly.
fn replace<'e>(changes: Changes<'e>, b: &'e Entity<Value>, value: Value) -> Changes<'e> {
    changes.replace(b, value)
}

/// A change of what is only read.
fn require<'e>(changes: Changes<'e>, b: &'e Entity<Value>, _: Value) -> Changes<'e> {
    changes.require(b, b.snapshot().stamp())
}

/// A transaction that writes A and, as `change` says, does something with B, while another thread commits to A,
/// which may help. Then `end` is called with B, and the other thread may be late. What became of the two.
fn against_a_late_helper(
    world: &World,
    [a, b]: [Entity<Value>; 2],
    change: for<'e> fn(Changes<'e>, &'e Entity<Value>, Value) -> Changes<'e>,
    end: impl FnOnce(Entity<Value>),
) -> String {
    let birth = a.snapshot().stamp();
    let other = {
        let (a, world) = (a.clone(), world.clone());
        spawn(move || match a.try_commit(birth, world.value(5)) {
            Ok(_) => "made",
            Err(_) => "refused",
        })
    };
    let changes = Changes::new().write(&a, birth, world.value(10));
    let mine = match try_transaction(change(changes, &b, world.value(10))) {
        Ok(_) => "made",
        Err(_) => "refused at A",
    };
    end(b);
    format!("{mine}, {}", other.join().unwrap())
}

model! {
    /// After the transaction its thread commits to B once more, and lets the only handle of B go.
    /// Invariant: B and what is at its head stay as long as somebody may look.
    last_handle {
        bound: Some(3),
        kills: [EndDespiteHelpers],
        covers: [HelperInstall],
        outcomes: ["made, refused", "refused at A, made"],
    }
    |world| {
        against_a_late_helper(world, bare(world), replace, |b| {
            drop(b.replace(world.value(11)));
            drop(b);
        })
    }
}

model! {
    /// The same, but the transaction only reads B, and nobody commits there.
    /// Invariant: as before. An entity that is only read is looked at by whoever helps, too.
    last_handle_of_what_is_only_read {
        bound: Some(3),
        kills: [EndDespiteHelpers, NoteOnlyWritten],
        covers: [HelperInstall],
        outcomes: ["made, refused", "refused at A, made"],
    }
    |world| {
        against_a_late_helper(world, bare(world), require, drop)
    }
}

model! {
    /// The same, but somebody watches B, and goes last.
    last_watcher {
        bound: Some(3),
        kills: [],
        covers: [HelperInstall],
        outcomes: ["made, refused", "refused at A, made"],
    }
    |world| {
        let [a, b] = bare(world);
        let watch = b.watch();
        against_a_late_helper(world, [a, b], replace, |b| {
            drop(b.replace(world.value(11)));
            drop(b);
            drop(watch);
        })
    }
}

model! {
    /// The same, but the value of B is moved out.
    /// Invariant: it is the last one, and dropped once; the node that it was in stays.
    into_inner {
        bound: Some(3),
        kills: [],
        covers: [HelperInstall],
        outcomes: ["made, refused", "refused at A, made"],
    }
    |world| {
        against_a_late_helper(world, bare(world), replace, |b| {
            drop(b.replace(world.value(11)));
            let value = b.into_inner().ok().expect("nobody else has a handle");
            assert_eq!(value.number(), 11);
        })
    }
}

model! {
    /// B has a mark, of somebody who has waited and gone. Who takes it out may be the helper, who looks for
    /// those to be woken when B has lost its last handle.
    /// Invariant: so long B stays, with its list.
    a_mark_and_the_last_handle {
        bound: Some(3),
        kills: [],
        covers: [HelperInstall],
        outcomes: ["made, refused", "refused at A, made"],
    }
    |world| {
        let [a, b] = bare(world);
        {
            let mut given_up = pin!(b.changed(b.snapshot().stamp()));
            let mut context = Context::from_waker(Waker::noop());
            assert!(given_up.as_mut().poll(&mut context).is_pending());
        }
        against_a_late_helper(world, [a, b], replace, drop)
    }
}

model! {
    /// Two transactions on one thread, one after the other and after an earlier one, whose verdict and nodes
    /// they use again; and two commits to A, which may help.
    /// Invariant: nobody takes one for the other.
    memory_that_is_used_again {
        bound: Some(2),
        kills: [RetireBeforeSettling],
        covers: [HelperInstall],
        outcomes: ["5 6: 6@5 3@3", "5 6: 3@5 3@3"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let replace_both = |world: &World, [a, b]: &[Entity<Value>; 2], number| {
            let changes = Changes::new()
                .replace(a, world.value(number))
                .replace(b, world.value(number));
            assert!(try_transaction(changes).is_ok());
        };
        replace_both(world, &all, 1);
        snapcell::reclaim();
        let other = world.spawn(&all, |world, [a, _]| {
            [5, 6].map(|number| a.replace(world.value(number)).current().number())
        });
        replace_both(world, &all, 2);
        snapcell::reclaim();
        replace_both(world, &all, 3);
        let [first, second] = other.join().unwrap();
        format!("{first} {second}: {}", state(&all))
    }
}

/// A thread that looks twice by a reader, which has seen what was there at first.
fn look_twice(mut reader: Reader<Value>) -> JoinHandle<[u32; 2]> {
    spawn(move || [(); 2].map(|()| reader.get().number()))
}

model! {
    /// A cached reader of A looks twice while a transaction writes A and B.
    /// Invariant: it doesn't show what is undecided, and doesn't go back.
    cached_reader {
        bound: Some(5),
        kills: [],
        outcomes: ["0 0", "0 10", "10 10"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = look_twice(all[0].reader());
        let [a, b] = &*all;
        assert_eq!(write_a_and_b(world, a, b), "made");
        let [first, second] = reader.join().unwrap();
        format!("{first} {second}")
    }
}

model! {
    /// Such a reader; a transaction over A and B, which may be aborted by a commit to B, with its node left at
    /// A; and a commit to A after that to B.
    /// Invariant: what is at the head stands for what the reader holds, until it is replaced.
    cached_reader_of_what_was_aborted {
        bound: Some(2),
        kills: [],
        covers: [PublishedAbort],
        outcomes: [
            "made, refused refused, 0 0", "made, refused refused, 0 10", "made, refused refused, 10 10",
            "refused at A, made made, 0 0", "refused at A, made made, 0 6", "refused at A, made made, 6 6",
            "refused at B, made made, 0 0", "refused at B, made made, 0 6", "refused at B, made made, 6 6",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = look_twice(all[0].reader());
        let writer = world.spawn(&all, |world, [a, b]| {
            let first = commit(world, b, 5);
            format!("{first} {}", commit(world, a, 6))
        });
        let [a, b] = &*all;
        let mine = write_a_and_b(world, a, b);
        let (theirs, [first, second]) = (writer.join().unwrap(), reader.join().unwrap());
        format!("{mine}, {theirs}, {first} {second}")
    }
}

model! {
    /// Such a reader, while a transaction writes B and only reads A, and a commit to A after that.
    /// Invariant: a proxy stands for what the reader holds.
    cached_reader_of_what_is_only_read {
        bound: Some(3),
        kills: [],
        outcomes: ["0 0", "0 6", "6 6"],
    }
    |world| {
        let all = world.entities([0, 0]);
        let reader = look_twice(all[0].reader());
        let [a, b] = &*all;
        let changes = Changes::new()
            .write(b, BIRTH, world.value(10))
            .require(a, BIRTH);
        assert!(try_transaction(changes).is_ok());
        assert_eq!(commit(world, a, 6), "made");
        let [first, second] = reader.join().unwrap();
        format!("{first} {second}")
    }
}

/// Tries to write to A, B and C. If that is refused their memory is used again at once, for A and B.
fn write_all(world: &World, all: &[Entity<Value>; 3]) -> &'static str {
    let [a, b, c] = all;
    let changes = Changes::new()
        .write(a, BIRTH, world.value(10))
        .write(b, BIRTH, world.value(10))
        .write(c, BIRTH, world.value(10));
    match try_transaction(changes) {
        Ok(_) => "made",
        Err(refused) => {
            // What was never at a head is free at once.
            drop(refused);
            drop(a.replace(world.value(1)));
            drop(b.replace(world.value(2)));
            "refused"
        }
    }
}

model! {
    /// A transaction over A, B and C, aborted at B by a commit there, while somebody helps it. Then its
    /// owner has B's head point to the very memory that was to go there.
    /// Invariant: the helper doesn't take that for the node of the transaction, and C stays as it was.
    memory_of_what_was_never_installed {
        bound: Some(2),
        kills: [AddressAlone],
        covers: [HelperInstall, PublishedAbort],
        outcomes: [
            "made, refused, refused: 10",
            "refused, made, refused: 0",
            "refused, refused, made: 0",
            "refused, made, made: 0",
        ],
    }
    |world| {
        let all = world.entities([0, 0, 0]);
        let helper = world.spawn(&all, |world, [a, ..]| commit(world, a, 6));
        let writer = world.spawn(&all, |world, [_, b, _]| commit(world, b, 5));
        let mine = write_all(world, &all);
        let (helped, written) = (helper.join().unwrap(), writer.join().unwrap());
        format!("{mine}, {helped}, {written}: {}", look(&all[2]))
    }
}
