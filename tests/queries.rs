//! Questions about operations: which there are, which are stuck, which may go, and whether their engine is well.
#![cfg(feature = "scheduler")]

#[path = "support/conserved.rs"]
mod conserved;
#[path = "support/together.rs"]
mod together;

use conserved::conserved;
use snapcell::{
    ChainError, Class, ClassPolicy, CleanUpError, Clock, DryRun, Engine, Entity, EventKinds,
    Finding, HealthState, ManualClock, NoRegistry, Operation, OperationId, Operations, Policies,
    Priority, Query, Reason, State, TargetId, Thresholds, Ticket, Trace,
};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context as TaskContext, Wake, Waker};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A bound of a registry of one shard, and of one of several.
const BOUNDS: [usize; 2] = [1_000, 100_000];

/// An engine without threads that keeps so many, and its clock.
fn engine(kept: usize) -> (Engine, ManualClock) {
    let clock = ManualClock::new();
    let engine = Engine::builder()
        .workers(0)
        .clock(Clock::manual(&clock))
        .registry(kept)
        .build();
    (engine, clock)
}

fn known(engine: &Engine) -> Operations<'_> {
    engine.operations().expect("there is a registry")
}

type Adding = Ticket<snapcell::Snapshot<i64>, Infallible>;

/// Submits a `+1`.
fn add(engine: &Engine, value: &Entity<i64>, priority: Priority) -> Adding {
    let one = Operation::update(value, |n| n + 1).priority(priority);
    engine.submit(one.patience(1_000 * HOUR)).unwrap()
}

fn ids(rows: &[Trace]) -> Vec<OperationId> {
    rows.iter().map(|row| row.id).collect()
}

/// Runs `look` while an operation on this value, of low priority, is executing. It adds one.
fn while_one_executes<R>(
    engine: &Engine,
    value: &Entity<i64>,
    look: impl FnOnce(OperationId) -> R,
) -> R {
    let (begin, begun) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let ends = Mutex::new((begin, gone));
    let slow = Operation::update(value, move |n| {
        let ends = ends.lock().unwrap();
        ends.0.send(()).unwrap();
        // An error if the test has failed.
        let _ = ends.1.recv();
        n + 1
    });
    let slow = slow.priority(Priority::LOW).patience(1_000 * HOUR);
    let ticket = engine.submit(slow.named("slow")).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| engine.serve());
        begun.recv().unwrap();
        let go = go;
        let result = look(ticket.id());
        go.send(()).unwrap();
        result
    })
}

// Clean-up.

#[test]
fn a_clean_up_removes_what_ended_two_days_ago_from_everywhere_and_keeps_what_has_not_ended() {
    for kept in BOUNDS {
        let (engine, clock) = engine(kept);
        let (value, other) = (Entity::new(0_i64), Entity::new(0_i64));
        let old: Vec<_> = (0..20)
            .map(|_| add(&engine, &value, Priority::NORMAL))
            .collect();
        let part = Operation::update(&value, |n| n + 1).within(&old[0].context());
        let part = engine.submit(part.named("part")).unwrap();
        let failing = Operation::try_update(&value, |_: &i64| Err::<Option<i64>, _>("no"));
        let failing = engine.submit(failing).unwrap();
        let cancelled = add(&engine, &value, Priority::NORMAL);
        assert!(cancelled.cancel());
        engine.serve();
        clock.advance(48 * HOUR);
        let young = add(&engine, &value, Priority::NORMAL);
        engine.serve();
        let pending = add(&engine, &other, Priority::NORMAL);
        while_one_executes(&engine, &value, |executing| {
            let operations = known(&engine);
            let dry = operations.clean_up(24 * HOUR, DryRun::Yes).unwrap();
            assert_eq!((dry.total, dry.cleaned, dry.kept), (26, 23, 3));
            assert_eq!(operations.len(), 26, "a dry run removes nothing");
            assert!(operations.get(old[0].id()).is_some());

            let wet = operations.clean_up(24 * HOUR, DryRun::No).unwrap();
            assert_eq!((wet.total, wet.cleaned, wet.kept), (26, 23, 3));
            assert!(operations.is_consistent());
            for gone in old.iter().map(Ticket::id).chain([cancelled.id()]) {
                assert_eq!(operations.get(gone), None);
            }
            let left = [young.id(), pending.id(), executing];
            assert_eq!(ids(&operations.find(&Query::new())), left);
            let by_target = operations.find(&Query::new().target(&value));
            assert_eq!(ids(&by_target), [young.id(), executing]);
            assert!(operations.find(&Query::new().name("part")).is_empty());
            assert!(operations.find(&Query::new().name("try_update")).is_empty());
            assert!(operations.children(old[0].id()).is_empty());
            let of_part = operations.find(&Query::new().part_of(old[0].id()));
            assert!(of_part.is_empty());
            assert_eq!(operations.statistics().total, 3);
            for (gone, id) in [(part.id(), part.id()), (failing.id(), failing.id())] {
                assert_eq!(operations.chain(gone), Err(ChainError::Unknown(id)));
            }
            let again = operations.clean_up(24 * HOUR, DryRun::No).unwrap();
            assert_eq!((again.total, again.cleaned, again.kept), (3, 0, 3));
        });
        engine.serve();
        conserved(&engine);
    }
}

#[test]
fn a_retention_of_nothing_is_an_error_and_removes_nothing() {
    let (engine, clock) = engine(1_000);
    drop(add(&engine, &Entity::new(0), Priority::NORMAL));
    engine.serve();
    clock.advance(48 * HOUR);
    for dry_run in [DryRun::Yes, DryRun::No] {
        let refused = known(&engine).clean_up(Duration::ZERO, dry_run);
        assert_eq!(refused, Err(CleanUpError::NoRetention));
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the retention must be longer than 0"
        );
    }
    assert_eq!(known(&engine).len(), 1);
    let endless = known(&engine).clean_up(Duration::MAX, DryRun::No).unwrap();
    assert_eq!((endless.total, endless.cleaned), (1, 0));
}

#[test]
fn what_ended_exactly_the_retention_ago_is_kept() {
    let (engine, clock) = engine(1_000);
    clock.set(HOUR);
    drop(add(&engine, &Entity::new(0), Priority::NORMAL));
    engine.serve();
    clock.set(25 * HOUR);
    let clean = || known(&engine).clean_up(24 * HOUR, DryRun::No).unwrap();
    assert_eq!(clean().cleaned, 0);
    clock.advance(Duration::from_nanos(1));
    let cleaned = clean();
    assert_eq!(cleaned.cleaned, 1);
    assert_eq!(
        cleaned.to_string(),
        "1 of 1 operations removed, that ended more than 86400s ago; 0 kept"
    );
    assert!(known(&engine).is_consistent());
}

#[test]
fn a_clean_up_goes_by_the_end_of_operations_and_not_by_their_beginning() {
    let (engine, clock) = engine(100_000);
    let (one, other) = (Entity::new(0), Entity::new(0));
    let late = while_one_executes(&engine, &one, |late| {
        drop(add(&engine, &other, Priority::NORMAL));
        clock.advance(30 * HOUR);
        late
    });
    engine.serve();
    clock.advance(20 * HOUR);
    // Both were submitted 50 hours ago, and have ended 20 hours ago.
    let operations = known(&engine);
    assert_eq!(
        operations.clean_up(24 * HOUR, DryRun::No).unwrap().cleaned,
        0
    );
    clock.advance(5 * HOUR);
    assert_eq!(
        operations.clean_up(24 * HOUR, DryRun::No).unwrap().cleaned,
        2
    );
    assert_eq!(operations.get(late), None);
}

#[test]
fn no_more_are_kept_than_the_bound_and_the_oldest_go_first() {
    let (engine, clock) = engine(3);
    let value = Entity::new(0);
    let mut all = Vec::new();
    for _ in 0..10 {
        clock.advance(HOUR);
        let ticket = add(&engine, &value, Priority::NORMAL);
        all.push(ticket.id());
        engine.serve();
        let operations = known(&engine);
        let newest: Vec<_> = all.iter().rev().take(3).rev().copied().collect();
        assert_eq!(ids(&operations.find(&Query::new())), newest);
        assert!(operations.is_consistent());
    }
    let statistics = known(&engine).statistics();
    assert_eq!((statistics.total, statistics.forgotten), (3, 7));
    assert_eq!(known(&engine).kept(), 3);
}

#[test]
fn a_large_registry_keeps_exactly_its_bound_as_well() {
    let (engine, _) = engine(1_030);
    let value = Entity::new(0);
    for _ in 0..3_000 {
        drop(add(&engine, &value, Priority::NORMAL));
    }
    assert_eq!(
        known(&engine).len(),
        3_000,
        "what hasn't ended isn't bounded"
    );
    engine.serve();
    let operations = known(&engine);
    assert_eq!((operations.len(), operations.kept()), (1_030, 1_030));
    assert_eq!(operations.statistics().forgotten, 1_970);
    assert!(operations.is_consistent());
}

#[test]
fn a_bound_of_nothing_keeps_what_has_not_ended_only() {
    let (engine, _) = engine(0);
    let value = Entity::new(0);
    let ticket = add(&engine, &value, Priority::NORMAL);
    assert_eq!(known(&engine).len(), 1);
    engine.serve();
    assert!(known(&engine).is_empty() && ticket.is_done());
    assert!(known(&engine).is_consistent());
}

#[test]
fn a_clock_that_goes_back_confuses_nobody() {
    let (engine, clock) = engine(3);
    let value = Entity::new(0);
    let hours = [10, 12, 11, 5, 12, 20];
    let ended: Vec<_> = hours
        .map(|hour| {
            clock.set(hour * HOUR);
            let ticket = add(&engine, &value, Priority::NORMAL);
            engine.serve();
            assert!(known(&engine).is_consistent());
            ticket.id()
        })
        .into();
    // Those of hours 5, 10 and 11 went first, and of one that has just ended nothing else is known.
    let left = [ended[1], ended[4], ended[5]];
    assert_eq!(ids(&known(&engine).find(&Query::new())), left);
    let old = known(&engine).clean_up(7 * HOUR, DryRun::No).unwrap();
    assert_eq!((old.cleaned, old.kept), (2, 1));
    assert!(known(&engine).is_consistent());
}

#[test]
fn a_row_keeps_neither_the_closure_nor_the_entity_alive() {
    let (engine, _) = engine(1_000);
    let held = Arc::new(());
    let value = Entity::new(held.clone());
    let captured = held.clone();
    let ticket = engine
        .submit(Operation::update(&value, move |_| captured.clone()))
        .unwrap();
    let id = ticket.id();
    engine.serve();
    drop((ticket, value));
    snapcell::reclaim();
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(known(&engine).get(id).unwrap().state, State::Succeeded);
}

// Queries.

#[test]
fn an_engine_without_a_registry_has_no_operations_to_ask() {
    let engine = Engine::builder().workers(0).build();
    let value = Entity::new(0_i64);
    drop(add(&engine, &value, Priority::NORMAL));
    assert!(engine.operations().is_none());
    assert_eq!(engine.resolve(&value), Err(NoRegistry));
    assert_eq!(
        NoRegistry.to_string(),
        "the engine has no registry of its operations"
    );
    assert_eq!(engine.waiting(&value), 1, "nothing has happened");
}

#[test]
fn an_operation_is_found_by_each_of_what_it_is() {
    for kept in BOUNDS {
        let (engine, clock) = engine(kept);
        let (one, other) = (Entity::new(0_i64), Entity::new(0_i64));
        clock.set(HOUR);
        let order = Operation::update(&one, |n| n + 1)
            .named("order")
            .class(Class::LOW)
            .retries(7);
        let order = engine.submit(order).unwrap();
        let urgent = add(&engine, &other, Priority::HIGH);
        let done = add(&engine, &one, Priority::CRITICAL);
        let operations = known(&engine);
        let found = |query: Query| ids(&operations.find(&query));
        let priorities = |range: RangeInclusive<Priority>| Query::new().priority(range);
        let all = [order.id(), urgent.id(), done.id()];
        assert_eq!(found(Query::new()), all);
        assert_eq!(found(Query::new().state(State::Pending)), all);
        assert_eq!(found(Query::new().name("order")), all[..1]);
        assert_eq!(found(Query::new().name("update")), all[1..]);
        assert_eq!(found(Query::new().name("orde")), []);
        assert_eq!(found(Query::new().class(Class::LOW)), all[..1]);
        assert_eq!(found(Query::new().class(Class::STRUCTURAL)), []);
        assert_eq!(found(Query::new().target(&one)), [all[0], all[2]]);
        assert_eq!(found(Query::new().target(&Entity::new(0_i64))), []);
        assert_eq!(
            found(priorities(Priority::NORMAL..=Priority::HIGH)),
            [all[1]]
        );
        assert_eq!(found(Query::new().priority(..Priority::HIGH)), [all[0]]);
        assert_eq!(found(Query::new().priority(Priority::HIGH..)), all[1..]);
        assert_eq!(found(priorities(Priority::HIGH..=Priority::LOW)), []);
        let both = Query::new().target(&one).name("order");
        assert_eq!(found(both.clone()), [all[0]]);
        assert_eq!(found(both.class(Class::NORMAL)), []);
        engine.serve();
        assert_eq!(found(Query::new().state(State::Pending)), []);
        assert_eq!(found(Query::new().state(State::Succeeded)), all);
        assert_eq!(found(Query::new().target(&one)), [all[0], all[2]]);

        let row = operations.get(order.id()).unwrap();
        assert_eq!((row.name, row.class), ("order", Class::LOW));
        assert_eq!((row.own, row.priority), (Priority::LOW, Priority::LOW));
        assert_eq!((row.budget, row.retries), (7, 0));
        assert_eq!(row.target, TargetId::of(&one));
        assert_eq!((row.parent, row.root, row.depth), (None, row.id, 0));
        assert_eq!((row.times.born, row.times.ended), (HOUR, Some(HOUR)));
        assert_eq!(row.times, order.times());
        assert!(operations.is_consistent());
    }
}

#[test]
fn every_end_is_a_state_to_be_found_by() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0_i64);
    let failing = Operation::try_update(&value, |_: &i64| Err::<Option<i64>, _>("no"));
    let failed = engine.submit(failing).unwrap();
    let cancelled = add(&engine, &value, Priority::NORMAL);
    assert!(cancelled.cancel());
    let expired = Operation::update(&value, |n| n + 1).patience(Duration::ZERO);
    let expired = engine.submit(expired).unwrap();
    engine.serve();
    let mut stage = engine.stage();
    let staged = stage.add(Operation::update(&value, |n| n + 1)).unwrap();
    let operations = known(&engine);
    let found = |state| ids(&operations.find(&Query::new().state(state)));
    assert_eq!(found(State::Pending), [staged.id()]);
    stage.clear();
    assert_eq!(found(State::Failed), [failed.id()]);
    assert_eq!(found(State::Cancelled), [cancelled.id(), staged.id()]);
    assert_eq!(found(State::Rejected), [expired.id()]);
    assert!(
        operations
            .find(&Query::new())
            .iter()
            .all(|row| row.times.ended.is_some())
    );
}

#[test]
fn what_runs_is_found_as_executing_and_what_waits_behind_it_as_pending() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0);
    while_one_executes(&engine, &value, |executing| {
        let behind = add(&engine, &value, Priority::NORMAL);
        let operations = known(&engine);
        let conflicting = operations.conflicting(&value);
        assert_eq!(ids(&conflicting), [executing, behind.id()]);
        let states: Vec<_> = conflicting.iter().map(|row| row.state).collect();
        assert_eq!(states, [State::Executing, State::Pending]);
        assert!(operations.conflicting(&Entity::new(0)).is_empty());
    });
    engine.serve();
    assert!(known(&engine).conflicting(&value).is_empty());
    assert_eq!(known(&engine).find(&Query::new().target(&value)).len(), 2);
}

#[test]
fn an_operation_on_several_entities_is_found_by_each_of_them() {
    let (engine, clock) = engine(1_000);
    let (ann, bob) = (Entity::new(100_i64), Entity::new(0_i64));
    let both = (ann.clone(), bob.clone());
    let transfer = Operation::transaction(both, |tx, (from, to)| {
        tx.update(from, |n| n - 1)?;
        tx.update(to, |n| n + 1)?;
        Ok::<_, snapcell::Stop<Infallible>>(())
    });
    let transfer = engine.submit(transfer).unwrap();
    let operations = known(&engine);
    for entity in [&ann, &bob] {
        assert_eq!(ids(&operations.conflicting(entity)), [transfer.id()]);
    }
    engine.serve();
    for entity in [&ann, &bob] {
        let found = operations.find(&Query::new().target(entity));
        assert_eq!(ids(&found), [transfer.id()]);
        assert!(operations.conflicting(entity).is_empty());
    }
    assert!(operations.is_consistent());
    clock.advance(48 * HOUR);
    assert_eq!(operations.clean_up(HOUR, DryRun::No).unwrap().cleaned, 1);
    assert!(operations.find(&Query::new().target(&bob)).is_empty());
    assert!(operations.is_consistent());
}

#[test]
fn a_priority_that_was_changed_or_inherited_counts() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0);
    let parent = add(&engine, &value, Priority::NORMAL);
    let child = Operation::update(&value, |n| n + 1)
        .class(Class::LOW)
        .within(&parent.context());
    let child = engine.submit(child).unwrap();
    let operations = known(&engine);
    let row = operations.get(child.id()).unwrap();
    assert_eq!((row.priority, row.own), (Priority::NORMAL, Priority::LOW));
    parent.set_priority(Priority::CRITICAL);
    let critical = Query::new().priority(Priority::CRITICAL..);
    let both = [parent.id(), child.id()];
    assert_eq!(ids(&operations.find(&critical)), both);
    engine.serve();
    assert_eq!(ids(&operations.find(&critical)), both);
}

// Chains.

/// An operation, its part, and so on, so many in all.
fn nested(engine: &Engine, value: &Entity<i64>, many: usize) -> Vec<Adding> {
    let mut chain: Vec<Adding> = Vec::new();
    for _ in 0..many {
        let mut next = Operation::update(value, |n| n + 1);
        if let Some(last) = chain.last() {
            next = next.within(&last.context());
        }
        chain.push(engine.submit(next.patience(1_000 * HOUR)).unwrap());
    }
    chain
}

#[test]
fn a_chain_goes_from_an_operation_to_the_outermost_before_and_after_their_end() {
    for kept in BOUNDS {
        let (engine, _) = engine(kept);
        let value = Entity::new(0);
        let tickets = nested(&engine, &value, 40);
        let inward: Vec<_> = tickets.iter().map(Ticket::id).collect();
        let outward: Vec<_> = inward.iter().rev().copied().collect();
        for has_ended in [false, true] {
            let operations = known(&engine);
            let chain = operations.chain(inward[39]).unwrap();
            assert_eq!(ids(&chain), outward, "{has_ended}");
            assert!(chain.iter().all(|row| row.root == inward[0]));
            let depths: Vec<_> = chain.iter().rev().map(|row| row.depth).collect();
            assert_eq!(depths, Vec::from_iter(0..40));
            assert_eq!(ids(&operations.chain(inward[0]).unwrap()), [inward[0]]);
            let parts = operations.find(&Query::new().part_of(inward[3]));
            assert_eq!(ids(&parts), inward[4..]);
            assert_eq!(ids(&operations.children(inward[3])), [inward[4]]);
            assert!(operations.children(inward[39]).is_empty());
            engine.serve();
        }
    }
}

#[test]
fn an_operation_may_have_many_parts_and_a_query_may_ask_for_some_of_them() {
    let (engine, _) = engine(100_000);
    let (one, other) = (Entity::new(0_i64), Entity::new(0_i64));
    let whole = add(&engine, &one, Priority::NORMAL);
    let within = |entity: &Entity<i64>, context: &snapcell::Context| {
        let part = Operation::update(entity, |n| n + 1).within(context);
        engine.submit(part).unwrap()
    };
    let parts: Vec<_> = [&one, &other, &one]
        .map(|entity| within(entity, &whole.context()))
        .into();
    let deep = within(&other, &parts[0].context());
    // Of the same targets, but no parts.
    let stranger = add(&engine, &other, Priority::NORMAL);
    let operations = known(&engine);
    let parts_of_whole = ids(&operations.children(whole.id()));
    assert_eq!(parts_of_whole, Vec::from_iter(parts.iter().map(Ticket::id)));
    let all = operations.find(&Query::new().part_of(whole.id()));
    assert_eq!(all.len(), 4);
    let some = Query::new().part_of(whole.id()).target(&other);
    assert_eq!(ids(&operations.find(&some)), [parts[1].id(), deep.id()]);
    let of_stranger = Query::new().part_of(stranger.id()).target(&other);
    assert!(operations.find(&of_stranger).is_empty());
}

#[test]
fn a_chain_of_what_is_unknown_or_has_lost_its_parent_is_an_error_that_names_it() {
    let (engine, clock) = engine(1_000);
    let value = Entity::new(0);
    let tickets = nested(&engine, &value, 2);
    let (whole, part) = (tickets[0].id(), tickets[1].id());
    let (stranger, _) = self::engine(1_000);
    let unknown = known(&stranger).chain(part);
    assert_eq!(unknown, Err(ChainError::Unknown(part)));
    assert_eq!(unknown.unwrap_err().to_string(), "operation 2 isn't known");
    let mut tickets = tickets.into_iter();
    let (first, second) = (tickets.next().unwrap(), tickets.next().unwrap());
    assert!(first.cancel());
    clock.advance(48 * HOUR);
    assert!(second.cancel());
    let operations = known(&engine);
    assert_eq!(operations.clean_up(HOUR, DryRun::No).unwrap().cleaned, 1);
    let gone = ChainError::ParentGone {
        child: part,
        parent: whole,
    };
    assert_eq!(operations.chain(part), Err(gone));
    assert_eq!(
        gone.to_string(),
        "operation 1, which operation 2 is part of, isn't kept any more"
    );
    assert_eq!(ids(&operations.children(whole)), [part]);
}

#[test]
fn a_parent_in_another_engine_is_no_parent_here() {
    let (here, _) = engine(1_000);
    let (elsewhere, _) = engine(1_000);
    let value = Entity::new(0);
    drop(add(&here, &value, Priority::NORMAL));
    let parent = add(&elsewhere, &value, Priority::CRITICAL);
    let part = Operation::update(&value, |n| n + 1).within(&parent.context());
    let part = here.submit(part).unwrap();
    let row = known(&here).get(part.id()).unwrap();
    assert_eq!((row.parent, row.root, row.depth), (None, row.id, 0));
    assert_eq!(row.priority, Priority::CRITICAL, "and yet it inherits");
    assert!(
        known(&here).children(parent.id()).is_empty(),
        "an id of others"
    );
}

// Statistics, and what is stuck.

#[test]
fn statistics_count_by_each_of_what_operations_are() {
    let mut policies = Policies::default();
    let audit = policies.add(ClassPolicy::new("audit")).unwrap();
    let engine = Engine::builder().workers(0).policies(policies);
    let engine = engine.registry(1_000).build();
    let value = Entity::new(0_i64);
    assert_eq!(known(&engine).statistics().to_string(), "0 operations");
    let failing = Operation::try_update(&value, |_: &i64| Err::<Option<i64>, _>("no"));
    drop(engine.submit(failing.class(audit)).unwrap());
    drop(add(&engine, &value, Priority::NORMAL));
    engine.serve();
    for _ in 0..3 {
        drop(add(&engine, &value, Priority::HIGH));
    }
    let statistics = known(&engine).statistics();
    assert_eq!((statistics.total, statistics.forgotten), (5, 0));
    let states = [
        (State::Pending, 3),
        (State::Executing, 0),
        (State::Succeeded, 1),
        (State::Failed, 1),
        (State::Rejected, 0),
        (State::Cancelled, 0),
    ];
    for (state, many) in states {
        assert_eq!(statistics.of(state), many, "{state}");
    }
    assert_eq!(statistics.by_name["update"], 4);
    assert_eq!(statistics.by_name["try_update"], 1);
    assert_eq!(statistics.by_class["audit"], 1);
    assert_eq!(statistics.by_class["normal"], 4);
    assert_eq!(statistics.by_priority[&Priority::NORMAL], 2);
    assert_eq!(statistics.by_priority[&Priority::HIGH], 3);
    assert_eq!(
        statistics.to_string(),
        "5 operations\n\
         by state: 3 pending, 1 succeeded, 1 failed\n\
         by name: 1 try_update, 4 update\n\
         by class: 1 audit, 4 normal\n\
         by priority: 2 of 5, 3 of 8"
    );
    engine.set_policies(Policies::default());
    let unknown = known(&engine).statistics();
    assert_eq!(unknown.by_class["3"], 1, "of a class that is gone");
}

#[test]
fn what_runs_or_waits_for_longer_than_it_should_is_stuck() {
    let (engine, clock) = engine(1_000);
    let value = Entity::new(0);
    let minute = Duration::from_secs(60);
    clock.set(minute);
    while_one_executes(&engine, &value, |executing| {
        clock.advance(minute);
        let early = add(&engine, &value, Priority::NORMAL);
        clock.advance(minute);
        let late = add(&engine, &value, Priority::NORMAL);
        let operations = known(&engine);
        let stuck = |longer_than| {
            let stuck = operations.stuck(longer_than).operations;
            let rows = stuck.iter().map(|stuck| (stuck.row.id, stuck.since));
            rows.collect::<Vec<_>>()
        };
        let all = [
            (executing, 2 * minute),
            (early.id(), minute),
            (late.id(), Duration::ZERO),
        ];
        assert_eq!(stuck(Duration::ZERO), all[..2], "not for longer than 0");
        assert_eq!(stuck(minute), all[..1], "exactly that long is all right");
        assert_eq!(stuck(2 * minute), []);
        clock.advance(Duration::from_nanos(1));
        assert_eq!(stuck(2 * minute).len(), 1);
        let report = operations.stuck(minute).to_string();
        let lines: Vec<_> = report.lines().collect();
        assert_eq!(lines[0], "2 stuck for longer than 60s:");
        let executing = format!(
            "slow {executing}, executing for 120.000000001s, priority 2, tried again 0 of 5 times, target {}",
            TargetId::of(&value)
        );
        assert_eq!(lines[1], executing);
        assert!(lines[2].contains("pending for 60.000000001s"), "{report}");
        assert_eq!(
            operations.stuck(HOUR).to_string(),
            "nothing is stuck for longer than 3600s"
        );
    });
    engine.serve();
    clock.advance(HOUR);
    assert!(known(&engine).stuck(minute).operations.is_empty());
}

// Who stays.

#[test]
fn of_those_that_wait_the_most_important_one_wins_and_the_others_are_rejected() {
    let (engine, clock) = engine(1_000);
    let value = Entity::new(0);
    let priorities = [
        Priority::LOW,
        Priority::NORMAL,
        Priority::HIGH,
        Priority::CRITICAL,
    ];
    let mut tickets: Vec<_> = priorities
        .map(|priority| add(&engine, &value, priority))
        .into();
    clock.set(HOUR);
    let critical = tickets.pop().unwrap();
    let resolved = engine.resolve(&value).unwrap();
    assert_eq!(resolved.winner, Some(critical.id()));
    assert!(resolved.executing.is_empty());
    let losers: Vec<_> = tickets.iter().map(Ticket::id).collect();
    assert_eq!(resolved.lost, losers);
    for (ticket, priority) in tickets.into_iter().zip(priorities) {
        assert_eq!(ticket.times().ended, Some(HOUR));
        let row = known(&engine).get(ticket.id()).unwrap();
        assert_eq!((row.state, row.times.ended), (State::Rejected, Some(HOUR)));
        let error = ticket.wait().unwrap_err();
        let rejection = error.rejection().expect("it was");
        let lost = Reason::Lost {
            winner: critical.id(),
            priority: Priority::CRITICAL,
        };
        assert_eq!((rejection.reason, rejection.priority), (lost, priority));
    }
    engine.serve();
    assert_eq!(*critical.wait().unwrap(), 1);
    assert_eq!(*value.snapshot(), 1);
    let counts = conserved(&engine);
    assert_eq!((counts.committed, counts.rejected), (1, 3));
    assert!(known(&engine).is_consistent());
}

#[test]
fn of_equals_the_earliest_wins_wherever_they_come_from() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let (engine, clock) = engine(100_000);
        let value = Entity::new(0);
        let mut tickets = Vec::new();
        for born in order {
            clock.set(born * HOUR);
            tickets.push((born, add(&engine, &value, Priority::NORMAL)));
        }
        let earliest = tickets.iter().find(|(born, _)| *born == 0).unwrap();
        let resolved = engine.resolve(&value).unwrap();
        assert_eq!(resolved.winner, Some(earliest.1.id()), "{order:?}");
        let id_of = |born: u32| {
            tickets
                .iter()
                .find(|ticket| ticket.0 == born)
                .map(|ticket| ticket.1.id())
        };
        let others = [1, 2, 3].map(|born| id_of(born).unwrap());
        assert_eq!(resolved.lost, others, "the earliest first");
    }
    let (engine, _) = engine(100_000);
    let value = Entity::new(0);
    let first = add(&engine, &value, Priority::NORMAL);
    drop(add(&engine, &value, Priority::NORMAL));
    let resolved = engine.resolve(&value).unwrap();
    assert_eq!(resolved.winner, Some(first.id()), "of the same moment");
}

#[test]
fn what_runs_stays_and_one_of_those_behind_it_wins() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0);
    let (normal, critical) = while_one_executes(&engine, &value, |executing| {
        let normal = add(&engine, &value, Priority::NORMAL);
        let critical = add(&engine, &value, Priority::CRITICAL);
        let resolved = engine.resolve(&value).unwrap();
        assert_eq!(resolved.executing, [executing]);
        assert_eq!(resolved.winner, Some(critical.id()));
        assert_eq!(resolved.lost, [normal.id()]);
        let alone = engine.resolve(&value).unwrap();
        assert_eq!(alone.executing, [executing]);
        assert_eq!(alone.winner, Some(critical.id()), "who is alone stays");
        assert!(alone.lost.is_empty());
        (normal, critical)
    });
    engine.serve();
    assert!(normal.wait().unwrap_err().rejection().is_some());
    assert_eq!(*critical.wait().unwrap(), 2);
    let nobody = engine.resolve(&value).unwrap();
    assert_eq!(nobody, snapcell::Resolved::default());
    conserved(&engine);
}

#[test]
fn a_part_of_something_important_wins_over_who_is_more_important_by_itself() {
    let (engine, _) = engine(1_000);
    let (value, other) = (Entity::new(0_i64), Entity::new(0_i64));
    let parent = add(&engine, &other, Priority::CRITICAL);
    let rival = add(&engine, &value, Priority::HIGH);
    let part = Operation::update(&value, |n| n + 1)
        .class(Class::LOW)
        .within(&parent.context());
    let part = engine.submit(part).unwrap();
    let resolved = engine.resolve(&value).unwrap();
    assert_eq!(
        (resolved.winner, resolved.lost),
        (Some(part.id()), vec![rival.id()])
    );
    assert!(!parent.is_done(), "it is on another target");
}

#[test]
fn what_loses_gives_its_place_back_and_leaves_other_targets_alone() {
    let engine = Engine::builder().workers(0).capacity(2).registry(1_000);
    let engine = engine.build();
    let (value, other) = (Entity::new(0_i64), Entity::new(0_i64));
    let winner = add(&engine, &value, Priority::NORMAL);
    let loser = add(&engine, &value, Priority::NORMAL);
    let elsewhere = add(&engine, &other, Priority::LOW);
    let mut stage = engine.stage();
    assert!(
        stage.add(Operation::update(&value, |n| n + 1)).is_err(),
        "it is full"
    );
    let resolved = engine.resolve(&value).unwrap();
    assert_eq!(
        (resolved.winner, resolved.lost),
        (Some(winner.id()), vec![loser.id()])
    );
    engine.serve();
    assert_eq!(engine.waiting(&value), 0);
    assert!(elsewhere.is_done());
    let staged = [Priority::LOW, Priority::HIGH].map(|priority| {
        let one = Operation::update(&value, |n| n + 1);
        stage.add(one.priority(priority)).unwrap()
    });
    let resolved = engine.resolve(&value).unwrap();
    assert_eq!(resolved.winner, Some(staged[1].id()), "also what is staged");
    stage.resolve();
    engine.serve();
    assert_eq!(*value.snapshot(), 2);
    conserved(&engine);
}

// Health.

fn findings(engine: &Engine, thresholds: &Thresholds) -> (HealthState, Vec<&'static str>) {
    let health = engine.health(thresholds);
    let what = health.findings.iter().map(Finding::what).collect();
    (health.state, what)
}

const HEALTHY: (HealthState, Vec<&str>) = (HealthState::Healthy, Vec::new());

#[test]
fn an_engine_that_has_done_nothing_is_well() {
    let (engine, _) = engine(1_000);
    assert_eq!(findings(&engine, &Thresholds::default()), HEALTHY);
    assert_eq!(engine.health(&Thresholds::default()).to_string(), "healthy");
    let all_at_zero = Thresholds::new()
        .kept(0)
        .oldest(Duration::ZERO)
        .failure_percent(0)
        .waiting(0)
        .conflict_percent(0)
        .depth(0);
    assert_eq!(findings(&engine, &all_at_zero), HEALTHY);
}

#[test]
fn more_than_a_thousand_kept_or_one_for_more_than_a_day_is_degraded() {
    let (engine, clock) = engine(100_000);
    let value = Entity::new(0);
    let run = |many| {
        for _ in 0..many {
            drop(add(&engine, &value, Priority::NORMAL));
        }
        engine.serve();
    };
    let reference = Thresholds::default();
    clock.set(HOUR);
    run(1_000);
    assert_eq!(findings(&engine, &reference), HEALTHY);
    run(1);
    let too_many = (HealthState::Degraded, vec!["too many operations are kept"]);
    assert_eq!(findings(&engine, &reference), too_many);
    assert_eq!(findings(&engine, &reference.kept(1_001)), HEALTHY);
    clock.set(25 * HOUR);
    assert_eq!(findings(&engine, &reference), too_many);
    clock.advance(Duration::from_nanos(1));
    let health = engine.health(&reference);
    assert_eq!(
        health.to_string(),
        "degraded\n\
         too many operations are kept: 1001, more than 1000\n\
         an operation is kept too long: 86400.000000001s, more than 86400s"
    );
    let measured = health.measured;
    assert_eq!(measured.kept, Some(1_001));
    assert_eq!(measured.oldest, Some(24 * HOUR + Duration::from_nanos(1)));
    let old = known(&engine).clean_up(24 * HOUR, DryRun::No).unwrap();
    assert_eq!(old.cleaned, 1_001);
    assert_eq!(
        findings(&engine, &reference),
        HEALTHY,
        "a clean-up mends it"
    );
}

#[test]
fn more_than_one_failure_in_ten_is_unhealthy() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0_i64);
    let fail = || {
        let failing = Operation::try_update(&value, |_: &i64| Err::<Option<i64>, _>("no"));
        drop(engine.submit(failing).unwrap());
        engine.serve();
    };
    for _ in 0..9 {
        drop(add(&engine, &value, Priority::NORMAL));
    }
    fail();
    assert_eq!(
        findings(&engine, &Thresholds::default()),
        HEALTHY,
        "1 of 10"
    );
    fail();
    let health = engine.health(&Thresholds::default());
    assert_eq!(health.state, HealthState::Unhealthy);
    assert_eq!(
        health.to_string(),
        "unhealthy\ntoo many operations fail: 2 of 11, more than 10 %"
    );
    let lenient = Thresholds::new().failure_percent(19);
    assert_eq!(findings(&engine, &lenient), HEALTHY);
    // What was rejected or cancelled is no failure.
    for _ in 0..9 {
        assert!(add(&engine, &value, Priority::NORMAL).cancel());
    }
    assert_eq!(
        findings(&engine, &Thresholds::default()),
        HEALTHY,
        "2 of 20"
    );
}

#[test]
fn more_than_ten_thousand_waiting_is_degraded_and_staged_ones_wait_too() {
    let (engine, _) = engine(0);
    let (value, other) = (Entity::new(0), Entity::new(0));
    let mut tickets = Vec::new();
    for _ in 0..5_000 {
        tickets.push(add(&engine, &value, Priority::NORMAL));
        tickets.push(add(&engine, &other, Priority::NORMAL));
    }
    assert_eq!(findings(&engine, &Thresholds::default()), HEALTHY);
    let mut stage = engine.stage();
    drop(stage.add(Operation::update(&value, |n| n + 1)).unwrap());
    let health = engine.health(&Thresholds::default());
    assert_eq!(
        health.findings,
        [Finding::Waiting {
            waiting: 10_001,
            limit: 10_000
        }]
    );
    assert_eq!(health.state, HealthState::Degraded);
    stage.clear();
    engine.serve();
    assert_eq!(findings(&engine, &Thresholds::default()), HEALTHY);
}

#[test]
fn more_than_half_as_many_conflicts_as_operations_is_degraded() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0_i64);
    let lose_once = || {
        let other = value.clone();
        let is_first = AtomicBool::new(true);
        let interfered = Operation::update(&value, move |n| {
            if is_first.swap(false, Ordering::Relaxed) {
                // Somebody else, in the window.
                std::thread::scope(|s| {
                    let commit = || _ = other.update(|n| n + 10);
                    s.spawn(commit).join().unwrap();
                });
            }
            n + 1
        });
        let ticket = engine.submit(interfered).unwrap();
        ticket.wait().unwrap();
    };
    lose_once();
    drop(add(&engine, &value, Priority::NORMAL));
    engine.serve();
    assert_eq!(engine.counts().conflicts, 1, "it has lost");
    assert_eq!(
        findings(&engine, &Thresholds::default()),
        HEALTHY,
        "1 for 2"
    );
    lose_once();
    let health = engine.health(&Thresholds::default());
    assert_eq!(
        health.to_string(),
        "degraded\nattempts are lost too often: 2 times for 3, more than 50 %"
    );
    assert_eq!(
        findings(&engine, &Thresholds::new().conflict_percent(67)),
        HEALTHY
    );
}

#[test]
fn what_is_part_of_more_than_five_others_is_degraded_until_it_has_ended() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0);
    let mut tickets = nested(&engine, &value, 6);
    assert_eq!(findings(&engine, &Thresholds::default()), HEALTHY);
    let last = tickets.last().unwrap().context();
    let deep = Operation::update(&value, |n| n + 1).within(&last);
    tickets.push(engine.submit(deep).unwrap());
    let health = engine.health(&Thresholds::default());
    assert_eq!(health.findings, [Finding::Depth { depth: 6, limit: 5 }]);
    assert_eq!(health.state, HealthState::Degraded);
    engine.serve();
    assert_eq!(findings(&engine, &Thresholds::default()), HEALTHY);
}

#[test]
fn too_much_that_waits_to_be_freed_is_degraded() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0_u64);
    // Nothing is freed under a guard.
    let guard = snapcell::pin();
    for _ in 0..1_000 {
        value.update(|n| n + 1);
    }
    for thresholds in [
        Thresholds::new().lag_nodes(500),
        Thresholds::new().lag_bytes(500),
    ] {
        let late = (HealthState::Degraded, vec!["too much waits to be freed"]);
        assert_eq!(findings(&engine, &thresholds), late);
    }
    assert_eq!(findings(&engine, &Thresholds::default()), HEALTHY);
    drop(guard);
}

#[test]
fn an_engine_that_is_shut_down_is_down_whatever_else_is_wrong() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0_i64);
    let failing = Operation::try_update(&value, |_: &i64| Err::<Option<i64>, _>("no"));
    drop(engine.submit(failing).unwrap());
    conserved(&engine);
    let health = engine.health(&Thresholds::default());
    assert_eq!(health.state, HealthState::Down);
    assert_eq!(
        health.to_string(),
        "down\nthe engine is shut down\ntoo many operations fail: 1 of 1, more than 10 %"
    );
    engine.start();
    assert_eq!(
        engine.health(&Thresholds::default()).state,
        HealthState::Unhealthy
    );
}

#[test]
fn without_a_registry_health_says_what_is_not_known() {
    let engine = Engine::builder().workers(0).build();
    let tickets = nested(&engine, &Entity::new(0), 10);
    let health = engine.health(&Thresholds::default());
    assert_eq!(health.state, HealthState::Healthy);
    let measured = health.measured;
    assert_eq!(
        (measured.kept, measured.oldest, measured.depth),
        (None, None, None)
    );
    assert_eq!(measured.waiting, 10);
    assert_eq!(
        health.to_string(),
        "healthy\nnot known without a registry: how many operations are kept, for how long, how many they are part of"
    );
    drop(tickets);
    engine.serve();
}

// At once.

/// Says that something is over when it is dropped, be it by a panic: so nobody races on for ever.
struct Over<'a>(&'a AtomicU64);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Looks at an operation as its ticket wakes it.
struct Look {
    engine: Engine,
    id: OperationId,
    /// Its state, and how many are kept that have ended.
    seen: Mutex<Option<(State, usize)>>,
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        let operations = known(&self.engine);
        let row = operations.get(self.id);
        *self.seen.lock().unwrap() = row.map(|row| (row.state, operations.kept()));
    }
}

#[test]
fn whoever_is_told_of_an_end_finds_it() {
    let (engine, _) = engine(1_000);
    let value = Entity::new(0);
    while_one_executes(&engine, &value, |_| {
        let mut ticket = add(&engine, &value, Priority::NORMAL);
        let look = Arc::new(Look {
            engine: engine.clone(),
            id: ticket.id(),
            seen: Mutex::new(None),
        });
        let waker = Waker::from(look.clone());
        let poll = std::pin::Pin::new(&mut ticket).poll(&mut TaskContext::from_waker(&waker));
        assert!(poll.is_pending());
        engine.resolve(&value).unwrap();
        assert!(ticket.cancel());
        assert_eq!(*look.seen.lock().unwrap(), Some((State::Cancelled, 1)));
    });
    engine.serve();
}

#[test]
fn an_operation_is_never_twice_there_or_not_at_all() {
    /// How many have the same target, so that looks stay short.
    const GROUP: usize = 200;
    let rounds = if cfg!(snapcell_sanitize) { 400 } else { 20_000 };
    let engine = Engine::builder().workers(1).registry(1_000_000).build();
    let crossings = AtomicU64::new(0);
    let over = AtomicU64::new(0);
    let group = Mutex::new((Entity::new(0), Vec::new()));
    let newest = || group.lock().unwrap().1.last().copied();
    std::thread::scope(|s| {
        s.spawn(|| {
            let operations = known(&engine);
            while over.load(Ordering::Acquire) == 0 {
                let Some(id) = newest() else { continue };
                let mut was_unfinished = false;
                while !operations.get(id).expect("not at all").state.is_final() {
                    was_unfinished = true;
                }
                crossings.fetch_add(u64::from(was_unfinished), Ordering::Relaxed);
            }
        });
        s.spawn(|| {
            let operations = known(&engine);
            while over.load(Ordering::Acquire) == 0 {
                let (value, submitted) = group.lock().unwrap().clone();
                let found = ids(&operations.find(&Query::new().target(&value)));
                assert!(found.is_sorted_by(|a, b| a < b), "twice");
                let found = BTreeSet::from_iter(found);
                assert!(submitted.iter().all(|id| found.contains(id)), "not at all");
            }
        });
        let _over = Over(&over);
        for round in 0..rounds {
            if round % GROUP == 0 {
                *group.lock().unwrap() = (Entity::new(0), Vec::new());
            }
            let value = group.lock().unwrap().0.clone();
            let ticket = add(&engine, &value, Priority::NORMAL);
            group.lock().unwrap().1.push(ticket.id());
            ticket.wait().unwrap();
            assert_eq!(known(&engine).kept(), round + 1, "it was waited for");
        }
    });
    assert!(
        crossings.into_inner() > 0,
        "nobody has seen an operation before and after its end"
    );
    assert!(known(&engine).is_consistent());
    conserved(&engine);
}

#[test]
fn a_part_that_gets_more_important_while_it_is_submitted_has_one_row() {
    let parts = if cfg!(snapcell_sanitize) { 300 } else { 20_000 };
    let engine = Engine::builder().workers(1).registry(100_000).build();
    let (value, other) = (Entity::new(0_i64), Entity::new(0_i64));
    let mut stage = engine.stage();
    let whole = Operation::update(&other, |n| n + 1).priority(Priority::LOW);
    let whole = stage.add(whole.patience(1_000 * HOUR)).unwrap();
    let context = whole.context();
    let over = AtomicU64::new(0);
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut levels = [Priority::LOW, Priority::NORMAL, Priority::HIGH]
                .iter()
                .cycle();
            while over.load(Ordering::Acquire) == 0 {
                whole.set_priority(*levels.next().expect("it is a cycle"));
            }
        });
        let _over = Over(&over);
        for _ in 0..parts {
            let part = Operation::update(&value, |n| n + 1).class(Class::LOW);
            let part = engine.submit(part.within(&context)).unwrap();
            part.wait().unwrap();
        }
    });
    stage.clear();
    let operations = known(&engine);
    assert_eq!(operations.children(whole.id()).len(), parts);
    assert!(operations.stuck(Duration::ZERO).operations.is_empty());
    assert_eq!(
        (operations.len(), operations.kept()),
        (parts + 1, parts + 1)
    );
    assert!(operations.is_consistent());
    conserved(&engine);
}

/// How often something has happened while threads race, which has to be more than never.
#[derive(Default)]
struct Happened {
    cleaned: AtomicU64,
    lost: AtomicU64,
    cancelled: AtomicU64,
    /// Looks that have found something that hadn't ended.
    seen: AtomicU64,
    submitted: AtomicU64,
    /// How many of those that submit are done.
    done: AtomicU64,
}

impl Happened {
    fn add(count: &AtomicU64, more: usize) {
        count.fetch_add(more as u64, Ordering::Relaxed);
    }

    fn everything(&self) -> bool {
        let all = [&self.cleaned, &self.lost, &self.cancelled, &self.seen];
        all.iter().all(|count| count.load(Ordering::Relaxed) > 0)
    }
}

#[test]
fn indexes_agree_after_everything_at_once_and_nothing_is_left() {
    let rounds = if cfg!(snapcell_sanitize) { 50 } else { 1_500 };
    // Until everything has happened, but not for ever.
    let most = 100 * rounds;
    for kept in [200, 100_000] {
        let clock = ManualClock::new();
        let engine = Engine::builder()
            .workers(2)
            .clock(Clock::manual(&clock))
            .registry(kept)
            .build();
        let values = [Entity::new(0_i64), Entity::new(0_i64)];
        let happened = Happened::default();
        let submit = |operations: &Operations<'_>, round: usize| {
            let value = &values[round % 2];
            let whole = add(&engine, value, Priority::NORMAL);
            let part = Operation::update(value, |n| n + 1)
                .named("part")
                .within(&whole.context());
            let part = engine.submit(part.patience(1_000 * HOUR)).unwrap();
            Happened::add(&happened.submitted, 2);
            whole.set_priority(Priority::HIGH);
            if round.is_multiple_of(3) && whole.cancel() {
                Happened::add(&happened.cancelled, 1);
            }
            let id = part.id();
            let _ = part.wait();
            // Unless it was cleaned up.
            let row = operations.get(id);
            assert!(row.is_none_or(|row| row.state.is_final()), "{row:?}");
        };
        let clean = |operations: &Operations<'_>, round: usize| {
            let some = operations.clean_up(Duration::from_nanos(5), DryRun::No);
            let some = some.unwrap();
            Happened::add(&happened.cleaned, some.cleaned);
            assert_eq!(some.total, some.cleaned + some.kept);
            if round.is_multiple_of(5) {
                let resolved = engine.resolve(&values[round % 2]).unwrap();
                Happened::add(&happened.lost, resolved.lost.len());
            }
        };
        let look = |operations: &Operations<'_>, round: usize| {
            let query = match round % 4 {
                0 => Query::new().target(&values[0]),
                1 => Query::new().name("part"),
                2 => Query::new().state(State::Succeeded),
                _ => Query::new(),
            };
            let found = operations.find(&query);
            let place = |row: &Trace| (row.times.born, row.id);
            assert!(
                found.is_sorted_by(|a, b| place(a) < place(b)),
                "the earliest first"
            );
            // Two that come together may have their numbers in one order, and their times in the other.
            let each: BTreeSet<_> = ids(&found).into_iter().collect();
            assert_eq!(each.len(), found.len(), "each once");
            let unfinished = found.iter().filter(|row| !row.state.is_final());
            Happened::add(&happened.seen, unfinished.count());
            assert!(operations.is_consistent());
            let _ = operations.statistics();
            let _ = operations.stuck(HOUR);
            let _ = engine.health(&Thresholds::default());
        };
        together::together(4, |thread| {
            let operations = known(&engine);
            let _over = (thread < 2).then(|| Over(&happened.done));
            let is_done = || happened.done.load(Ordering::Relaxed) == 2;
            for round in 0.. {
                clock.advance(Duration::from_nanos(1));
                match thread {
                    0 | 1 if round == most || (round >= rounds && happened.everything()) => {
                        break;
                    }
                    0 | 1 => submit(&operations, round),
                    _ if is_done() => break,
                    2 => clean(&operations, round),
                    _ => look(&operations, round),
                }
            }
        });
        assert!(happened.everything(), "something has never happened");
        let counts = conserved(&engine);
        assert_eq!(counts.submitted, happened.submitted.into_inner());
        assert_eq!(counts.cancelled, happened.cancelled.into_inner());
        assert_eq!(counts.rejected, happened.lost.into_inner());
        let operations = known(&engine);
        assert!(operations.is_consistent());
        let rows = operations.find(&Query::new());
        assert!(rows.iter().all(|row| row.state.is_final()));
        let (left, forgotten) = (rows.len() as u64, operations.statistics().forgotten);
        let removed = happened.cleaned.into_inner() + forgotten;
        assert_eq!(removed + left, counts.submitted);
        clock.advance(HOUR);
        let rest = operations.clean_up(Duration::from_nanos(1), DryRun::No);
        assert_eq!(rest.unwrap().cleaned as u64, left);
        assert!(operations.is_empty() && operations.is_consistent());
    }
}

/// What is run takes numbers, too, if somebody listens: what is kept doesn't depend on how the two alternate.
#[test]
fn a_large_registry_keeps_what_it_is_to_whatever_else_takes_numbers() {
    let engine = Engine::builder().workers(0).registry(1_600).build();
    let _events = engine.events(EventKinds::ALL, 1);
    let entity = Entity::new(0_u64);
    for _ in 0..1_600 {
        for _ in 0..15 {
            engine.run(&Operation::update(&entity, |n| n + 1)).unwrap();
        }
        engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap()
            .wait()
            .unwrap();
    }
    let kept = engine.operations().unwrap().kept();
    assert!(kept >= 1_400, "{kept} of 1600");
}
