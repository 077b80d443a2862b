//! Waiting, against commits, against others who wait, and against the end.
//!
//! A lost wake-up is a thread that waits for ever: loom reports a deadlock.

use crate::support::{Value, World, model, spawn};
#[cfg(snapcell_model)]
use loom::sync::atomic::AtomicUsize as Flag;
use snapcell::{Closed, Entity, Snapshot, Stamp, Waiting};
use std::pin::pin;
use std::sync::Arc;
#[cfg(not(snapcell_model))]
use std::sync::atomic::AtomicUsize as Flag;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

const BIRTH: Stamp = Stamp::new(0, 0);

/// Waits for the successor of the first snapshot.
fn successor(entity: &Entity<Value>) -> u32 {
    entity.wait_for(|value| value.number() != 0).wait().number()
}

/// A task that was woken, or not.
#[derive(Default)]
pub(crate) struct Task(pub(crate) AtomicBool);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Polls it once.
fn poll<R, F>(
    waiting: &mut Waiting<'_, Value, std::convert::Infallible, R, F>,
    task: &Arc<Task>,
) -> Poll<R>
where
    F: FnMut(&Snapshot<Value>, bool) -> Option<R>,
{
    let waker = Waker::from(Arc::clone(task));
    pin!(waiting).poll(&mut Context::from_waker(&waker))
}

/// An entity whose head is marked by somebody who has gone.
fn marked(world: &World) -> Entity<Value> {
    let entity = world.entity(0);
    let given_up = poll(&mut entity.changed(BIRTH), &Arc::default());
    assert!(given_up.is_pending());
    entity
}

model! {
    /// Invariant: whoever waits is woken by the commit, or sees it at once.
    one_waiter {
        bound: None,
        kills: [WaitWithoutSecondLook, WakeBeforePublish, WakeNobody],
        outcomes: ["1"],
    }
    |world| {
        let entity = world.entity(0);
        let waiter = {
            let entity = entity.clone();
            spawn(move || successor(&entity))
        };
        drop(entity.replace(world.value(1)));
        waiter.join().unwrap().to_string()
    }
}

model! {
    /// The first one ever who waits for an entity, and a commit that finds its mark.
    /// Invariant: whoever sees the mark finds the list.
    first_waiter {
        bound: Some(5),
        kills: [WaitWithoutSecondLook, WakeNobody],
        outcomes: ["1"],
    }
    |world| {
        let entity = Entity::new(world.value(0));
        let waiter = {
            let entity = entity.clone();
            spawn(move || successor(&entity))
        };
        drop(entity.replace(world.value(1)));
        waiter.join().unwrap().to_string()
    }
}

model! {
    /// Two wait, and one commit wakes both.
    two_waiters {
        bound: Some(3),
        kills: [WakeNobody],
        outcomes: ["1 1"],
    }
    |world| {
        let entity = world.entity(0);
        let waiters = [(); 2].map(|()| {
            let entity = entity.clone();
            spawn(move || successor(&entity))
        });
        drop(entity.replace(world.value(1)));
        let [first, second] = waiters.map(|waiter| waiter.join().unwrap());
        format!("{first} {second}")
    }
}

model! {
    /// A future was polled as a task, and is waited for by a thread then.
    /// Invariant: it is the thread that is woken.
    polled_and_then_blocked {
        bound: Some(5),
        kills: [WakeNobody],
        outcomes: ["1"],
    }
    |world| {
        let entity = world.entity(0);
        let mut waiting = entity.changed(BIRTH);
        assert!(poll(&mut waiting, &Arc::default()).is_pending());
        let writer = {
            let (entity, value) = (entity.clone(), world.value(1));
            spawn(move || drop(entity.replace(value)))
        };
        let seen = waiting.wait().number();
        writer.join().unwrap();
        seen.to_string()
    }
}

model! {
    /// Two register for the first time, and so both make a list.
    /// Invariant: there is one list, and what is in it is there for both.
    two_lists {
        bound: Some(4),
        kills: [],
        outcomes: ["pending pending"],
    }
    |world| {
        let entity = Entity::new(world.value(0));
        let birth = entity.snapshot().stamp();
        let other = {
            let entity = entity.clone();
            spawn(move || poll(&mut entity.changed(birth), &Arc::default()).is_pending())
        };
        let mine = poll(&mut entity.changed(birth), &Arc::default()).is_pending();
        let how = [mine, other.join().unwrap()].map(|it| if it { "pending" } else { "ready" });
        how.join(" ")
    }
}

model! {
    /// Two commits, and somebody who waits for the second one's value.
    /// Invariant: whoever was woken in vain is woken again.
    two_commits {
        bound: Some(4),
        kills: [WakeNobody],
        outcomes: ["2"],
    }
    |world| {
        let entity = world.entity(0);
        let waiter = {
            let entity = entity.clone();
            spawn(move || entity.wait_for(|value| value.number() == 2).wait().number())
        };
        for number in 1..=2 {
            drop(entity.replace(world.value(number)));
        }
        waiter.join().unwrap().to_string()
    }
}

model! {
    /// Of two who wait the first gives up, while somebody commits.
    /// Invariant: that is nothing to the other.
    one_gives_up {
        bound: Some(3),
        kills: [],
        outcomes: ["1"],
    }
    |world| {
        let entity = world.entity(0);
        let mut given_up = entity.changed(BIRTH);
        assert!(poll(&mut given_up, &Arc::default()).is_pending());
        let waiter = {
            let entity = entity.clone();
            spawn(move || successor(&entity))
        };
        let writer = {
            let (entity, value) = (entity.clone(), world.value(1));
            spawn(move || drop(entity.replace(value)))
        };
        drop(given_up);
        writer.join().unwrap();
        waiter.join().unwrap().to_string()
    }
}

model! {
    /// Somebody has waited and gone, but the mark is still there when the next one comes.
    /// Invariant: that mark does as well, since the next one is on the list before it looks.
    a_mark_left_behind {
        bound: None,
        kills: [WakeNobody],
        outcomes: ["1"],
    }
    |world| {
        let entity = marked(world);
        let waiter = {
            let entity = entity.clone();
            spawn(move || successor(&entity))
        };
        drop(entity.replace(world.value(1)));
        waiter.join().unwrap().to_string()
    }
}

model! {
    /// A task registers while somebody commits.
    /// Invariant: it is woken, or was ready at once; and then it is ready.
    a_task {
        bound: None,
        kills: [WaitWithoutSecondLook, WakeNobody],
        outcomes: ["at once 1", "woken 1"],
    }
    |world| {
        let entity = world.entity(0);
        let writer = {
            let (entity, value) = (entity.clone(), world.value(1));
            spawn(move || drop(entity.replace(value)))
        };
        let mut waiting = entity.changed(BIRTH);
        let task = Arc::<Task>::default();
        let first = poll(&mut waiting, &task);
        writer.join().unwrap();
        match first {
            Poll::Ready(seen) => format!("at once {}", seen.number()),
            Poll::Pending => {
                assert!(task.0.load(SeqCst), "the commit wakes the task");
                match poll(&mut waiting, &task) {
                    Poll::Ready(seen) => format!("woken {}", seen.number()),
                    Poll::Pending => String::from("woken in vain"),
                }
            }
        }
    }
}

model! {
    /// A reader and a commit that finds the head marked. The reader's guard is older than both.
    /// Invariant: the mark doesn't hide the node, nor what is in it.
    publishes_a_marked_head {
        bound: None,
        kills: [],
        outcomes: ["0", "1"],
    }
    |world| {
        let entity = marked(world);
        let reader = {
            let entity = entity.clone();
            spawn(move || {
                let guard = snapcell::pin();
                entity.load(&guard).number()
            })
        };
        drop(entity.replace(world.value(1)));
        reader.join().unwrap().to_string()
    }
}

model! {
    /// Two commits to a marked head.
    /// Invariant: one wins, and the other sees its value, whichever exchange it lost.
    two_writers_on_a_marked_head {
        bound: None,
        kills: [],
        outcomes: ["won, lost to 1", "lost to 2, won"],
    }
    |world| {
        let try_once = |world: &World, entity: &Entity<Value>, number| {
            match entity.try_commit(BIRTH, world.value(number)) {
                Ok(_) => String::from("won"),
                Err(conflict) => format!("lost to {}", conflict.current().number()),
            }
        };
        let entity = marked(world);
        let other = {
            let (entity, world) = (entity.clone(), world.clone());
            spawn(move || try_once(&world, &entity, 2))
        };
        let mine = try_once(world, &entity, 1);
        format!("{mine}, {}", other.join().unwrap())
    }
}

model! {
    /// A commit loses to one whose snapshot is awaited already.
    /// Invariant: the loser sees the winner, mark or no mark.
    loses_to_a_marked_winner {
        bound: Some(5),
        kills: [SuccessAfterLostCas],
        outcomes: ["won", "lost to 2"],
    }
    |world| {
        let entity = world.entity(0);
        let other = {
            let (entity, value) = (entity.clone(), world.value(2));
            spawn(move || {
                let stamp = entity.replace(value).stamp();
                let _ = poll(&mut entity.changed(stamp), &Arc::default());
            })
        };
        let mine = match entity.try_commit(BIRTH, world.value(1)) {
            Ok(_) => String::from("won"),
            Err(conflict) => format!("lost to {}", conflict.current().number()),
        };
        other.join().unwrap();
        assert_eq!(entity.read(|value| value.number()), 2, "the other commit comes after, or wins");
        mine
    }
}

model! {
    /// The last handle goes, and somebody who watches is told.
    /// Invariant: what was done before it went is seen by whoever sees the close.
    what_came_before_the_close {
        bound: None,
        kills: [CloseSilently],
        outcomes: ["1"],
    }
    |world| {
        let entity = world.entity(0);
        let mut watch = entity.watch();
        let done = Arc::new(Flag::new(0));
        let theirs = Arc::clone(&done);
        let waiter = spawn(move || {
            assert_eq!(watch.changed().wait().err(), Some(Closed));
            theirs.load(Relaxed)
        });
        done.store(1, Relaxed);
        drop(entity);
        waiter.join().unwrap().to_string()
    }
}

model! {
    /// A watch waits for more while the last handle commits and goes.
    /// Invariant: it sees the last value, and then that there is no more.
    close {
        bound: Some(4),
        kills: [CloseSilently, WakeNobody, EndDespiteWatchers],
        outcomes: ["1 closed"],
    }
    |world| {
        let entity = world.entity(0);
        let mut watch = entity.watch();
        let waiter = spawn(move || {
            let last = watch.changed().wait().map(|last| last.number());
            let end = watch.changed().wait();
            assert_eq!(end.err(), Some(Closed));
            assert_eq!(watch.seen().number(), 1);
            last
        });
        drop(entity.replace(world.value(1)));
        drop(entity);
        match waiter.join().unwrap() {
            Ok(last) => format!("{last} closed"),
            Err(Closed) => String::from("closed"),
        }
    }
}

model! {
    /// A callback is stopped while somebody commits.
    /// Invariant: its thread ends, after it was called once or not at all.
    a_callback_stops {
        bound: Some(5),
        kills: [StopUnheard],
        outcomes: ["0", "1"],
    }
    |world| {
        let entity = world.entity(0);
        let calls = Arc::new(AtomicUsize::new(0));
        let callback = {
            let calls = Arc::clone(&calls);
            entity.on_commit(move |seen| {
                assert_eq!(seen.number(), 1);
                calls.fetch_add(1, SeqCst);
            })
        };
        drop(entity.replace(world.value(1)));
        callback.stop().unwrap();
        calls.load(SeqCst).to_string()
    }
}

model! {
    /// The last handle commits and goes, while a callback looks.
    /// Invariant: the callback is called with the last snapshot, and then its thread ends.
    a_callback_sees_the_last {
        bound: Some(3),
        kills: [CloseSilently, WakeNobody],
        outcomes: ["1"],
    }
    |world| {
        let entity = world.entity(0);
        let last = Arc::new(AtomicUsize::new(0));
        let callback = {
            let last = Arc::clone(&last);
            entity.on_commit(move |seen| last.store(seen.number() as usize, SeqCst))
        };
        drop(entity.replace(world.value(1)));
        drop(entity);
        callback.join().unwrap();
        last.load(SeqCst).to_string()
    }
}
