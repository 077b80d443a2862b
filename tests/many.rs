//! Operations that are submitted together: short ones are done by whoever submits them, in the order that a lane would
//! have, and nothing is lost, counted twice or done in part.
#![cfg(feature = "scheduler")]

#[path = "support/conserved.rs"]
mod conserved;

use conserved::conserved;
use snapcell::{
    Body, Class, Engine, Entity, EventKinds, NotTaken, Operation, OperationError, Policy, Priority,
    ShutDown, Snapshot, State, Stop, Ticket,
};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;

/// An engine that does nothing until it is told to.
fn still(policy: Policy) -> Engine {
    Engine::builder().workers(0).policy(policy).build()
}

const COMMITS_BY_ITSELF: [Policy; 2] = [Policy::InOrder, Policy::Merge];
const DOES_AT_ONCE: [Policy; 3] = [Policy::InOrder, Policy::Merge, Policy::Fold];

type Changed<T> = Ticket<Snapshot<T>, Infallible>;

/// Notes a number at the end of a list.
fn note(
    list: &Entity<Vec<u64>>,
    number: u64,
) -> Operation<impl Body<Output = Snapshot<Vec<u64>>, Error = Infallible> + use<>> {
    let with = move |list: &Vec<u64>| list.iter().copied().chain([number]).collect();
    Operation::update(list, with)
}

fn priority(of: u8) -> Priority {
    Priority::new(of).unwrap()
}

#[test]
fn none_are_submitted() {
    let engine = still(Policy::InOrder);
    let list = Entity::new(Vec::new());
    let none = engine.submit_all((0..0).map(|number| note(&list, number)));
    assert!(none.is_empty());
    assert_eq!(conserved(&engine).submitted, 0);
}

#[test]
fn short_ones_are_done_the_most_important_first_and_answered_as_they_came() {
    for policy in DOES_AT_ONCE {
        let engine = still(policy);
        let lists: [_; 2] = std::array::from_fn(|_| Entity::new(Vec::new()));
        let wanted = [(0, 2), (1, 5), (0, 9), (0, 5), (1, 9), (0, 9), (1, 5)];
        let operations = wanted.iter().zip(0..).map(|((list, of), number)| {
            let operation = note(&lists[*list], number).class(Class::LOW);
            let operation = if *of > 3 {
                operation.class(Class::NORMAL)
            } else {
                operation
            };
            operation.priority(priority((*of).min(9))).short()
        });
        let tickets: Vec<_> = engine
            .submit_all(operations)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(*lists[0].snapshot(), [2, 5, 3, 0]);
        assert_eq!(*lists[1].snapshot(), [4, 1, 6]);
        let is_folded = policy == Policy::Fold;
        for (list, commits) in lists.iter().zip([4, 3]) {
            let version = list.snapshot().stamp().version();
            assert_eq!(version, if is_folded { 1 } else { commits });
        }
        for (ticket, ((list, of), number)) in tickets.into_iter().zip(wanted.iter().zip(0..)) {
            assert!(ticket.is_done());
            assert_eq!(ticket.status().state(), State::Succeeded);
            assert_eq!(ticket.status().priority(), priority(*of));
            let seen = ticket.wait().unwrap();
            let current = lists[*list].snapshot();
            if is_folded {
                assert!(Snapshot::ptr_eq(&seen, &current));
            } else {
                assert_eq!(seen.last(), Some(&number), "its own change");
                assert!(current.starts_with(&seen));
            }
        }
        let counts = conserved(&engine);
        assert_eq!((counts.submitted, counts.committed), (7, 7));
        assert_eq!(counts.folds, if is_folded { 2 } else { 0 });
        assert!(engine.metrics().adds_up());
    }
}

#[test]
fn each_has_a_number_of_its_own_and_knows_its_time() {
    let engine = still(Policy::Fold);
    let list = Entity::new(Vec::new());
    let submitted = engine.submit_all((0..300).map(|number| note(&list, number).short()));
    let mut ids: Vec<_> = submitted
        .iter()
        .map(|ticket| ticket.as_ref().unwrap().id())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 300);
    for ticket in submitted {
        let times = ticket.unwrap().times();
        assert!(times.started == Some(times.born) && times.ended == Some(times.born));
    }
    assert_eq!(
        list.snapshot().stamp().version(),
        2,
        "256 of them by one commit, and the rest"
    );
    assert_eq!(list.snapshot().len(), 300);
    conserved(&engine);
}

#[test]
fn ordinary_ones_are_one_round() {
    let engine = still(Policy::WinnerTakesAll);
    let list = Entity::new(Vec::new());
    let play = (0..10).map(|number| note(&list, number).priority(priority(3 + number as u8 % 7)));
    let mut tickets: Vec<_> = engine
        .submit_all(play)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(tickets.iter().all(|ticket| !ticket.is_done()));
    engine.serve();
    let winner = tickets.remove(6);
    assert_eq!(*winner.wait().unwrap(), [6]);
    for ticket in tickets {
        assert!(ticket.wait().unwrap_err().rejection().is_some());
    }
    assert_eq!(conserved(&engine).rejected, 9);
}

#[test]
fn those_that_want_what_another_one_waits_for_wait_with_it() {
    for policy in DOES_AT_ONCE {
        let engine = still(policy);
        let (mixed, short) = (Entity::new(Vec::new()), Entity::new(Vec::new()));
        let all = engine.submit_all((0..6).map(|number| {
            let operation = note(if number % 2 == 0 { &mixed } else { &short }, number);
            match number {
                2 => operation.priority(Priority::HIGH),
                _ => operation.short(),
            }
        }));
        let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        let is_done = |ticket: &Changed<_>| ticket.is_done();
        let done: Vec<_> = all.iter().map(is_done).collect();
        assert_eq!(done, [false, true, false, true, false, true]);
        engine.serve();
        assert_eq!(*mixed.snapshot(), [2, 0, 4]);
        assert_eq!(*short.snapshot(), [1, 3, 5]);
        assert!(all.into_iter().all(|ticket| ticket.wait().is_ok()));
        conserved(&engine);
    }
}

#[test]
fn what_is_in_the_lane_goes_first() {
    let engine = still(Policy::InOrder);
    let list = Entity::new(Vec::new());
    let first = engine.submit(note(&list, 0)).unwrap();
    let all = engine.submit_all((1..4).map(|number| note(&list, number).short()));
    assert!(!first.is_done() && list.snapshot().is_empty());
    engine.serve();
    assert_eq!(*list.snapshot(), [0, 1, 2, 3]);
    assert!(first.wait().is_ok());
    assert!(all.into_iter().all(|ticket| ticket.unwrap().wait().is_ok()));
    conserved(&engine);
}

#[test]
fn who_is_watched_is_handed_over() {
    let engine = still(Policy::InOrder);
    let list = Entity::new(Vec::new());
    let events = engine.events(EventKinds::ALL, 64);
    let all = engine.submit_all((0..3).map(|number| note(&list, number).short()));
    assert!(all.iter().all(|ticket| !ticket.as_ref().unwrap().is_done()));
    engine.serve();
    assert_eq!(*list.snapshot(), [0, 1, 2]);
    assert!(std::iter::from_fn(|| events.try_next()).count() >= 6);
    conserved(&engine);
}

#[test]
fn what_is_not_taken_is_given_back_and_the_others_are_done() {
    let engine = still(Policy::InOrder);
    let (list, other) = (Entity::new(Vec::new()), Entity::new(Vec::new()));
    let mut all = engine.submit_all((0..3).map(|number| {
        let operation = note(if number == 1 { &other } else { &list }, number).short();
        match number {
            1 => operation.class(Class::LOW).priority(Priority::CRITICAL),
            _ => operation,
        }
    }));
    let refused = all.remove(1).unwrap_err();
    assert!(matches!(refused.why(), NotTaken::Priority { .. }));
    assert!(all.into_iter().all(|ticket| ticket.unwrap().wait().is_ok()));
    assert_eq!((list.snapshot().len(), other.snapshot().len()), (2, 0));
    engine.shut_down(ShutDown::Finish, None).unwrap();
    let all = engine.submit_all((0..3).map(|number| note(&list, number).short()));
    for refused in all {
        let refused = refused.unwrap_err();
        assert_eq!(refused.why(), NotTaken::ShutDown);
        drop(refused.into_operation());
    }
    engine.start();
    assert_eq!(list.snapshot().len(), 2);
    assert_eq!(conserved(&engine).submitted, 2);
}

#[test]
fn those_that_find_no_room_are_given_back() {
    let engine = Engine::builder().workers(0).capacity(2).build();
    let list = Entity::new(Vec::new());
    let all = engine.submit_all((0..5).map(|number| note(&list, number)));
    let full = all.iter().filter(|ticket| ticket.is_err()).count();
    assert_eq!(full, 3);
    assert!(
        all.iter()
            .filter_map(|ticket| ticket.as_ref().err())
            .all(|refused| refused.is_overloaded())
    );
    engine.serve();
    assert_eq!(*list.snapshot(), [0, 1]);
    conserved(&engine);
}

#[test]
fn what_fails_fails_alone() {
    for policy in DOES_AT_ONCE {
        let engine = still(policy);
        let sum = Entity::new(0_u64);
        let all = engine.submit_all((0..4_u64).map(|number| {
            let add = move |sum: &u64| match number {
                1 => Err("no"),
                2 => panic!("on purpose"),
                3 => Ok(None),
                _ => Ok(Some(sum + 10)),
            };
            Operation::try_update(&sum, add).short()
        }));
        let mut results = all.into_iter().map(|ticket| ticket.unwrap().wait());
        assert_eq!(*results.next().unwrap().unwrap(), 10);
        let refused = results.next().unwrap();
        assert!(matches!(refused, Err(OperationError::Refused("no"))));
        let panicked = results.next().unwrap();
        assert!(matches!(panicked, Err(OperationError::Panicked(_))));
        assert_eq!(*results.next().unwrap().unwrap(), 10);
        let counts = conserved(&engine);
        let ends = (counts.committed, counts.unchanged, counts.failed);
        assert_eq!(ends, (1, 1, 2));
        assert_eq!(sum.snapshot().stamp().version(), 1);
    }
}

#[test]
fn what_can_not_be_published_together_is_published_each_by_itself() {
    let engine = still(Policy::Fold);
    let limited = Entity::builder(0_u64).validate(|sum| match sum {
        0..=10 => Ok(()),
        _ => Err("too much"),
    });
    let limited = limited.try_build().unwrap();
    let all = engine.submit_all(
        [6, 4, 7].map(|number| Operation::update(&limited, move |sum| sum + number).short()),
    );
    let results: Vec<_> = all
        .into_iter()
        .map(|ticket| ticket.unwrap().wait())
        .collect();
    assert_eq!(*limited.snapshot(), 10);
    assert!(results[0].is_ok() && results[1].is_ok());
    assert!(
        matches!(&results[2], Err(OperationError::Invalid(why)) if why.to_string() == "too much")
    );
    let counts = conserved(&engine);
    assert_eq!((counts.committed, counts.failed, counts.folds), (2, 1, 0));
}

#[test]
fn transactions_are_done_one_by_one() {
    for policy in DOES_AT_ONCE {
        let engine = still(policy);
        let accounts: [_; 3] = std::array::from_fn(|_| Entity::new(100_u64));
        let transfers = [(0, 1, 30), (0, 2, 50), (1, 2, 1_000), (0, 1, 20)];
        let all = engine.submit_all(transfers.map(|(from, to, amount)| {
            let both = (accounts[from].clone(), accounts[to].clone());
            let transfer = Operation::transaction(both, move |tx, (from, to)| {
                let left = tx
                    .get(from)?
                    .checked_sub(amount)
                    .ok_or(Stop::Abort("overdrawn"))?;
                tx.write(from, left);
                Ok(tx.update(to, |sum| sum + amount)?)
            });
            transfer.short()
        }));
        let went: Vec<_> = all
            .into_iter()
            .map(|ticket| ticket.unwrap().wait().is_ok())
            .collect();
        assert_eq!(went, [true, true, false, true]);
        let left = accounts.each_ref().map(|account| *account.snapshot());
        assert_eq!(left, [0, 150, 150]);
        let counts = conserved(&engine);
        assert_eq!((counts.committed, counts.failed), (3, 1));
    }
}

#[test]
fn who_makes_them_may_panic_and_nothing_is_done() {
    let engine = still(Policy::Fold);
    let list = Entity::new(Vec::new());
    let made = (0..5).map(|number| {
        assert!(number < 3, "on purpose");
        note(&list, number).short()
    });
    let result = catch_unwind(AssertUnwindSafe(|| engine.submit_all(made)));
    assert!(result.is_err());
    assert!(list.snapshot().is_empty());
    assert_eq!(conserved(&engine).submitted, 0);
}

#[test]
fn who_is_overtaken_again_and_again_is_handed_over_with_what_it_has_lost() {
    for policy in DOES_AT_ONCE {
        let engine = still(policy);
        let (sum, other) = (Entity::new(0_u64), Entity::new(0_u64));
        let runs = Arc::new(AtomicU64::new(0));
        // Past the engine somebody commits while each attempt of the first one computes, until it is handed over.
        let all = engine.submit_all((0..3_u64).map(|number| {
            let (outside, runs) = (sum.clone(), runs.clone());
            let add = move |n: &u64| {
                if number == 0 && runs.fetch_add(1, SeqCst) < 16 {
                    thread::scope(|scope| {
                        scope.spawn(|| drop(outside.update(|n| n + 100)));
                    });
                }
                n + 1
            };
            Operation::update(if number == 2 { &other } else { &sum }, add).short()
        }));
        let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(runs.load(SeqCst), 16);
        assert!(!all[0].is_done() && !all[1].is_done() && all[2].is_done());
        assert!(all.iter().all(|ticket| ticket.status().retries() == 0));
        engine.serve();
        assert!(all.into_iter().all(|ticket| ticket.wait().is_ok()));
        assert_eq!((*sum.snapshot(), *other.snapshot()), (1_602, 1));
        let counts = conserved(&engine);
        // In a fold both lose, but they are folded twice only.
        let lost = if policy == Policy::Fold { 18 } else { 16 };
        assert_eq!((counts.conflicts, counts.committed), (lost, 3));
        assert!(engine.metrics().adds_up());
    }
}

#[test]
fn inside_another_operation_they_are_part_of_that() {
    let engine = still(Policy::InOrder);
    let (outer, inner) = (Entity::new(0_u64), Entity::new(Vec::new()));
    let nested = {
        let (engine, inner) = (engine.clone(), inner.clone());
        Operation::update(&outer, move |n| {
            let parts = engine.submit_all((0..3).map(|number| note(&inner, number).short()));
            let parts = parts.into_iter().map(Result::unwrap);
            let sum = parts.map(|part| {
                assert_eq!(part.chain().len(), 2);
                part.wait().unwrap().len() as u64
            });
            n + sum.sum::<u64>()
        })
    };
    let ticket = engine.submit(nested).unwrap();
    engine.serve();
    assert_eq!(*ticket.wait().unwrap(), 1 + 2 + 3);
    conserved(&engine);
}

#[test]
fn a_destructor_that_panics_is_nobodys_business() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let engine = still(Policy::Fold);
    let sum = Entity::new(0_u64);
    let all = engine.submit_all((0..3).map(|_| {
        let captured = Bad;
        let add = move |n: &u64| {
            let _ = &captured;
            n + 1
        };
        Operation::update(&sum, add).short()
    }));
    assert!(all.into_iter().all(|ticket| ticket.unwrap().wait().is_ok()));
    assert_eq!(*sum.snapshot(), 3);
    conserved(&engine);
}

#[test]
fn those_of_many_threads_are_all_counted_and_none_is_lost() {
    for policy in DOES_AT_ONCE {
        let engine = Engine::builder().workers(2).policy(policy).build();
        let sums: [_; 3] = std::array::from_fn(|_| Entity::new(0_u64));
        const BATCHES: u64 = 200;
        const EACH: u64 = 48;
        let at_once = AtomicU64::new(0);
        thread::scope(|scope| {
            for number in 0..4 {
                let (engine, sums, at_once) = (&engine, &sums, &at_once);
                scope.spawn(move || {
                    let mut last = [None; 3];
                    for batch in 0..BATCHES {
                        // Now and then some take the way by the lane.
                        let is_ordinary = (batch + number) % 16 == 0;
                        let all = engine.submit_all((0..EACH).map(|step| {
                            let add = Operation::update(&sums[step as usize % 3], |n| n + 1);
                            let add = add.retries(10_000);
                            let is_ordinary = is_ordinary && step % 3 == 0;
                            if is_ordinary { add } else { add.short() }
                        }));
                        let mut stamps = [None; 3];
                        for (ticket, step) in all.into_iter().zip(0..) {
                            let ticket = ticket.unwrap();
                            let times = ticket.times();
                            let is_at_once = times.ended == Some(times.born);
                            at_once.fetch_add(u64::from(is_at_once), SeqCst);
                            let stamp = ticket.wait().unwrap().stamp();
                            let target = step % 3;
                            assert!(
                                last[target] < Some(stamp),
                                "after those of the batch before"
                            );
                            stamps[target] = stamps[target].max(Some(stamp));
                        }
                        last = stamps;
                    }
                });
            }
        });
        let total: u64 = sums.iter().map(|sum| *sum.snapshot()).sum();
        assert_eq!(total, 4 * BATCHES * EACH);
        let counts = conserved(&engine);
        assert_eq!(counts.committed, total);
        if COMMITS_BY_ITSELF.contains(&policy) {
            let versions = sums.iter().map(|sum| sum.snapshot().stamp().version());
            assert_eq!(versions.sum::<u64>(), total);
        } else {
            assert!(counts.folds > 0);
        }
        assert!(at_once.load(SeqCst) > 0, "some were done at once");
        assert!(engine.metrics().adds_up());
    }
}

#[test]
fn a_destructor_may_shut_the_engine_down() {
    /// Shuts the engine down when it is dropped.
    struct Last(Engine, ShutDown, Arc<AtomicU64>);
    impl Drop for Last {
        fn drop(&mut self) {
            let is_idle = self.0.shut_down(self.1, None).is_ok();
            self.2.fetch_add(u64::from(is_idle), SeqCst);
        }
    }
    for policy in DOES_AT_ONCE {
        for how in [ShutDown::Finish, ShutDown::Cancel] {
            let engine = still(policy);
            let (sum, idle) = (Entity::new(0_u64), Arc::new(AtomicU64::new(0)));
            let all = engine.submit_all((0..3).map(|_| {
                let last = Last(engine.clone(), how, idle.clone());
                let add = move |n: &u64| {
                    let _ = &last;
                    n + 1
                };
                Operation::update(&sum, add).short()
            }));
            assert!(all.into_iter().all(|ticket| ticket.unwrap().wait().is_ok()));
            assert_eq!((*sum.snapshot(), idle.load(SeqCst)), (3, 3));
        }
    }
}

#[test]
fn what_a_validator_submits_to_the_same_entity_gets_in_nobodys_way() {
    let engine = still(Policy::Fold);
    let slot: Arc<OnceLock<(Engine, Entity<u64, &'static str>)>> = Arc::default();
    let found = Arc::new(AtomicU64::new(0));
    let sum = {
        let (slot, found) = (slot.clone(), found.clone());
        let sum = Entity::builder(0_u64).validate(move |_| {
            if let Some((engine, sum)) = slot.get() {
                let again = engine.run(&Operation::update(sum, |n| n + 100));
                let is_found = matches!(again, Err(OperationError::SelfConflict));
                found.fetch_add(u64::from(is_found), SeqCst);
            }
            Ok::<_, &'static str>(())
        });
        sum.try_build().unwrap()
    };
    assert!(slot.set((engine.clone(), sum.clone())).is_ok());
    let all = engine.submit_all((0..3).map(|_| Operation::update(&sum, |n| n + 1).short()));
    assert!(all.into_iter().all(|ticket| ticket.unwrap().wait().is_ok()));
    assert_eq!((*sum.snapshot(), found.load(SeqCst)), (3, 1));
    conserved(&engine);
}

#[test]
fn who_commits_to_what_it_computes_for_fails_alone() {
    for policy in DOES_AT_ONCE {
        let engine = still(policy);
        let sum = Entity::new(0_u64);
        let all = engine.submit_all((0..5).map(|number| {
            let own = sum.clone();
            let add = move |n: &u64| {
                if number == 2 {
                    own.update(|n| n + 100);
                }
                n + 1
            };
            Operation::update(&sum, add).short()
        }));
        let went = all.into_iter().map(|ticket| ticket.unwrap().wait());
        for (result, number) in went.zip(0..) {
            match number {
                2 => assert!(matches!(result, Err(OperationError::SelfConflict))),
                _ => assert!(result.is_ok(), "number {number}"),
            }
        }
        let ends = conserved(&engine);
        assert_eq!((ends.committed, ends.failed), (4, 1));
    }
}

#[test]
fn a_shut_down_that_cancels_ends_those_that_have_not_begun() {
    for policy in [Policy::InOrder, Policy::Merge] {
        let engine = still(policy);
        let sum = Entity::new(0_u64);
        let all = engine.submit_all((0..5).map(|number| {
            let engine = engine.clone();
            let add = move |n: &u64| {
                if number == 1 {
                    assert!(
                        engine.shut_down(ShutDown::Cancel, None).is_err(),
                        "it is busy"
                    );
                }
                n + 1
            };
            Operation::update(&sum, add).short()
        }));
        let went: Vec<_> = all.into_iter().map(|ticket| ticket.is_ok()).collect();
        assert_eq!(went, [true, true, false, false, false]);
        assert_eq!(*sum.snapshot(), 2);
        conserved(&engine);
    }
}
