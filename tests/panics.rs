//! Panics of user code: closures, validators, `Clone`, and destructors. A closure that panics leaves
//! the entity as it was; a destructor that panics is caught and counted, hits nobody who has nothing
//! to do with it, and costs no other value its end.

#[path = "support/bomb.rs"]
mod bomb;
#[path = "support/planned.rs"]
mod planned;
mod support;

use bomb::{Bomb, caught_in};
use planned::{PLANNED, plan, silence_what_is_planned};
use snapcell::{Clock, Entity, Retry, Snapshot, Stamp, destructor_panics};
use std::cell::RefCell;
use std::convert::Infallible;
use std::env;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use support::{Tally, Token, alone, elsewhere, panic_of, together};

/// As [`alone`], without the noise of panics that are planned.
fn alone_in_silence(body: impl FnOnce() + Send) {
    silence_what_is_planned();
    alone(body);
}

/// As [`alone_in_silence`], in a process of its own, which `body` may spoil for good.
fn alone_in_its_process(test: &str, body: impl FnOnce() + Send) {
    const ONLY: &str = "SNAPCELL_TEST_IN_ITS_OWN_PROCESS";
    if env::var(ONLY).is_ok_and(|only| only == test) {
        return alone_in_silence(body);
    }
    let child = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ONLY, test)
        .output()
        .unwrap();
    let said = [child.stdout, child.stderr].concat();
    assert!(
        child.status.success(),
        "{}: {}",
        child.status,
        String::from_utf8_lossy(&said)
    );
}

/// Asserts that no guard was left behind: what is replaced from now on can be freed.
fn assert_nothing_is_pinned() {
    let entity = Entity::new(0);
    for n in 0..100 {
        entity.replace(n);
    }
    snapcell::reclaim();
    assert_eq!(
        snapcell::reclamation_lag().nodes,
        0,
        "a guard was left behind"
    );
}

/// The payload of a panic, whose own destructor panics.
struct Charge;

impl Drop for Charge {
    fn drop(&mut self) {
        panic_any(PLANNED);
    }
}

/// An entity with times that can be told in advance: equal to the version.
fn logical<T: Send + Sync + 'static>(value: T) -> Entity<T> {
    Entity::builder(value).clock(Clock::logical()).build()
}

/// Asserts that the entity is what it was before, and that other threads can go on with it.
fn assert_unharmed(entity: &Entity<i32>, before: &Snapshot<i32>) {
    assert!(Snapshot::ptr_eq(&entity.snapshot(), before));
    let next = elsewhere(|| entity.update(|n| n + 1).stamp());
    assert_eq!(next.version(), before.stamp().version() + 1);
    assert_eq!(*entity.snapshot(), **before + 1);
    assert_eq!(
        entity.update(|n| n + 1).attempts(),
        1,
        "and so can this thread"
    );
}

// Closures.

#[test]
fn a_look_that_panics_harms_nobody() {
    alone_in_silence(|| {
        let entity = logical(1);
        let before = entity.snapshot();
        assert_eq!(panic_of(|| entity.read(|_| plan::<i32>())), PLANNED);
        assert_unharmed(&entity, &before);
    });
}

#[test]
fn an_update_that_panics_leaves_no_trace() {
    alone_in_silence(|| {
        let entity = logical(1);
        let before = entity.snapshot();
        assert_eq!(panic_of(|| entity.update(|_| plan())), PLANNED);
        assert_eq!(
            panic_of(|| entity.update_with(Retry::at_most(3), |_| plan())),
            PLANNED
        );
        assert_eq!(
            panic_of(|| entity.try_update(|_| plan::<Result<_, Infallible>>())),
            PLANNED
        );
        assert_eq!(
            panic_of(|| entity.try_update_with(Retry::at_most(3), |_| plan::<Result<_, ()>>())),
            PLANNED
        );
        assert_eq!(snapcell::reclamation_lag().nodes, 0, "nothing was retired");
        assert_unharmed(&entity, &before);
    });
}

#[test]
fn an_update_that_panics_after_a_loss_leaves_the_winner() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical((1, tally.token()));
        let mut runs = 0;
        let message = panic_of(|| {
            entity.update(|_| {
                runs += 1;
                if runs == 2 {
                    plan()
                }
                elsewhere(|| drop(entity.replace((50, tally.token()))));
                (2, tally.token())
            })
        });
        assert_eq!((message.as_str(), runs), (PLANNED, 2));
        assert_eq!(entity.snapshot().0, 50);
        assert_eq!(entity.snapshot().stamp(), Stamp::new(1, 1));
        snapcell::reclaim();
        assert_eq!(tally.alive(), [1], "the lost attempt's value is gone");
        drop(entity);
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn a_panic_on_another_thread_is_that_threads_alone() {
    alone_in_silence(|| {
        let entity = logical(0);
        let panics: usize = together(4, |_| {
            (0..1000)
                .filter(|n| {
                    let update = || entity.update(|v| if n % 2 == 0 { v + 1 } else { plan() });
                    if n % 2 == 0 {
                        update();
                        false
                    } else {
                        panic_of(update) == PLANNED
                    }
                })
                .count()
        })
        .into_iter()
        .sum();
        assert_eq!(panics, 2000);
        let end = entity.snapshot();
        assert_eq!((*end, end.stamp()), (2000, Stamp::new(2000, 2000)));
    });
}

#[test]
fn a_merge_that_panics_leaves_what_got_in_between_and_drops_the_value_once() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical((1, tally.token()));
        let base = entity.snapshot();
        entity.replace((2, tally.token()));
        let current = entity.snapshot();
        let mine = (3, tally.token());
        assert_eq!(
            panic_of(|| entity.commit_or_merge(&base, mine, |_| plan())),
            PLANNED
        );
        assert!(Snapshot::ptr_eq(&entity.snapshot(), &current));
        assert_eq!(tally.alive(), [0, 1]);
        drop((entity, base, current));
        snapcell::reclaim();
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn an_inner_commit_stands_though_the_closure_panics_after_it() {
    alone_in_silence(|| {
        let (entity, other) = (logical(1), logical(1));
        let message = panic_of(|| {
            entity.update(|_| {
                other.replace(2);
                entity.replace(3);
                plan()
            })
        });
        assert_eq!(message, PLANNED);
        assert_eq!((*entity.snapshot(), *other.snapshot()), (3, 2));
    });
}

#[test]
fn a_choice_of_a_part_that_panics_gives_its_count_up() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let (first, second) = (entity.snapshot(), entity.snapshot());
        drop(entity);
        assert_eq!(panic_of(|| first.project(|_| plan::<&Token>())), PLANNED);
        assert_eq!(tally.alive(), [0], "the other one is still there");
        assert_eq!(
            panic_of(|| second.try_project(|_| plan::<Option<&Token>>())),
            PLANNED
        );
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn a_guard_is_given_back_by_a_panic() {
    alone_in_silence(|| {
        let entity = logical(0);
        let message = panic_of(|| {
            let guard = snapcell::pin();
            let loaded = entity.load(&guard);
            let committed = entity.replace(1);
            assert_eq!((*loaded, *committed.current()), (0, 1));
            plan::<()>()
        });
        assert_eq!(message, PLANNED);
        snapcell::reclaim();
        assert_eq!(snapcell::reclamation_lag().nodes, 0);
    });
}

// Validators.

#[test]
fn a_validator_that_panics_at_birth_lets_nothing_be_born() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let captured = tally.token();
        let builder = Entity::builder(tally.token()).validate(move |_| {
            assert_eq!(captured.number(), 0);
            plan::<Result<(), ()>>()
        });
        assert_eq!(panic_of(|| builder.try_build().is_ok()), PLANNED);
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn a_validator_that_panics_at_a_commit_leaves_the_entity_as_it_was() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = Entity::builder((0, tally.token()))
            .clock(Clock::logical())
            .validate(|value: &(i32, Token)| match value.0 {
                0..10 => Ok(()),
                10..20 => Err(()),
                _ => plan(),
            })
            .try_build()
            .map_err(|invalid| invalid.error)
            .unwrap();
        let base = entity.snapshot();
        let bad = || (99, tally.token());
        let attempts: [&dyn Fn(); 7] = [
            &|| drop(entity.try_commit(base.stamp(), bad())),
            &|| drop(entity.try_commit_on(&base, bad())),
            &|| drop(entity.try_replace(bad())),
            &|| drop(entity.commit_or_merge(&base, bad(), |_| None)),
            &|| drop(entity.update_with(Retry::unbounded(), |_| bad())),
            &|| drop(entity.try_update(|_| Ok::<_, ()>(Some(bad())))),
            &|| drop(entity.try_update_with(Retry::at_most(2), |_| Ok::<_, ()>(Some(bad())))),
        ];
        for (nth, attempt) in attempts.iter().enumerate() {
            assert_eq!(panic_of(attempt), PLANNED, "attempt {nth}");
            assert!(Snapshot::ptr_eq(&entity.snapshot(), &base));
            assert_eq!(tally.alive(), [0], "attempt {nth} left a value behind");
        }
        assert_eq!(snapcell::reclamation_lag().nodes, 0, "nothing was retired");

        // And of a merge, where both the value and the merged one are at stake.
        elsewhere(|| assert!(entity.try_replace((1, tally.token())).is_ok()));
        let mine = (2, tally.token());
        assert_eq!(
            panic_of(|| entity.commit_or_merge(&base, mine, |_| Some(bad()))),
            PLANNED
        );
        assert_eq!(entity.snapshot().0, 1);
        drop((entity, base));
        snapcell::reclaim();
        tally.assert_all_dropped_once(11);
    });
}

// `Clone`.

/// A payload that can be cloned a number of times, and then panics.
struct Fragile {
    clones_left: AtomicUsize,
    token: Token,
    tally: Tally,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        if self.clones_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.clones_left.store(0, Ordering::Relaxed);
            plan::<()>();
        }
        Fragile {
            clones_left: AtomicUsize::new(0),
            token: self.tally.token(),
            tally: self.tally.clone(),
        }
    }
}

#[test]
fn a_clone_that_panics_inside_a_closure_leaves_no_trace() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Fragile {
            clones_left: AtomicUsize::new(2),
            token: tally.token(),
            tally: tally.clone(),
        });
        let before = entity.snapshot();
        // Two clones succeed, the third does not, and takes the two with it.
        let message = panic_of(|| {
            entity.update(|value| {
                let copies = [value.clone(), value.clone(), value.clone()];
                copies.into_iter().next().unwrap()
            })
        });
        assert_eq!(message, PLANNED);
        assert!(Snapshot::ptr_eq(&entity.snapshot(), &before));
        assert_eq!(tally.alive(), [0]);
        before.clones_left.store(1, Ordering::Relaxed);
        assert_eq!(entity.update(Clone::clone).current().token.number(), 3);
        drop((entity, before));
        snapcell::reclaim();
        tally.assert_all_dropped_once(4);
    });
}

// Destructors.

#[test]
fn a_replaced_value_whose_destructor_panics_does_not_reach_the_commit_that_drops_it() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::armed(&tally));
        let mut commits = 0;
        // Nobody calls `reclaim` here: it is a later commit that runs the destructor.
        let caught = caught_in(|| {
            let before = destructor_panics();
            while destructor_panics() < before + 100 {
                let next = if commits % 10 == 9 {
                    Bomb::armed(&tally)
                } else {
                    Bomb::dud(&tally)
                };
                commits += 1;
                assert_eq!(entity.replace(next).stamp(), Stamp::new(commits, commits));
                assert!(commits < 100_000, "no destructor ran: this shows nothing");
            }
        });
        assert_eq!(caught, 100, "one at a time");
        assert!(tally.alive().len() as u64 <= commits + 1 - 100);
        let rest = caught_in(snapcell::reclaim);
        assert_eq!(tally.alive(), [commits as usize], "none was lost");
        assert_eq!(
            (100 + rest) as u64,
            1 + (commits - 1) / 10,
            "all but the current one"
        );
        let last = entity.snapshot().armed;
        assert_eq!(caught_in(|| drop(entity)), usize::from(last));
        tally.assert_all_dropped_once(commits as usize + 1);
    });
}

#[test]
fn reclaim_catches_every_destructor_that_panics_and_loses_no_value() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::dud(&tally));
        let guard = snapcell::pin();
        for n in 1..=1000 {
            entity.replace(if n % 3 == 0 {
                Bomb::armed(&tally)
            } else {
                Bomb::dud(&tally)
            });
        }
        drop(guard);
        assert_eq!(caught_in(snapcell::reclaim), 333);
        assert_eq!(tally.alive(), [1000]);
        assert_eq!(snapcell::reclamation_lag().nodes, 0);
        drop(entity);
        tally.assert_all_dropped_once(1001);
    });
}

#[test]
fn no_reader_is_hit_by_the_destructor_of_what_it_read() {
    alone_in_silence(|| {
        const COMMITS: usize = 20_000;
        const READERS: usize = 3;
        let tally = Tally::default();
        let entity = logical(Bomb::dud(&tally));
        let write = |commits: RangeInclusive<usize>| {
            for n in commits {
                entity.replace(if n % 10 == 0 {
                    Bomb::armed(&tally)
                } else {
                    Bomb::dud(&tally)
                });
            }
        };
        // Every reader has looked before the second half is written, and looks until it is.
        let half = Barrier::new(READERS + 1);
        let done = AtomicBool::new(false);
        let caught = caught_in(|| {
            // A panic in any of these threads would come out here.
            together(READERS + 1, |thread| {
                if thread == READERS {
                    write(1..=COMMITS / 2);
                    half.wait();
                    write(COMMITS / 2 + 1..=COMMITS);
                    done.store(true, Ordering::Relaxed);
                    return;
                }
                let mut reader = entity.reader();
                let mut last = 0;
                let mut look = || {
                    let number = match thread {
                        0 => entity.read(|bomb| bomb.token.number()),
                        1 => entity.snapshot().token.number(),
                        _ => reader.get().token.number(),
                    };
                    assert!(number >= last);
                    last = number;
                };
                look();
                half.wait();
                while !done.load(Ordering::Relaxed) {
                    look();
                }
                look();
                assert_eq!(last, COMMITS);
            });
            snapcell::reclaim();
        });
        // The last one is armed, too, but it is still there.
        assert_eq!(caught, COMMITS / 10 - 1);
        assert_eq!(tally.alive(), [COMMITS]);
        assert_eq!(caught_in(|| drop(entity)), 1);
        tally.assert_all_dropped_once(COMMITS + 1);
    });
}

#[test]
fn the_last_holder_is_not_hit_by_the_destructor() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::armed(&tally));
        let snapshot = entity.snapshot();
        let part = entity.snapshot().project(|bomb| &bomb.token);
        let reader = entity.reader();
        entity.replace(Bomb::armed(&tally));
        assert_eq!(caught_in(snapcell::reclaim), 0, "it is held");
        assert_eq!(caught_in(|| drop(snapshot)), 0, "by others, too");
        assert_eq!(caught_in(|| drop(part)), 0);
        assert_eq!(caught_in(|| drop(reader)), 1, "the last one ends it");
        assert_eq!(tally.alive(), [1]);
        assert_eq!(caught_in(|| drop(entity)), 1, "the last handle as well");
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn a_reader_that_moves_on_is_not_hit_by_the_destructor() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::armed(&tally));
        let mut reader = entity.reader();
        entity.replace(Bomb::dud(&tally));
        snapcell::reclaim();
        let caught = caught_in(|| assert_eq!(reader.get().token.number(), 1));
        assert_eq!(caught, 1);
        drop((entity, reader));
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn a_value_of_a_lost_attempt_does_not_stop_the_next_one() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::dud(&tally));
        let mut runs = 0;
        let caught = caught_in(|| {
            let committed = entity.update(|_| {
                runs += 1;
                if runs <= 3 {
                    elsewhere(|| drop(entity.replace(Bomb::dud(&tally))));
                }
                Bomb::armed(&tally)
            });
            assert_eq!(
                (committed.attempts(), committed.stamp()),
                (4, Stamp::new(4, 4))
            );
        });
        assert_eq!((runs, caught), (4, 3));
        assert_eq!(caught_in(|| drop(entity)), 1);
        snapcell::reclaim();
        tally.assert_all_dropped_once(8);
    });
}

#[test]
fn a_merged_value_of_a_lost_attempt_does_not_stop_the_next_one() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::dud(&tally));
        let base = entity.snapshot();
        entity.replace(Bomb::dud(&tally));
        let mut runs = 0;
        let caught = caught_in(|| {
            let merged = entity.commit_or_merge(&base, Bomb::dud(&tally), |_| {
                runs += 1;
                if runs == 1 {
                    elsewhere(|| drop(entity.replace(Bomb::dud(&tally))));
                    return Some(Bomb::armed(&tally));
                }
                Some(Bomb::dud(&tally))
            });
            assert_eq!(merged.unwrap().attempts(), 3);
        });
        assert_eq!((runs, caught), (2, 1));
        drop((entity, base));
        snapcell::reclaim();
        tally.assert_all_dropped_once(6);
    });
}

#[test]
fn a_merge_that_was_published_is_reported_whatever_the_unmerged_value_does() {
    alone_in_its_process(
        "a_merge_that_was_published_is_reported_whatever_the_unmerged_value_does",
        || {
            let tally = Tally::default();
            let entity = logical(Bomb::dud(&tally));
            let base = entity.snapshot();
            entity.replace(Bomb::dud(&tally));
            let mine = Bomb::armed(&tally);
            let caught = caught_in(|| {
                let merged = catch_unwind(AssertUnwindSafe(|| {
                    entity
                        .commit_or_merge(&base, mine, |_| Some(Bomb::dud(&tally)))
                        .map(|committed| committed.stamp())
                }));
                let merged = merged.expect("the panic came out of the call");
                assert_eq!(merged.unwrap(), Stamp::new(2, 2));
            });
            assert_eq!(caught, 1);
            drop((entity, base));
            assert_nothing_is_pinned();
            tally.assert_all_dropped_once(4);
        },
    );
}

#[test]
fn a_merge_that_is_invalid_is_given_back_whatever_the_merged_value_does() {
    alone_in_its_process(
        "a_merge_that_is_invalid_is_given_back_whatever_the_merged_value_does",
        || {
            let tally = Tally::default();
            let entity = Entity::builder(Bomb::dud(&tally))
                .validate(|bomb: &Bomb| if bomb.armed { Err("armed") } else { Ok(()) })
                .try_build()
                .map_err(|invalid| invalid.error)
                .unwrap();
            let base = entity.snapshot();
            assert!(entity.try_replace(Bomb::dud(&tally)).is_ok());
            let mine = Bomb::dud(&tally);
            let caught = caught_in(|| {
                let merged = catch_unwind(AssertUnwindSafe(|| {
                    entity
                        .commit_or_merge(&base, mine, |_| Some(Bomb::armed(&tally)))
                        .map(drop)
                }));
                let merged = merged.expect("the panic came out of the call");
                let error = merged.unwrap_err();
                assert_eq!(error.invalid(), Some(&"armed"));
                assert_eq!(error.into_proposed().token.number(), 2);
            });
            assert_eq!(caught, 1);
            drop((entity, base));
            assert_nothing_is_pinned();
            tally.assert_all_dropped_once(4);
        },
    );
}

/// Makes a commit with a closure that owns a bomb, which goes off at the end of the call.
fn commit_with_captured_bomb(test: &str, commit: impl FnOnce(&Entity<i32>, Bomb) + Send) {
    alone_in_its_process(test, || {
        let tally = Tally::default();
        let entity = logical(1);
        let bomb = Bomb::armed(&tally);
        assert_eq!(panic_of(|| commit(&entity, bomb)), PLANNED);
        tally.assert_all_dropped_once(1);
        assert_eq!(
            *entity.snapshot(),
            2,
            "the commit was made before the closure ended"
        );
        drop(entity);
        assert_nothing_is_pinned();
    });
}

#[test]
fn an_update_leaves_no_guard_behind_though_the_end_of_its_closure_panics() {
    commit_with_captured_bomb(
        "an_update_leaves_no_guard_behind_though_the_end_of_its_closure_panics",
        |entity, bomb| {
            entity.update(move |n| n + i32::from(bomb.is_armed()));
        },
    );
}

#[test]
fn a_bounded_update_leaves_no_guard_behind_though_the_end_of_its_closure_panics() {
    commit_with_captured_bomb(
        "a_bounded_update_leaves_no_guard_behind_though_the_end_of_its_closure_panics",
        |entity, bomb| {
            let updated =
                entity.update_with(Retry::at_most(0), move |n| n + i32::from(bomb.is_armed()));
            drop(updated);
        },
    );
}

#[test]
fn a_refusable_update_leaves_no_guard_behind_though_the_end_of_its_closure_panics() {
    commit_with_captured_bomb(
        "a_refusable_update_leaves_no_guard_behind_though_the_end_of_its_closure_panics",
        |entity, bomb| {
            let updated =
                entity.try_update(move |n| Ok::<_, ()>(Some(n + i32::from(bomb.is_armed()))));
            drop(updated);
        },
    );
}

#[test]
fn a_merge_leaves_no_guard_behind_though_the_end_of_its_closure_panics() {
    commit_with_captured_bomb(
        "a_merge_leaves_no_guard_behind_though_the_end_of_its_closure_panics",
        |entity, bomb| {
            let base = entity.snapshot();
            let merged = entity.commit_or_merge(&base, 2, move |_| bomb.is_armed().then_some(2));
            drop(merged);
        },
    );
}

#[test]
fn a_look_leaves_no_guard_behind_though_the_end_of_its_closure_panics() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(1);
        let bomb = Bomb::armed(&tally);
        assert_eq!(
            panic_of(|| entity.read(move |n| *n == 1 && bomb.is_armed())),
            PLANNED
        );
        tally.assert_all_dropped_once(1);
        assert_nothing_is_pinned();
    });
}

#[test]
fn a_value_that_was_handed_out_panics_where_it_is_dropped_and_is_not_counted() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let caught = caught_in(|| {
            let entity = logical(Bomb::armed(&tally));
            let taken = entity.into_inner().map_err(drop).unwrap();
            assert_eq!(panic_of(|| drop(taken)), PLANNED, "it is the caller's own");

            let entity = logical(Bomb::dud(&tally));
            let refused = entity.try_commit(Stamp::new(9, 9), Bomb::armed(&tally));
            let proposed = refused.map(drop).unwrap_err().into_proposed();
            assert_eq!(panic_of(|| drop(proposed)), PLANNED);
        });
        assert_eq!(caught, 0);
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn a_panic_whose_payload_panics_in_turn_is_caught_and_counts_once() {
    struct Charged(Token);
    impl Drop for Charged {
        fn drop(&mut self) {
            if self.0.number().is_multiple_of(2) {
                panic_any(Charge);
            }
        }
    }
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Charged(tally.token()));
        for _ in 1..=100 {
            entity.replace(Charged(tally.token()));
        }
        assert_eq!(caught_in(snapcell::reclaim), 50);
        assert_eq!(tally.alive(), [100]);
        assert_eq!(caught_in(|| drop(entity)), 1);
        tally.assert_all_dropped_once(101);
    });
}

#[test]
fn a_destructor_that_panics_while_another_panic_unwinds_is_caught_as_well() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::armed(&tally));
        let snapshot = entity.snapshot();
        drop(entity);
        let caught = caught_in(|| {
            let message = panic_of(|| {
                let _held = snapshot;
                plan::<()>()
            });
            assert_eq!(message, PLANNED);
        });
        assert_eq!(caught, 1);
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn a_closure_that_panics_over_a_value_it_made_counts_as_the_closures_panic() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::dud(&tally));
        let caught = caught_in(|| {
            let message = panic_of(|| {
                entity.update(|_| {
                    drop(Bomb::armed(&tally));
                    Bomb::dud(&tally)
                })
            });
            assert_eq!(message, PLANNED);
        });
        assert_eq!(caught, 0, "it never was a value of the entity");
        assert_eq!(entity.snapshot().stamp(), Stamp::new(0, 0));
        drop(entity);
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn values_inside_a_value_whose_destructor_panics_are_dropped_all_the_same() {
    /// Each holds the one before it, and so all of them end in one go.
    struct Link {
        _before: Option<Snapshot<Link>>,
        _bomb: Bomb,
        _twin: Bomb,
    }
    alone_in_silence(|| {
        let tally = Tally::default();
        let link = |before| Link {
            _before: before,
            _bomb: Bomb::armed(&tally),
            _twin: Bomb::dud(&tally),
        };
        let entity = logical(link(None));
        for _ in 0..999 {
            entity.replace(link(Some(entity.snapshot())));
        }
        snapcell::reclaim();
        assert_eq!(tally.alive().len(), 2000);
        assert_eq!(caught_in(|| drop(entity)), 1000, "one for each value");
        tally.assert_all_dropped_once(2000);
    });
}

#[test]
fn what_a_thread_left_is_dropped_by_others_whom_its_panics_do_not_hit() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::armed(&tally));
        elsewhere(|| {
            for _ in 0..100 {
                entity.replace(Bomb::armed(&tally));
            }
        });
        let other = logical(0_u64);
        let mut commits = 0;
        let caught = caught_in(|| {
            while tally.alive() != [100] {
                other.replace(commits);
                commits += 1;
                assert!(commits < 10_000, "the orphans were not adopted");
            }
        });
        assert_eq!(caught, 100);
        assert_eq!(*other.snapshot(), commits - 1);
        assert_eq!(caught_in(|| drop(entity)), 1);
        tally.assert_all_dropped_once(101);
    });
}

#[test]
fn a_thread_survives_the_destructors_of_what_it_holds_at_its_end() {
    thread_local! {
        static HELD: RefCell<Vec<Snapshot<Bomb>>> = const { RefCell::new(Vec::new()) };
    }
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::armed(&tally));
        // A panic that got out of a thread-local's destructor would abort the process.
        let caught = caught_in(|| {
            elsewhere(|| {
                for _ in 0..10 {
                    HELD.with_borrow_mut(|held| held.push(entity.snapshot()));
                    entity.replace(Bomb::armed(&tally));
                }
                snapcell::reclaim();
            });
        });
        assert_eq!(caught, 10);
        assert_eq!(tally.alive(), [10]);
        assert_eq!(caught_in(|| drop(entity)), 1);
    });
}

#[test]
fn a_validator_whose_captures_panic_takes_nothing_else_with_it() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let captured = Bomb::armed(&tally);
        let entity = Entity::builder(Bomb::armed(&tally))
            .validate(move |_| match captured.token.number() {
                0 => Ok(()),
                _ => Err(()),
            })
            .try_build()
            .map_err(|invalid| invalid.error)
            .unwrap();
        let snapshot = entity.snapshot();
        assert_eq!(caught_in(|| drop(entity)), 1, "the validator's");
        assert_eq!(tally.alive(), [1]);
        assert_eq!(caught_in(|| drop(snapshot)), 1, "the value's");
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn a_destructor_that_commits_and_then_panics_has_committed() {
    struct CommitsAndPanics(Entity<u32>);
    impl Drop for CommitsAndPanics {
        fn drop(&mut self) {
            self.0.update(|n| n + 1);
            plan()
        }
    }
    alone_in_silence(|| {
        let counter = logical(0);
        let entity = Entity::new(CommitsAndPanics(counter.clone()));
        for _ in 0..500 {
            entity.replace(CommitsAndPanics(counter.clone()));
        }
        assert_eq!(caught_in(snapcell::reclaim) as u32, *counter.snapshot());
        assert_eq!(caught_in(|| drop(entity)), 1);
        assert_eq!(*counter.snapshot(), 501, "those that commits ran included");
        assert_eq!(
            snapcell::reclamation_lag().nodes,
            1,
            "of the last one's own commit"
        );
    });
}

#[test]
fn a_destructor_that_panics_inside_an_update_of_its_own_leaves_that_entity_as_it_was() {
    struct PanicsInUpdate(Entity<u32>);
    impl Drop for PanicsInUpdate {
        fn drop(&mut self) {
            self.0.update(|_| plan());
        }
    }
    alone_in_silence(|| {
        let counter = logical(7);
        let entity = Entity::new(PanicsInUpdate(counter.clone()));
        assert_eq!(caught_in(|| drop(entity)), 1);
        assert_eq!(*counter.update(|n| n + 1).current(), 8);
        assert_eq!(counter.snapshot().stamp(), Stamp::new(1, 1));
    });
}

#[test]
fn several_threads_drop_values_that_panic_and_each_is_counted() {
    alone_in_silence(|| {
        const THREADS: usize = 4;
        const EACH: usize = 500;
        let tally = Tally::default();
        let entity = logical(Bomb::armed(&tally));
        let caught = caught_in(|| {
            together(THREADS, |_| {
                for _ in 0..EACH {
                    let held = entity.snapshot();
                    entity.replace(Bomb::armed(&tally));
                    drop(held);
                }
                snapcell::reclaim();
            });
            snapcell::reclaim();
        });
        assert_eq!(caught, THREADS * EACH);
        assert_eq!(tally.alive().len(), 1);
        assert_eq!(caught_in(|| drop(entity)), 1);
        tally.assert_all_dropped_once(THREADS * EACH + 1);
    });
}

#[test]
fn an_error_that_holds_the_last_snapshot_does_not_hit_who_drops_it() {
    alone_in_silence(|| {
        let tally = Tally::default();
        let entity = logical(Bomb::armed(&tally));
        let refused = entity.try_commit(Stamp::new(9, 9), Bomb::dud(&tally));
        let error = refused.map(drop).unwrap_err();
        drop(entity);
        assert_eq!(tally.alive(), [0, 1]);
        assert_eq!(caught_in(|| drop(error)), 1);
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn a_count_of_panics_is_seen_from_inside_a_destructor() {
    static SEEN: OnceLock<usize> = OnceLock::new();
    struct Looks(Arc<()>);
    impl Drop for Looks {
        fn drop(&mut self) {
            if Arc::strong_count(&self.0) == 1 {
                SEEN.set(destructor_panics()).unwrap();
            } else {
                plan()
            }
        }
    }
    alone_in_silence(|| {
        let before = destructor_panics();
        let shared = Arc::new(());
        drop(Entity::new(Looks(Arc::clone(&shared))));
        drop(Entity::new(Looks(shared)));
        assert_eq!(SEEN.get(), Some(&(before + 1)));
    });
}
