//! Figures that add up, exactly.
#![cfg(feature = "scheduler")]

#[path = "support/conserved.rs"]
mod conserved;
#[path = "support/overtaken.rs"]
mod overtaken;
#[path = "support/together.rs"]
mod together;

use conserved::conserved;
use overtaken::{at_once, overtaken};
use snapcell::{
    Class, ClassPolicy, Clock, Engine, Entity, KindMetrics, ManualClock, Metrics, Operation,
    Policy, Priority, RetryPolicy, TargetId,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use together::together;

/// An engine without threads, whose time stands still until the test says otherwise.
fn still() -> (Engine, ManualClock) {
    let clock = ManualClock::new();
    let engine = Engine::builder().workers(0).clock(Clock::manual(&clock));
    (engine.build(), clock)
}

fn kind<'m>(metrics: &'m Metrics, name: &str) -> &'m KindMetrics {
    let kind = metrics.kinds.iter().find(|kind| kind.name == name);
    kind.unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

#[test]
fn kinds_are_counted_by_class_and_name() {
    let engine = Engine::builder().workers(0).build();
    let rebuild = engine
        .change_policies(|policies| policies.add(ClassPolicy::new("rebuild")))
        .unwrap();
    let entity = Entity::new(0);
    let add = || Operation::update(&entity, |n| n + 1);
    for _ in 0..3 {
        engine.run(&add().named("deposit")).unwrap();
    }
    engine
        .run(&add().named("deposit").class(Class::LOW))
        .unwrap();
    engine.run(&add().class(rebuild)).unwrap();
    engine
        .run(&Operation::try_update(&entity, |_: &i32| Err("no")))
        .unwrap_err();
    let metrics = engine.metrics();
    let by_kind: BTreeMap<_, _> = metrics
        .kinds
        .iter()
        .map(|kind| {
            (
                (kind.class.as_str(), kind.name.as_str()),
                kind.counts.submitted,
            )
        })
        .collect();
    let expected = BTreeMap::from([
        (("normal", "deposit"), 3),
        (("low", "deposit"), 1),
        (("rebuild", "update"), 1),
        (("normal", "try_update"), 1),
    ]);
    assert_eq!(by_kind, expected);
    assert!(metrics.adds_up());
    assert_eq!(metrics.counts, engine.counts());
    let classes: BTreeMap<_, _> = metrics
        .classes()
        .into_iter()
        .map(|class| (class.class, class.counts.submitted))
        .collect();
    let expected = [("normal", 4), ("low", 1), ("rebuild", 1)];
    assert_eq!(
        classes,
        expected
            .map(|(name, count)| (name.to_owned(), count))
            .into()
    );
    assert_eq!(metrics.total().counts, metrics.counts);
}

#[test]
fn queueing_and_latency_are_those_of_the_engines_clock() {
    let (engine, clock) = still();
    let entity = Entity::new(0);
    for millis in [1, 2, 3, 94] {
        let clock_ = clock.clone();
        let work = Operation::update(&entity, move |n| {
            clock_.advance(Duration::from_millis(1));
            n + 1
        });
        let ticket = engine.submit(work).unwrap();
        clock.advance(Duration::from_millis(millis));
        engine.serve();
        ticket.wait().unwrap();
    }
    let metrics = engine.metrics();
    let update = kind(&metrics, "update");
    assert_eq!(update.queueing.count(), 4);
    assert_eq!(update.queueing.sum(), Duration::from_millis(100));
    assert_eq!(update.queueing.mean(), Duration::from_millis(25));
    assert_eq!(update.queueing.max(), Duration::from_millis(94));
    assert_eq!(update.latency.sum(), Duration::from_millis(104));
    assert_eq!(update.latency.max(), Duration::from_millis(95));
    let median = update.queueing.quantile(0.5);
    assert!(median >= Duration::from_millis(2) && median <= Duration::from_micros(2_250));
}

#[test]
fn conflicts_are_absorbed_or_escape_and_attempts_are_told() {
    for submits in [true, false] {
        let engine = Engine::builder().workers(0).build();
        let entity = Entity::new(0);
        for (times, retries) in [(0, 5), (2, 5), (3, 5), (9, 1)] {
            let operation = Operation::update(&entity, overtaken(&entity, times))
                .retries(retries)
                .retrying(at_once());
            if submits {
                let _ = engine.submit(operation).unwrap().wait();
            } else {
                let _ = engine.run(&operation);
            }
        }
        let metrics = engine.metrics();
        let update = kind(&metrics, "update");
        assert!(metrics.adds_up(), "{metrics}");
        assert_eq!((update.counts.committed, update.counts.rejected), (3, 1));
        assert_eq!((update.absorbed, update.escaped), (5, 2));
        assert_eq!(update.counts.conflicts, 7);
        assert_eq!(update.first_tries, 1);
        // None, one, two, three, four: the rejected one has lost both of its own.
        assert_eq!(update.attempts, [0, 1, 1, 1, 1]);
        assert!((update.wasted() - 0.7).abs() < 1e-9, "7 of 10 attempts");
        let target = &metrics.targets[0];
        assert!(target.is(TargetId::of(&entity)));
        assert_eq!(target.conflicts, 7);
        assert_eq!(target.begun, if submits { 4 } else { 0 });
    }
}

#[test]
fn what_never_began_is_told_as_no_attempt() {
    let engine = Engine::builder().workers(0).build();
    let entity = Entity::new(0);
    let ticket = engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap();
    assert!(ticket.cancel());
    let metrics = engine.metrics();
    let update = kind(&metrics, "update");
    assert_eq!(
        (update.attempts.as_slice(), update.queueing.count()),
        (&[1][..], 0)
    );
    assert_eq!(update.latency.count(), 1);
    assert!(metrics.adds_up());
}

#[test]
fn a_fold_that_loses_is_an_attempt_of_each() {
    let engine = Engine::builder().workers(0).policy(Policy::Fold).build();
    let entity = Entity::new(0);
    let mut stage = engine.stage();
    let first = Operation::update(&entity, overtaken(&entity, 1)).retrying(at_once());
    let mut tickets = vec![stage.add(first).map(|ticket| ticket.id()).unwrap()];
    for _ in 0..9 {
        let add = Operation::update(&entity, |n| n + 1).retrying(at_once());
        tickets.push(stage.add(add).map(|ticket| ticket.id()).unwrap());
    }
    stage.resolve();
    engine.serve();
    let metrics = engine.metrics();
    assert!(metrics.adds_up(), "{metrics}");
    assert_eq!((metrics.counts.conflicts, metrics.counts.folds), (10, 1));
    assert_eq!(kind(&metrics, "update").attempts, [0, 0, 10]);
}

#[test]
fn a_fold_that_keeps_losing_reserves_its_target() {
    let engine = Engine::builder().workers(0).policy(Policy::Fold).build();
    let entity = Entity::new(0);
    let retry = RetryPolicy::linear(Duration::ZERO).reserving_after(2);
    let mut stage = engine.stage();
    let first = Operation::update(&entity, overtaken(&entity, 3)).retrying(retry);
    let _first = stage.add(first).unwrap();
    let _others: Vec<_> = (0..9)
        .map(|_| {
            let add = Operation::update(&entity, |n| n + 1).retrying(retry);
            stage.add(add).unwrap()
        })
        .collect();
    stage.resolve();
    engine.serve();
    let total = engine.metrics().total();
    assert_eq!((total.counts.committed, total.counts.conflicts), (10, 30));
    assert_eq!((total.reservations, total.reservations_lapsed), (1, 0));
    assert!(engine.is_clean());
}

#[test]
fn who_expires_while_it_stays_away_was_attempted_as_often_as_it_lost() {
    let (engine, clock) = still();
    let entity = Entity::new(0);
    let operation = Operation::update(&entity, overtaken(&entity, 9))
        .retrying(RetryPolicy::linear(Duration::from_millis(10)))
        .patience(Duration::from_millis(15));
    let ticket = engine.submit(operation).unwrap();
    engine.serve();
    clock.advance(Duration::from_millis(20));
    engine.serve();
    let rejection = *ticket.wait().unwrap_err().rejection().unwrap();
    assert_eq!(rejection.attempts, 1);
    let total = engine.metrics().total();
    assert_eq!((total.escaped, total.attempts.as_slice()), (1, &[0, 1][..]));
}

#[test]
fn targets_are_told_by_how_much_is_done_there() {
    let engine = Engine::builder().workers(0).build();
    let (busy, calm) = (Entity::new(0), Entity::new(0));
    let mut tickets = Vec::new();
    for n in 0..40 {
        let entity = if n % 4 == 0 { &calm } else { &busy };
        tickets.push(engine.submit(Operation::update(entity, |n| n + 1)).unwrap());
    }
    let before = engine.metrics();
    let of = |metrics: &Metrics, entity| {
        let target = TargetId::of(entity);
        *metrics
            .targets
            .iter()
            .find(|metrics| metrics.is(target))
            .unwrap()
    };
    assert_eq!(
        (of(&before, &busy).waiting, of(&before, &calm).waiting),
        (30, 10)
    );
    assert_eq!(before.fairness(), None);
    engine.serve();
    let after = engine.metrics();
    assert_eq!(after.targets[0].begun, 30);
    assert_eq!(
        (of(&after, &calm).begun, of(&after, &calm).most_waiting),
        (10, 10)
    );
    assert_eq!(of(&after, &busy).waiting, 0);
    // (30 + 10)² / (2 · (900 + 100))
    assert!((after.fairness().unwrap() - 0.8).abs() < 1e-9);
}

#[test]
fn an_operation_is_begun_once_however_often_it_comes_back() {
    let (engine, clock) = still();
    let entity = Entity::new(0);
    let away = RetryPolicy::linear(Duration::from_millis(1)).never_reserving();
    let operation = Operation::update(&entity, overtaken(&entity, 2)).retrying(away);
    let ticket = engine.submit(operation).unwrap();
    for _ in 0..4 {
        engine.serve();
        clock.advance(Duration::from_millis(5));
    }
    ticket.wait().unwrap();
    let metrics = engine.metrics();
    assert_eq!(
        (metrics.targets[0].begun, metrics.targets[0].conflicts),
        (1, 2)
    );
}

#[test]
fn what_is_refused_never_waited_and_what_is_only_run_is_no_matter_of_fairness() {
    let engine = Engine::builder().workers(0).capacity(1).build();
    let (busy, other) = (Entity::new(0), Entity::new(0));
    let ticket = engine.submit(Operation::update(&busy, |n| n + 1)).unwrap();
    let refused = engine.submit(Operation::update(&busy, |n| n + 1));
    assert!(refused.is_err());
    engine.serve();
    ticket.wait().unwrap();
    engine.run(&Operation::update(&other, |n| n + 1)).unwrap();
    let metrics = engine.metrics();
    assert_eq!(
        (metrics.targets.len(), metrics.targets[0].most_waiting),
        (2, 1)
    );
    assert_eq!(metrics.fairness(), Some(1.0));
}

#[test]
fn a_difference_of_two_readings_is_what_happened_in_between() {
    let engine = Engine::builder().workers(0).build();
    let entity = Entity::new(0);
    let submit = || {
        engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap()
    };
    let first = submit();
    let earlier = engine.metrics();
    engine.serve();
    let second = submit();
    engine.serve();
    let since = engine.metrics().since(&earlier);
    assert_eq!((since.counts.submitted, since.counts.committed), (1, 2));
    assert_eq!(since.counts.unfinished(), 0, "it tells no negative number");
    assert_eq!(kind(&since, "update").latency.count(), 2);
    assert_eq!(
        (
            kind(&since, "update").attempts.as_slice(),
            since.targets[0].begun
        ),
        (&[0, 2][..], 2)
    );
    assert!(since.to_string().contains("0 unfinished"));
    drop((first, second));
}

#[test]
fn figures_of_engines_are_merged() {
    let engines = [(); 2].map(|()| Engine::builder().workers(0).build());
    let entity = Entity::new(0);
    for (engine, times) in engines.iter().zip([3, 4]) {
        for _ in 0..times {
            engine
                .submit(Operation::update(&entity, |n| n + 1))
                .unwrap()
                .wait()
                .unwrap();
        }
    }
    engines[1]
        .run(&Operation::update(&entity, |n| n + 1).named("other"))
        .unwrap();
    let mut both = engines[0].metrics();
    both.merge(&engines[1].metrics());
    assert!(both.adds_up());
    assert_eq!(both.counts.committed, 8);
    assert_eq!(kind(&both, "update").latency.count(), 7);
    assert_eq!(kind(&both, "other").counts.committed, 1);
    assert_eq!((both.targets.len(), both.targets[0].begun), (1, 7));
}

#[test]
fn without_metrics_there_are_totals() {
    let engine = Engine::builder().workers(0).metrics(false).build();
    let entity = Entity::new(0);
    engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap()
        .wait()
        .unwrap();
    let metrics = engine.metrics();
    assert_eq!(
        (metrics.counts.committed, metrics.counts),
        (1, engine.counts())
    );
    assert!(metrics.kinds.is_empty() && metrics.targets.is_empty() && metrics.adds_up());
}

#[test]
fn reservations_are_counted() {
    let engine = Engine::builder().workers(0).build();
    let entity = Entity::new(0);
    // Reserves at once.
    let reserving = at_once().reserving_after(0);
    let seen = std::sync::Arc::new(AtomicBool::new(false));
    let operation = {
        let (engine, entity, seen) = (engine.clone(), entity.clone(), seen.clone());
        Operation::update(&entity.clone(), move |n| {
            // Somebody less important steps back for it, on a thread of their own.
            thread::scope(|scope| {
                let add = Operation::update(&entity, |n| n + 10)
                    .priority(Priority::LOW)
                    .independent();
                let engine = &engine;
                scope
                    .spawn(move || engine.run(&add).unwrap())
                    .join()
                    .unwrap();
            });
            seen.store(true, SeqCst);
            n + 1
        })
    };
    let _ = engine
        .submit(
            operation
                .priority(Priority::HIGH)
                .retries(0)
                .retrying(reserving),
        )
        .unwrap()
        .wait();
    assert!(seen.load(SeqCst));
    let total = engine.metrics().total();
    assert_eq!((total.reservations, total.steps_back), (1, 1));
}

/// Shown by engines whose threads come and go, and read all the while.
#[test]
fn no_moment_shows_more_ends_than_beginnings() {
    let engine = Engine::new();
    let entities: Vec<_> = (0..2).map(|_| Entity::new(0_u64)).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut looks = 0_u64;
            while !over.load(SeqCst) {
                let counts = engine.counts();
                assert!(counts.submitted >= counts.ended(), "{counts}");
                for kind in engine.metrics().kinds {
                    assert!(kind.counts.submitted >= kind.counts.ended(), "{kind}");
                }
                looks += 1;
            }
            looks
        });
        for _ in 0..20 {
            together(3, |thread| {
                for n in 0..100 {
                    let name = ["a", "b", "c"][n % 3];
                    let add = Operation::update(&entities[n % 2], |n| n + 1).named(name);
                    if thread == 0 {
                        engine.run(&add.retries(1_000)).unwrap();
                    } else {
                        engine.submit(add).unwrap().wait().unwrap();
                    }
                }
            });
        }
        over.store(true, SeqCst);
        assert!(reading.join().unwrap() > 0, "nobody has looked");
    });
    let counts = conserved(&engine);
    let metrics = engine.metrics();
    assert_eq!((counts.committed, metrics.counts), (6_000, counts));
    assert!(metrics.adds_up(), "{metrics}");
    assert_eq!(metrics.kinds.len(), 3);
}

#[cfg(feature = "serde")]
#[test]
fn figures_are_stored_and_read_again() {
    let engine = Engine::builder().workers(0).build();
    let entity = Entity::new(0);
    engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap()
        .wait()
        .unwrap();
    let metrics = engine.metrics();
    let text = serde_json::to_string(&metrics).unwrap();
    let again: Metrics = serde_json::from_str(&text).unwrap();
    assert_eq!(again, metrics);
    assert_eq!(again.to_string(), metrics.to_string());
}
