//! Operations: how they end, and who learns of it.
//!
//! Engines have no threads of their own here, and time stands still. Where a model is about one operation, whoever
//! claims it runs it past its lane, and what is left in the lane is served in the end. Whoever waits and serves
//! meanwhile is for shuttle: loom forgets an unpark of a thread that is just about to take a lock.

use crate::support::{Value, World, model, spawn};
use snapcell::internals::parts::{self, Answer, Gate, Tally};
use snapcell::{
    Clock, Engine, Entity, EventKind, Operation, OperationError, Priority, Snapshot, State, Ticket,
};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

#[cfg(snapcell_model)]
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
#[cfg(not(snapcell_model))]
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

fn engine() -> Engine {
    Engine::builder().workers(0).clock(Clock::logical()).build()
}

type Result = std::result::Result<Snapshot<Value>, OperationError<Infallible>>;

/// An operation that sets an entity from 0 to 1.
fn submit(
    world: &World,
    engine: &Engine,
    entity: &Entity<Value>,
) -> Ticket<Snapshot<Value>, Infallible> {
    let world = world.clone();
    let operation = Operation::update(entity, move |value: &Value| world.value(value.number() + 1));
    engine.submit(operation).expect("there is room")
}

/// How it ended. What it says of itself, what it has changed, and what is counted agree.
fn ended(engine: &Engine, entity: &Entity<Value>, result: &Result) -> &'static str {
    engine.serve();
    assert!(engine.is_clean());
    let counts = engine.counts();
    assert_eq!(counts.submitted, counts.ended(), "{counts}");
    let (name, committed) = match result {
        Ok(snapshot) => {
            assert_eq!(snapshot.number(), 1);
            ("completed", 1)
        }
        Err(OperationError::Cancelled) => ("cancelled", 0),
        Err(OperationError::Rejected(_)) => ("rejected", 0),
        Err(_) => ("failed", 0),
    };
    assert_eq!(counts.committed, committed, "{counts}");
    let number = entity.read(Value::number);
    assert_eq!(u64::from(number), committed, "an operation that was {name}");
    name
}

model! {
    /// One claims an operation and runs it, the other cancels it.
    /// Invariant: it is run or cancelled, and not both.
    claim_against_cancel {
        bound: Some(3),
        kills: [RunUnclaimed],
        outcomes: ["completed", "cancelled"],
    }
    |world| {
        let (engine, entity) = (engine(), world.entity(0));
        let ticket = Arc::new(submit(world, &engine, &entity));
        let other = {
            let ticket = Arc::clone(&ticket);
            spawn(move || {
                if parts::claim(&ticket) {
                    parts::run_claimed(&ticket);
                }
            })
        };
        let is_cancelled = ticket.cancel();
        other.join().unwrap();
        let ticket = Arc::into_inner(ticket).expect("the other thread has ended");
        let result = ticket.wait();
        assert_eq!(is_cancelled, result.is_err());
        ended(&engine, &entity, &result).to_owned()
    }
}

model! {
    /// One runs an operation, one cancels it, and one ends it to make room.
    /// Invariant: it ends in exactly one of these ways.
    cancel_reject_complete {
        bound: Some(2),
        kills: [RunUnclaimed],
        outcomes: ["completed", "cancelled", "rejected"],
    }
    |world| {
        let (engine, entity) = (engine(), world.entity(0));
        let ticket = Arc::new(submit(world, &engine, &entity));
        let on_a_thread = |f: fn(&Ticket<Snapshot<Value>, Infallible>) -> bool| {
            let ticket = Arc::clone(&ticket);
            spawn(move || f(&ticket))
        };
        let run = on_a_thread(|ticket| {
            let is_claimed = parts::claim(ticket);
            if is_claimed {
                parts::run_claimed(ticket);
            }
            is_claimed
        });
        let reject = on_a_thread(parts::evict);
        let is_cancelled = ticket.cancel();
        let winners = [run.join().unwrap(), reject.join().unwrap(), is_cancelled];
        assert_eq!(winners.iter().filter(|won| **won).count(), 1);
        let ticket = Arc::into_inner(ticket).expect("the other threads have ended");
        let result = ticket.wait();
        ended(&engine, &entity, &result).to_owned()
    }
}

/// A task that notes how often it was woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// An operation that was claimed, and is in no lane any more.
fn claimed(
    world: &World,
    engine: &Engine,
    entity: &Entity<Value>,
) -> Ticket<Snapshot<Value>, Infallible> {
    let ticket = submit(world, engine, entity);
    assert!(parts::claim(&ticket));
    engine.serve();
    ticket
}

model! {
    /// An operation ends while a task polls its ticket, and waits for a wake-up if it has to.
    /// Invariant: the task sees that it is done, before or after it has registered, or is woken. It sees the answer.
    complete_against_wait {
        bound: Some(4),
        kills: [AwaitWithoutSecondLook],
        outcomes: ["seen", "woken"],
    }
    |world| {
        let (engine, entity) = (engine(), world.entity(0));
        let mut ticket = claimed(world, &engine, &entity);
        let run = parts::Claimed::new(&ticket);
        let other = spawn(move || run.run());
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let first = Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker));
        let (result, how) = match first {
            Poll::Ready(result) => {
                assert_eq!(result.as_ref().map(|seen| seen.number()).ok(), Some(1));
                other.join().unwrap();
                (result, "seen")
            }
            Poll::Pending => {
                other.join().unwrap();
                assert_eq!(task.0.load(SeqCst), 1, "it is woken once");
                (ticket.wait(), "woken")
            }
        };
        ended(&engine, &entity, &result);
        how.to_owned()
    }
}

model! {
    /// An operation ends while a task waits for events.
    /// Invariant: the task gets the event at once, or when it is woken.
    an_event_is_awaited {
        bound: Some(3),
        kills: [TellAfterWake],
        outcomes: ["seen", "woken"],
    }
    |world| {
        let (engine, entity) = (engine(), world.entity(0));
        let events = engine.events(EventKind::Completed, 1);
        let ticket = claimed(world, &engine, &entity);
        let run = parts::Claimed::new(&ticket);
        let other = spawn(move || run.run());
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let mut next = Box::pin(events.next());
        let first = next.as_mut().poll(&mut Context::from_waker(&waker));
        other.join().unwrap();
        let (event, how) = match first {
            Poll::Ready(event) => (event, "seen"),
            Poll::Pending => {
                assert_eq!(task.0.load(SeqCst), 1, "it is woken once");
                let second = next.as_mut().poll(&mut Context::from_waker(&waker));
                let Poll::Ready(event) = second else {
                    panic!("it was woken for nothing");
                };
                (event, "woken")
            }
        };
        assert_eq!(event.and_then(|event| event.operation).map(|about| about.id), Some(ticket.id()));
        drop(next);
        assert_eq!((events.try_next(), events.dropped()), (None, 0));
        ended(&engine, &entity, &ticket.wait());
        how.to_owned()
    }
}

model! {
    /// An operation ends while a thread waits for it.
    /// Invariant: the thread goes on, or else the model hangs.
    complete_against_a_thread {
        bound: Some(3),
        kills: [],
        outcomes: ["completed"],
    }
    |world| {
        let (engine, entity) = (engine(), world.entity(0));
        let ticket = claimed(world, &engine, &entity);
        let run = parts::Claimed::new(&ticket);
        let other = spawn(move || run.run());
        let result = ticket.wait();
        other.join().unwrap();
        ended(&engine, &entity, &result).to_owned()
    }
}

/// What a word says of an operation.
const PENDING: u64 = 0;
const EXECUTING: u64 = 1;

model! {
    /// Two claim an operation, and open it again after they have worked at it.
    /// Invariant: whoever claims it sees the work of the one before.
    opened_again {
        bound: None,
        kills: [],
        outcomes: ["worked at once", "worked at twice"],
    }
    |_| {
        let operation = Arc::new((Answer::<()>::new(PENDING), AtomicU32::new(0)));
        let work = || {
            let operation = Arc::clone(&operation);
            move || {
                let (word, work) = &*operation;
                let is_claimed = word.change(PENDING, EXECUTING);
                if is_claimed {
                    work.store(work.load(Relaxed) + 1, Relaxed);
                    assert!(word.change(EXECUTING, PENDING), "whoever has claimed it opens it");
                }
                u32::from(is_claimed)
            }
        };
        let other = spawn(work());
        let claims = work()() + other.join().unwrap();
        assert_eq!(operation.1.load(Relaxed), claims, "nobody's work is lost");
        String::from(if claims == 1 { "worked at once" } else { "worked at twice" })
    }
}

model! {
    /// Two give an answer, and one takes it.
    /// Invariant: one answer is given, and who takes it sees it.
    an_answer_is_taken {
        bound: Some(3),
        kills: [],
        outcomes: ["none", "1", "2"],
    }
    |world| {
        let answer = Arc::new(Answer::new(PENDING));
        let settle = |number: u32| {
            let (answer, value) = (Arc::clone(&answer), world.value(number));
            move || answer.settle(value)
        };
        let other = spawn(settle(2));
        let taker = {
            let answer = Arc::clone(&answer);
            spawn(move || answer.take().map(|value: Value| value.number()))
        };
        let mine = settle(1)();
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "one answer is given");
        let taken = taker.join().unwrap();
        assert_eq!(answer.take().is_some(), taken.is_none(), "and taken once");
        taken.map_or(String::from("none"), |number| number.to_string())
    }
}

model! {
    /// A thread that holds a guard submits one, which another thread runs, and then a short one, which looks.
    /// Invariant: if that is done at once, it sees what was submitted before.
    short_after_what_was_submitted {
        bound: Some(3),
        kills: [],
        outcomes: ["at once, 1", "in turn, 1"],
    }
    |world| {
        let (entity, engine) = (world.entity(0), engine());
        let guard = snapcell::pin();
        let first = submit(world, &engine, &entity);
        let server = {
            let engine = engine.clone();
            spawn(move || engine.serve())
        };
        let look = Operation::try_update(&entity, |_: &Value| Ok::<_, Infallible>(None)).short();
        let look = engine.submit(look).expect("there is room");
        let way = if parts::was_at_once(&look) { "at once" } else { "in turn" };
        drop(guard);
        server.join().unwrap();
        engine.serve();
        let seen = look.wait().expect("nothing stops it").number();
        assert!(first.wait().is_ok());
        format!("{way}, {seen}")
    }
}

model! {
    /// One submits an operation and serves, while another shuts the engine down, which cancels what waits.
    /// Invariant: what was taken ends, as whoever has it is told, and what isn't is given back.
    submit_against_shut_down {
        bound: Some(3),
        kills: [],
        outcomes: ["completed", "cancelled", "refused"],
    }
    |world| {
        let (engine, entity) = (engine(), world.entity(0));
        let other = {
            let engine = engine.clone();
            spawn(move || parts::close(&engine))
        };
        let values = world.clone();
        let add = Operation::update(&entity, move |value: &Value| values.value(value.number() + 1));
        let submitted = engine.submit(add);
        engine.serve();
        let is_refused = submitted.is_err();
        let is_done = submitted.as_ref().is_ok_and(Ticket::is_done);
        other.join().unwrap();
        assert_eq!(engine.unfinished(), 0, "whoever waits for the end of all finds it");
        assert!(is_done || is_refused);
        match submitted {
            Err(_) => {
                assert_eq!((engine.counts().submitted, entity.read(Value::number)), (0, 0));
                "refused".to_owned()
            }
            Ok(ticket) => ended(&engine, &entity, &ticket.wait()).to_owned(),
        }
    }
}

model! {
    /// One runs an operation, and keeps what it has published, while another commits and reclaims.
    /// Invariant: what it gives can be looked at for as long as it is kept.
    what_was_run_is_kept {
        bound: Some(3),
        kills: [PublishUncounted],
        outcomes: ["1, then 7", "8"],
    }
    |world| {
        let (entity, engine) = (world.entity(0), engine());
        let other = {
            let (entity, seven) = (entity.clone(), world.value(7));
            spawn(move || {
                drop(entity.replace(seven));
                snapcell::reclaim();
            })
        };
        let world = world.clone();
        let add = Operation::update(&entity, move |value: &Value| world.value(value.number() + 1));
        let kept = engine.run(&add).expect("its class tries again");
        other.join().unwrap();
        let last = entity.read(Value::number);
        assert_eq!(engine.counts().committed, 1);
        match kept.number() {
            number if number == last => number.to_string(),
            number => format!("{number}, then {last}"),
        }
    }
}

model! {
    /// An operation goes in, works and goes out, while somebody shuts the gate.
    /// Invariant: it isn't let in, or its work is seen by whoever has shut the gate.
    the_last_one_out {
        bound: None,
        kills: [],
        outcomes: ["worked", "refused"],
    }
    |_| {
        let gate = Arc::new((Gate::default(), AtomicU32::new(0)));
        let other = {
            let gate = Arc::clone(&gate);
            spawn(move || {
                let (gate, work) = &*gate;
                let is_in = gate.enter();
                if is_in {
                    work.store(1, Relaxed);
                    gate.leave();
                }
                is_in
            })
        };
        gate.0.shut();
        let seen = gate.1.load(Relaxed) == 1;
        let worked = other.join().unwrap();
        assert_eq!(seen, worked, "it is seen at once");
        String::from(if worked { "worked" } else { "refused" })
    }
}

model! {
    /// Two operations go out at the same time, by different shards, while somebody waits for both.
    /// Invariant: one of them finds that they were the last, and wakes whoever waits.
    the_last_two_out {
        bound: Some(3),
        kills: [],
        outcomes: ["both"],
    }
    |_| {
        let gate = Arc::new((Gate::default(), [AtomicU32::new(0), AtomicU32::new(0)]));
        assert!(gate.0.enter() && gate.0.enter());
        let others = [0, 1].map(|number| {
            let gate = Arc::clone(&gate);
            spawn(move || {
                gate.1[number].store(1, Relaxed);
                gate.0.leave();
            })
        });
        gate.0.shut();
        let done = gate.1.iter().all(|work| work.load(Relaxed) == 1);
        for other in others {
            other.join().unwrap();
        }
        String::from(if done { "both" } else { "too early" })
    }
}

model! {
    /// An operation is submitted and ends, while somebody reads the counts.
    /// Invariant: at least as many were submitted as have ended.
    counts_are_read {
        bound: None,
        kills: [ReadSubmittedFirst],
        outcomes: ["0 of 0", "0 of 1", "1 of 1"],
    }
    |_| {
        let tally = Arc::new(Tally::default());
        let other = {
            let tally = Arc::clone(&tally);
            spawn(move || {
                tally.submitted();
                tally.ended();
            })
        };
        let counts = tally.read();
        other.join().unwrap();
        format!("{} of {}", counts.committed, counts.submitted)
    }
}

model! {
    /// An operation is submitted as part of another one, which gets more important meanwhile.
    /// Invariant: it is as important, unless it was done before, and it is run.
    a_promotion_reaches_a_queued_child {
        bound: Some(2),
        kills: [],
        outcomes: ["succeeded, priority 5, 0 retries", "succeeded, priority 10, 0 retries"],
    }
    |world| {
        let (engine, entity) = (engine(), world.entity(0));
        let other = world.entity(0);
        let parent = submit(world, &engine, &other);
        let child = {
            let (world, engine, entity) = (world.clone(), engine.clone(), entity.clone());
            let context = parent.context();
            spawn(move || {
                let operation =
                    Operation::update(&entity, move |value: &Value| world.value(value.number() + 1));
                let child = engine.submit(operation.within(&context)).expect("there is room");
                engine.serve();
                child
            })
        };
        parent.set_priority(Priority::CRITICAL);
        let child = child.join().unwrap();
        engine.serve();
        let status = child.status();
        parent.wait().expect("nobody is in its way");
        if status.state() == State::Succeeded {
            assert!(child.wait().is_ok() && engine.is_clean());
        }
        status.to_string()
    }
}

model! {
    /// A part of an operation gets less important by itself, while the operation gets more important.
    /// Invariant: in the end it is as important as what it is part of.
    a_promotion_against_a_change_of_a_part {
        bound: Some(2),
        kills: [FollowOnce],
        outcomes: ["10"],
    }
    |world| {
        let (engine, entity) = (engine(), world.entity(0));
        let other = world.entity(0);
        let parent = submit(world, &engine, &other);
        let child = {
            let world = world.clone();
            let operation =
                Operation::update(&entity, move |value: &Value| world.value(value.number() + 1));
            engine.submit(operation.within(&parent.context())).expect("there is room")
        };
        let other = spawn(move || {
            child.set_priority(Priority::LOW);
            child
        });
        parent.set_priority(Priority::CRITICAL);
        let child = other.join().unwrap();
        let priority = child.status().priority();
        engine.serve();
        for ticket in [parent, child] {
            ticket.wait().expect("nobody is in its way");
        }
        assert!(engine.is_clean());
        priority.to_string()
    }
}

model! {
    /// An operation is run, and somebody asks whether it is done, and then how many were committed.
    /// Invariant: who sees that it is done finds it counted.
    who_sees_the_end_finds_it_counted {
        bound: Some(3),
        kills: [],
        outcomes: ["not yet", "1"],
    }
    |world| {
        let (engine, entity) = (engine(), world.entity(0));
        let ticket = submit(world, &engine, &entity);
        let other = {
            let engine = engine.clone();
            spawn(move || engine.serve())
        };
        let seen = if ticket.is_done() {
            engine.counts().committed.to_string()
        } else {
            String::from("not yet")
        };
        other.join().unwrap();
        drop(ticket);
        seen
    }
}
