//! Staging: several operations at the same moment, and of each round one that wins; with the cases of the
//! reference that are about that.
#![cfg(feature = "scheduler")]

#[path = "support/conserved.rs"]
mod conserved;
#[path = "support/together.rs"]
mod together;

use conserved::conserved;
use snapcell::{
    Clock, Engine, Entity, ManualClock, NotTaken, Operation, OperationError, OperationId, Policy,
    Priority, Reason, RetryPolicy, ShutDown, Snapshot, Stage, State, Status, Stop, Ticket,
};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use together::together;

const POLICIES: [Policy; 4] = [
    Policy::InOrder,
    Policy::Fold,
    Policy::Merge,
    Policy::WinnerTakesAll,
];

type Changed<T> = Ticket<Snapshot<T>, Infallible>;

/// An engine of which one of each round wins, and that does nothing until it is told to.
fn rounds() -> Engine {
    Engine::builder()
        .workers(0)
        .policy(Policy::WinnerTakesAll)
        .build()
}

/// Losers try again at once.
fn at_once() -> RetryPolicy {
    RetryPolicy::exponential(Duration::ZERO, 1.0)
}

/// A thread that nobody has to wait for before the test is over.
fn spawn<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
    thread::Builder::new().spawn(body).unwrap()
}

/// Stages an increment of this priority.
fn stage(stage: &mut Stage, entity: &Entity<u64>, priority: Priority) -> Changed<u64> {
    let operation = Operation::update(entity, |n| n + 1).priority(priority);
    stage.add(operation).unwrap()
}

/// Who has won against this one, and how important that was; after it has ended.
fn lost_to(ticket: Changed<u64>) -> (OperationId, Priority) {
    assert_eq!(ticket.status().state(), State::Rejected);
    let times = ticket.times();
    assert!(times.started.is_none() && times.ended.is_some());
    let error = ticket.wait().unwrap_err();
    match error.rejection().unwrap().reason {
        Reason::Lost { winner, priority } => (winner, priority),
        other => panic!("{other:?}"),
    }
}

/// Commits past the engine, and past this thread.
fn outside(entity: &Entity<u64>, change: impl Fn(&u64) -> u64 + Send) {
    thread::scope(|scope| {
        scope.spawn(|| drop(entity.update(change)));
    });
}

// Cases 19 to 24.

#[test]
fn case_19_of_four_on_one_target_the_critical_one_wins_and_three_are_rejected() {
    let engine = rounds();
    let entity = Entity::new(0_u64);
    let mut round = engine.stage();
    let low = stage(&mut round, &entity, Priority::LOW);
    let normal = stage(&mut round, &entity, Priority::NORMAL);
    let high = stage(&mut round, &entity, Priority::HIGH);
    let critical = stage(&mut round, &entity, Priority::CRITICAL);
    assert_eq!(round.len(), 4);
    round.resolve();
    engine.serve();
    let winner = (critical.id(), Priority::CRITICAL);
    for loser in [low, normal, high] {
        assert_eq!(lost_to(loser), winner);
    }
    assert_eq!(*critical.wait().unwrap(), 1);
    assert_eq!(*entity.snapshot(), 1);
    let counts = conserved(&engine);
    assert_eq!(
        (counts.submitted, counts.committed, counts.rejected),
        (4, 1, 3)
    );
}

#[test]
fn case_20_of_four_equals_the_earliest_wins_in_whichever_order_they_come() {
    let orders = (0..256_usize)
        .map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6 & 3])
        .filter(|order| (0..4).all(|n| order.contains(&n)));
    let mut tried = 0;
    for order in orders {
        for same_birth in [true, false] {
            let clock = ManualClock::new();
            let engine = Engine::builder()
                .workers(0)
                .clock(Clock::manual(&clock))
                .policy(Policy::WinnerTakesAll)
                .build();
            let entity = Entity::new(0_u64);
            let mut stages = Vec::new();
            let mut tickets = Vec::new();
            for _ in 0..4 {
                let mut one = engine.stage();
                tickets.push(stage(&mut one, &entity, Priority::NORMAL));
                stages.push(Some(one));
                if !same_birth {
                    clock.advance(Duration::from_nanos(1));
                }
            }
            for at in order {
                stages[at].take().unwrap().resolve();
            }
            engine.serve();
            let first = tickets.remove(0);
            let winner = (first.id(), Priority::NORMAL);
            assert_eq!(*first.wait().unwrap(), 1);
            for loser in tickets {
                assert_eq!(lost_to(loser), winner);
            }
            assert_eq!(conserved(&engine).rejected, 3);
            tried += 1;
        }
    }
    assert_eq!(tried, 48);
}

#[test]
fn case_21_what_runs_is_never_preempted_and_what_comes_meanwhile_is_a_round_of_its_own() {
    let engine = rounds();
    let entity = Entity::new(0_u64);
    let (meanwhile, target) = (engine.clone(), entity.clone());
    let came = Arc::new(Mutex::new(None));
    let note = came.clone();
    let low = Operation::update(&entity, move |n| {
        let mut round = meanwhile.stage();
        let mut add = |priority| {
            let operation = Operation::update(&target, |n| n + 1).independent();
            round.add(operation.priority(priority)).unwrap()
        };
        let both = (add(Priority::NORMAL), add(Priority::CRITICAL));
        round.resolve();
        *note.lock().unwrap() = Some(both);
        n + 1
    });
    let low = engine.submit(low.priority(Priority::LOW)).unwrap();
    engine.serve();
    let (normal, critical) = came.lock().unwrap().take().unwrap();
    assert_eq!(*low.wait().unwrap(), 1);
    assert_eq!(lost_to(normal), (critical.id(), Priority::CRITICAL));
    assert_eq!(*critical.wait().unwrap(), 2);
    let counts = conserved(&engine);
    assert_eq!((counts.committed, counts.rejected), (2, 1));
}

#[test]
fn case_23_a_low_child_of_a_critical_parent_wins_against_a_high_one() {
    let engine = rounds();
    let (entity, other) = (Entity::new(0_u64), Entity::new(0));
    let parent = Operation::update(&other, |n| n + 1).priority(Priority::CRITICAL);
    let parent = engine.submit(parent).unwrap();
    let mut round = engine.stage();
    let child = Operation::update(&entity, |n| n + 1)
        .priority(Priority::LOW)
        .within(&parent.context());
    let child = round.add(child).unwrap();
    let high = stage(&mut round, &entity, Priority::HIGH);
    round.resolve();
    engine.serve();
    assert_eq!(lost_to(high), (child.id(), Priority::CRITICAL));
    assert_eq!(*child.wait().unwrap(), 1);
    parent.wait().unwrap();
    conserved(&engine);
}

#[test]
fn case_23_a_child_whose_parent_gets_critical_while_it_is_staged_wins() {
    let engine = rounds();
    let (entity, other) = (Entity::new(0_u64), Entity::new(0));
    let parent = engine.submit(Operation::update(&other, |n| n + 1)).unwrap();
    let mut round = engine.stage();
    let child = Operation::update(&entity, |n| n + 1)
        .priority(Priority::LOW)
        .within(&parent.context());
    let child = round.add(child).unwrap();
    let high = stage(&mut round, &entity, Priority::HIGH);
    assert_eq!(child.status().priority(), Priority::NORMAL);
    parent.set_priority(Priority::CRITICAL);
    engine.serve();
    assert!(!child.is_done(), "it is staged");
    round.resolve();
    engine.serve();
    assert_eq!(lost_to(high), (child.id(), Priority::CRITICAL));
    assert_eq!(*child.wait().unwrap(), 1);
    conserved(&engine);
}

#[test]
fn case_24_a_round_of_normal_critical_and_low_has_exactly_two_losers() {
    let engine = rounds();
    let entity = Entity::new(0_u64);
    let mut round = engine.stage();
    let normal = stage(&mut round, &entity, Priority::NORMAL);
    let critical = stage(&mut round, &entity, Priority::CRITICAL);
    let low = stage(&mut round, &entity, Priority::LOW);
    round.resolve();
    engine.serve();
    let statuses = [&normal, &critical, &low].map(|ticket| ticket.status().state());
    assert_eq!(
        statuses,
        [State::Rejected, State::Succeeded, State::Rejected]
    );
    let winner = (critical.id(), Priority::CRITICAL);
    assert_eq!([lost_to(normal), lost_to(low)], [winner; 2]);
    assert_eq!(conserved(&engine).rejected, 2);
}

// Cases 26 to 30.

#[test]
fn case_26_high_wins_against_low_and_the_rejection_names_both_priorities() {
    let engine = rounds();
    let entity = Entity::new(10_u64);
    let mut round = engine.stage();
    let high = Operation::update(&entity, |n| n + 100).priority(Priority::HIGH);
    let high = round.add(high).unwrap();
    let low = stage(&mut round, &entity, Priority::LOW);
    round.resolve();
    engine.serve();
    let id = high.id();
    assert_eq!(*high.wait().unwrap(), 110);
    let error = low.wait().unwrap_err().to_string();
    assert_eq!(
        error,
        format!("the operation, of priority 2, lost to {id}, of priority 8")
    );
    conserved(&engine);
}

#[test]
fn case_26_of_a_hundred_equals_one_is_run_and_ninety_nine_are_rejected_and_counted() {
    let engine = Engine::builder()
        .workers(2)
        .policy(Policy::WinnerTakesAll)
        .build();
    let entity = Entity::new(0_u64);
    let mut round = engine.stage();
    let tickets: Vec<_> = (0..100)
        .map(|_| stage(&mut round, &entity, Priority::NORMAL))
        .collect();
    round.resolve();
    engine.shut_down(ShutDown::Finish, None).unwrap();
    let states: Vec<_> = tickets
        .iter()
        .map(|ticket| ticket.status().state())
        .collect();
    assert_eq!(states[0], State::Succeeded);
    assert!(states[1..].iter().all(|state| *state == State::Rejected));
    let started = tickets
        .iter()
        .filter(|ticket| ticket.times().started.is_some());
    assert_eq!(started.count(), 1);
    assert_eq!(*entity.snapshot(), 1);
    let counts = conserved(&engine);
    assert_eq!(
        (counts.submitted, counts.committed, counts.rejected),
        (100, 1, 99)
    );
}

#[test]
fn case_27_what_comes_while_a_winner_runs_finishes_too() {
    for workers in [1, 2] {
        let engine = Engine::builder()
            .workers(workers)
            .policy(Policy::WinnerTakesAll)
            .build();
        let entity = Entity::new(0_u64);
        let (runs, is_running) = channel();
        let (go_on, goes_on) = channel::<()>();
        let goes_on = Mutex::new(goes_on);
        let first = Operation::update(&entity, move |n| {
            runs.send(()).unwrap();
            goes_on.lock().unwrap().recv().unwrap();
            n + 1
        });
        let first = engine.submit(first).unwrap();
        is_running.recv().unwrap();
        let second = engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap();
        assert_eq!(first.status().state(), State::Executing);
        assert_eq!(second.status().state(), State::Pending);
        go_on.send(()).unwrap();
        assert_eq!(*first.wait().unwrap(), 1);
        assert_eq!(*second.wait().unwrap(), 2);
        assert_eq!(conserved(&engine).committed, 2);
    }
}

#[test]
fn case_28_what_was_staged_is_cancelled_when_the_stage_is_cleared_or_dropped() {
    for policy in POLICIES {
        for clears in [true, false] {
            let engine = Engine::builder().workers(2).policy(policy).build();
            let entity = Entity::new(0_u64);
            let mut round = engine.stage();
            let tickets: Vec<_> = (0..10)
                .map(|_| stage(&mut round, &entity, Priority::NORMAL))
                .collect();
            let waiters: Vec<_> = tickets
                .into_iter()
                .map(|ticket| spawn(move || ticket.wait()))
                .collect();
            assert_eq!(engine.unfinished(), 10);
            if clears {
                round.clear();
            } else {
                drop(round);
            }
            for waiter in waiters {
                let result = waiter.join().unwrap();
                assert!(matches!(result, Err(OperationError::Cancelled)));
            }
            assert_eq!(engine.waiting(&entity), 0);
            assert_eq!(conserved(&engine).cancelled, 10);
        }
    }
}

#[test]
fn case_28_whoever_waits_for_what_is_staged_returns_when_the_engine_is_shut_down() {
    for policy in POLICIES {
        for workers in [0, 2] {
            let engine = Engine::builder().workers(workers).policy(policy).build();
            let entity = Entity::new(0_u64);
            // The lane is kept busy, so that what is resolved waits.
            let (runs, is_running) = channel();
            let (go_on, goes_on) = channel::<()>();
            let goes_on = Mutex::new(goes_on);
            let busy = Operation::update(&entity, move |n| {
                runs.send(()).unwrap();
                goes_on.lock().unwrap().recv().unwrap();
                n + 1
            });
            let busy = engine.submit(busy).unwrap();
            let serving = (workers == 0).then(|| {
                let engine = engine.clone();
                spawn(move || engine.serve())
            });
            is_running.recv().unwrap();
            let mut round = engine.stage();
            let tickets: Vec<_> = (0..10)
                .map(|_| stage(&mut round, &entity, Priority::NORMAL))
                .collect();
            round.resolve();
            let left = engine.stage();
            let timed_out = engine.shut_down(ShutDown::Cancel, Some(Duration::ZERO));
            assert_eq!(timed_out.unwrap_err().unfinished, 11);
            let refused = engine.submit(Operation::update(&entity, |n| n + 1));
            assert_eq!(refused.unwrap_err().why(), NotTaken::ShutDown);
            go_on.send(()).unwrap();
            for ticket in tickets {
                assert!(matches!(ticket.wait(), Err(OperationError::Cancelled)));
            }
            assert_eq!(*busy.wait().unwrap(), 1);
            engine.shut_down(ShutDown::Cancel, None).unwrap();
            if let Some(serving) = serving {
                serving.join().unwrap();
            }
            // And it may be started again, and used by a blocking caller twice in a row.
            engine.start();
            assert!(!engine.is_shut_down());
            for n in 2..4 {
                let again = engine.submit(Operation::update(&entity, |n| n + 1));
                assert_eq!(*again.unwrap().wait().unwrap(), n);
            }
            left.resolve();
            let counts = conserved(&engine);
            assert_eq!((counts.committed, counts.cancelled), (3, 10));
        }
    }
}

#[test]
fn case_28_an_engine_is_shut_down_while_something_is_staged_and_cancels_it() {
    for workers in [0, 1] {
        let engine = Engine::builder().workers(workers).build();
        let entity = Entity::new(0_u64);
        let mut round = engine.stage();
        let ticket = stage(&mut round, &entity, Priority::NORMAL);
        let (waits, is_waiting) = channel();
        let waiting = spawn(move || {
            waits.send(()).unwrap();
            ticket.wait()
        });
        is_waiting.recv().unwrap();
        // Whoever waits for it is woken, and the stage is still there.
        engine.shut_down(ShutDown::Cancel, None).unwrap();
        let cancelled = waiting.join().unwrap();
        assert!(matches!(cancelled, Err(OperationError::Cancelled)));
        assert_eq!(round.len(), 1);
        let late = round.add(Operation::update(&entity, |n| n + 1));
        assert_eq!(late.unwrap_err().why(), NotTaken::ShutDown);
        match workers {
            0 => drop(round),
            _ => round.resolve(),
        }
        assert_eq!(*entity.snapshot(), 0);
        assert_eq!(conserved(&engine).cancelled, 1);
        engine.start();
        let again = engine.submit(Operation::update(&entity, |n| n + 1));
        assert_eq!(*again.unwrap().wait().unwrap(), 1);
        assert_eq!(engine.waiting(&entity), 0, "each place was given back");
    }
}

#[test]
fn whoever_shuts_down_without_a_timeout_while_it_has_a_stage_is_told_so() {
    let how = ShutDown::Finish;
    for workers in [0, 1] {
        let engine = Engine::builder().workers(workers).build();
        let others = Engine::builder().workers(workers).build();
        let entity = Entity::new(0_u64);
        let mut round = engine.stage();
        let ticket = stage(&mut round, &entity, Priority::NORMAL);
        assert_eq!(engine.shut_down(how, None).unwrap_err().unfinished, 1);
        // It is no other engine's, and no other thread's, which waits until it is resolved.
        others.shut_down(how, None).unwrap();
        let (waits, is_waiting) = channel();
        let elsewhere = spawn({
            let engine = engine.clone();
            move || {
                waits.send(()).unwrap();
                engine.shut_down(how, None)
            }
        });
        is_waiting.recv().unwrap();
        round.resolve();
        elsewhere.join().unwrap().unwrap();
        ticket.wait().unwrap();
        engine.shut_down(how, None).unwrap();
        assert_eq!(conserved(&engine).committed, 1);
    }
}

#[test]
fn case_29_a_hundred_that_read_wait_and_write_at_once_are_all_there() {
    let engine = Engine::builder().workers(0).build();
    let mut conflicts = 0;
    for round in 1.. {
        let entity = Entity::new(0_u64);
        let results = together(100, |_| {
            let operation = Operation::update(&entity, |n| {
                thread::yield_now();
                n + 1
            });
            let operation = operation.retries(u32::MAX).retrying(at_once());
            engine
                .run(&operation)
                .map(|snapshot| snapshot.stamp().version())
        });
        let mut versions: Vec<_> = results.into_iter().map(Result::unwrap).collect();
        versions.sort_unstable();
        assert!(versions.into_iter().eq(1..=100));
        let end = entity.snapshot();
        assert_eq!((*end, end.stamp().version()), (100, 100));
        conflicts += engine.counts().conflicts;
        if conflicts > 0 {
            break;
        }
        assert!(round < 100, "no conflict happened: nothing was shown");
    }
    conserved(&engine);
}

#[test]
fn case_29_three_different_additions_at_once_add_up() {
    for policy in [Policy::InOrder, Policy::Fold, Policy::Merge] {
        let engine = Engine::builder().workers(2).policy(policy).build();
        let entity = Entity::new(0_u64);
        together(3, |at| {
            let operation = Operation::update(&entity, move |n| n + 100 * (at as u64 + 1));
            engine.submit(operation).unwrap().wait().unwrap();
        });
        assert_eq!(*entity.snapshot(), 600);
        assert_eq!(conserved(&engine).committed, 3);
    }
}

#[test]
fn case_29_who_comes_from_outside_in_the_window_is_not_overwritten() {
    for policy in POLICIES {
        for submits in [true, false] {
            let engine = Engine::builder().workers(0).policy(policy).build();
            let entity = Entity::new(0_u64);
            let (target, once) = (entity.clone(), AtomicBool::new(false));
            let operation = Operation::update(&entity, move |n| {
                if !once.swap(true, Ordering::Relaxed) {
                    outside(&target, |n| n + 10);
                }
                n + 1
            });
            if submits {
                let ticket = engine.submit(operation).unwrap();
                engine.serve();
                assert_eq!(*ticket.wait().unwrap(), 11);
            } else {
                assert_eq!(*engine.run(&operation).unwrap(), 11);
            }
            assert_eq!(*entity.snapshot(), 11);
            assert_eq!(entity.snapshot().stamp().version(), 2);
            assert_eq!(conserved(&engine).conflicts, 1);
        }
    }
}

#[test]
fn case_30_what_a_function_fails_with_reaches_its_caller_and_nothing_stays_staged() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let entity = Entity::new(0_u64);
        let mut round = engine.stage();
        let failing = Operation::try_update(&entity, |_| Err::<Option<u64>, _>("its own"));
        let failing = round.add(failing).unwrap();
        round.resolve();
        engine.serve();
        assert_eq!(failing.status().state(), State::Failed);
        assert!(failing.times().started.is_some() && failing.times().ended.is_some());
        assert_eq!(failing.wait().unwrap_err().into_refused(), Some("its own"));
        assert_eq!(engine.waiting(&entity), 0);
        let counts = conserved(&engine);
        assert_eq!((counts.submitted, counts.failed), (1, 1));
    }
}

// What else a stage promises.

#[test]
fn nothing_that_is_staged_runs_before_it_is_resolved_whatever_becomes_of_its_priority() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let entity = Entity::new(0_u64);
        let mut round = engine.stage();
        assert!(round.is_empty());
        let one = stage(&mut round, &entity, Priority::NORMAL);
        let other = stage(&mut round, &entity, Priority::NORMAL);
        assert_eq!(engine.waiting(&entity), 2, "both have their place");
        other.set_priority(Priority::HIGH);
        engine.serve();
        for ticket in [&one, &other] {
            assert_eq!(ticket.status().state(), State::Pending, "{policy:?}");
        }
        round.resolve();
        engine.serve();
        assert!(one.is_done() && other.is_done());
        assert_eq!(other.status(), expected(State::Succeeded, Priority::HIGH));
        assert_eq!(engine.waiting(&entity), 0);
        let counts = conserved(&engine);
        assert_eq!(counts.submitted, 2);
    }
}

fn expected(state: State, priority: Priority) -> Status {
    let status = Status::new(priority).start().unwrap();
    assert_eq!(state, State::Succeeded);
    status.succeed().unwrap()
}

#[test]
fn what_is_staged_may_be_cancelled_before_and_after_it_is_resolved() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let entity = Entity::new(0_u64);
        let mut round = engine.stage();
        let before = stage(&mut round, &entity, Priority::CRITICAL);
        let after = stage(&mut round, &entity, Priority::HIGH);
        let stays = stage(&mut round, &entity, Priority::NORMAL);
        assert!(before.cancel());
        round.resolve();
        assert!(after.cancel());
        assert!(!after.cancel(), "it has ended");
        engine.serve();
        assert!(matches!(before.wait(), Err(OperationError::Cancelled)));
        assert!(matches!(after.wait(), Err(OperationError::Cancelled)));
        assert_eq!(*stays.wait().unwrap(), 1, "who is cancelled wins no round");
        let counts = conserved(&engine);
        assert_eq!((counts.committed, counts.cancelled), (1, 2));
    }
}

#[test]
fn a_stage_of_several_targets_has_a_round_for_each() {
    let engine = rounds();
    let targets = [(); 3].map(|()| Entity::new(0_u64));
    let mut round = engine.stage();
    let mut tickets = Vec::new();
    for priority in [Priority::LOW, Priority::HIGH, Priority::NORMAL] {
        for target in &targets {
            tickets.push(stage(&mut round, target, priority));
        }
    }
    round.resolve();
    engine.serve();
    let states: Vec<_> = tickets
        .iter()
        .map(|ticket| ticket.status().state())
        .collect();
    let (lost, won) = ([State::Rejected; 3], [State::Succeeded; 3]);
    assert_eq!(states, [lost, won, lost].concat());
    let counts = conserved(&engine);
    assert_eq!((counts.committed, counts.rejected), (3, 6));
}

#[test]
fn a_winner_that_waits_for_its_turn_is_in_no_other_round() {
    // A quantum of nothing: after each operation the lane waits among those that are ready.
    let engine = Engine::builder()
        .workers(0)
        .quantum(Duration::ZERO)
        .policy(Policy::WinnerTakesAll)
        .build();
    let (entity, other) = (Entity::new(0_u64), Entity::new(0_u64));
    let came: Arc<Mutex<Vec<Changed<u64>>>> = Arc::default();
    let (nested, target, note) = (engine.clone(), entity.clone(), came.clone());
    let (between, more) = (other.clone(), came.clone());
    let first = Operation::update(&entity, move |n| {
        let make = |priority| {
            let operation = Operation::update(&target, |n| n + 1).independent();
            operation.priority(priority)
        };
        let winner = nested.submit(make(Priority::NORMAL)).unwrap();
        note.lock().unwrap().push(winner);
        // This one is run before the lane goes on: the winner gets more important, and a rival comes.
        let (again, more, rival) = (nested.clone(), more.clone(), make(Priority::CRITICAL));
        let rival = Mutex::new(Some(rival));
        let between = Operation::update(&between, move |n| {
            let mut came = more.lock().unwrap();
            came[0].set_priority(Priority::HIGH);
            let rival = rival.lock().unwrap().take().unwrap();
            came.push(again.submit(rival).unwrap());
            n + 1
        });
        let between = between.independent().priority(Priority::CRITICAL);
        drop(nested.submit(between).unwrap());
        n + 1
    });
    let first = engine.submit(first).unwrap();
    engine.serve();
    first.wait().unwrap();
    for ticket in came.lock().unwrap().drain(..) {
        ticket.wait().unwrap();
    }
    assert_eq!(conserved(&engine).committed, 4);
}

#[test]
fn operations_of_every_kind_may_be_staged_together() {
    for policy in [Policy::InOrder, Policy::Fold, Policy::Merge] {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let (entity, other) = (Entity::new(0_u64), Entity::new(0_u64));
        let mut round = engine.stage();
        let one = round.add(Operation::update(&entity, |n| n + 1)).unwrap();
        let both = Operation::transaction((other.clone(), entity.clone()), |tx, (a, b)| {
            tx.update(a, |n| n + 1)?;
            tx.update(b, |n| n + 1)?;
            Ok::<_, Stop<Infallible>>(())
        });
        let both = round.add(both).unwrap();
        let prepared = Operation::prepared(
            &entity,
            |_| Ok::<_, Infallible>(1_u64),
            |n, k| Ok(Some(n + k)),
        );
        let prepared = round.add(prepared).unwrap();
        let merging = Operation::merging(
            &entity,
            |n| Ok::<_, Infallible>(Some(n + 1)),
            |merge| Some(merge.theirs + merge.mine - merge.base),
        );
        let merging = round.add(merging).unwrap();
        assert_eq!(round.len(), 4);
        round.resolve();
        engine.serve();
        one.wait().unwrap();
        both.wait().unwrap();
        prepared.wait().unwrap();
        merging.wait().unwrap();
        assert_eq!((*entity.snapshot(), *other.snapshot()), (4, 1));
        assert_eq!(conserved(&engine).committed, 4);
    }
}

#[test]
fn a_hundred_thousand_operations_may_be_staged_in_one_round() {
    for policy in POLICIES {
        let engine = Engine::builder()
            .workers(0)
            .policy(policy)
            .capacity(100_000)
            .build();
        let entity = Entity::new(0_u64);
        let mut round = engine.stage();
        for _ in 0..100_000 {
            // Whoever drops a ticket doesn't cancel.
            drop(stage(&mut round, &entity, Priority::NORMAL));
        }
        assert_eq!(engine.waiting(&entity), 100_000);
        round.resolve();
        engine.serve();
        let counts = conserved(&engine);
        if policy == Policy::WinnerTakesAll {
            assert_eq!((counts.committed, counts.rejected), (1, 99_999));
        } else {
            assert_eq!(counts.committed, 100_000);
            assert_eq!(*entity.snapshot(), 100_000);
        }
    }
}

#[test]
fn a_stage_outlives_the_handles_of_its_engine_and_is_cancelled_then() {
    for workers in [0, 1] {
        let dropped = Arc::new(AtomicU32::new(0));
        struct Counted(Arc<AtomicU32>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let engine = Engine::builder().workers(workers).build();
        let entity = Entity::new(0_u64);
        let mut round = engine.stage();
        let captured = Counted(dropped.clone());
        let operation = Operation::update(&entity, move |n| {
            let _ = &captured;
            n + 1
        });
        let ticket = round.add(operation).unwrap();
        drop(engine);
        round.resolve();
        assert!(matches!(ticket.wait(), Err(OperationError::Cancelled)));
        assert_eq!(*entity.snapshot(), 0);
        if workers == 0 {
            assert_eq!(dropped.load(Ordering::Relaxed), 1);
        }
    }
}
