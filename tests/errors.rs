//! What is refused, and what the caller gets back: the value, the winner's snapshot, the reason. A
//! refusal leaves the entity as it was, and nothing behind that would have to be freed.

mod support;

use snapcell::{
    Clock, CommitError, Entity, Invalid, Refusal, Retry, Snapshot, Stamp, UpdateError, Updated,
};
use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use support::{Tally, Token, alone, elsewhere, panic_of, together};

/// An entity with times that can be told in advance: equal to the version.
fn logical<T: Send + Sync + 'static>(value: T) -> Entity<T> {
    Entity::builder(value).clock(Clock::logical()).build()
}

/// An entity at the last version that there is.
fn at_the_end(value: i32) -> Entity<i32> {
    Entity::builder(value)
        .clock(Clock::logical())
        .born(Stamp::new(u64::MAX, 0))
        .build()
}

/// The error of a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Negative(i32);

impl fmt::Display for Negative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is negative", self.0)
    }
}

impl Error for Negative {}

fn not_negative(value: &i32) -> Result<(), Negative> {
    if *value < 0 {
        Err(Negative(*value))
    } else {
        Ok(())
    }
}

fn checked(value: i32) -> Entity<i32, Negative> {
    Entity::builder(value)
        .clock(Clock::logical())
        .validate(not_negative)
        .try_build()
        .unwrap()
}

/// Asserts that nothing has changed since `before`, nor is anything left to be freed.
fn assert_untouched<T: Send + Sync + 'static, E: 'static>(
    entity: &Entity<T, E>,
    before: &Snapshot<T>,
) {
    assert!(Snapshot::ptr_eq(&entity.snapshot(), before));
    assert_eq!(entity.snapshot().stamp(), before.stamp());
    assert_eq!(snapcell::reclamation_lag().nodes, 0, "nothing was retired");
}

// Conflicts.

#[test]
fn commit_refuses_a_stale_stamp() {
    alone(|| {
        let entity = logical(1);
        let stale = entity.snapshot();
        entity.replace(2);
        let winner = entity.snapshot();
        let conflict = entity.try_commit(stale.stamp(), 3).unwrap_err();
        assert!(conflict.is_conflict());
        assert_eq!(*conflict.refusal(), Refusal::Conflict);
        assert_eq!(conflict.invalid(), None);
        assert_eq!(conflict.expected(), Stamp::new(0, 0));
        assert!(Snapshot::ptr_eq(conflict.current(), &winner));
        assert_eq!(*conflict.proposed(), 3);
        assert_eq!(conflict.into_proposed(), 3);
        assert!(Snapshot::ptr_eq(&entity.snapshot(), &winner));
    });
}

#[test]
fn commit_refuses_a_stale_snapshot() {
    alone(|| {
        let entity = logical(1);
        let stale = entity.snapshot();
        entity.replace(2);
        entity.replace(1);
        let winner = entity.snapshot();
        let conflict = entity.try_commit_on(&stale, 3).unwrap_err();
        assert!(conflict.is_conflict(), "an equal value is not the same one");
        let (value, current, refusal) = conflict.into_parts();
        assert_eq!((value, refusal), (3, Refusal::Conflict));
        assert!(Snapshot::ptr_eq(&current, &winner));
        assert!(Snapshot::ptr_eq(&entity.snapshot(), &winner));
    });
}

#[test]
fn commit_refuses_a_stamp_of_the_future() {
    alone(|| {
        let entity = logical(1);
        let before = entity.snapshot();
        for stamp in [
            Stamp::new(1, 1),
            Stamp::new(0, 1),
            Stamp::new(u64::MAX, u64::MAX),
        ] {
            let conflict = entity.try_commit(stamp, 2).unwrap_err();
            assert!(conflict.is_conflict());
            assert_eq!(conflict.expected(), stamp);
            assert_untouched(&entity, &before);
        }
    });
}

#[test]
fn coinciding_stamps_of_another_entity_fool_try_commit_but_not_try_commit_on() {
    alone(|| {
        let (entity, stranger) = (logical(1), logical(7));
        assert_eq!(entity.snapshot().stamp(), stranger.snapshot().stamp());

        let before = entity.snapshot();
        let conflict = entity.try_commit_on(&stranger.snapshot(), 2).unwrap_err();
        assert!(conflict.is_conflict());
        assert_eq!(
            conflict.expected(),
            conflict.current().stamp(),
            "by stamp it is the same"
        );
        assert!(Snapshot::ptr_eq(conflict.current(), &before));
        assert_untouched(&entity, &before);

        let committed = entity.try_commit(stranger.snapshot().stamp(), 2).unwrap();
        assert_eq!(
            (*committed.current(), committed.stamp()),
            (2, Stamp::new(1, 1))
        );
    });
}

#[test]
fn a_stamp_of_another_entity_is_refused_where_it_differs() {
    alone(|| {
        let (entity, stranger) = (logical(1), logical(7));
        stranger.replace(8);
        snapcell::reclaim();
        let before = entity.snapshot();
        assert!(
            entity
                .try_commit(stranger.snapshot().stamp(), 2)
                .unwrap_err()
                .is_conflict()
        );
        assert!(
            entity
                .try_commit_on(&stranger.snapshot(), 2)
                .unwrap_err()
                .is_conflict()
        );
        assert_untouched(&entity, &before);
    });
}

#[test]
fn of_many_commits_on_one_stamp_one_wins_and_each_loser_gets_its_value_back() {
    alone(|| {
        const THREADS: usize = 8;
        let tally = Tally::default();
        for round in 0..200 {
            let entity = Entity::new((usize::MAX, tally.token()));
            let base = entity.snapshot();
            let start = Barrier::new(THREADS);
            let winners = together(THREADS, |thread| {
                let proposed = (thread, tally.token());
                let number = proposed.1.number();
                start.wait();
                let outcome = if round % 2 == 0 {
                    entity.try_commit(base.stamp(), proposed)
                } else {
                    entity.try_commit_on(&base, proposed)
                };
                match outcome {
                    Ok(committed) => {
                        assert_eq!(committed.stamp().version(), 1);
                        thread
                    }
                    Err(conflict) => {
                        assert!(conflict.is_conflict());
                        let winner = conflict.current().0;
                        let (given_back, token) = conflict.into_proposed();
                        assert_eq!(
                            (given_back, token.number()),
                            (thread, number),
                            "the very one"
                        );
                        winner
                    }
                }
            });
            let winner = entity.snapshot().0;
            assert_eq!(winners, [winner; THREADS], "all agree who won");
            assert_eq!(entity.snapshot().stamp().version(), 1);
        }
        snapcell::reclaim();
        tally.assert_all_dropped_once(200 * (THREADS + 1));
    });
}

#[test]
fn a_merge_that_gives_up_is_a_conflict_with_the_value_given_back() {
    alone(|| {
        let entity = logical(1);
        let base = entity.snapshot();
        entity.replace(2);
        let current = entity.snapshot();
        let conflict = entity.commit_or_merge(&base, 3, |_| None).unwrap_err();
        assert!(conflict.is_conflict());
        assert_eq!(conflict.expected(), base.stamp());
        assert!(Snapshot::ptr_eq(conflict.current(), &current));
        assert_eq!(conflict.into_proposed(), 3);
        assert!(Snapshot::ptr_eq(&entity.snapshot(), &current));
    });
}

#[test]
fn a_merge_that_gives_up_later_names_what_it_gave_up_on() {
    alone(|| {
        let entity = logical(1);
        let base = entity.snapshot();
        entity.replace(2);
        let mut runs = 0;
        let conflict = entity
            .commit_or_merge(&base, 3, |merge| {
                runs += 1;
                (*merge.theirs == 2).then(|| {
                    elsewhere(|| drop(entity.replace(50)));
                    4
                })
            })
            .unwrap_err();
        assert!(conflict.is_conflict());
        assert_eq!((**conflict.current(), *conflict.proposed()), (50, 3));
        assert_eq!(conflict.current().stamp(), Stamp::new(2, 2));
        assert_eq!(runs, 2);
    });
}

// Refusals of the closure.

#[test]
fn an_update_that_refuses_says_so_and_changes_nothing() {
    alone(|| {
        let entity = logical(70_u32);
        let before = entity.snapshot();
        let refused = entity
            .try_update(|b| b.checked_sub(80).map(Some).ok_or("overdrawn"))
            .unwrap_err();
        assert!(matches!(refused, UpdateError::Refused("overdrawn")));
        assert!(refused.is_refused() && !refused.is_exhausted());
        assert_eq!(refused.into_proposed(), None);
        assert_untouched(&entity, &before);
    });
}

#[test]
fn an_update_may_refuse_what_it_finds_after_a_loss() {
    alone(|| {
        let entity = logical(100);
        let mut runs = 0;
        let refused = entity
            .try_update(|b| {
                runs += 1;
                if runs == 1 {
                    elsewhere(|| drop(entity.replace(10)));
                }
                if *b >= 80 { Ok(Some(b - 80)) } else { Err(*b) }
            })
            .unwrap_err();
        assert!(matches!(refused, UpdateError::Refused(10)));
        assert_eq!((runs, *entity.snapshot()), (2, 10));
    });
}

// The end of versions.

#[test]
fn commits_at_the_end_of_versions_give_the_value_back() {
    alone(|| {
        let entity = at_the_end(1);
        let before = entity.snapshot();
        let end = Stamp::new(u64::MAX, 0);
        let errors = [
            entity.try_commit(end, 2).unwrap_err(),
            entity.try_commit_on(&before, 2).unwrap_err(),
            entity.try_replace(2).unwrap_err(),
            entity
                .commit_or_merge(&before, 2, |_| panic!("nothing to merge"))
                .unwrap_err(),
        ];
        for error in errors {
            assert_eq!(*error.refusal(), Refusal::VersionLimit);
            assert!(!error.is_conflict());
            assert_eq!(error.invalid(), None);
            assert_eq!(error.expected(), end);
            assert!(Snapshot::ptr_eq(error.current(), &before));
            assert_eq!(
                error.to_string(),
                "the version of the entity is at its end: 18446744073709551615@0"
            );
            assert_eq!(error.into_proposed(), 2);
        }
        assert_untouched(&entity, &before);
    });
}

#[test]
fn updates_at_the_end_of_versions_do_not_call_the_closure() {
    alone(|| {
        let entity = at_the_end(1);
        let before = entity.snapshot();
        let uncalled = |_: &i32| -> i32 { panic!("the closure was called") };
        let error = entity.update_with(Retry::at_most(3), uncalled).unwrap_err();
        assert!(matches!(error, UpdateError::VersionLimit));
        assert!(!error.is_exhausted() && !error.is_refused());
        assert_eq!(error.to_string(), "the version of the entity is at its end");
        assert_eq!(error.into_proposed(), None);
        let error = entity
            .try_update(|n| Ok::<_, Infallible>(Some(uncalled(n))))
            .unwrap_err();
        assert!(matches!(error, UpdateError::VersionLimit));
        let error = entity
            .try_update_with(Retry::default(), |n| Err::<Option<i32>, _>(uncalled(n)))
            .unwrap_err();
        assert!(matches!(error, UpdateError::VersionLimit));
        assert_untouched(&entity, &before);
    });
}

#[test]
fn update_and_replace_panic_at_the_end_of_versions() {
    alone(|| {
        let entity = at_the_end(1);
        let before = entity.snapshot();
        assert_eq!(
            panic_of(|| entity.update(|n| n + 1)),
            "the version of the entity is at its end"
        );
        assert_eq!(
            panic_of(|| entity.replace(2)),
            "the version of the entity is at its end: 18446744073709551615@0"
        );
        assert_untouched(&entity, &before);
        assert_eq!(*entity.snapshot(), 1, "and it can be read as ever");
    });
}

#[test]
fn the_last_version_can_be_committed() {
    alone(|| {
        let entity = Entity::builder(1)
            .clock(Clock::logical())
            .born(Stamp::new(u64::MAX - 1, 0))
            .build();
        let base = entity.snapshot();
        assert_eq!(entity.update(|n| n + 1).stamp(), Stamp::new(u64::MAX, 1));
        assert!(entity.try_replace(3).is_err());
        // Who comes too late learns that first, and then that merging is no way out.
        assert!(
            entity
                .try_commit(base.stamp(), 4)
                .unwrap_err()
                .is_conflict()
        );
        assert!(entity.try_commit_on(&base, 4).unwrap_err().is_conflict());
        let error = entity
            .commit_or_merge(&base, 4, |merge| Some(merge.mine + merge.theirs))
            .unwrap_err();
        assert_eq!(*error.refusal(), Refusal::VersionLimit);
        assert_eq!((**error.current(), *error.proposed()), (2, 4));
        assert_eq!(*entity.snapshot(), 2);
    });
}

#[test]
fn the_last_version_of_another_entity_is_a_conflict_and_no_limit() {
    // `entity` has all its versions before it; what is at its end is the stranger's.
    alone(|| {
        let (entity, stranger) = (logical(1), at_the_end(7));
        let base = stranger.snapshot();
        assert!(
            entity
                .try_commit(base.stamp(), 2)
                .unwrap_err()
                .is_conflict()
        );
        let error = entity.try_commit_on(&base, 2).unwrap_err();
        assert_eq!(*error.refusal(), Refusal::Conflict);
    });
}

#[test]
fn a_merge_on_the_last_version_of_another_entity_is_made() {
    alone(|| {
        let (entity, stranger) = (logical(1), at_the_end(7));
        let merged = entity
            .commit_or_merge(&stranger.snapshot(), 2, |merge| {
                Some(merge.mine + merge.theirs)
            })
            .map(|committed| *committed.current());
        assert_eq!(merged.map_err(|error| *error.refusal()), Ok(3));
    });
}

// Validators.

#[test]
fn a_first_value_that_is_invalid_is_given_back() {
    alone(|| {
        let refused = Entity::builder(-1).validate(not_negative).try_build();
        let invalid = refused.unwrap_err();
        assert_eq!(
            invalid,
            Invalid {
                value: -1,
                error: Negative(-1)
            }
        );
        assert_eq!(invalid.to_string(), "the value is invalid: -1 is negative");
        assert_eq!(
            format!("{invalid:?}"),
            "Invalid { error: Negative(-1), .. }"
        );
        assert_eq!(
            invalid.source().unwrap().downcast_ref(),
            Some(&Negative(-1))
        );
    });
}

#[test]
fn a_validator_looks_at_each_value_once_for_each_attempt() {
    alone(|| {
        let looked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = Arc::clone(&looked);
        let entity = Entity::builder(1)
            .validate(move |value| {
                log.lock().unwrap().push(*value);
                Ok::<(), Negative>(())
            })
            .try_build()
            .unwrap();
        let base = entity.snapshot();
        assert!(entity.try_replace(2).is_ok());
        assert!(
            entity.try_commit(base.stamp(), 99).is_err(),
            "late, so nobody looks"
        );
        assert!(entity.update_with(Retry::unbounded(), |n| n + 1).is_ok());
        assert!(entity.try_update(|_| Ok::<_, ()>(None)).is_ok());
        let mut lost = false;
        let update = entity.update_with(Retry::unbounded(), |n| {
            if !std::mem::replace(&mut lost, true) {
                elsewhere(|| assert!(entity.try_replace(50).is_ok()));
            }
            n + 1
        });
        assert_eq!(update.unwrap().attempts(), 2);
        let merged = entity.commit_or_merge(&base, 7, |merge| Some(merge.mine + merge.theirs));
        assert!(merged.is_ok());
        drop(merged);
        assert_eq!(*looked.lock().unwrap(), [1, 2, 3, 50, 4, 51, 58]);
    });
}

#[test]
fn an_infallible_validator_looks_at_the_first_value_too() {
    // "`validate` looks at each before it is published, the first one included": `build` is there
    // for a validator that can't refuse, which may still look, count, or panic.
    alone(|| {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let entity = Entity::builder(1)
            .validate(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok::<(), Infallible>(())
            })
            .build();
        assert_eq!(looks.load(Ordering::Relaxed), 1, "at the first value");
        entity.replace(2);
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn every_kind_of_commit_gives_an_invalid_value_back() {
    alone(|| {
        let entity = checked(1);
        let before = entity.snapshot();
        let errors = [
            entity.try_commit(before.stamp(), -2).unwrap_err(),
            entity.try_commit_on(&before, -2).unwrap_err(),
            entity.try_replace(-2).unwrap_err(),
            entity.commit_or_merge(&before, -2, |_| None).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.invalid(), Some(&Negative(-2)));
            assert_eq!(*error.refusal(), Refusal::Invalid(Negative(-2)));
            assert!(!error.is_conflict());
            assert_eq!(error.expected(), before.stamp());
            assert!(Snapshot::ptr_eq(error.current(), &before));
            assert_eq!(error.into_proposed(), -2);
        }
        assert_untouched(&entity, &before);
    });
}

#[test]
fn every_kind_of_update_gives_an_invalid_value_back() {
    alone(|| {
        let entity = checked(1);
        let before = entity.snapshot();
        let error = entity
            .update_with(Retry::unbounded(), |n| n - 3)
            .unwrap_err();
        assert!(matches!(
            error,
            UpdateError::Invalid {
                proposed: -2,
                error: Negative(-2)
            }
        ));
        assert!(!error.is_refused() && !error.is_exhausted());
        assert_eq!(error.into_proposed(), Some(-2));
        let error = entity
            .try_update(|n| Ok::<_, Infallible>(Some(n - 4)))
            .unwrap_err();
        assert_eq!(error.into_proposed(), Some(-3));
        let error = entity
            .try_update_with(Retry::at_most(0), |n| Ok::<_, Infallible>(Some(n - 5)))
            .unwrap_err();
        assert_eq!(error.into_proposed(), Some(-4));
        assert_untouched(&entity, &before);
    });
}

#[test]
fn an_invalid_merge_gives_back_what_was_to_be_merged() {
    alone(|| {
        let entity = checked(10);
        let base = entity.snapshot();
        assert!(entity.try_replace(1).is_ok());
        let current = entity.snapshot();
        let error = entity
            .commit_or_merge(&base, 5, |merge| {
                Some(merge.mine + merge.theirs - merge.base)
            })
            .unwrap_err();
        assert_eq!(error.invalid(), Some(&Negative(-4)));
        assert!(Snapshot::ptr_eq(error.current(), &current));
        assert_eq!(error.expected(), base.stamp());
        assert_eq!(error.into_proposed(), 5);
        assert!(Snapshot::ptr_eq(&entity.snapshot(), &current));
    });
}

#[test]
fn a_late_value_that_would_be_invalid_alone_can_be_merged_into_a_valid_one() {
    alone(|| {
        let entity = checked(10);
        let base = entity.snapshot();
        assert!(entity.try_replace(100).is_ok());
        // 20 less than the base, which is invalid on its own, and fine after the other's 90 more.
        let merged = entity
            .commit_or_merge(&base, -10, |merge| {
                Some(merge.mine + merge.theirs - merge.base)
            })
            .map(|committed| *committed.current());
        assert_eq!(merged.map_err(|error| *error.refusal()), Ok(80));
    });
}

#[test]
fn a_late_and_invalid_value_is_a_conflict_whichever_way_it_is_committed() {
    alone(|| {
        let entity = checked(1);
        let base = entity.snapshot();
        assert!(entity.try_replace(2).is_ok());
        let by_stamp = entity.try_commit(base.stamp(), -1).unwrap_err();
        let by_snapshot = entity.try_commit_on(&base, -1).unwrap_err();
        assert_eq!(*by_stamp.refusal(), Refusal::Conflict);
        assert_eq!(
            by_snapshot.refusal(),
            by_stamp.refusal(),
            "one is documented as the other"
        );
    });
}

#[test]
fn a_value_that_is_given_back_is_the_very_one_and_no_copy() {
    alone(|| {
        let tally = Tally::default();
        // Only the first value is valid.
        let entity = Entity::builder(tally.token())
            .validate(|token: &Token| match token.number() {
                0 => Ok(()),
                number => Err(number),
            })
            .try_build()
            .map_err(|invalid| invalid.error)
            .unwrap();
        let base = entity.snapshot();
        let late = Stamp::new(9, 9);
        let errors = [
            entity.try_commit(late, tally.token()).map(drop),
            entity.try_commit(base.stamp(), tally.token()).map(drop),
            entity.try_commit_on(&base, tally.token()).map(drop),
            entity.try_replace(tally.token()).map(drop),
            entity
                .commit_or_merge(&base, tally.token(), |_| None)
                .map(drop),
        ];
        let mut given_back: Vec<Token> = errors
            .into_iter()
            .map(|error| error.unwrap_err().into_proposed())
            .collect();
        let error = entity.update_with(Retry::unbounded(), |_| tally.token());
        given_back.extend(error.map(drop).unwrap_err().into_proposed());
        let error = entity.try_update(|_| Ok::<_, ()>(Some(tally.token())));
        given_back.extend(error.map(drop).unwrap_err().into_proposed());

        let numbers: Vec<usize> = given_back.iter().map(Token::number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tally.alive(), [0, 1, 2, 3, 4, 5, 6, 7]);
        drop((base, given_back, entity));
        tally.assert_all_dropped_once(8);
    });
}

#[test]
fn refusals_leave_the_entity_usable_by_other_threads() {
    alone(|| {
        let entity = checked(0);
        let refused: usize = together(4, |_| {
            (0..1000)
                .filter(|n| match n % 2 {
                    0 => entity.update_with(Retry::unbounded(), |n| n + 1).is_err(),
                    _ => entity.update_with(Retry::unbounded(), |n| -n - 1).is_err(),
                })
                .count()
        })
        .into_iter()
        .sum();
        assert_eq!(refused, 2000);
        let end = entity.snapshot();
        assert_eq!((*end, end.stamp().version()), (2000, 2000));
    });
}

// Exhausted retries.

/// Updates that lose each attempt, the n-th one to the value `1000 n`.
fn always_overtaken(entity: &Entity<i32>, retry: Retry) -> (UpdateError<i32>, u32) {
    let mut runs = 0;
    let error = entity
        .update_with(retry, |n| {
            runs += 1;
            elsewhere(|| drop(entity.replace(1000 * runs)));
            n + 1
        })
        .unwrap_err();
    (error, runs as u32)
}

#[test]
fn exhausted_retries_give_back_the_last_value_the_last_winner_and_the_attempts() {
    alone(|| {
        for retries in 0..8 {
            let entity = logical(1);
            let (error, runs) = always_overtaken(&entity, Retry::at_most(retries));
            assert_eq!(runs, retries + 1, "a first attempt and the retries");
            assert!(error.is_exhausted() && !error.is_refused());
            assert_eq!(
                error.to_string(),
                format!("gave up after attempt {runs}, which lost to {runs}@{runs}")
            );
            let UpdateError::Exhausted {
                proposed,
                current,
                attempts,
            } = error
            else {
                panic!("{error:?}");
            };
            assert_eq!(attempts, runs);
            let saw = if runs == 1 {
                1
            } else {
                1000 * (runs as i32 - 1)
            };
            assert_eq!(
                proposed,
                saw + 1,
                "what the last attempt made of what it saw"
            );
            assert_eq!(*current, 1000 * runs as i32);
            assert!(Snapshot::ptr_eq(&current, &entity.snapshot()));
            assert_eq!(
                entity.snapshot().stamp(),
                Stamp::new(runs.into(), runs.into())
            );
        }
    });
}

#[test]
fn retries_that_are_not_exhausted_commit() {
    alone(|| {
        let entity = logical(0);
        let lose = |times: u32, retry: Retry| {
            let mut left = times;
            entity
                .try_update_with(retry, |n| {
                    if left > 0 {
                        left -= 1;
                        elsewhere(|| drop(entity.replace(0)));
                    }
                    Ok::<_, ()>(Some(n + 1))
                })
                .map(|updated| match updated {
                    Updated::Committed(committed) => committed.attempts(),
                    Updated::Unchanged(_) => 0,
                })
        };
        assert_eq!(lose(3, Retry::at_most(3)).unwrap(), 4);
        assert_eq!(lose(0, Retry::at_most(0)).unwrap(), 1);
        assert!(lose(4, Retry::at_most(3)).unwrap_err().is_exhausted());
        assert_eq!(lose(50, Retry::unbounded()).unwrap(), 51);
        assert_eq!(lose(5, Retry::at_most(u32::MAX)).unwrap(), 6);
    });
}

#[test]
fn losses_to_a_commit_by_proxy_are_losses_to_another_thread() {
    // A closure that has another thread commit can't be told from one that was overtaken: the bound
    // on retries is what ends it.
    alone(|| {
        let entity = logical(0);
        let (error, runs) = always_overtaken(&entity, Retry::at_most(5));
        assert!(error.is_exhausted());
        assert_eq!(runs, 6);
    });
}

// Closures that commit to the entity that they compute for.

/// Where a self-conflict is not found out, an unbounded update would never end. It comes long before
/// the bound.
const BOUNDED: Retry = Retry::at_most(20);

const SELF_CONFLICT: &str = "the closure committed to the entity that it computes for";

#[test]
fn an_update_whose_closure_commits_to_the_same_entity_panics() {
    alone(|| {
        let entity = logical(1);
        let mut runs = 0;
        let message = panic_of(|| {
            entity.update(|n| {
                runs += 1;
                assert!(runs < 20, "this would never end");
                entity.replace(50);
                n + 1
            })
        });
        assert_eq!((message.as_str(), runs), (SELF_CONFLICT, 1));
        assert_eq!(*entity.snapshot(), 50, "the inner commit stands");
        assert_eq!(entity.snapshot().stamp(), Stamp::new(1, 1));
        assert_eq!(*entity.update(|n| n + 1).current(), 51);
    });
}

#[test]
fn every_other_update_returns_a_self_conflict_with_the_value() {
    alone(|| {
        let entity = logical(1);
        let runs = Cell::new(0);
        let inner = |n: &i32| {
            runs.set(runs.get() + 1);
            assert!(runs.get() < 20, "this would never end");
            entity.update(|n| n * 10);
            n + 1
        };
        let error = entity.update_with(Retry::unbounded(), inner).unwrap_err();
        assert!(matches!(error, UpdateError::SelfConflict { proposed: 2 }));
        assert!(!error.is_exhausted() && !error.is_refused());
        assert_eq!(error.to_string(), SELF_CONFLICT);
        assert_eq!(error.into_proposed(), Some(2));
        assert_eq!(*entity.snapshot(), 10);
        let error = entity
            .try_update(|n| Ok::<_, Infallible>(Some(inner(n))))
            .unwrap_err();
        assert_eq!(error.into_proposed(), Some(11));
        // The bound is not what ends it, even where the two coincide.
        let error = entity
            .try_update_with(Retry::at_most(0), |n| Ok::<_, Infallible>(Some(inner(n))))
            .unwrap_err();
        assert!(matches!(error, UpdateError::SelfConflict { proposed: 101 }));
        assert_eq!(
            entity.snapshot().stamp(),
            Stamp::new(3, 3),
            "one for each inner commit"
        );
    });
}

#[test]
fn a_merge_that_commits_to_the_same_entity_is_a_self_conflict() {
    alone(|| {
        let entity = logical(1);
        let base = entity.snapshot();
        entity.replace(2);
        let mut runs = 0;
        let error = entity
            .commit_or_merge(&base, 3, |merge| {
                runs += 1;
                assert!(runs < 20, "this would never end");
                entity.replace(50);
                Some(merge.mine + merge.theirs)
            })
            .unwrap_err();
        assert_eq!(*error.refusal(), Refusal::SelfConflict);
        assert!(!error.is_conflict());
        assert_eq!(
            error.to_string(),
            "the merge committed to the entity that it merges for"
        );
        assert_eq!(
            (**error.current(), error.current().stamp()),
            (50, Stamp::new(2, 2))
        );
        assert_eq!((error.into_proposed(), runs), (3, 1));
        assert_eq!(*entity.snapshot(), 50, "the inner commit stands");
    });
}

#[test]
fn every_kind_of_inner_commit_is_found_out() {
    alone(|| {
        let entity = logical(0);
        let inner: [&dyn Fn(); 6] = [
            &|| drop(entity.update(|n| n + 1)),
            &|| drop(entity.replace(1)),
            &|| drop(entity.try_replace(1).unwrap()),
            &|| drop(entity.try_commit(entity.snapshot().stamp(), 1).unwrap()),
            &|| drop(entity.try_commit_on(&entity.snapshot(), 1).unwrap()),
            &|| {
                drop(
                    entity
                        .clone()
                        .commit_or_merge(&entity.snapshot(), 1, |_| None)
                        .unwrap(),
                )
            },
        ];
        for (nth, commit) in inner.iter().enumerate() {
            let error = entity.update_with(BOUNDED, |_| {
                commit();
                99
            });
            assert!(
                matches!(error, Err(UpdateError::SelfConflict { proposed: 99 })),
                "inner commit {nth}"
            );
        }
        assert_eq!(entity.snapshot().stamp().version(), 6);
    });
}

#[test]
fn many_inner_commits_are_found_out_as_well_as_one() {
    alone(|| {
        let (entity, other) = (logical(0), logical(0));
        let error = entity.update_with(BOUNDED, |n| {
            // More than the thread frees at once, with another entity's among them.
            for _ in 0..2000 {
                other.update(|n| n + 1);
            }
            entity.update(|n| n + 1);
            for _ in 0..2000 {
                other.update(|n| n + 1);
                entity.update(|n| n + 1);
            }
            snapcell::reclaim();
            *n
        });
        assert!(matches!(
            error,
            Err(UpdateError::SelfConflict { proposed: 0 })
        ));
        assert_eq!((*entity.snapshot(), *other.snapshot()), (2001, 4000));
    });
}

#[test]
fn an_inner_commit_by_a_destructor_is_found_out() {
    struct Commits(Entity<i32>);
    impl Drop for Commits {
        fn drop(&mut self) {
            self.0.update(|n| n + 1);
        }
    }
    alone(|| {
        let entity = logical(1);
        let error = entity.update_with(BOUNDED, |n| {
            drop(Entity::new(Commits(entity.clone())));
            *n
        });
        assert!(matches!(
            error,
            Err(UpdateError::SelfConflict { proposed: 1 })
        ));
        assert_eq!(*entity.snapshot(), 2);
    });
}

#[test]
fn an_inner_commit_after_a_loss_is_found_out_at_the_next_attempt() {
    alone(|| {
        let entity = logical(0);
        let mut runs = 0;
        let error = entity.update_with(BOUNDED, |n| {
            runs += 1;
            if runs == 1 {
                elsewhere(|| drop(entity.replace(10)));
            }
            entity.update(|n| n + 1);
            *n
        });
        assert!(matches!(
            error,
            Err(UpdateError::SelfConflict { proposed: 11 })
        ));
        assert_eq!((runs, *entity.snapshot()), (2, 12));
        assert_eq!(entity.snapshot().stamp().version(), 3);
    });
}

#[test]
fn an_inner_commit_that_the_closure_then_makes_nothing_of_is_no_conflict() {
    alone(|| {
        let entity = logical(1);
        let updated = entity
            .try_update(|_| {
                entity.replace(2);
                Ok::<_, Infallible>(None)
            })
            .unwrap();
        assert_eq!(
            updated.stamp(),
            Stamp::new(0, 0),
            "of what the closure was given"
        );
        let refused = entity.try_update(|_| {
            entity.replace(3);
            Err::<Option<i32>, _>("no")
        });
        assert!(matches!(refused, Err(UpdateError::Refused("no"))));
        assert_eq!(*entity.snapshot(), 3);
    });
}

#[test]
fn an_update_that_is_overtaken_while_it_commits_elsewhere_is_no_self_conflict() {
    alone(|| {
        let (entity, other) = (logical(0), logical(0));
        let mut runs = 0;
        let committed = entity
            .update_with(Retry::at_most(1), |n| {
                runs += 1;
                (0..300).for_each(|_| drop(other.update(|n| n + 1)));
                if runs == 1 {
                    elsewhere(|| drop(entity.replace(10)));
                }
                (0..300).for_each(|_| drop(other.update(|n| n + 1)));
                n + 1
            })
            .unwrap();
        assert_eq!((committed.attempts(), *committed.current()), (2, 11));
        assert_eq!(*other.snapshot(), 1200);
    });
}

#[test]
fn commits_to_other_entities_inside_a_closure_are_fine() {
    alone(|| {
        let (a, b, c) = (logical(0), logical(0), logical(0));
        let committed = a.update(|n| {
            b.replace(n + 10);
            // Updates nest, as long as their entities differ.
            *b.update(|n| {
                c.update(|n| n + 100);
                n + 1
            })
            .current()
        });
        assert_eq!((*committed.current(), committed.attempts()), (11, 1));
        assert_eq!((*b.snapshot(), *c.snapshot()), (11, 100));
    });
}

#[test]
fn an_inner_closure_that_commits_to_the_outer_entity_is_the_outers_conflict() {
    alone(|| {
        let (outer, inner) = (logical(0), logical(0));
        let error = outer.update_with(BOUNDED, |_| {
            let committed = inner.update(|n| {
                outer.replace(50);
                n + 1
            });
            assert_eq!(committed.attempts(), 1, "the inner one has no conflict");
            99
        });
        assert!(matches!(
            error,
            Err(UpdateError::SelfConflict { proposed: 99 })
        ));
        assert_eq!((*outer.snapshot(), *inner.snapshot()), (50, 1));
    });
}

#[test]
fn reads_of_the_same_entity_inside_a_closure_are_fine() {
    alone(|| {
        let entity = logical(1);
        let mut reader = entity.reader();
        let committed = entity.update(|n| {
            let guard = snapcell::pin();
            n + entity.read(|n| *n) + *entity.snapshot() + *entity.load(&guard) + **reader.get()
        });
        assert_eq!((*committed.current(), committed.attempts()), (5, 1));
    });
}

#[test]
fn a_validator_that_commits_to_another_entity_is_fine() {
    alone(|| {
        let log = Entity::new(Vec::new());
        let writer = log.clone();
        let entity = Entity::builder(1)
            .validate(move |value| {
                writer.update(|seen: &Vec<i32>| [&seen[..], &[*value]].concat());
                not_negative(value)
            })
            .try_build()
            .unwrap();
        assert!(entity.update_with(BOUNDED, |n| n + 1).is_ok());
        assert!(entity.try_replace(-5).is_err());
        assert_eq!(*log.snapshot(), [1, 2, -5]);
    });
}

#[test]
fn a_validator_that_commits_to_its_own_entity_is_a_self_conflict_of_the_update() {
    alone(|| {
        let handle: Arc<OnceLock<Entity<i32>>> = Arc::default();
        let own = Arc::clone(&handle);
        let entity = Entity::builder(1)
            .validate(move |value| {
                // Only for the value that is to be refused by this, or it would never end.
                if let (99, Some(own)) = (*value, own.get()) {
                    own.replace(50);
                }
                Ok::<(), Infallible>(())
            })
            .try_build()
            .unwrap();
        handle.set(entity.clone()).unwrap();
        let error = entity.update_with(BOUNDED, |_| 99).unwrap_err();
        assert!(matches!(error, UpdateError::SelfConflict { proposed: 99 }));
        assert_eq!(*entity.snapshot(), 50);
    });
}

// What errors look like.

#[test]
fn conflicts_name_both_stamps() {
    alone(|| {
        let entity = logical(String::from("first"));
        entity.replace(String::from("second"));
        let error = entity
            .try_commit(Stamp::new(0, 7), String::from("mine"))
            .unwrap_err();
        assert_eq!(error.to_string(), "conflict: expected stamp 0@7, found 1@1");
        assert_eq!(
            format!("{error:?}"),
            "CommitError { refusal: Conflict, expected: 0@7, current: 1@1, .. }"
        );
        assert!(error.source().is_none());
    });
}

#[test]
fn refusals_of_a_validator_name_what_it_says_and_lead_to_it() {
    alone(|| {
        let entity = checked(1);
        let error = entity.try_replace(-2).unwrap_err();
        assert_eq!(error.to_string(), "invalid value: -2 is negative");
        assert_eq!(
            format!("{error:?}"),
            "CommitError { refusal: Invalid(Negative(-2)), expected: 0@0, current: 0@0, .. }"
        );
        assert_eq!(error.source().unwrap().to_string(), "-2 is negative");
        let error = entity
            .update_with(Retry::unbounded(), |n| n - 3)
            .unwrap_err();
        assert_eq!(error.to_string(), "invalid value: -2 is negative");
        assert_eq!(format!("{error:?}"), "Invalid { error: Negative(-2), .. }");
        assert_eq!(error.source().unwrap().downcast_ref(), Some(&Negative(-2)));
    });
}

#[test]
fn refusals_of_a_closure_name_what_it_says_and_lead_to_it() {
    alone(|| {
        let entity = logical(1);
        let error = entity
            .try_update(|n| Err::<Option<i32>, _>(Negative(-n)))
            .unwrap_err();
        assert_eq!(error.to_string(), "refused: -1 is negative");
        assert_eq!(format!("{error:?}"), "Refused(Negative(-1))");
        assert_eq!(error.source().unwrap().to_string(), "-1 is negative");
    });
}

#[test]
fn the_other_errors_of_updates_have_texts_and_no_source() {
    alone(|| {
        let entity = logical(0);
        let (exhausted, _) = always_overtaken(&entity, Retry::at_most(2));
        assert_eq!(
            exhausted.to_string(),
            "gave up after attempt 3, which lost to 3@3"
        );
        assert_eq!(
            format!("{exhausted:?}"),
            "Exhausted { attempts: 3, current: 3@3, .. }"
        );
        let itself: UpdateError<i32> = UpdateError::SelfConflict { proposed: 1 };
        assert_eq!(itself.to_string(), SELF_CONFLICT);
        assert_eq!(format!("{itself:?}"), "SelfConflict { .. }");
        let limit: UpdateError<i32> = UpdateError::VersionLimit;
        assert_eq!(format!("{limit:?}"), "VersionLimit");
        for error in [exhausted, itself, limit] {
            assert!(error.source().is_none());
        }
        let error = at_the_end(1).try_replace(2).unwrap_err();
        assert_eq!(
            format!("{error:?}"),
            "CommitError { refusal: VersionLimit, expected: 18446744073709551615@0, \
         current: 18446744073709551615@0, .. }"
        );
    });
}

#[test]
fn errors_travel_to_other_threads_with_value_and_winner() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let stale = entity.snapshot().stamp();
        entity.replace(tally.token());
        let error: CommitError<Token> = entity
            .try_commit(stale, tally.token())
            .map(drop)
            .unwrap_err();
        drop(entity);
        snapcell::reclaim();
        assert_eq!(
            tally.alive(),
            [1, 2],
            "the winner's and the value given back"
        );
        elsewhere(move || drop(error));
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn a_destructor_elsewhere_is_no_conflict_of_a_closure_with_itself() {
    /// Counts its end.
    struct Counted(Entity<u64>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.update(|n| n + 1);
        }
    }
    alone(|| {
        let ends = logical(0_u64);
        let other = logical(Counted(ends.clone()));
        // Each closure replaces a value, and what was replaced long ago would like to end by now.
        for _ in 0..2_000 {
            ends.update(|n| {
                other.replace(Counted(ends.clone()));
                n + 1
            });
            let checked = ends.commit_or_merge(&Entity::new(0).snapshot(), 0, |merge| {
                other.replace(Counted(ends.clone()));
                Some(*merge.theirs)
            });
            assert!(checked.is_ok());
        }
        drop(other);
        snapcell::reclaim();
        assert_eq!(*ends.snapshot(), 2_000 + 4_001, "the updates, and the ends");
    });
}
