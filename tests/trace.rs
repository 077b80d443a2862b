//! Traces: what becomes of an operation, step by step, as an entity.
#![cfg(feature = "scheduler")]

use snapcell::{
    Class, Clock, Engine, Entity, ManualClock, Operation, Policy, Priority, State, Trace,
};
use std::sync::mpsc;
use std::time::Duration;

/// What a trace has shown, oldest first.
fn steps(trace: &Entity<Trace>) -> Vec<(State, u8, u32)> {
    let step =
        |trace: snapcell::Snapshot<Trace>| (trace.state, trace.priority.get(), trace.retries);
    trace.history().map(step).collect()
}

#[test]
fn a_trace_shows_each_step_and_its_time() {
    let clock = ManualClock::new();
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .build();
    let value = Entity::new(0);
    clock.set(Duration::from_millis(1));
    let operation = Operation::update(&value, |n| n + 1)
        .named("increment")
        .traced();
    let ticket = engine.submit(operation.class(Class::LOW)).unwrap();
    let trace = ticket.trace().expect("it is traced");
    assert_eq!(steps(&trace), [(State::Pending, 2, 0)]);
    clock.set(Duration::from_millis(2));
    engine.serve();
    assert_eq!(
        steps(&trace),
        [
            (State::Pending, 2, 0),
            (State::Executing, 2, 0),
            (State::Succeeded, 2, 0)
        ]
    );
    let end = trace.snapshot();
    assert_eq!(
        (end.id, end.name, end.class),
        (ticket.id(), "increment", Class::LOW)
    );
    assert_eq!(end.times, ticket.times());
    assert_eq!(end.times.born, Duration::from_millis(1));
    assert_eq!(end.times.ended, Some(Duration::from_millis(2)));
    assert_eq!(end.stamp().time(), 2_000_000, "by the clock of the engine");
}

#[test]
fn an_operation_that_isn_t_traced_has_no_trace() {
    let engine = Engine::builder().workers(0).build();
    let ticket = engine
        .submit(Operation::update(&Entity::new(0), |n| n + 1))
        .unwrap();
    assert!(ticket.trace().is_none());
    engine.serve();
}

#[test]
fn each_retry_is_a_step() {
    let engine = Engine::builder().workers(0).build();
    let value = Entity::new(0);
    let other = value.clone();
    let interfered = move |n: &i32| {
        if *n < 2 {
            let other = other.clone();
            // Somebody else, in the window.
            std::thread::scope(|s| _ = s.spawn(move || other.update(|n| n + 1).snapshot()).join());
        }
        n + 100
    };
    let ticket = engine
        .submit(Operation::update(&value, interfered).traced())
        .unwrap();
    let trace = ticket.trace().unwrap();
    assert_eq!(*ticket.wait().unwrap(), 102);
    assert_eq!(
        steps(&trace),
        [
            (State::Pending, 5, 0),
            (State::Executing, 5, 0),
            (State::Executing, 5, 1),
            (State::Executing, 5, 2),
            (State::Succeeded, 5, 2),
        ]
    );
}

#[test]
fn every_end_is_in_the_trace_before_its_ticket_is_done() {
    for workers in [0, 2] {
        let engine = Engine::builder()
            .workers(workers)
            .policy(Policy::WinnerTakesAll)
            .build();
        let value = Entity::new(0);
        let mut stage = engine.stage();
        let mut staged = || {
            let failing = Operation::try_update(&value, |_: &i32| Err::<Option<i32>, _>("no"));
            stage.add(failing.traced()).unwrap()
        };
        let (failed, rejected, cancelled) = (staged(), staged(), staged());
        assert!(cancelled.cancel());
        stage.resolve();
        let ends = [failed, rejected, cancelled].map(|ticket| {
            let trace = ticket.trace().unwrap();
            assert!(ticket.wait().is_err());
            let end = trace.snapshot();
            assert!(end.times.ended.is_some());
            end.state
        });
        assert_eq!(
            ends,
            [State::Failed, State::Rejected, State::Cancelled],
            "{workers} workers"
        );
    }
}

#[test]
fn what_was_folded_or_dropped_unstaged_has_an_end_too() {
    let engine = Engine::builder().workers(0).policy(Policy::Fold).build();
    let value = Entity::new(0);
    let mut stage = engine.stage();
    let tickets = [1, 2, 3].map(|more| {
        stage
            .add(Operation::update(&value, move |n| n + more).traced())
            .unwrap()
    });
    stage.resolve();
    engine.serve();
    for ticket in tickets {
        let trace = ticket.trace().unwrap();
        assert_eq!(trace.snapshot().state, State::Succeeded);
        assert_eq!(trace.history().count(), 3);
    }
    assert_eq!(*value.snapshot(), 6);
    let mut stage = engine.stage();
    let ticket = stage
        .add(Operation::update(&value, |n| n + 1).traced())
        .unwrap();
    stage.clear();
    assert_eq!(ticket.trace().unwrap().snapshot().state, State::Cancelled);
}

#[test]
fn a_priority_that_changes_is_a_step_and_so_is_an_inherited_one() {
    let engine = Engine::builder().workers(0).build();
    let value = Entity::new(0);
    let parent = engine.submit(Operation::update(&value, |n| n + 1)).unwrap();
    let child = Operation::update(&value, |n| n + 1)
        .class(Class::LOW)
        .within(&parent.context());
    let child = engine.submit(child.traced()).unwrap();
    let trace = child.trace().unwrap();
    parent.set_priority(Priority::CRITICAL);
    let priorities: Vec<_> = trace.history().map(|trace| trace.priority.get()).collect();
    assert_eq!(priorities, [5, 10]);
    engine.serve();
    assert_eq!(trace.snapshot().state, State::Succeeded);
}

#[test]
fn a_trace_can_be_waited_for_on_its_way() {
    let engine = Engine::builder().workers(1).build();
    let value = Entity::new(0);
    let (go, gone) = mpsc::sync_channel(0);
    let gone = std::sync::Mutex::new(gone);
    let slow = move |n: &i32| {
        gone.lock().unwrap().recv().unwrap();
        n + 1
    };
    let ticket = engine
        .submit(Operation::update(&value, slow).traced())
        .unwrap();
    let trace = ticket.trace().unwrap();
    let started = trace
        .wait_for(|trace| trace.state == State::Executing)
        .wait();
    assert!(started.times.started.is_some() && !ticket.is_done());
    go.send(()).unwrap();
    let end = trace.wait_for(|trace| trace.state.is_final()).wait();
    assert_eq!(end.state, State::Succeeded);
    ticket.wait().unwrap();
}

/// Whoever changes a priority, cancels, or runs an operation tells it at the same time as others.
#[test]
fn traces_never_go_back_and_always_have_an_end() {
    let engine = Engine::builder().workers(2).build();
    let value = Entity::new(0_u64);
    let rounds = if cfg!(snapcell_sanitize) { 20 } else { 300 };
    for round in 0..rounds {
        let ticket = engine
            .submit(Operation::update(&value, |n| n + 1).traced())
            .unwrap();
        let trace = ticket.trace().unwrap();
        std::thread::scope(|s| {
            s.spawn(|| ticket.set_priority(Priority::HIGH));
            s.spawn(|| ticket.set_priority(Priority::LOW));
            if round % 3 == 0 {
                s.spawn(|| ticket.cancel());
            }
        });
        let status = {
            let _ = trace.wait_for(|trace| trace.state.is_final()).wait();
            let _ = ticket.wait();
            trace.snapshot()
        };
        assert!(status.times.ended.is_some());
        let order = |state| match state {
            State::Pending => 0,
            State::Executing => 1,
            _ => 2,
        };
        let states: Vec<_> = trace.history().map(|trace| order(trace.state)).collect();
        assert!(states.is_sorted(), "{states:?}");
        assert_eq!(states.iter().filter(|state| **state == 2).count(), 1);
    }
    let counts = engine.counts();
    assert_eq!(counts.submitted, counts.ended());
    assert_eq!(*value.snapshot(), counts.committed);
}
