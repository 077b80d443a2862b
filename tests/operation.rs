//! Operations: what their classes allow, how their status changes, what becomes of each, and the cases of the
//! reference that are about them.
//!
//! The reference's delays are real time for whoever waits, so only what computes them is asked for them; where an
//! engine runs, losers try again at once.
#![cfg(feature = "scheduler")]

#[path = "support/conserved.rs"]
mod conserved;
#[path = "support/together.rs"]
mod together;

use conserved::conserved;
use snapcell::internals::{Claim, Reservation};
use snapcell::{
    Class, ClassPolicy, Clock, Context, Counts, DelayError, Engine, Entity, ManualClock, Merge,
    Next, NotTaken, Operation, OperationError, Policies, Policy, PolicyError, Priority,
    PriorityError, Reason, Retain, RetryPolicy, Situation, Snapshot, State, Status, Stop,
};
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// An engine that does nothing until it is told to.
fn engine() -> Engine {
    Engine::builder().workers(0).build()
}

/// Losers try again at once.
fn at_once() -> RetryPolicy {
    RetryPolicy::exponential(Duration::ZERO, 1.0)
}

fn priority(number: u8) -> Priority {
    Priority::new(number).unwrap()
}

/// What a concurrent run is worth as evidence for optimistic commits.
#[derive(Debug, PartialEq)]
enum Evidence {
    /// So many conflicts were met, and the laws held all the same.
    Validated { conflicts: u64 },
    /// Nobody got into anybody's way.
    NoConflict,
}

impl Evidence {
    fn of(counts: Counts) -> Self {
        match counts.conflicts {
            0 => Evidence::NoConflict,
            conflicts => Evidence::Validated { conflicts },
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Validated { conflicts } => {
                write!(
                    f,
                    "optimistic commits validated: {conflicts} conflicts resolved"
                )
            }
            Evidence::NoConflict => {
                f.write_str("no conflict happened: this run says nothing about optimistic commits")
            }
        }
    }
}

// Case 14.

#[test]
fn case_14_an_operation_begins_pending_with_what_its_class_says() {
    let engine = engine();
    let entity = Entity::new(0);
    let policies = engine.policies();
    let base = ClassPolicy::new("base");
    assert_eq!((base.priority().get(), base.retries()), (5, 5));
    for (class, number, retries) in [
        (Class::STRUCTURAL, 10, 20),
        (Class::NORMAL, 5, 5),
        (Class::LOW, 2, 3),
    ] {
        let ticket = engine.submit(Operation::update(&entity, |n| n + 1).class(class));
        let ticket = ticket.unwrap();
        let status = ticket.status();
        assert_eq!(
            (status.state(), status.priority().get(), status.retries()),
            (State::Pending, number, 0)
        );
        assert_eq!(ticket.class(), class);
        assert_eq!(policies.get(class).unwrap().retries(), retries);
    }
    let ticket = engine.submit(Operation::update(&entity, |n| n + 1));
    assert_eq!(ticket.unwrap().class(), Class::NORMAL, "by default");
    engine.serve();
    assert_eq!(conserved(&engine).committed, 4);
}

#[test]
fn case_14_priorities_outside_their_bounds_are_refused_and_those_inside_are_taken() {
    assert_eq!(Priority::new(0), Err(PriorityError(0)));
    assert_eq!(Priority::new(11), Err(PriorityError(11)));
    assert_eq!(Priority::new(99), Err(PriorityError(99)), "later neither");
    let engine = engine();
    let entity = Entity::new(0);
    for number in 1..=10 {
        for (class, floor, ceiling) in [
            (Class::STRUCTURAL, 8, 10),
            (Class::NORMAL, 1, 10),
            (Class::LOW, 1, 5),
        ] {
            let make = || {
                Operation::update(&entity, |n| n + 1)
                    .class(class)
                    .priority(priority(number))
            };
            let why = NotTaken::Priority {
                priority: priority(number),
                floor: priority(floor),
                ceiling: priority(ceiling),
            };
            let is_allowed = (floor..=ceiling).contains(&number);
            match engine.submit(make()) {
                Ok(ticket) => {
                    assert!(is_allowed, "{number} in {class:?}");
                    assert_eq!(ticket.status().priority().get(), number);
                }
                Err(refused) => {
                    assert!(!is_allowed, "{number} in {class:?}");
                    assert_eq!(refused.why(), why);
                    assert!(!refused.is_overloaded());
                }
            }
            let run = engine.run(&make());
            match run {
                Ok(_) => assert!(is_allowed),
                Err(OperationError::NotTaken(found)) => {
                    assert_eq!((is_allowed, found), (false, why))
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    engine.serve();
    // 3, 10 and 5 are allowed, each submitted and run.
    let counts = conserved(&engine);
    assert_eq!((counts.submitted, counts.committed), (36, 36));
}

#[test]
fn case_14_a_refusal_names_the_bounds() {
    let entity = Entity::new(0);
    let low = Operation::update(&entity, |n| n + 1)
        .class(Class::LOW)
        .priority(Priority::HIGH);
    assert_eq!(
        engine().submit(low).unwrap_err().to_string(),
        "priority 8 is not one that the class allows: from 1 to 5"
    );
}

#[test]
fn case_14_no_operation_runs_without_a_start_or_ends_without_an_end() {
    let clock = ManualClock::new();
    clock.set(Duration::from_millis(3));
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .build();
    let entity = Entity::new(0);
    let ticks = clock.clone();
    let ticket = engine.submit(Operation::update(&entity, move |n| {
        ticks.advance(Duration::from_millis(2));
        n + 1
    }));
    let ticket = ticket.unwrap();
    let times = ticket.times();
    assert_eq!(times.born, Duration::from_millis(3));
    assert_eq!((times.started, times.ended), (None, None));
    clock.advance(Duration::from_millis(4));
    engine.serve();
    let times = ticket.times();
    assert_eq!(times.born, Duration::from_millis(3));
    assert_eq!(times.started, Some(Duration::from_millis(7)));
    assert_eq!(times.ended, Some(Duration::from_millis(9)));
}

#[test]
fn a_class_of_another_table_is_not_taken() {
    let mut policies = Policies::default();
    let audit = policies.add(ClassPolicy::new("audit")).unwrap();
    let engine = engine();
    let entity = Entity::new(0);
    let make = || Operation::update(&entity, |n| n + 1).class(audit);
    let refused = engine.submit(make()).unwrap_err();
    assert_eq!(refused.why(), NotTaken::UnknownClass);
    engine.set_policies(policies.clone());
    assert_eq!(engine.policies(), policies);
    engine
        .submit(refused.into_operation())
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(
        policies.add(ClassPolicy::new("audit")),
        Err(PolicyError::Taken("audit".into()))
    );
    assert_eq!(conserved(&engine).committed, 1);
}

#[test]
fn an_operation_without_a_target_is_not_taken() {
    let engine = engine();
    let make = || {
        Operation::transaction(Vec::<Entity<i32>>::new(), |_, _| {
            Ok::<_, Stop<Infallible>>(())
        })
    };
    assert_eq!(engine.submit(make()).unwrap_err().why(), NotTaken::NoTarget);
    let run = engine.run(&make());
    assert!(matches!(
        run,
        Err(OperationError::NotTaken(NotTaken::NoTarget))
    ));
    assert_eq!(conserved(&engine).submitted, 0);
}

// Case 15.

#[test]
fn case_15_each_transition_is_legal_from_exactly_its_states() {
    use State::{Cancelled, Executing, Failed, Pending, Rejected, Succeeded};
    let born = Status::new(Priority::HIGH);
    let executing = born.start().unwrap();
    let all = [
        born,
        executing,
        executing.succeed().unwrap(),
        executing.fail().unwrap(),
        executing.reject().unwrap(),
        executing.cancel().unwrap(),
    ];
    assert_eq!(
        all.map(|status| status.state()),
        [Pending, Executing, Succeeded, Failed, Rejected, Cancelled],
    );
    assert_eq!(
        all.map(|status| status.state().is_final()),
        [false, false, true, true, true, true]
    );
    type Go = fn(Status) -> Result<Status, snapcell::IllegalTransition>;
    let transitions: [(&str, Go, &[State], Option<State>); 7] = [
        ("start", Status::start, &[Pending], Some(Executing)),
        ("succeed", Status::succeed, &[Executing], Some(Succeeded)),
        ("fail", Status::fail, &[Executing], Some(Failed)),
        (
            "retry",
            |status| status.retry(5),
            &[Pending, Executing, Failed],
            Some(Pending),
        ),
        (
            "reject",
            Status::reject,
            &[Pending, Executing, Failed],
            Some(Rejected),
        ),
        (
            "cancel",
            Status::cancel,
            &[Pending, Executing],
            Some(Cancelled),
        ),
        (
            "prioritize",
            |status| status.prioritize(Priority::LOW),
            &[Pending, Executing],
            None,
        ),
    ];
    for (name, go, legal, to) in transitions {
        for status in all {
            let before = status;
            match go(status) {
                Ok(next) => {
                    assert!(legal.contains(&status.state()), "{name} from {status}");
                    assert_eq!(next.state(), to.unwrap_or(status.state()));
                    let expected = if name == "prioritize" { 2 } else { 8 };
                    assert_eq!(next.priority().get(), expected);
                    assert_eq!(next.retries(), u32::from(name == "retry"));
                }
                Err(illegal) => {
                    assert!(!legal.contains(&status.state()), "{name} from {status}");
                    assert_eq!(illegal.from(), status.state());
                    assert_eq!(illegal.to(), to.unwrap_or(status.state()));
                    assert!(!illegal.is_exhausted());
                    assert_eq!(
                        illegal.to_string(),
                        format!(
                            "an operation that is {} can't become {}",
                            illegal.from(),
                            illegal.to()
                        )
                    );
                }
            }
            assert_eq!(status, before, "nothing has changed");
        }
    }
}

#[test]
fn case_15_an_operation_keeps_its_id_through_its_whole_life() {
    let engine = engine();
    let entity = Entity::new(0);
    let ids = Arc::new(Mutex::new(Vec::new()));
    let (beside, seen) = (entity.clone(), ids.clone());
    let attempts = AtomicU32::new(0);
    let operation = Operation::update(&entity, move |n| {
        // Whoever is part of it sees its id: here, in each attempt.
        let engine = Engine::builder().workers(0).build();
        let inner = engine.submit(Operation::update(&Entity::new(0), |n| n + 1));
        seen.lock().unwrap().push(inner.unwrap().chain()[1]);
        if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
            beside.replace(7);
        }
        n + 1
    });
    let ticket = engine.submit(operation.retrying(at_once())).unwrap();
    let id = ticket.id();
    engine.serve();
    assert_eq!(ticket.id(), id);
    assert_eq!(*ids.lock().unwrap(), [id, id]);
    assert_eq!(ticket.status().retries(), 1);
    assert_eq!(ticket.status().state(), State::Succeeded);
    assert_eq!(*ticket.wait().unwrap(), 8);
}

#[test]
fn later_operations_have_larger_ids() {
    let engine = engine();
    let entity = Entity::new(0);
    let submit = || {
        engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap()
            .id()
    };
    let ids: Vec<_> = (0..10).map(|_| submit()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(ids[0].to_string(), format!("operation {}", ids[0].get()));
    engine.serve();
    conserved(&engine);
}

// Case 16.

#[test]
fn case_16_five_retries_are_allowed_with_the_delays_of_the_reference_and_then_none() {
    let policy = RetryPolicy::reference();
    assert_eq!(policy.delay(0), Err(DelayError), "there is no retry 0");
    let mut status = Status::new(Priority::NORMAL);
    let mut delays = Vec::new();
    loop {
        status = status.start().unwrap().fail().unwrap();
        let next = policy.next(Situation {
            attempt: status.retries() + 1,
            retries: 5,
            ..Situation::default()
        });
        match (next, status.retry(5)) {
            (Next::Wait(delay), Ok(again)) => {
                delays.push(delay.as_millis());
                assert_eq!(policy.delay(again.retries()), Ok(delay));
                status = again;
            }
            (Next::Exhausted, Err(refused)) => {
                assert!(refused.is_exhausted());
                assert_eq!(refused.to_string(), "Max retries (5) exceeded");
                break;
            }
            other => panic!("the two disagree: {other:?}"),
        }
    }
    assert_eq!(delays, [20, 40, 80, 160, 320]);
    let rejected = status.reject().unwrap();
    assert_eq!((rejected.state(), rejected.retries()), (State::Rejected, 5));
}

/// Commits past the engine, and past this thread.
fn outside(entity: &Entity<u64>, change: impl Fn(&u64) -> u64 + Send) {
    thread::scope(|scope| {
        scope.spawn(|| drop(entity.update(change)));
    });
}

/// An operation that loses its first `lost` attempts to one that commits past the engine.
fn losing(
    entity: &Entity<u64>,
    lost: u32,
) -> Operation<impl snapcell::Body<Output = Snapshot<u64>, Error = Infallible> + use<>> {
    let beside = entity.clone();
    let attempts = AtomicU32::new(0);
    Operation::update(entity, move |n| {
        if attempts.fetch_add(1, Ordering::Relaxed) < lost {
            outside(&beside, |n| n + 10);
        }
        n + 1
    })
    .retrying(at_once())
}

#[test]
fn case_16_who_loses_once_more_than_its_budget_is_rejected_and_says_so() {
    for policy in POLICIES {
        for retries in [0, 1, 5] {
            let engine = Engine::builder().workers(0).policy(policy).build();
            let entity = Entity::new(0_u64);
            let ticket = engine
                .submit(losing(&entity, u32::MAX).retries(retries))
                .unwrap();
            engine.serve();
            let status = ticket.status();
            assert_eq!(
                (status.state(), status.retries()),
                (State::Rejected, retries)
            );
            assert!(ticket.times().ended.is_some());
            let error = ticket.wait().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("Max retries ({retries}) exceeded")
            );
            let rejection = *error.rejection().unwrap();
            assert_eq!(rejection.reason, Reason::Exhausted { retries });
            assert_eq!(rejection.attempts, retries + 1);
            assert_eq!(rejection.priority, Priority::NORMAL);
            assert_eq!(*entity.snapshot(), 10 * u64::from(retries + 1), "no effect");
            let counts = conserved(&engine);
            assert_eq!(
                (counts.rejected, counts.conflicts),
                (1, u64::from(retries) + 1)
            );
        }
    }
}

#[test]
fn case_16_and_17_who_wins_after_a_retry_has_nothing_left_of_what_it_lost() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let entity = Entity::new(0_u64);
        for (lost, value) in [(1, 11), (5, 62)] {
            let ticket = engine.submit(losing(&entity, lost)).unwrap();
            engine.serve();
            let status = ticket.status();
            assert_eq!((status.state(), status.retries()), (State::Succeeded, lost));
            assert!(ticket.times().ended.is_some());
            assert_eq!(*ticket.wait().unwrap(), value);
        }
        let counts = conserved(&engine);
        assert_eq!((counts.committed, counts.conflicts), (2, 6));
    }
}

#[test]
fn case_17_an_operation_that_fails_may_be_tried_again_and_succeed() {
    let born = Status::new(Priority::NORMAL);
    let mut seen = vec![born.state()];
    let mut status = born;
    type Go = fn(Status) -> Result<Status, snapcell::IllegalTransition>;
    let way: [Go; 5] = [
        Status::start,
        Status::fail,
        |status| status.retry(5),
        Status::start,
        Status::succeed,
    ];
    for go in way {
        status = go(status).unwrap();
        seen.push(status.state());
    }
    assert_eq!(
        seen,
        [
            State::Pending,
            State::Executing,
            State::Failed,
            State::Pending,
            State::Executing,
            State::Succeeded
        ]
    );
    assert_eq!(status.retries(), 1);
    assert_eq!(status.to_string(), "succeeded, priority 5, 1 retry");
}

// Case 18. Neither a missing parent nor a cycle can be built: a parent is given as the context of an operation
// that was submitted, or is running, when the child is.

#[test]
fn case_18_a_chain_is_as_important_as_its_head_whoever_has_started() {
    let engine = engine();
    let entities: Vec<_> = (0..4).map(|_| Entity::new(0)).collect();
    let make = |at: usize| Operation::update(&entities[at], |n| n + 1);
    let critical = engine.submit(make(0).priority(Priority::CRITICAL)).unwrap();
    let normal = engine.submit(make(1).within(&critical.context())).unwrap();
    let low = make(2).class(Class::LOW).within(&normal.context());
    let low = engine.submit(low).unwrap();
    let ids = [low.id(), normal.id(), critical.id()];
    let check = || {
        let effective = [critical.status(), normal.status(), low.status()];
        assert_eq!(effective.map(|status| status.priority().get()), [10; 3]);
        assert_eq!(low.chain(), ids);
        assert_eq!(normal.chain(), ids[1..]);
        assert_eq!(critical.chain(), ids[2..]);
    };
    check();
    engine.serve();
    check();
    // And one that comes when its parent is done already.
    let late = engine
        .submit(make(3).class(Class::LOW).within(&low.context()))
        .unwrap();
    assert_eq!(late.chain(), [late.id(), ids[0], ids[1], ids[2]]);
    assert_eq!(late.status().priority().get(), 10);
    late.wait().unwrap();
    assert_eq!(conserved(&engine).committed, 4);
}

#[test]
fn case_18_a_child_of_a_parent_that_runs_is_as_important_as_that() {
    let engine = engine();
    let (outer, inner) = (Entity::new(0), Entity::new(0));
    let (nested, target) = (engine.clone(), inner.clone());
    let seen = Arc::new(Mutex::new(None));
    let note = seen.clone();
    let parent = engine.submit(
        Operation::update(&outer, move |n| {
            let make = || Operation::update(&target, |n| n + 1).class(Class::LOW);
            let child = nested.submit(make()).unwrap();
            let other = nested.submit(make().independent()).unwrap();
            *note.lock().unwrap() = Some((
                child.chain(),
                child.status().priority().get(),
                other.chain().len(),
                other.status().priority().get(),
                Context::current().unwrap().priority().get(),
            ));
            n + 1
        })
        .priority(Priority::HIGH),
    );
    let parent = parent.unwrap();
    engine.serve();
    let (chain, own, alone, others, current) = seen.lock().unwrap().take().unwrap();
    assert_eq!(chain[1..], [parent.id()]);
    assert_eq!((own, alone, others, current), (8, 1, 2, 8));
    assert_eq!(conserved(&engine).committed, 3);
}

// Case 22.

#[test]
fn case_22_who_is_under_grace_is_left_alone_until_exactly_its_period() {
    let claim = |priority, tag, grace: u64| Claim {
        priority,
        tag,
        start_us: 5_000_000,
        grace_us: grace * 1_000,
    };
    let at = |ms: u64| 5_000_000 + ms * 1_000;
    let low = claim(Priority::LOW, 1, 100);
    let critical = claim(Priority::CRITICAL, 2, 100);
    let target = Reservation::new();
    assert!(target.is_free(), "whom nobody knows anybody may preempt");
    assert!(target.try_take(&low, at(0)));
    // Both win: the one is left alone, and the other doesn't step back.
    assert!(!target.try_take(&critical, at(0)));
    assert_eq!(target.blocks(&critical, at(0)), None);
    assert!(!target.try_take(&critical, at(100) - 1));
    assert!(target.try_take(&critical, at(100)), "at its very end");
    target.clear(&low);
    assert!(!target.is_free(), "whoever was taken over clears nothing");
    target.clear(&critical);
    assert!(target.is_free());
    // Period 0 protects nobody.
    assert!(!target.try_take(&claim(Priority::LOW, 1, 0), at(0)));
    assert!(target.is_free());
    // After its end nobody is protected.
    assert!(target.try_take(&low, at(0)));
    target.clear(&low);
    let background = claim(Priority::BACKGROUND, 3, 100);
    assert_eq!(target.blocks(&background, at(1)), None);
    assert!(target.try_take(&background, at(1)));
    target.clear(&background);
    assert!(target.is_free(), "nothing is left when all are done");
}

#[test]
fn case_22_no_reservation_is_left_by_those_that_reserve_from_the_first_attempt() {
    for lost in [0, 1, 5, u32::MAX] {
        let engine = engine();
        let entity = Entity::new(0_u64);
        let reserving = || at_once().reserving_after(0);
        let make = || losing(&entity, lost).retrying(reserving());
        let ticket = engine.submit(make()).unwrap();
        engine.serve();
        assert_eq!(ticket.wait().is_ok(), lost < u32::MAX);
        assert_eq!(engine.run(&make()).is_ok(), lost < u32::MAX);
        let counts = conserved(&engine);
        assert_eq!(counts.succeeded() + counts.rejected, 2);
    }
}

// What becomes of an operation.

#[test]
fn each_constructor_names_its_operations_unless_they_are_named() {
    let engine = engine();
    let entity = Entity::new(0);
    let name = |ticket: &'static str, expected| assert_eq!(ticket, expected);
    name(
        engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap()
            .name(),
        "update",
    );
    let tried = Operation::try_update(&entity, |n| Ok::<_, Infallible>(Some(n + 1)));
    name(engine.submit(tried).unwrap().name(), "try_update");
    let both = Operation::transaction((entity.clone(),), |tx, (entity,)| {
        tx.update(entity, |n| n + 1)?;
        Ok::<_, Stop<Infallible>>(())
    });
    name(engine.submit(both).unwrap().name(), "transaction");
    let prepared = Operation::prepared(&entity, |_| Ok::<_, Infallible>(1), |n, m| Ok(Some(n + m)));
    name(engine.submit(prepared).unwrap().name(), "prepared");
    let merging = Operation::merging(&entity, |n| Ok::<_, Infallible>(Some(n + 1)), |_| None);
    name(engine.submit(merging).unwrap().name(), "merging");
    let named = Operation::update(&entity, |n| n + 1).named("mine");
    assert!(format!("{named:?}").contains("mine"));
    name(engine.submit(named).unwrap().name(), "mine");
    engine.serve();
    assert_eq!(*entity.snapshot(), 6);
    assert_eq!(conserved(&engine).committed, 6);
}

#[test]
fn an_operation_that_refuses_fails_with_its_own_error_and_changes_nothing() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let entity = Entity::new(3_u32);
        let take = |k: u32| {
            Operation::try_update(&entity, move |n| {
                n.checked_sub(k).map(Some).ok_or("sold out")
            })
        };
        let ticket = engine.submit(take(4)).unwrap();
        engine.serve();
        assert_eq!(ticket.status().state(), State::Failed);
        let error = ticket.wait().unwrap_err();
        assert_eq!(error.to_string(), "sold out");
        assert_eq!(error.into_refused(), Some("sold out"));
        assert!(matches!(
            engine.run(&take(4)),
            Err(OperationError::Refused("sold out"))
        ));
        assert_eq!(entity.snapshot().stamp().version(), 0);
        assert_eq!(*engine.run(&take(3)).unwrap(), 0);
        let counts = conserved(&engine);
        assert_eq!((counts.failed, counts.committed), (2, 1));
    }
}

#[test]
fn an_operation_that_finds_nothing_to_change_succeeds_without_a_commit() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let entity = Entity::new(3);
        let look = || Operation::try_update(&entity, |_| Ok::<_, Infallible>(None));
        let ticket = engine.submit(look()).unwrap();
        engine.serve();
        assert_eq!(ticket.status().state(), State::Succeeded);
        assert_eq!(*ticket.wait().unwrap(), 3);
        assert_eq!(*engine.run(&look()).unwrap(), 3);
        assert_eq!(entity.snapshot().stamp().version(), 0);
        let counts = conserved(&engine);
        assert_eq!((counts.unchanged, counts.committed), (2, 0));
        assert_eq!(counts.succeeded(), 2);
    }
}

#[test]
fn a_value_that_the_validator_refuses_is_not_committed_and_the_complaint_arrives() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let validate = |n: &i32| if *n < 0 { Err("negative") } else { Ok(()) };
        let entity = Entity::builder(1).validate(validate).try_build();
        let entity = entity.unwrap();
        let sub = |k: i32| Operation::update(&entity, move |n| n - k);
        let bad = engine.submit(sub(2)).unwrap();
        engine.serve();
        assert_eq!(bad.status().state(), State::Failed);
        let error = bad.wait().unwrap_err();
        assert!(matches!(&error, OperationError::Invalid(why) if why.to_string() == "negative"));
        assert_eq!(error.to_string(), "the value is invalid: negative");
        let run = engine.run(&sub(2));
        assert!(matches!(run, Err(OperationError::Invalid(_))));
        let prepared =
            Operation::prepared(&entity, |_| Ok::<_, Infallible>(5), |n, k| Ok(Some(n - k)));
        let prepared = engine.submit(prepared).unwrap();
        engine.serve();
        let merging = Operation::merging(
            &entity,
            |n| Ok::<_, Infallible>(Some(n - 5)),
            |merge: Merge<'_, i32>| Some(*merge.theirs - 5),
        );
        let merging = engine.submit(merging).unwrap();
        engine.serve();
        assert!(matches!(merging.wait(), Err(OperationError::Invalid(_))));
        assert!(matches!(prepared.wait(), Err(OperationError::Invalid(_))));
        assert_eq!(entity.snapshot().stamp().version(), 0);
        assert_eq!(*engine.run(&sub(1)).unwrap(), 0);
        let counts = conserved(&engine);
        assert_eq!((counts.failed, counts.committed), (4, 1), "{policy:?}");
    }
}

#[test]
fn an_operation_fails_at_the_end_of_the_versions() {
    let engine = engine();
    let born = snapcell::Stamp::from_bits(u128::from(u64::MAX) << 64);
    let entity = Entity::builder(1).born(born).build();
    let ticket = engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap();
    engine.serve();
    assert!(matches!(ticket.wait(), Err(OperationError::VersionLimit)));
    let both = Operation::transaction((entity.clone(),), |tx, (entity,)| {
        tx.update(entity, |n| n + 1)?;
        Ok::<_, Stop<Infallible>>(())
    });
    assert!(matches!(
        engine.run(&both),
        Err(OperationError::VersionLimit)
    ));
    assert_eq!(conserved(&engine).failed, 2);
}

#[test]
fn a_transaction_that_aborts_changes_nothing_and_one_that_commits_changes_all() {
    let engine = engine();
    let (ann, bob) = (Entity::new(50_u32), Entity::new(0_u32));
    let transfer = |amount: u32| {
        Operation::transaction((ann.clone(), bob.clone()), move |tx, (ann, bob)| {
            // It may write first and refuse then.
            tx.update(bob, |n| n + amount)?;
            let left = tx.get(ann)?.checked_sub(amount);
            let left = left.ok_or(Stop::Abort("overdrawn"))?;
            tx.write(ann, left);
            Ok(left)
        })
    };
    let refused = engine.submit(transfer(60)).unwrap();
    engine.serve();
    assert_eq!(
        refused.wait().unwrap_err().into_refused(),
        Some("overdrawn")
    );
    assert_eq!((*ann.snapshot(), *bob.snapshot()), (50, 0));
    assert_eq!(engine.run(&transfer(30)).unwrap(), 20);
    assert_eq!((*ann.snapshot(), *bob.snapshot()), (20, 30));
    conserved(&engine);
}

#[test]
fn what_is_prepared_is_applied_to_what_is_current_then() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let entity = Entity::new(1);
        let (beside, prepared) = (entity.clone(), Arc::new(AtomicU32::new(0)));
        let times = prepared.clone();
        let operation = Operation::prepared(
            &entity,
            move |base: &Snapshot<i32>| {
                times.fetch_add(1, Ordering::Relaxed);
                beside.update(|n| n + 100);
                Ok::<_, Infallible>(**base)
            },
            |n, base| Ok(Some(n * 10 + base)),
        );
        let ticket = engine.submit(operation).unwrap();
        engine.serve();
        assert_eq!(*ticket.wait().unwrap(), 1_011);
        assert_eq!(prepared.load(Ordering::Relaxed), 1, "once");
        assert_eq!(conserved(&engine).conflicts, 0);
    }
}

#[test]
fn a_preparation_that_refuses_fails_the_operation_before_its_turn() {
    for policy in POLICIES {
        let engine = Engine::builder().workers(0).policy(policy).build();
        let entity = Entity::new(1);
        let make = || Operation::prepared(&entity, |_| Err::<(), _>("no"), |_, ()| Ok(None));
        let ticket = engine.submit(make()).unwrap();
        engine.serve();
        assert_eq!(ticket.wait().unwrap_err().into_refused(), Some("no"));
        assert!(matches!(
            engine.run(&make()),
            Err(OperationError::Refused("no"))
        ));
        assert_eq!(conserved(&engine).failed, 2);
    }
}

#[test]
fn what_was_computed_on_an_old_value_is_merged_or_computed_again() {
    for merges in [true, false] {
        let engine = Engine::builder().workers(0).policy(Policy::Merge).build();
        let entity = Entity::new(10);
        let computed = Arc::new(AtomicU32::new(0));
        let (beside, times) = (entity.clone(), computed.clone());
        let operation = Operation::merging(
            &entity,
            move |n| {
                if times.fetch_add(1, Ordering::Relaxed) == 0 {
                    beside.update(|n| n + 5);
                }
                Ok::<_, Infallible>(Some(n * 2))
            },
            move |merge: Merge<'_, i32>| merges.then(|| merge.theirs + merge.mine - merge.base),
        );
        let ticket = engine.submit(operation.retrying(at_once())).unwrap();
        engine.serve();
        let (value, times) = if merges { (25, 1) } else { (30, 2) };
        assert_eq!(*ticket.wait().unwrap(), value);
        assert_eq!(computed.load(Ordering::Relaxed), times);
        assert_eq!(conserved(&engine).committed, 1);
    }
}

// Cases 31 to 35, as far as they are about operations.

#[test]
fn case_31_a_bank_takes_five_transactions_at_once_and_refuses_an_overdraft() {
    for policy in [Policy::InOrder, Policy::Fold, Policy::Merge] {
        let engine = Engine::builder().workers(2).policy(policy).build();
        let bank = Entity::new((1_000_i64, 0_u32));
        let book = |amount: i64| {
            Operation::try_update(&bank, move |(balance, booked)| {
                let balance = balance + amount;
                if balance < 0 {
                    return Err("overdrawn");
                }
                Ok(Some((balance, booked + 1)))
            })
        };
        let amounts = [100, 50, -75, 200, -25];
        let results = together(5, |at| engine.submit(book(amounts[at])).unwrap().wait());
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(*bank.snapshot(), (1_250, 5));
        let overdraft = engine.submit(book(-1_251)).unwrap().wait();
        assert_eq!(overdraft.unwrap_err().into_refused(), Some("overdrawn"));
        assert_eq!(*bank.snapshot(), (1_250, 5));
        let counts = conserved(&engine);
        assert_eq!((counts.committed, counts.failed), (5, 1));
    }
}

#[test]
fn case_33_forty_thousand_increments_on_one_entity_are_all_there_in_the_order_of_their_commits() {
    let engine = Engine::builder().workers(2).build();
    let entity = Entity::builder(0_u64).retain(Retain::All).build();
    let stamps = together(8, |_| {
        let submit = |_| {
            engine
                .submit(Operation::update(&entity, |n| n + 1))
                .unwrap()
        };
        let tickets: Vec<_> = (0..5_000).map(submit).collect();
        let mut stamps = Vec::new();
        for ticket in tickets {
            let snapshot = ticket.wait().unwrap();
            assert_eq!(*snapshot, snapshot.stamp().version());
            stamps.push(snapshot.stamp());
        }
        stamps
    });
    let mut line: Vec<_> = stamps.into_iter().flatten().collect();
    line.sort_unstable();
    assert!(line.iter().map(|stamp| stamp.version()).eq(1..=40_000));
    assert_eq!(*entity.snapshot(), 40_000);
    assert_eq!(entity.snapshot().stamp(), line[39_999]);
    let counts = conserved(&engine);
    assert_eq!((counts.submitted, counts.committed), (40_000, 40_000));
}

#[test]
fn case_34_three_hundred_operations_at_once_on_three_targets_all_commit() {
    let engine = Engine::builder().workers(3).build();
    let targets: Vec<_> = (0..3).map(|_| Entity::new(0_u64)).collect();
    // The work is long beside what it takes to commit.
    let work = |n: &u64| (0..20_000_u64).fold(*n, |n, k| std::hint::black_box(n ^ k ^ k)) + 1;
    let results = together(300, |at| {
        let operation = Operation::update(&targets[at % 3], work).retries(15);
        engine.submit(operation).unwrap().wait()
    });
    assert!(results.iter().all(Result::is_ok));
    for target in &targets {
        assert_eq!(
            (*target.snapshot(), target.snapshot().stamp().version()),
            (100, 100)
        );
    }
    let counts = conserved(&engine);
    assert_eq!(counts.committed, 300);
    assert_eq!(counts.conflicts, 0, "in a lane nobody gets in one's way");
}

#[test]
fn case_35_a_run_without_conflicts_does_not_claim_to_have_validated_anything() {
    let engine = engine();
    let entity = Entity::new(0_u64);
    engine.run(&Operation::update(&entity, |n| n + 1)).unwrap();
    let none = Evidence::of(engine.counts());
    assert_eq!(none, Evidence::NoConflict);
    assert!(!none.to_string().contains("validated"));
    engine.run(&losing(&entity, 3)).unwrap();
    let some = Evidence::of(conserved(&engine));
    assert_eq!(some, Evidence::Validated { conflicts: 3 });
    assert!(some.to_string().contains("3 conflicts"));
}
