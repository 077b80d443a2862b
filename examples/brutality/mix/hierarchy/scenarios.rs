//! Six scenarios of classes, parents, conflicts and grace, each with one right outcome.
//!
//! They run on engines of their own, without threads and with a clock that stands still until it is moved: so nothing in
//! them depends on who is faster. What becomes of those that lose depends on the policy, and is checked accordingly.

use super::super::{Check, Scenario, class_of};
use crate::args::Policy;
use snapcell::{
    Class, Clock, Engine, Entity, ManualClock, Operation, OperationError, Policies, Priority,
    Reason, RetryPolicy, ShutDown, Snapshot, State, Status, Ticket,
};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// All six.
pub(super) fn all(policy: Policy) -> Vec<Check> {
    let mut checks = classes();
    checks.extend(life(policy));
    checks.extend(inheritance(policy));
    checks.extend(conflicts(policy));
    checks.extend(grace(policy));
    checks.extend(children(policy));
    checks
}

/// An engine that does nothing by itself, and its clock.
fn still(policy: Policy) -> (Engine, ManualClock) {
    let clock = ManualClock::new();
    clock.set(Duration::from_secs(1));
    let mut policies = Policies::default();
    policies.set_grace(Duration::from_millis(100));
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .policies(policies)
        .policy(policy.of_engine())
        .build();
    (engine, clock)
}

type Mine = Ticket<Snapshot<Vec<u32>>, Infallible>;
type Told = Result<Snapshot<Vec<u32>>, OperationError<Infallible>>;

/// An operation that adds a number to a list: so the list tells the order.
fn note(
    list: &Entity<Vec<u32>>,
    number: u32,
) -> Operation<impl snapcell::Body<Output = Snapshot<Vec<u32>>, Error = Infallible> + use<>> {
    Operation::update(list, move |list: &Vec<u32>| [&list[..], &[number]].concat())
}

fn lost(answer: &Told) -> bool {
    let rejection = answer.as_ref().err().and_then(OperationError::rejection);
    rejection.is_some_and(|why| matches!(why.reason, Reason::Lost { .. }))
}

/// Which priorities a class has and lets.
fn classes() -> Vec<Check> {
    let policies = Policies::default();
    let policy = |class| {
        policies
            .get(class)
            .expect("there are three from the beginning")
    };
    let base = |class| (policy(class).priority().get(), policy(class).retries());
    let admits = |class, number| {
        let priority = Priority::new(number).expect("it is one");
        policy(class).admit(priority).is_ok()
    };
    let mut scenario = Scenario::new("1. classes");
    scenario.check(
        "structural: 10, 20 retries",
        base(Class::STRUCTURAL) == (10, 20),
    );
    scenario.check("normal: 5, 5 retries", base(Class::NORMAL) == (5, 5));
    scenario.check("low: 2, 3 retries", base(Class::LOW) == (2, 3));
    scenario.check("structural takes 8", admits(Class::STRUCTURAL, 8));
    scenario.check(
        "structural takes neither 5 nor 7",
        !admits(Class::STRUCTURAL, 5) && !admits(Class::STRUCTURAL, 7),
    );
    scenario.check("low takes 5", admits(Class::LOW, 5));
    scenario.check(
        "low takes neither 6 nor 8",
        !admits(Class::LOW, 6) && !admits(Class::LOW, 8),
    );
    scenario.check(
        "0 and 11 are no priorities",
        Priority::new(0).is_err() && Priority::new(11).is_err(),
    );
    let (engine, _) = still(Policy::InOrder);
    let list = Entity::new(Vec::new());
    let refused = engine.submit(note(&list, 0).class(Class::LOW).priority(Priority::HIGH));
    scenario.check("an engine says so as well", refused.is_err());
    scenario.done()
}

/// From pending to its end, and no other way.
fn life(policy: Policy) -> Vec<Check> {
    let mut scenario = Scenario::new("2. life of an operation");
    let (engine, _) = still(policy);
    let list = Entity::new(Vec::new());
    let ticket = engine.submit(note(&list, 0)).expect("it is taken");
    let id = ticket.id();
    scenario.check(
        "it begins as pending",
        ticket.status().state() == State::Pending,
    );
    scenario.check("and has not started", ticket.times().started.is_none());
    engine.serve();
    scenario.check("it succeeds", ticket.status().state() == State::Succeeded);
    scenario.check(
        "it has started and ended",
        ticket.times().started.is_some() && ticket.times().ended.is_some(),
    );
    scenario.check("its id is the same all the while", ticket.id() == id);
    scenario.check("what is done can't be cancelled", !ticket.cancel());
    let cancelled = engine.submit(note(&list, 1)).expect("it is taken");
    scenario.check("what waits can be cancelled", cancelled.cancel());
    let cancelled = cancelled.wait();
    scenario.check(
        "and says so",
        matches!(cancelled, Err(OperationError::Cancelled)),
    );

    let born = Status::new(Priority::NORMAL);
    let tried = born
        .start()
        .and_then(|status| status.fail())
        .and_then(|status| status.retry(5));
    scenario.check(
        "what failed may be tried again, and counts it",
        tried.is_ok_and(|status| (status.state(), status.retries()) == (State::Pending, 1)),
    );
    scenario.check("what hasn't begun can't succeed", born.succeed().is_err());
    let exhausted = (0..5).try_fold(born, |status, _| status.start()?.retry(5));
    let exhausted = exhausted.and_then(|status| status.start()?.retry(5));
    scenario.check(
        "after five retries there is no sixth",
        exhausted.is_err_and(|error| error.is_exhausted()),
    );
    let delays = (1..=5).map(|retry| RetryPolicy::reference().delay(retry));
    let delays: Vec<_> = delays
        .map(|delay| delay.map_or(0, |delay| delay.as_millis()))
        .collect();
    scenario.check(
        "20, 40, 80, 160, 320 ms between them, by the reference",
        delays == [20, 40, 80, 160, 320],
    );
    scenario.check(
        "no delay before retry 0",
        RetryPolicy::reference().delay(0).is_err(),
    );
    scenario.done()
}

/// Critical, a normal part of that, and a low part of that one.
fn inheritance(policy: Policy) -> Vec<Check> {
    let mut scenario = Scenario::new("3. inheritance");
    let (engine, _) = still(policy);
    let lists: [_; 3] = std::array::from_fn(|_| Entity::new(Vec::new()));
    let critical = engine.submit(note(&lists[0], 0).class(Class::STRUCTURAL));
    let critical = critical.expect("it is taken");
    let normal = engine.submit(note(&lists[1], 1).within(&critical.context()));
    let normal = normal.expect("it is taken");
    let low = note(&lists[2], 2)
        .class(Class::LOW)
        .within(&normal.context());
    let low = engine.submit(low).expect("it is taken");
    let priorities = || [&critical, &normal, &low].map(|ticket| ticket.status().priority().get());
    scenario.check("all three are critical", priorities() == [10, 10, 10]);
    scenario.check(
        "the chain of the last is low, normal, critical",
        low.chain() == [low.id(), normal.id(), critical.id()],
    );
    engine.serve();
    scenario.check(
        "so it is when the first has ended",
        priorities() == [10, 10, 10],
    );
    let all = [critical, normal, low].map(Ticket::wait);
    scenario.check("all succeed", all.iter().all(Result::is_ok));

    let entry = |id, priority, parent| (id, priority, parent);
    let missing = [entry("a", Priority::LOW, Some("b"))];
    let own = [entry("a", Priority::LOW, Some("a"))];
    let circle = [
        entry("a", Priority::LOW, Some("b")),
        entry("b", Priority::LOW, Some("a")),
    ];
    scenario.check(
        "a missing parent is an error",
        snapcell::Hierarchy::new(missing).is_err(),
    );
    scenario.check(
        "to be one's own parent is one",
        snapcell::Hierarchy::new(own).is_err(),
    );
    scenario.check("a circle is one", snapcell::Hierarchy::new(circle).is_err());
    scenario.done()
}

/// Several that want the same: the most important one is first, and of equals the earliest.
fn conflicts(policy: Policy) -> Vec<Check> {
    let mut scenario = Scenario::new("4. conflicts");
    let order = [
        Priority::LOW,
        Priority::NORMAL,
        Priority::HIGH,
        Priority::CRITICAL,
    ];
    let (list, answers, engine) = together(policy, order);
    scenario.check("the critical one is first", list.first() == Some(&3));
    scenario.check(
        "the engine has counted four",
        engine.counts().submitted == 4,
    );
    if policy == Policy::Winner {
        scenario.check("nobody else is in the list", list.len() == 1);
        let losers = answers.iter().filter(|answer| lost(answer)).count();
        scenario.check("three are told that they lost", losers == 3);
        scenario.check("and counted", engine.counts().rejected == 3);
    } else {
        scenario.check("the others follow by priority", list == [3, 2, 1, 0]);
        scenario.check("all succeed", answers.iter().all(Result::is_ok));
        scenario.check("and are counted", engine.counts().committed == 4);
    }
    let (list, ..) = together(policy, [Priority::NORMAL; 4]);
    scenario.check("of equals the earliest is first", list.first() == Some(&0));
    scenario.done()
}

/// Four that are staged together: what the list is then, and what each is told.
fn together(policy: Policy, priorities: [Priority; 4]) -> (Vec<u32>, Vec<Told>, Engine) {
    let (engine, _) = still(policy);
    let list = Entity::new(Vec::new());
    let mut stage = engine.stage();
    let tickets: Vec<Mine> = (0..)
        .zip(priorities)
        .map(|(number, priority)| {
            let operation = note(&list, number).class(class_of(priority));
            stage
                .add(operation.priority(priority))
                .expect("it is taken")
        })
        .collect();
    stage.resolve();
    engine.serve();
    let answers = tickets.into_iter().map(Ticket::wait).collect();
    (list.snapshot().to_vec(), answers, engine)
}

/// Who runs is left alone; and what waits loses its patience at its time, not before.
fn grace(policy: Policy) -> Vec<Check> {
    let mut scenario = Scenario::new("5. grace and patience");
    let (engine, clock) = still(policy);
    let list = Entity::new(Vec::new());
    let patient = Duration::from_millis(100);
    let first = engine
        .submit(note(&list, 0).patience(patient))
        .expect("it is taken");
    clock.advance(patient - Duration::from_nanos(1));
    engine.serve();
    scenario.check(
        "just before its patience is over it runs",
        first.wait().is_ok(),
    );
    let second = engine
        .submit(note(&list, 1).patience(patient))
        .expect("it is taken");
    clock.advance(patient);
    engine.serve();
    let second = second.wait();
    let reason = second
        .as_ref()
        .err()
        .and_then(OperationError::rejection)
        .map(|why| why.reason);
    scenario.check(
        "when it is over it is told",
        reason == Some(Reason::Expired { patience: patient }),
    );
    // A critical one that comes while a low one runs does not take its turn away.
    let (inner, other) = (engine.clone(), list.clone());
    let late: Arc<std::sync::OnceLock<Mine>> = Arc::default();
    let kept = late.clone();
    let low = Operation::update(&list, move |list: &Vec<u32>| {
        kept.get_or_init(|| {
            let critical = note(&other, 3).class(Class::STRUCTURAL).independent();
            inner.submit(critical).expect("it is taken")
        });
        [&list[..], &[2]].concat()
    });
    let low = engine.submit(low.class(Class::LOW)).expect("it is taken");
    engine.serve();
    scenario.check("a low one that runs is not preempted", low.wait().is_ok());
    let late = Arc::into_inner(late).and_then(std::sync::OnceLock::into_inner);
    scenario.check(
        "the critical one that came meanwhile follows",
        late.is_some_and(|late| late.wait().is_ok()) && *list.snapshot() == [0, 2, 3],
    );
    scenario.check("no reservation is left", engine.is_clean());
    let waits = engine.submit(note(&list, 4)).expect("it is taken");
    let closed = engine.shut_down(ShutDown::Cancel, None);
    scenario.check("a shut-down ends", closed.is_ok());
    scenario.check(
        "and tells who waits",
        matches!(waits.wait(), Err(OperationError::Cancelled)),
    );
    engine.start();
    let again = engine.submit(note(&list, 5)).expect("it is taken");
    scenario.check("after it one can start again", again.wait().is_ok());
    scenario.done()
}

/// A low part of something critical goes before what is high; in a stage, too.
fn children(policy: Policy) -> Vec<Check> {
    let mut scenario = Scenario::new("6. parts against competitors");
    let (engine, _) = still(policy);
    let (plan, list) = (Entity::new(Vec::new()), Entity::new(Vec::new()));
    let parent = engine
        .submit(note(&plan, 9).class(Class::STRUCTURAL))
        .expect("it is taken");
    let mut stage = engine.stage();
    let high = note(&list, 0)
        .class(Class::STRUCTURAL)
        .priority(Priority::HIGH);
    let high = stage.add(high).expect("it is taken");
    let child = note(&list, 1).class(Class::LOW).within(&parent.context());
    let child = stage.add(child).expect("it is taken");
    stage.resolve();
    engine.serve();
    scenario.check(
        "the low part of a critical one is first",
        list.snapshot().first() == Some(&1),
    );
    scenario.check("it succeeds", child.wait().is_ok());
    let high = high.wait();
    match policy {
        Policy::Winner => scenario.check("its competitor is told that it lost", lost(&high)),
        _ => scenario.check(
            "its competitor follows",
            high.is_ok() && *list.snapshot() == [1, 0],
        ),
    }
    scenario.check("the parent succeeds", parent.wait().is_ok());
    scenario.done()
}
