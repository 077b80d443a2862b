//! What is told of operations, in which order, and that nobody waits for whoever listens.
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
    Class, Clock, Engine, Entity, Event, EventKind, EventKinds, Events, Failure, HandlerPriority,
    Listener, ManualClock, Operation, OperationError, Policy, Priority, Reason, RetryPolicy, Stamp,
    State, TargetId, Thresholds, What,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;
use together::together;

/// An engine without threads: what happens when is up to the test.
fn by_hand() -> Engine {
    Engine::builder().workers(0).build()
}

fn all(events: &Events) -> Vec<Event> {
    std::iter::from_fn(|| events.try_next()).collect()
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(Event::kind).collect()
}

#[test]
fn an_operation_tells_of_its_beginning_and_its_end() {
    let clock = ManualClock::new();
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .build();
    let events = engine.events(EventKinds::ALL, 100);
    let stock = Entity::new(10);
    let order = Operation::update(&stock, |n| n - 1)
        .named("order")
        .priority(Priority::HIGH);
    let ticket = engine.submit(order).unwrap();
    clock.advance(Duration::from_micros(7));
    engine.serve();
    let events = all(&events);
    assert_eq!(kinds(&events), [EventKind::Started, EventKind::Completed]);
    for event in &events {
        let about = event.operation.expect("it is about the operation");
        assert_eq!((about.id, about.name), (ticket.id(), "order"));
        assert_eq!((about.class, about.budget), (Class::NORMAL, 5));
        assert_eq!(
            (about.priority, about.own),
            (Priority::HIGH, Priority::HIGH)
        );
        assert_eq!((about.parent, about.root), (None, ticket.id()));
        assert_eq!(about.target, TargetId::of(&stock));
        assert_eq!(event.at, Duration::from_micros(7));
    }
    let stamp = ticket.wait().unwrap().stamp();
    let completed = What::Completed {
        stamp: Some(stamp),
        took: Duration::from_micros(7),
    };
    assert_eq!(events[1].what, completed);
}

#[test]
fn what_is_run_at_once_is_told_too() {
    let engine = by_hand();
    let events = engine.events(EventKinds::ALL, 100);
    let stock = Entity::new(10);
    engine
        .run(&Operation::try_update(&stock, |_: &i32| Ok::<_, ()>(None)))
        .unwrap();
    engine
        .run(&Operation::try_update(&stock, |_: &i32| Err("no")))
        .unwrap_err();
    let events = all(&events);
    assert_eq!(
        kinds(&events),
        [
            EventKind::Started,
            EventKind::Completed,
            EventKind::Started,
            EventKind::Failed
        ]
    );
    let ids: Vec<_> = events
        .iter()
        .map(|event| event.operation.unwrap().id)
        .collect();
    assert!(ids[0] == ids[1] && ids[1] < ids[2] && ids[2] == ids[3]);
    assert!(matches!(
        events[1].what,
        What::Unchanged { stamp: Some(stamp), .. } if stamp == stock.snapshot().stamp()
    ));
    assert_eq!(events[3].what, What::Failed(Failure::Refused));
}

#[test]
fn a_conflict_names_both_stamps_and_is_followed_by_a_retry() {
    let engine = by_hand();
    let events = engine.events(EventKinds::ALL, 100);
    let entity = Entity::new(0);
    let born = entity.snapshot().stamp();
    let ticket = engine
        .submit(Operation::update(&entity, overtaken(&entity, 2)).retrying(at_once()))
        .unwrap();
    engine.serve();
    assert_eq!(*ticket.wait().unwrap(), 201);
    let events = all(&events);
    assert_eq!(
        kinds(&events),
        [
            EventKind::Started,
            EventKind::Conflict,
            EventKind::Retry,
            EventKind::Conflict,
            EventKind::Retry,
            EventKind::Completed
        ]
    );
    let What::Conflict { expected, found } = events[1].what else {
        panic!("it is one");
    };
    assert_eq!(expected, Some(born));
    assert_eq!(found.map(Stamp::version), Some(1));
    let retries = events.iter().filter_map(|event| match event.what {
        What::Retry { number, budget, .. } => Some((number, budget)),
        _ => None,
    });
    assert_eq!(retries.collect::<Vec<_>>(), [(1, 5), (2, 5)]);
}

#[test]
fn an_operation_that_is_run_tells_its_conflicts() {
    let engine = by_hand();
    let events = engine.events(EventKind::Conflict | EventKind::Retry, 100);
    let entity = Entity::new(0);
    engine
        .run(&Operation::update(&entity, overtaken(&entity, 1)).retrying(at_once()))
        .unwrap();
    let events = all(&events);
    assert_eq!(kinds(&events), [EventKind::Conflict, EventKind::Retry]);
    assert_eq!(
        events[0].operation.unwrap().id,
        events[1].operation.unwrap().id
    );
    assert!(
        matches!(events[0].what, What::Conflict { found: Some(found), .. } if found.version() == 1)
    );
}

#[test]
fn who_has_used_up_its_budget_is_rejected_once() {
    let engine = by_hand();
    let events = engine.events(EventKinds::ENDS, 100);
    let entity = Entity::new(0);
    let operation = Operation::update(&entity, overtaken(&entity, 9))
        .retries(2)
        .retrying(at_once());
    let ticket = engine.submit(operation).unwrap();
    engine.serve();
    assert!(ticket.wait().unwrap_err().rejection().is_some());
    let events = all(&events);
    assert_eq!(kinds(&events), [EventKind::Rejected]);
    assert!(matches!(
        &events[0].what,
        What::Rejected(why) if why.reason == Reason::Exhausted { retries: 2 } && why.attempts == 3
    ));
}

/// Acceptance case 24, and the events of 26: of a hundred, one starts and completes, and 99 are rejected.
#[test]
fn each_loser_of_a_round_is_told_once() {
    let engine = Engine::builder()
        .workers(0)
        .policy(Policy::WinnerTakesAll)
        .build();
    let events = engine.events(EventKinds::ALL, 1_000);
    let entity = Entity::new(0);
    let mut stage = engine.stage();
    let tickets: Vec<_> = (0..100)
        .map(|_| stage.add(Operation::update(&entity, |n| n + 1)).unwrap())
        .collect();
    stage.resolve();
    engine.serve();
    let events = all(&events);
    let count = |kind| events.iter().filter(|event| event.kind() == kind).count();
    assert_eq!(count(EventKind::Started), 1);
    assert_eq!(count(EventKind::Completed), 1);
    assert_eq!(count(EventKind::Rejected), 99);
    let winner = tickets[0].id();
    for event in &events {
        let id = event.operation.unwrap().id;
        match &event.what {
            What::Rejected(why) => {
                assert_ne!(id, winner);
                assert!(matches!(why.reason, Reason::Lost { winner: by, .. } if by == winner));
            }
            _ => assert_eq!(id, winner, "the first one has won"),
        }
    }
}

#[test]
fn a_conflict_among_four_rejects_those_that_lost_to_the_critical_one() {
    let engine = Engine::builder()
        .workers(0)
        .policy(Policy::WinnerTakesAll)
        .build();
    let rejected = engine.events(EventKind::Rejected, 100);
    let entity = Entity::new(0);
    let mut stage = engine.stage();
    let mut add = |priority| {
        let operation = Operation::update(&entity, |n| n + 1).priority(priority);
        stage.add(operation).unwrap()
    };
    let normal = add(Priority::NORMAL);
    let critical = add(Priority::CRITICAL);
    let low = add(Priority::LOW);
    stage.resolve();
    engine.serve();
    let ids: Vec<_> = all(&rejected)
        .iter()
        .map(|event| event.operation.unwrap().id)
        .collect();
    assert_eq!(ids, [normal.id(), low.id()]);
    critical.wait().unwrap();
}

/// The same, asked for when the conflict is there: acceptance case 24 as the reference has it, by its default handler.
#[test]
fn a_conflict_can_be_resolved_when_it_is_told() {
    let engine = Engine::builder().workers(0).registry(100).build();
    let entity = Entity::new(0);
    let submit = |priority| {
        let add = Operation::update(&entity, |n| n + 1).priority(priority);
        engine.submit(add).unwrap()
    };
    let rejected = engine.events(EventKind::Rejected, 100);
    let conflicts = engine.events(EventKind::Conflict, 100);
    let has_conflict =
        Operation::update(&entity, overtaken(&entity, 1)).priority(Priority::CRITICAL);
    let first = engine.submit(has_conflict).unwrap();
    engine.serve();
    let (normal, critical, low) = (
        submit(Priority::NORMAL),
        submit(Priority::CRITICAL),
        submit(Priority::LOW),
    );
    let about = conflicts.try_next().unwrap().operation.unwrap();
    assert_eq!(
        (about.id, about.target),
        (first.id(), TargetId::of(&entity))
    );
    let _ = engine.resolve(&entity).unwrap();
    let ids: Vec<_> = all(&rejected)
        .iter()
        .map(|event| event.operation.unwrap().id)
        .collect();
    assert_eq!(ids, [normal.id(), low.id()]);
    engine.serve();
    critical.wait().unwrap();
}

#[test]
fn what_health_finds_is_told() {
    let engine = Engine::builder().workers(0).build();
    let events = engine.events(EventKind::Alert | EventKind::ReclamationStalled, 100);
    let entity = Entity::new(0);
    let _ticket = engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap();
    let limits = Thresholds::new()
        .lag_bytes(usize::MAX)
        .lag_nodes(usize::MAX);
    let _ = engine.health(&limits);
    assert!(events.is_empty());
    let _ = engine.health(&limits.waiting(0));
    let what: Vec<_> = all(&events).into_iter().map(|event| event.what).collect();
    assert_eq!(what, [What::Alert("too many operations wait")]);
    engine.serve();
}

#[test]
fn a_more_important_one_preempts_between_two_attempts() {
    let engine = by_hand();
    let events = engine.events(EventKinds::ALL, 100);
    let entity = Entity::new(0);
    let urgent = Arc::new(Mutex::new(None));
    let has_come = AtomicBool::new(false);
    let low = {
        let (engine, entity, urgent) = (engine.clone(), entity.clone(), urgent.clone());
        Operation::update(&entity.clone(), move |n| {
            if !has_come.swap(true, SeqCst) {
                let operation = Operation::update(&entity, |n| n + 10)
                    .priority(Priority::CRITICAL)
                    .independent();
                *urgent.lock().unwrap() = Some(engine.submit(operation).unwrap());
                thread::scope(|scope| {
                    scope.spawn(|| _ = *entity.update(|n| n + 100).snapshot());
                });
            }
            n + 1
        })
    };
    let low = engine
        .submit(low.priority(Priority::LOW).retrying(at_once()))
        .unwrap();
    engine.serve();
    let urgent = urgent.lock().unwrap().take().expect("it was submitted");
    let told: Vec<_> = all(&events)
        .into_iter()
        .map(|event| (event.operation.unwrap().id == low.id(), event.kind()))
        .collect();
    assert_eq!(
        told,
        [
            (true, EventKind::Started),
            (true, EventKind::Conflict),
            (true, EventKind::Retry),
            (true, EventKind::Preempted),
            (false, EventKind::Started),
            (false, EventKind::Completed),
            (true, EventKind::Completed),
        ]
    );
    assert_eq!(engine.metrics().total().preemptions, 1);
    urgent.wait().unwrap();
    low.wait().unwrap();
    _ = conserved(&engine);
}

#[test]
fn parts_tell_what_they_are_part_of() {
    let engine = by_hand();
    let events = engine.events(EventKind::Completed, 100);
    let (one, two) = (Entity::new(0), Entity::new(0));
    let parent = engine.submit(Operation::update(&one, |n| n + 1)).unwrap();
    let part = Operation::update(&two, |n| n + 1).within(&parent.context());
    let part = engine.submit(part).unwrap();
    let under = Operation::update(&two, |n| n + 1).within(&part.context());
    let under = engine.submit(under).unwrap();
    engine.serve();
    let of = |id| {
        let event = move |event: &Event| event.operation.filter(|about| about.id == id);
        move |events: &[Event]| events.iter().find_map(event).expect("it was told")
    };
    let events = all(&events);
    assert_eq!(of(parent.id())(&events).parent, None);
    assert_eq!(of(part.id())(&events).parent, Some(parent.id()));
    assert_eq!(of(part.id())(&events).root, parent.id());
    assert_eq!(of(under.id())(&events).parent, Some(part.id()));
    assert_eq!(of(under.id())(&events).root, parent.id());
}

#[test]
fn each_way_to_end_is_told() {
    let engine = by_hand();
    let events = engine.events(EventKinds::ENDS, 100);
    let entity = Entity::new(0);
    let panics = Operation::update(&entity, |_| panic!("on purpose"));
    let ticket = engine.submit(panics).unwrap();
    engine.serve();
    assert!(matches!(ticket.wait(), Err(OperationError::Panicked(_))));
    let ticket = engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap();
    assert!(ticket.cancel());
    let rare = Entity::builder(1_u32)
        .validate(|n: &u32| if *n < 10 { Ok(()) } else { Err("too many") })
        .try_build()
        .unwrap();
    let invalid = engine
        .submit(Operation::update(&rare, |n| n + 100))
        .unwrap();
    engine.serve();
    assert!(matches!(invalid.wait(), Err(OperationError::Invalid(_))));
    let what: Vec<_> = all(&events).into_iter().map(|event| event.what).collect();
    assert_eq!(
        what,
        [
            What::Failed(Failure::Panicked),
            What::Cancelled,
            What::Failed(Failure::Invalid)
        ]
    );
}

#[test]
fn a_full_ring_drops_the_oldest_and_counts_it() {
    let engine = by_hand();
    let few = engine.events(EventKind::Completed, 3);
    let all_of_them = engine.events(EventKind::Completed, 100);
    let entity = Entity::new(0_u64);
    for _ in 0..10 {
        engine.run(&Operation::update(&entity, |n| n + 1)).unwrap();
    }
    assert_eq!((few.len(), few.dropped()), (3, 7));
    assert_eq!((all_of_them.len(), all_of_them.dropped()), (10, 0));
    let last = all(&all_of_them).split_off(7);
    assert_eq!(all(&few), last);
    assert!(few.is_empty());
}

#[test]
fn who_has_gone_is_told_nothing() {
    let engine = by_hand();
    let events = engine.events(EventKinds::ALL, 10);
    let others = engine.events(EventKind::Failed, 10);
    drop(events);
    let entity = Entity::new(0);
    engine.run(&Operation::update(&entity, |n| n + 1)).unwrap();
    assert!(others.is_empty());
}

#[test]
fn events_are_awaited() {
    let engine = by_hand();
    let events = engine.events(EventKind::Completed, 10);
    let entity = Entity::new(0);
    let mut next = pin!(events.next());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(next.as_mut().poll(&mut cx).is_pending());
    engine.run(&Operation::update(&entity, |n| n + 1)).unwrap();
    let told = next.as_mut().poll(&mut cx);
    assert!(matches!(told, Poll::Ready(Some(event)) if event.kind() == EventKind::Completed));
    drop(engine);
    let mut next = pin!(events.next());
    assert_eq!(
        next.as_mut().poll(&mut cx),
        Poll::Ready(None),
        "there is no engine"
    );
}

#[test]
fn who_waits_for_an_event_is_woken() {
    let engine = Engine::new();
    let events = engine.events(EventKind::Completed, 1_000);
    let entity = Entity::new(0_u64);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| (0..500).all(|_| events.wait(None).is_some()));
        for _ in 0..500 {
            engine
                .submit(Operation::update(&entity, |n| n + 1))
                .unwrap()
                .wait()
                .unwrap();
        }
        assert!(waiting.join().unwrap());
    });
    assert_eq!(events.wait(Some(Duration::ZERO)), None);
    drop(engine);
    assert_eq!(events.wait(None), None, "there is no engine");
}

#[test]
fn handlers_are_called_by_priority_and_then_by_age() {
    let engine = by_hand();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let handler = |name: &'static str| {
        let calls = calls.clone();
        move |_: &Event| calls.lock().unwrap().push(name)
    };
    let to = |priority| Listener::to(EventKind::Completed).priority(priority);
    let _subscriptions = [
        engine.on(EventKind::Completed, handler("normal")),
        engine.subscribe(to(HandlerPriority::LOW), handler("low")),
        engine.subscribe(to(HandlerPriority::CRITICAL), handler("critical")),
        engine.on(EventKind::Completed, handler("normal, later")),
        engine.subscribe(to(HandlerPriority::HIGH), handler("high")),
        engine.on(EventKind::Failed, handler("never")),
    ];
    let entity = Entity::new(0);
    engine.run(&Operation::update(&entity, |n| n + 1)).unwrap();
    engine.serve();
    assert_eq!(
        *calls.lock().unwrap(),
        ["critical", "high", "normal", "normal, later", "low"]
    );
}

#[test]
fn a_predicate_chooses_events() {
    let engine = by_hand();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let urgent = Listener::to(EventKinds::ALL).when(|event| {
        event
            .operation
            .is_some_and(|about| about.priority == Priority::CRITICAL)
    });
    let subscription = engine.subscribe(urgent, move |_| _ = counted.fetch_add(1, SeqCst));
    let entity = Entity::new(0);
    let add = || Operation::update(&entity, |n| n + 1);
    engine.run(&add()).unwrap();
    engine.run(&add().priority(Priority::CRITICAL)).unwrap();
    engine.serve();
    assert_eq!(calls.load(SeqCst), 2, "it has begun and ended");
    drop(subscription);
    engine.run(&add().priority(Priority::CRITICAL)).unwrap();
    engine.serve();
    assert_eq!(calls.load(SeqCst), 2);
}

#[test]
fn a_handler_that_panics_hurts_nobody() {
    let engine = by_hand();
    let calls = Arc::new(AtomicU64::new(0));
    let panics = engine.on(EventKind::Completed, |_| panic!("on purpose"));
    let picky = Listener::to(EventKind::Completed).when(|_| panic!("on purpose"));
    let picky = engine.subscribe(picky, |_| unreachable!("it isn't wanted"));
    let counted = calls.clone();
    let counts = engine.on(EventKind::Completed, move |_| {
        _ = counted.fetch_add(1, SeqCst)
    });
    let entity = Entity::new(0);
    for _ in 0..3 {
        engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap()
            .wait()
            .unwrap();
    }
    engine.serve();
    assert_eq!(calls.load(SeqCst), 3);
    assert_eq!(
        (panics.panics(), picky.panics(), counts.panics()),
        (3, 3, 0)
    );
    _ = conserved(&engine);
}

#[test]
fn a_handler_that_never_returns_keeps_no_operation() {
    let engine = Engine::new();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let subscription = engine.on(EventKind::Completed, move |_| {
        let _ = released.lock().unwrap().recv();
    });
    let entity = Entity::new(0_u64);
    // More than its ring has room for.
    for _ in 0..20_000 {
        engine.run(&Operation::update(&entity, |n| n + 1)).unwrap();
    }
    assert!(subscription.dropped() >= 20_000 - 16_384 - 1);
    assert_eq!(*entity.snapshot(), 20_000);
    _ = conserved(&engine);
    drop(release);
}

#[test]
fn handlers_are_called_on_a_thread_of_their_own() {
    let engine = Engine::new();
    let (tell, told) = mpsc::channel();
    engine
        .on(EventKind::Completed, move |event| {
            tell.send((thread::current().name().map(str::to_owned), *event))
                .unwrap();
        })
        .forever();
    let entity = Entity::new(0);
    let ticket = engine
        .submit(Operation::update(&entity, |n| n + 1))
        .unwrap();
    let id = ticket.id();
    ticket.wait().unwrap();
    let (name, event) = told.recv().unwrap();
    assert_eq!(name.as_deref(), Some("snapcell-events"));
    assert_eq!(event.operation.unwrap().id, id);
    drop(engine);
    assert!(told.recv().is_err(), "with the engine the handler is gone");
}

/// Whatever happens, each operation tells one end, and what its events say is what was counted.
#[test]
fn events_of_many_threads_add_up() {
    const EACH: u64 = 2_000;
    let engine = Engine::new();
    let events = engine.events(EventKinds::ALL, 1 << 20);
    let entities: Vec<_> = (0..3).map(|_| Entity::new(0_u64)).collect();
    together(4, |thread| {
        for n in 0..EACH {
            let entity = &entities[(n % 3) as usize];
            let add = Operation::try_update(entity, move |value: &u64| match n % 10 {
                0 => Ok(None),
                1 => Err("no"),
                _ => Ok(Some(value + 1)),
            })
            .retrying(at_once());
            if thread % 2 == 0 {
                let ticket = engine.submit(add.retries(1_000)).unwrap();
                if n % 7 == 0 {
                    ticket.cancel();
                }
            } else {
                let _ = engine.run(&add.retries(1_000));
            }
        }
    });
    let counts = conserved(&engine);
    assert_eq!(events.dropped(), 0);
    let mut lives: BTreeMap<_, Vec<Event>> = BTreeMap::new();
    let mut told = BTreeMap::<&str, u64>::new();
    for event in all(&events) {
        let name = match &event.what {
            What::Completed { .. } => "committed",
            What::Unchanged { .. } => "unchanged",
            What::Failed(_) => "failed",
            What::Rejected(_) => "rejected",
            What::Cancelled => "cancelled",
            What::Conflict { .. } => "conflicts",
            _ => "others",
        };
        *told.entry(name).or_default() += 1;
        lives
            .entry(event.operation.unwrap().id)
            .or_default()
            .push(event);
    }
    let of = |name| told.get(name).copied().unwrap_or(0);
    assert_eq!(of("committed"), counts.committed);
    assert_eq!(of("unchanged"), counts.unchanged);
    assert_eq!(of("failed"), counts.failed);
    assert_eq!(of("rejected"), counts.rejected);
    assert_eq!(of("cancelled"), counts.cancelled);
    assert_eq!(of("conflicts"), counts.conflicts);
    assert_eq!(lives.len() as u64, counts.submitted);
    for (id, life) in lives {
        let ends = life
            .iter()
            .filter(|event| EventKinds::ENDS.contains(event.kind()))
            .count();
        let last = life.last().map(Event::kind);
        assert_eq!(ends, 1, "{id}: {:?}", kinds(&life));
        assert!(
            last.is_some_and(|kind| EventKinds::ENDS.contains(kind)),
            "{id}"
        );
        let is_first = |event: &Event| event.kind() == EventKind::Started;
        let begins = life.iter().filter(|event| is_first(event)).count();
        assert!(
            begins == 0 && life.len() == 1 || begins == 1 && is_first(&life[0]),
            "{id}"
        );
    }
    let metrics = engine.metrics();
    assert!(metrics.adds_up(), "{metrics}");
    assert_eq!(metrics.counts, counts);
}

#[test]
fn what_listens_and_what_is_told_crosses_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Event>();
    is_shared::<Events>();
    is_shared::<Listener>();
    is_shared::<snapcell::Subscription>();
    is_shared::<snapcell::Metrics>();
}

/// A waker that does something.
struct Then<F>(F);

impl<F: Fn() + Send + Sync> Wake for Then<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// Does something as soon as the next event is told, on the thread that tells it.
fn at_next<'e>(
    events: &'e Events,
    act: impl Fn() + Send + Sync + 'static,
) -> Pin<Box<dyn Future<Output = Option<Event>> + 'e>> {
    let mut next: Pin<Box<dyn Future<Output = _>>> = Box::pin(events.next());
    let waker = Waker::from(Arc::new(Then(act)));
    assert!(
        next.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    next
}

/// What is told of an operation that goes on comes before anybody may end it: so its end comes last.
#[test]
fn who_is_told_of_a_retry_finds_the_operation_running() {
    let clock = ManualClock::new();
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .build();
    let retries = engine.events(EventKind::Retry, 10);
    let events = engine.events(EventKinds::ALL, 100);
    let entity = Entity::new(0);
    let away = RetryPolicy::linear(Duration::from_millis(10)).never_reserving();
    let ticket = engine
        .submit(Operation::update(&entity, overtaken(&entity, 1)).retrying(away))
        .unwrap();
    let ticket = Arc::new(ticket);
    let seen = Arc::new(Mutex::new(None));
    let told = {
        let (ticket, seen) = (ticket.clone(), seen.clone());
        at_next(&retries, move || {
            let state = ticket.status().state();
            *seen.lock().unwrap() = Some((state, ticket.cancel()));
        })
    };
    engine.serve();
    drop(told);
    assert_eq!(
        *seen.lock().unwrap(),
        Some((State::Executing, false)),
        "it is only asked"
    );
    let expected = [
        EventKind::Started,
        EventKind::Conflict,
        EventKind::Retry,
        EventKind::Cancelled,
    ];
    assert_eq!(kinds(&all(&events)), expected);
}

#[test]
fn who_is_told_of_an_end_finds_it_counted_and_is_no_part_of_it() {
    let engine = by_hand();
    let ends = engine.events(EventKinds::ENDS, 10);
    let entity = Entity::new(0);
    for submits in [false, true] {
        let seen = Arc::new(Mutex::new(None));
        let told = {
            let (engine, entity, seen) = (engine.clone(), entity.clone(), seen.clone());
            at_next(&ends, move || {
                let committed = engine.counts().committed;
                let inner = Operation::update(&entity, |n| n + 10).named("inner");
                *seen.lock().unwrap() = Some((committed, engine.run(&inner).is_ok()));
            })
        };
        let before = engine.counts().committed;
        let add = Operation::update(&entity, |n| n + 1);
        if submits {
            engine.submit(add).unwrap().wait().unwrap();
        } else {
            engine.run(&add).unwrap();
        }
        drop(told);
        assert_eq!(*seen.lock().unwrap(), Some((before + 1, true)));
        let _ = all(&ends);
    }
}

#[test]
fn what_is_run_tells_the_same_of_itself_as_what_is_submitted() {
    for submits in [false, true] {
        let engine = by_hand();
        let events = engine.events(EventKind::Rejected, 10);
        let (outer, entity) = (Entity::new(0), Entity::new(0));
        let inner = {
            let (engine, entity) = (engine.clone(), entity.clone());
            Operation::update(&outer, move |n| {
                let lost = Operation::update(&entity, overtaken(&entity, 9))
                    .retries(1)
                    .retrying(at_once());
                let ended = if submits {
                    engine.submit(lost).unwrap().wait()
                } else {
                    engine.run(&lost)
                };
                assert!(ended.unwrap_err().rejection().is_some());
                n + 1
            })
        };
        let critical = inner.priority(Priority::CRITICAL);
        engine.submit(critical).unwrap().wait().unwrap();
        let about = events.try_next().unwrap().operation.unwrap();
        assert_eq!(
            (about.priority, about.own),
            (Priority::CRITICAL, Priority::NORMAL)
        );
        assert_eq!(
            (about.retries, about.budget),
            (1, 1),
            "submitted: {submits}"
        );
        assert!(about.parent.is_some() && Some(about.root) == about.parent);
    }
}

#[test]
fn a_handler_is_called_for_what_happens_while_it_is_subscribed() {
    let engine = by_hand();
    let entity = Entity::new(0);
    let add = Operation::update(&entity, |n| n + 1);
    let calls = Arc::new(AtomicU64::new(0));
    let counting = |calls: &Arc<AtomicU64>| {
        let calls = calls.clone();
        move |_: &Event| _ = calls.fetch_add(1, SeqCst)
    };
    let early = Arc::new(AtomicU64::new(0));
    let first = engine.on(EventKind::Completed, counting(&early));
    engine.run(&add).unwrap();
    let late = engine.on(EventKind::Completed, counting(&calls));
    engine.serve();
    assert_eq!((early.load(SeqCst), calls.load(SeqCst)), (1, 0));
    engine.run(&add).unwrap();
    drop(late);
    engine.serve();
    assert_eq!((early.load(SeqCst), calls.load(SeqCst)), (2, 0));
    drop(first);
}

/// An engine without threads has its handlers called by whoever serves; two of them don't get into each other's way.
#[test]
fn handlers_are_called_one_after_the_other_whoever_serves() {
    let engine = by_hand();
    let entity = Entity::new(0_u64);
    let (busy, order) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let subscription = {
        let (busy, order) = (busy.clone(), order.clone());
        engine.on(EventKind::Completed, move |event| {
            assert!(!busy.swap(true, SeqCst), "another one is being handled");
            order.lock().unwrap().push(event.operation.unwrap().id);
            thread::yield_now();
            busy.store(false, SeqCst);
        })
    };
    together(3, |_| {
        for _ in 0..200 {
            engine
                .run(&Operation::update(&entity, |n| n + 1).retries(1_000))
                .unwrap();
            engine.serve();
        }
    });
    engine.serve();
    assert_eq!(subscription.panics(), 0);
    let order = order.lock().unwrap();
    let mut ids = order.clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        (order.len(), ids.len()),
        (600, 600),
        "each was handled once"
    );
}
