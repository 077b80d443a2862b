//! Short operations: whoever submits one does it, if nothing is in its way, and nobody can tell by the result.
#![cfg(feature = "scheduler")]

#[path = "support/conserved.rs"]
mod conserved;

use conserved::conserved;
use snapcell::{
    Body, Class, Clock, Context, Engine, Entity, EventKind, EventKinds, ManualClock, NotTaken,
    Operation, OperationError, Policy, Priority, RetryPolicy, ShutDown, Snapshot, Stamp, State,
    Stop,
};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// An engine that does nothing until it is told to.
fn still() -> Engine {
    Engine::builder().workers(0).build()
}

fn increment(
    entity: &Entity<u64>,
) -> Operation<impl Body<Output = Snapshot<u64>, Error = Infallible> + use<>> {
    Operation::update(entity, |n| n + 1).short()
}

#[test]
fn a_short_operation_is_done_when_it_was_submitted() {
    let clock = ManualClock::new();
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .build();
    clock.advance(Duration::from_millis(5));
    let entity = Entity::new(0);
    let add = increment(&entity)
        .named("add")
        .class(Class::STRUCTURAL)
        .priority(Priority::new(9).unwrap())
        .retrying(RetryPolicy::default());
    let ticket = engine.submit(add).unwrap();
    assert_eq!(*entity.snapshot(), 1);
    assert!(ticket.is_done());
    assert_eq!((ticket.name(), ticket.class()), ("add", Class::STRUCTURAL));
    let status = ticket.status();
    assert_eq!(status.state(), State::Succeeded);
    assert_eq!((status.priority().get(), status.retries()), (9, 0));
    let times = ticket.times();
    let at = Duration::from_millis(5);
    assert_eq!(
        (times.born, times.started, times.ended),
        (at, Some(at), Some(at))
    );
    assert!(ticket.trace().is_none());
    assert_eq!(ticket.chain(), [ticket.id()]);
    assert!(!ticket.cancel(), "it is too late");
    ticket.set_priority(Priority::LOW);
    assert_eq!(ticket.status(), status, "it is too late for that, too");
    assert_eq!(ticket.context().priority().get(), 9);
    assert!(format!("{ticket:?}").contains("succeeded"));
    let snapshot = ticket.wait().unwrap();
    assert_eq!((*snapshot, snapshot.stamp().version()), (1, 1));
    let counts = conserved(&engine);
    assert_eq!((counts.submitted, counts.committed), (1, 1));
    assert!(engine.metrics().adds_up());
}

#[test]
fn its_time_is_the_engines_whatever_the_clock_of_its_entity_says() {
    let engine = still();
    let entity = Entity::new(0);
    let first = engine.submit(increment(&entity)).unwrap();
    let stamped = Duration::from_nanos(entity.snapshot().stamp().time());
    assert_eq!(
        first.times().ended,
        Some(stamped),
        "the clock is asked once"
    );
    let keep = Operation::try_update(&entity, |_| Ok::<_, Infallible>(None)).short();
    let keep = engine.submit(keep).unwrap();
    assert!(
        keep.times().ended >= Some(stamped),
        "not when the value was made that it keeps"
    );
    let counting = Entity::builder(0).clock(Clock::logical()).build();
    let third = engine.submit(increment(&counting)).unwrap();
    assert_eq!(counting.snapshot().stamp().time(), 1);
    assert!(third.times().born >= keep.times().born);
    // A transaction with another clock has put this one's time off to the end of days.
    let end = Entity::builder(0).born(Stamp::new(0, u64::MAX - 9)).build();
    snapcell::transaction(|tx| {
        tx.update(&entity, |n| n + 1)?;
        tx.update(&end, |n| n + 1)
    });
    let last = engine.submit(increment(&entity)).unwrap();
    assert_eq!(entity.snapshot().stamp().time(), u64::MAX - 9);
    let times = last.times();
    assert!(times.born >= third.times().born && times.born < Duration::from_secs(365 * 86_400));
    for ticket in [first, keep, third, last] {
        ticket.wait().unwrap();
    }
}

#[test]
fn each_kind_of_operation_may_be_short() {
    let engine = still();
    let (a, b) = (Entity::new(1_u64), Entity::new(2_u64));
    let refuse = Operation::try_update(&a, |_: &u64| Err::<Option<u64>, _>("no")).short();
    let refused = engine.submit(refuse).unwrap();
    assert_eq!(refused.status().state(), State::Failed);
    assert!(matches!(refused.wait(), Err(OperationError::Refused("no"))));
    let leave = Operation::try_update(&a, |_: &u64| Ok::<_, Infallible>(None)).short();
    assert_eq!(*engine.submit(leave).unwrap().wait().unwrap(), 1);
    let swap = Operation::transaction((a.clone(), b.clone()), |tx, (a, b)| {
        let (x, y) = (tx.get(a)?, tx.get(b)?);
        tx.write(a, y);
        tx.write(b, x);
        Ok::<_, Stop<Infallible>>(x + y)
    });
    assert_eq!(engine.submit(swap.short()).unwrap().wait().unwrap(), 3);
    assert_eq!((*a.snapshot(), *b.snapshot()), (2, 1));
    let double = Operation::prepared(
        &a,
        |n: &Snapshot<u64>| Ok::<_, Infallible>(**n * 2),
        |_: &u64, n: &u64| Ok(Some(*n)),
    );
    assert_eq!(*engine.submit(double.short()).unwrap().wait().unwrap(), 4);
    let merge = Operation::merging(&a, |n| Ok::<_, Infallible>(Some(n + 1)), |_| None).short();
    assert_eq!(*engine.submit(merge).unwrap().wait().unwrap(), 5);
    let counts = conserved(&engine);
    assert_eq!(
        (counts.committed, counts.unchanged, counts.failed),
        (3, 1, 1)
    );
    assert!(engine.metrics().adds_up());
}

#[test]
fn a_panic_fails_the_operation_and_nobody_else() {
    let engine = still();
    let entity = Entity::new(0_u64);
    let bad = Operation::update(&entity, |_: &u64| panic!("on purpose")).short();
    let ticket = engine.submit(bad).unwrap();
    assert!(matches!(ticket.wait(), Err(OperationError::Panicked(_))));
    assert_eq!(
        *engine.submit(increment(&entity)).unwrap().wait().unwrap(),
        1
    );
    assert_eq!(conserved(&engine).failed, 1);
}

#[test]
fn what_waits_for_the_same_entity_goes_first() {
    let engine = still();
    let (entity, other) = (Entity::new(0_u64), Entity::new(0_u64));
    let first = engine
        .submit(Operation::update(&entity, |n| n + 10))
        .unwrap();
    let second = engine.submit(increment(&entity)).unwrap();
    assert!(!first.is_done() && !second.is_done());
    assert!(engine.submit(increment(&other)).unwrap().is_done());
    engine.serve();
    assert_eq!((*first.wait().unwrap(), *second.wait().unwrap()), (10, 11));
    assert!(engine.submit(increment(&entity)).unwrap().is_done());
    assert_eq!(conserved(&engine).committed, 4);
}

#[test]
fn who_is_watched_is_handed_over() {
    let entity = Entity::new(0_u64);
    let is_handed_over = |engine: &Engine| {
        let ticket = engine.submit(increment(&entity)).unwrap();
        let was_done = ticket.is_done();
        engine.serve();
        ticket.wait().unwrap();
        conserved(engine);
        !was_done
    };
    let engine = still();
    let events = engine.events(EventKinds::ALL, 16);
    assert!(is_handed_over(&engine), "somebody listens");
    let kinds: Vec<_> = std::iter::from_fn(|| events.try_next())
        .map(|event| event.kind())
        .collect();
    assert!(kinds.contains(&EventKind::Started) && kinds.contains(&EventKind::Completed));
    let engine = Engine::builder().workers(0).registry(8).build();
    assert!(is_handed_over(&engine), "it is kept in a registry");
    let engine = Engine::builder()
        .workers(0)
        .policy(Policy::WinnerTakesAll)
        .build();
    assert!(is_handed_over(&engine), "it plays against others");
    let engine = still();
    let traced = engine.submit(increment(&entity).traced()).unwrap();
    assert!(!traced.is_done() && traced.trace().is_some());
    engine.serve();
    traced.wait().unwrap();
    let outer = engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap();
    let part = engine
        .submit(increment(&Entity::new(0)).within(&outer.context()))
        .unwrap();
    assert_eq!(part.chain(), [part.id(), outer.id()]);
    engine.serve();
    assert!(outer.wait().is_ok() && part.wait().is_ok());
    conserved(&engine);
}

#[test]
fn inside_another_operation_it_is_part_of_that() {
    let engine = still();
    let (outer, inner) = (Entity::new(0_u64), Entity::new(0_u64));
    let nested = {
        let (engine, inner) = (engine.clone(), inner.clone());
        Operation::update(&outer, move |n| {
            assert!(Context::current().is_some());
            let part = engine.submit(increment(&inner)).unwrap();
            assert_eq!(part.chain().len(), 2);
            n + *part.wait().unwrap()
        })
    };
    let ticket = engine.submit(nested).unwrap();
    engine.serve();
    assert_eq!(*ticket.wait().unwrap(), 1);
    // In one that is done at once the parts have no record to hang on.
    let shallow = {
        let (engine, inner) = (engine.clone(), inner.clone());
        let shallow = Operation::update(&outer, move |n| {
            n + *engine.submit(increment(&inner)).unwrap().wait().unwrap()
        });
        shallow.short()
    };
    assert_eq!(*engine.submit(shallow).unwrap().wait().unwrap(), 3);
    let own = {
        let (engine, outer) = (engine.clone(), outer.clone());
        let own = Operation::update(&outer.clone(), move |n| {
            let ticket = engine.submit(increment(&outer)).unwrap();
            assert!(matches!(ticket.wait(), Err(OperationError::SelfConflict)));
            n + 1
        });
        own.short()
    };
    assert_eq!(*engine.submit(own).unwrap().wait().unwrap(), 4);
    engine.serve();
    conserved(&engine);
}

#[test]
fn what_is_not_taken_is_given_back() {
    let engine = still();
    let entity = Entity::new(0_u64);
    let low = increment(&entity)
        .class(Class::LOW)
        .priority(Priority::CRITICAL);
    let refused = engine.submit(low).unwrap_err();
    assert!(matches!(refused.why(), NotTaken::Priority { .. }));
    engine.shut_down(ShutDown::Finish, None).unwrap();
    let refused = engine.submit(increment(&entity)).unwrap_err();
    assert_eq!(refused.why(), NotTaken::ShutDown);
    engine.start();
    let again = engine.submit(refused.into_operation()).unwrap();
    assert_eq!(*again.wait().unwrap(), 1);
    assert_eq!(conserved(&engine).submitted, 1);
}

#[test]
fn who_is_overtaken_again_and_again_is_handed_over_with_what_it_has_lost() {
    let engine = still();
    let entity = Entity::new(0_u64);
    let (runs, is_over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    // Past the engine somebody commits while each of its attempts computes.
    let unlucky = {
        let (entity, runs, is_over) = (entity.clone(), runs.clone(), is_over.clone());
        Operation::update(&entity.clone(), move |n| {
            runs.fetch_add(1, SeqCst);
            if !is_over.load(SeqCst) {
                let other = entity.clone();
                thread::scope(|scope| {
                    scope.spawn(|| drop(other.update(|n| n + 100)));
                });
            }
            n + 1
        })
        .retries(0)
        .short()
    };
    let ticket = engine.submit(unlucky).unwrap();
    let lost = runs.load(SeqCst);
    assert!(lost > 1 && !ticket.is_done(), "{lost} attempts");
    assert_eq!(ticket.status().retries(), 0, "these don't count");
    is_over.store(true, SeqCst);
    engine.serve();
    assert_eq!(*ticket.wait().unwrap(), 100 * lost + 1);
    let counts = conserved(&engine);
    assert_eq!((counts.conflicts, counts.committed), (lost, 1));
    let metrics = engine.metrics();
    assert!(metrics.adds_up(), "{metrics}");
}

#[test]
fn short_ones_of_many_threads_are_all_counted_and_none_is_lost() {
    for policy in [Policy::InOrder, Policy::Fold, Policy::Merge] {
        let engine = Engine::builder().workers(2).policy(policy).build();
        let entities: Vec<_> = (0..2).map(|_| Entity::new(0_u64)).collect();
        const EACH: usize = 2_000;
        let at_once = AtomicU64::new(0);
        thread::scope(|scope| {
            for number in 0..4_usize {
                let (engine, entities, at_once) = (&engine, &entities, &at_once);
                scope.spawn(move || {
                    let mut last = [None, None];
                    for step in 0..EACH {
                        let target = (number + step) % 2;
                        let add = Operation::update(&entities[target], |n| n + 1);
                        // Some take the way by the lane.
                        let ticket = if step % 16 == 0 {
                            engine.submit(add.retries(10_000)).unwrap()
                        } else {
                            engine.submit(add.retries(10_000).short()).unwrap()
                        };
                        let times = ticket.times();
                        let is_at_once = times.ended == Some(times.born);
                        at_once.fetch_add(u64::from(is_at_once), SeqCst);
                        let stamp = ticket.wait().unwrap().stamp();
                        assert!(last[target] < Some(stamp), "each comes after those before");
                        last[target] = Some(stamp);
                    }
                });
            }
        });
        let total: u64 = entities.iter().map(|entity| *entity.snapshot()).sum();
        assert_eq!(total, 4 * EACH as u64);
        let counts = conserved(&engine);
        assert_eq!(counts.committed, total);
        let metrics = engine.metrics();
        assert!(metrics.adds_up(), "{metrics}");
        assert!(at_once.load(SeqCst) > 0, "some were done at once");
    }
}

/// Panics when it is dropped.
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn destructors_that_panic_are_nobodys_business() {
    let engine = still();
    let entity = Entity::new(0_u64);
    let captured = Bad;
    let add = Operation::update(&entity, move |n| {
        let _ = &captured;
        n + 1
    });
    let ticket = engine.submit(add.short()).unwrap();
    assert_eq!(*ticket.wait().unwrap(), 1);
    let give = Operation::transaction((entity.clone(),), |_, _| Ok::<_, Stop<Infallible>>(Bad));
    let ticket = engine.submit(give.short()).unwrap();
    assert!(ticket.is_done());
    drop(ticket);
    conserved(&engine);
}

#[test]
fn inside_the_closure_of_a_commit_it_waits_for_the_end_of_that() {
    let engine = still();
    let (stock, orders) = (Entity::new(10_u64), Entity::new(0_u64));
    let mut tickets = Vec::new();
    stock.update(|n| {
        tickets.push(engine.submit(increment(&stock)).unwrap());
        tickets.push(engine.submit(increment(&orders)).unwrap());
        n - 1
    });
    assert_eq!(*stock.snapshot(), 9, "nobody was in its way");
    assert!(tickets.iter().all(|ticket| !ticket.is_done()));
    engine.serve();
    assert_eq!((*stock.snapshot(), *orders.snapshot()), (10, 1));
    conserved(&engine);
}
