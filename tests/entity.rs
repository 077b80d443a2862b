//! One entity: birth, the three reads, every kind of commit and what it reports, time, conflicts, the
//! end, and what waits to be freed. Failures are in `errors.rs`, panics in `panics.rs`.

mod support;

use proptest::prelude::*;
use snapcell::{
    Clock, CommitError, Committed, Entity, ManualClock, Merge, Reader, Refusal, Retry, Snapshot,
    Stamp, UpdateError, Updated,
};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;
use support::{Tally, alone, elsewhere, panic_of, together};

/// An entity with times that can be told in advance: equal to the version.
fn logical<T: Send + Sync + 'static>(value: T) -> Entity<T> {
    Entity::builder(value).clock(Clock::logical()).build()
}

fn version<T: Send + Sync + 'static, E: 'static>(entity: &Entity<T, E>) -> u64 {
    entity.snapshot().stamp().version()
}

// Birth.

#[test]
fn a_new_entity_is_at_version_0_with_its_value() {
    alone(|| {
        let entity = Entity::new("value");
        let snapshot = entity.snapshot();
        assert_eq!((*snapshot, snapshot.stamp().version()), ("value", 0));
    });
}

#[test]
fn the_monotonic_clock_never_goes_backwards_on_one_thread() {
    alone(|| {
        let mut last = 0;
        for _ in 0..1000 {
            let born = Entity::new(()).snapshot().stamp();
            let built = Entity::builder(()).build().snapshot().stamp();
            let asked = Entity::builder(()).clock(Clock::monotonic()).build();
            for stamp in [born, built, asked.snapshot().stamp()] {
                assert_eq!(stamp.version(), 0);
                assert!(stamp.time() >= last);
                last = stamp.time();
            }
        }
    });
}

#[test]
fn an_entity_is_born_with_the_stamp_that_it_is_given() {
    alone(|| {
        let entity = Entity::builder('a')
            .clock(Clock::logical())
            .born(Stamp::new(7, 1_000))
            .build();
        assert_eq!(entity.snapshot().stamp(), Stamp::new(7, 1_000));
        assert_eq!(entity.replace('b').stamp(), Stamp::new(8, 1_001));
    });
}

#[test]
fn a_restored_entity_does_not_fall_behind_its_old_time() {
    alone(|| {
        let clock = ManualClock::new();
        clock.set(Duration::from_nanos(5));
        let entity = Entity::builder('a')
            .born(Stamp::new(1, 1_000))
            .clock(Clock::manual(&clock))
            .build();
        assert_eq!(entity.snapshot().stamp(), Stamp::new(1, 1_000));
        assert_eq!(entity.replace('b').stamp(), Stamp::new(2, 1_000));
        clock.set(Duration::from_nanos(2_000));
        assert_eq!(entity.replace('c').stamp(), Stamp::new(3, 2_000));
    });
}

#[test]
fn an_entity_is_born_at_the_time_of_its_clock() {
    alone(|| {
        let clock = ManualClock::new();
        clock.advance(Duration::from_nanos(30));
        clock.clone().advance(Duration::from_nanos(12));
        let entity = Entity::builder(())
            .clock(Clock::manual(&clock))
            .try_build()
            .unwrap();
        assert_eq!(entity.snapshot().stamp(), Stamp::new(0, 42));
    });
}

// Handles.

#[test]
fn a_clone_is_a_handle_of_the_same_entity() {
    alone(|| {
        let entity = Entity::new(1);
        let other = entity.clone();
        other.replace(2);
        assert_eq!(*entity.snapshot(), 2);
        assert!(Entity::ptr_eq(&entity, &other));
        assert!(Snapshot::ptr_eq(&entity.snapshot(), &other.snapshot()));

        let stranger = Entity::new(2);
        assert!(!Entity::ptr_eq(&entity, &stranger));
        assert!(!Snapshot::ptr_eq(&entity.snapshot(), &stranger.snapshot()));
        drop(entity);
        assert_eq!(*other.snapshot(), 2, "the other handle goes on");
    });
}

// Reads.

#[test]
fn all_reads_see_the_same_snapshot() {
    alone(|| {
        let entity = logical(1);
        entity.replace(2);
        let guard = snapcell::pin();
        let loaded = entity.load(&guard);
        let snapshot = entity.snapshot();
        let mut reader = entity.reader();
        assert_eq!(entity.read(|value| *value), 2);
        assert_eq!(
            (*loaded, *loaded.value(), *snapshot, **reader.get()),
            (2, 2, 2, 2)
        );
        let stamp = Stamp::new(1, 1);
        assert_eq!(
            [loaded.stamp(), snapshot.stamp(), reader.stamp()],
            [stamp; 3]
        );
        assert!(Snapshot::ptr_eq(&loaded.snapshot(), &snapshot));
        assert!(Snapshot::ptr_eq(reader.get(), &snapshot));
        let place: *const i32 = &*snapshot;
        assert_eq!(loaded.value() as *const i32, place);
        assert_eq!(entity.read(|value| value as *const i32), place);
    });
}

#[test]
fn read_returns_what_the_look_returns() {
    alone(|| {
        let entity = Entity::new(vec![String::from("a"), String::from("b")]);
        assert_eq!(entity.read(|names| names.join("+")), "a+b");
        let once = Box::new(7);
        assert_eq!(entity.read(move |_| once), Box::new(7), "it is called once");
    });
}

#[test]
fn a_snapshot_stays_what_it_was() {
    alone(|| {
        let entity = logical(String::from("first"));
        let first = entity.snapshot();
        let again = first.clone();
        for text in ["second", "third"] {
            entity.replace(String::from(text));
        }
        snapcell::reclaim();
        assert_eq!((first.as_str(), first.stamp()), ("first", Stamp::new(0, 0)));
        assert!(Snapshot::ptr_eq(&first, &again));
        assert!(!Snapshot::ptr_eq(&first, &entity.snapshot()));
        assert_eq!(*entity.snapshot(), "third");
    });
}

#[test]
fn loads_under_one_guard_see_newer_commits_and_keep_older_values() {
    alone(|| {
        let entity = logical(0_u64);
        let guard = snapcell::pin();
        let mut seen = Vec::new();
        for next in 1..=1000 {
            seen.push(entity.load(&guard));
            if next % 2 == 0 {
                entity.replace(next);
            } else {
                elsewhere(|| drop(entity.replace(next)));
            }
            snapcell::reclaim();
        }
        for (at, loaded) in seen.iter().enumerate() {
            assert_eq!(**loaded, at as u64);
            assert_eq!(loaded.stamp(), Stamp::new(at as u64, at as u64));
        }
        let kept = seen[7].snapshot();
        drop(guard);
        snapcell::reclaim();
        assert_eq!(*kept, 7, "a snapshot outlives the guard");
    });
}

#[test]
fn a_reader_sees_a_commit_at_its_next_look() {
    alone(|| {
        let entity = logical("first");
        let mut reader = entity.reader();
        assert!(!reader.is_stale());
        assert_eq!(**reader.get(), "first");

        elsewhere(|| drop(entity.replace("second")));
        assert!(reader.is_stale());
        assert_eq!(
            (**reader.seen(), reader.stamp()),
            ("first", Stamp::new(0, 0)),
            "it has not looked yet"
        );
        assert_eq!(**reader.get(), "second");
        assert!(!reader.is_stale());
        assert_eq!(
            (**reader.seen(), reader.stamp()),
            ("second", Stamp::new(1, 1))
        );
        assert!(Entity::ptr_eq(reader.entity(), &entity));
    });
}

#[test]
fn a_reader_sees_a_commit_of_an_equal_value() {
    alone(|| {
        let entity = logical(5);
        let mut reader = entity.reader();
        for round in 1..=1000 {
            // The memory of old snapshots is used again, but never that of what the reader holds.
            entity.replace(5);
            snapcell::reclaim();
            assert!(reader.is_stale());
            assert_eq!(reader.get().stamp(), Stamp::new(round, round));
            assert!(!reader.is_stale());
        }
    });
}

#[test]
fn a_clone_of_a_reader_is_a_reader_of_its_own() {
    alone(|| {
        let entity = logical(1);
        let mut reader = entity.reader();
        let mut clone = reader.clone();
        entity.replace(2);
        assert_eq!(**reader.get(), 2);
        assert!(clone.is_stale());
        assert_eq!(**clone.get(), 2);
        assert!(Entity::ptr_eq(clone.entity(), reader.entity()));
    });
}

#[test]
fn a_reader_alone_keeps_the_entity_alive() {
    alone(|| {
        let entity = logical(1);
        let mut reader = entity.reader();
        drop(entity);
        reader.entity().replace(2);
        assert_eq!(**reader.get(), 2);
    });
}

#[test]
fn a_reader_holds_back_one_snapshot_the_last_one_it_saw() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let mut reader = entity.reader();
        for _ in 0..9 {
            entity.replace(tally.token());
        }
        snapcell::reclaim();
        assert_eq!(tally.alive(), [0, 9]);
        assert_eq!(reader.get().number(), 9);
        assert_eq!(tally.alive(), [9]);
    });
}

#[test]
fn a_projection_keeps_the_whole_of_which_it_is_a_part() {
    alone(|| {
        let entity = logical((String::from("name"), vec![1, 2, 3]));
        let whole = entity.snapshot();
        let name = whole.clone().project(|(name, _)| name.as_str());
        let tail = whole.clone().project(|(_, numbers)| &numbers[1..]);
        let debug = whole
            .clone()
            .project(|(_, numbers)| numbers as &(dyn Debug + Sync));
        entity.replace((String::new(), vec![]));
        drop(entity);
        assert!(Snapshot::ptr_eq(&name.whole(), &whole));
        drop(whole);
        snapcell::reclaim();

        assert_eq!(&*name, "name");
        assert_eq!(*tail, [2, 3]);
        assert_eq!(format!("{:?}", &*debug), "[1, 2, 3]");
        assert_eq!(name.stamp(), Stamp::new(0, 0));
        let clone = name.clone();
        drop((name, tail, debug));
        assert_eq!(elsewhere(move || clone.len()), 4);
    });
}

#[test]
fn a_part_that_is_not_there_gives_the_snapshot_back() {
    alone(|| {
        let entity = logical(vec!["a", "b"]);
        let snapshot = entity.snapshot();
        let second = snapshot.clone().try_project(|all| all.get(1)).unwrap();
        assert_eq!(*second, "b");
        let given_back = snapshot.clone().try_project(|all| all.get(2)).unwrap_err();
        assert!(Snapshot::ptr_eq(&given_back, &snapshot));
    });
}

// Commits.

#[test]
fn a_commit_reports_what_it_published_and_what_it_replaced() {
    alone(|| {
        let entity = logical(10);
        let before = entity.snapshot();
        let committed = entity.try_commit(before.stamp(), 11).unwrap();
        assert_eq!(
            (committed.stamp(), committed.attempts()),
            (Stamp::new(1, 1), 1)
        );
        assert_eq!((*committed.current(), *committed.previous()), (11, 10));
        assert_eq!(committed.previous().stamp(), Stamp::new(0, 0));
        assert!(Snapshot::ptr_eq(&committed.previous().snapshot(), &before));
        assert!(Snapshot::ptr_eq(&committed.snapshot(), &entity.snapshot()));

        // Whatever comes after, it shows its own commit.
        entity.replace(12);
        elsewhere(|| drop(entity.replace(13)));
        snapcell::reclaim();
        assert_eq!((*committed.current(), *committed.previous()), (11, 10));
        assert_eq!(*committed.snapshot(), 11);
    });
}

#[test]
fn every_kind_of_commit_reports_itself_alike() {
    alone(|| {
        let entity = logical(0);
        let check = |committed: Committed<'_, u64>, nth: u64| {
            assert_eq!(committed.stamp(), Stamp::new(nth, nth));
            assert_eq!(
                (*committed.current(), *committed.previous()),
                (nth, nth - 1)
            );
            assert_eq!(committed.attempts(), 1);
        };
        check(entity.update(|n| n + 1), 1);
        check(entity.update_with(Retry::at_most(0), |n| n + 1).unwrap(), 2);
        match entity.try_update(|n| Ok::<_, Infallible>(Some(n + 1))) {
            Ok(Updated::Committed(committed)) => check(committed, 3),
            other => panic!("{other:?}"),
        }
        match entity.try_update_with(Retry::at_most(0), |n| Ok::<_, Infallible>(Some(n + 1))) {
            Ok(Updated::Committed(committed)) => check(committed, 4),
            other => panic!("{other:?}"),
        }
        check(entity.replace(5), 5);
        check(entity.try_replace(6).unwrap(), 6);
        check(entity.try_commit(Stamp::new(6, 6), 7).unwrap(), 7);
        check(entity.try_commit_on(&entity.snapshot(), 8).unwrap(), 8);
        let base = entity.snapshot();
        check(entity.commit_or_merge(&base, 9, |_| None).unwrap(), 9);
        assert_eq!(entity.snapshot().stamp(), Stamp::new(9, 9));
    });
}

#[test]
fn an_update_that_changes_nothing_tells_of_which_snapshot() {
    alone(|| {
        let entity = logical(3);
        entity.replace(4);
        let current = entity.snapshot();
        let updated = entity.try_update(|_| Ok::<_, Infallible>(None)).unwrap();
        assert!(!updated.is_committed());
        assert_eq!(updated.stamp(), Stamp::new(1, 1));
        match updated {
            Updated::Unchanged(snapshot) => assert!(Snapshot::ptr_eq(&snapshot, &current)),
            committed => panic!("{committed:?}"),
        }
        assert_eq!(version(&entity), 1);

        let updated = entity
            .try_update(|n| Ok::<_, Infallible>(Some(*n)))
            .unwrap();
        assert!(updated.is_committed(), "an equal value is a change");
        assert_eq!(updated.stamp(), Stamp::new(2, 2));
    });
}

#[test]
fn the_version_is_the_number_of_commits() {
    alone(|| {
        let entity = Entity::new(0);
        let stale = entity.snapshot();
        let mut commits = 0;
        for round in 0..100 {
            entity.replace(round);
            commits += 1;
            // None of these is a commit.
            assert!(entity.try_commit(stale.stamp(), 0).is_err());
            assert!(entity.try_commit_on(&stale, 0).is_err());
            assert!(entity.commit_or_merge(&stale, 0, |_| None).is_err());
            assert!(entity.try_update(|_| Err::<Option<i32>, _>(())).is_err());
            assert!(entity.try_update(|_| Ok::<_, ()>(None)).is_ok());
            assert_eq!(version(&entity), commits);
        }
    });
}

#[test]
fn has_conflict_tells_whether_a_commit_would_be_refused() {
    alone(|| {
        let entity = Entity::new(1);
        let (one, other) = (entity.snapshot(), entity.snapshot());
        assert!(!entity.has_conflict(one.stamp()), "nobody has committed");
        assert!(!entity.has_conflict(other.stamp()));

        entity.replace(2);
        let newer = entity.snapshot();
        assert!(entity.has_conflict(one.stamp()), "the older one conflicts");
        assert!(!entity.has_conflict(newer.stamp()));
        // The other way round: seen from a state before that commit, the newer one conflicts.
        let before = Entity::builder(1).born(one.stamp()).build();
        assert!(!before.has_conflict(one.stamp()));
        assert!(before.has_conflict(newer.stamp()));
        assert!(entity.try_commit(newer.stamp(), 3).is_ok());
        assert!(entity.has_conflict(newer.stamp()));
    });
}

#[test]
fn a_stamp_with_the_right_version_and_another_time_conflicts() {
    alone(|| {
        let entity = logical(1);
        entity.replace(2);
        for stamp in [
            Stamp::new(1, 0),
            Stamp::new(1, 2),
            Stamp::new(0, 1),
            Stamp::new(2, 1),
        ] {
            assert!(entity.has_conflict(stamp));
            assert!(entity.try_commit(stamp, 3).unwrap_err().is_conflict());
        }
        assert!(!entity.has_conflict(Stamp::new(1, 1)));
    });
}

// Attempts.

/// Replaces the value from another thread.
fn overtake<T: Send + Sync + 'static, E: Send + 'static>(entity: &Entity<T, E>, value: T) {
    elsewhere(|| {
        assert!(entity.try_replace(value).is_ok());
    });
}

#[test]
fn an_update_that_is_overtaken_computes_again_from_the_winner() {
    alone(|| {
        let entity = logical(1);
        let mut seen = Vec::new();
        let committed = entity.update(|n| {
            seen.push(*n);
            if seen.len() == 1 {
                overtake(&entity, 100);
            }
            n + 1
        });
        assert_eq!(committed.attempts(), 2);
        assert_eq!((*committed.previous(), *committed.current()), (100, 101));
        assert_eq!(committed.stamp(), Stamp::new(2, 2));
        drop(committed);
        assert_eq!(seen, [1, 100]);
    });
}

#[test]
fn attempts_count_every_loss() {
    alone(|| {
        let entity = Entity::new(0_u32);
        for losses in 0..20 {
            let before = version(&entity);
            let mut left = losses;
            let committed = entity.update(|n| {
                if left > 0 {
                    left -= 1;
                    overtake(&entity, 0);
                }
                n + 1
            });
            assert_eq!(committed.attempts(), losses + 1);
            assert_eq!(committed.stamp().version(), before + u64::from(losses) + 1);
        }
    });
}

#[test]
fn every_kind_of_update_reports_its_attempts() {
    alone(|| {
        let entity = Entity::new(0);
        let lose_once = || {
            let mut lost = false;
            let entity = &entity;
            move |n: &i32| {
                if !lost {
                    lost = true;
                    overtake(entity, 10);
                }
                n + 1
            }
        };
        let mut f = lose_once();
        let committed = entity.update_with(Retry::at_most(1), &mut f).unwrap();
        assert_eq!((committed.attempts(), *committed.current()), (2, 11));
        let mut f = lose_once();
        match entity.try_update(|n| Ok::<_, Infallible>(Some(f(n)))) {
            Ok(Updated::Committed(c)) => assert_eq!((c.attempts(), *c.current()), (2, 11)),
            other => panic!("{other:?}"),
        }
        let mut f = lose_once();
        match entity.try_update_with(Retry::at_most(1), |n| Ok::<_, Infallible>(Some(f(n)))) {
            Ok(Updated::Committed(c)) => assert_eq!((c.attempts(), *c.current()), (2, 11)),
            other => panic!("{other:?}"),
        }
        // A loss that turns an attempt into no change at all.
        let mut f = lose_once();
        let updated = entity
            .try_update(|n| Ok::<_, Infallible>((*n != 10).then(|| f(n))))
            .unwrap();
        assert!(!updated.is_committed());
        drop(updated);
        assert_eq!(*entity.snapshot(), 10);
    });
}

/// An entity whose validator, which runs between the look at the head and the exchange, does
/// something else once it is told to.
struct Interrupted {
    entity: Entity<i32, Infallible>,
    interruption: Interruption,
}

type Interruption = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

impl Interrupted {
    fn new(value: i32) -> Self {
        let interruption = Interruption::default();
        let slot = Arc::clone(&interruption);
        let entity = Entity::builder(value)
            .clock(Clock::logical())
            .validate(move |_| {
                // The lock is not held meanwhile: what happens may be validated, too.
                let interruption = slot.lock().unwrap().take();
                if let Some(interrupt) = interruption {
                    interrupt();
                }
                Ok(())
            })
            .try_build()
            .unwrap();
        Interrupted {
            entity,
            interruption,
        }
    }

    /// Lets another thread commit `value` while the next commit is on its way.
    fn overtaken_by(&self, value: i32) -> &Entity<i32> {
        let entity = self.entity.clone();
        *self.interruption.lock().unwrap() = Some(Box::new(move || overtake(&entity, value)));
        &self.entity
    }
}

#[test]
fn a_commit_that_is_overtaken_between_look_and_exchange_is_refused() {
    alone(|| {
        let interrupted = Interrupted::new(1);
        let base = interrupted.entity.snapshot();
        let entity = interrupted.overtaken_by(50);
        let refused = entity.try_commit(base.stamp(), 2).unwrap_err();
        assert!(refused.is_conflict());
        assert_eq!((**refused.current(), *refused.proposed()), (50, 2));
        assert_eq!(refused.current().stamp(), Stamp::new(1, 1));

        let base = entity.snapshot();
        let entity = interrupted.overtaken_by(60);
        let refused = entity.try_commit_on(&base, 3).unwrap_err();
        assert!(refused.is_conflict());
        assert_eq!((**refused.current(), *refused.proposed()), (60, 3));
        assert_eq!(version(entity), 2);
    });
}

#[test]
fn a_replacement_that_is_overtaken_is_tried_again() {
    alone(|| {
        let interrupted = Interrupted::new(1);
        let committed = interrupted.overtaken_by(50).try_replace(2).unwrap();
        assert_eq!(committed.attempts(), 2);
        assert_eq!((*committed.previous(), *committed.current()), (50, 2));
        let committed = interrupted.overtaken_by(60).replace(3);
        assert_eq!(committed.attempts(), 2);
        assert_eq!((*committed.previous(), *committed.current()), (60, 3));
        assert_eq!(committed.stamp(), Stamp::new(4, 4));
    });
}

#[test]
fn an_update_that_is_overtaken_while_it_is_validated_is_computed_again() {
    alone(|| {
        let interrupted = Interrupted::new(1);
        let committed = interrupted.overtaken_by(50).update(|n| n + 1);
        assert_eq!((committed.attempts(), *committed.current()), (2, 51));
    });
}

// Merges.

#[test]
fn a_change_on_the_current_base_is_not_merged() {
    alone(|| {
        let entity = logical(1);
        let base = entity.snapshot();
        let committed = entity
            .commit_or_merge(&base, 2, |_| panic!("nothing to merge"))
            .unwrap();
        assert_eq!((committed.attempts(), *committed.current()), (1, 2));
    });
}

#[test]
fn a_change_that_comes_too_late_is_merged_with_what_got_in_between() {
    alone(|| {
        let entity = logical(10);
        let base = entity.snapshot();
        entity.replace(11);
        entity.replace(13);
        let mut merges = Vec::new();
        let committed = entity
            .commit_or_merge(&base, 20, |Merge { base, mine, theirs }| {
                merges.push((*base, *mine, *theirs));
                Some(mine + theirs - base)
            })
            .unwrap();
        assert_eq!(
            (committed.attempts(), committed.stamp()),
            (2, Stamp::new(3, 3))
        );
        assert_eq!((*committed.previous(), *committed.current()), (13, 23));
        assert_eq!(merges, [(10, 20, 13)]);
    });
}

#[test]
fn a_merge_that_is_overtaken_is_made_again_against_the_newer_value() {
    alone(|| {
        let entity = logical(BTreeSet::from(["a"]));
        let base = entity.snapshot();
        entity.replace(BTreeSet::from(["a", "theirs"]));
        let mut runs = 0;
        let committed = entity
            .commit_or_merge(&base, BTreeSet::from(["a", "mine"]), |sets| {
                runs += 1;
                if runs < 4 {
                    elsewhere(|| drop(entity.update(|set| set | &BTreeSet::from(["later"]))));
                }
                Some(sets.mine | sets.theirs)
            })
            .unwrap();
        assert_eq!(
            committed.attempts(),
            5,
            "the first one, three losses, and the last one"
        );
        assert_eq!(
            *committed.current(),
            BTreeSet::from(["a", "later", "mine", "theirs"])
        );
        assert_eq!(committed.stamp().version(), 5);
        drop(committed);
        assert_eq!(runs, 4);
    });
}

#[test]
fn a_change_that_is_overtaken_on_its_way_is_merged() {
    alone(|| {
        let interrupted = Interrupted::new(1);
        let base = interrupted.entity.snapshot();
        let committed = interrupted
            .overtaken_by(50)
            .commit_or_merge(&base, 2, |merge| Some(merge.mine * 1000 + merge.theirs))
            .unwrap();
        assert_eq!((committed.attempts(), *committed.current()), (2, 2050));
    });
}

#[test]
fn a_merge_on_the_snapshot_of_another_entity_is_a_merge_with_the_current_value() {
    alone(|| {
        let (entity, stranger) = (logical(1), logical(7));
        let committed = entity
            .commit_or_merge(&stranger.snapshot(), 30, |merge| {
                Some(merge.base * 100 + merge.mine + merge.theirs)
            })
            .unwrap();
        assert_eq!((committed.attempts(), *committed.current()), (2, 731));
    });
}

// Time.

#[test]
fn time_never_goes_backwards_along_an_entity() {
    alone(|| {
        let clock = ManualClock::new();
        let entity = Entity::builder(0).clock(Clock::manual(&clock)).build();
        let mut times = Vec::new();
        for nanos in [5, 3, 0, 9, 8, 9, 10, 1] {
            clock.set(Duration::from_nanos(nanos));
            times.push(entity.update(|n| n + 1).stamp().time());
            assert_eq!(clock.now(), nanos);
        }
        assert_eq!(times, [5, 5, 5, 9, 9, 9, 10, 10]);
        assert_eq!(version(&entity), 8, "the version goes on all the same");
    });
}

#[test]
fn a_logical_clock_counts_the_commits_of_each_entity() {
    alone(|| {
        let clock = Clock::logical();
        let [one, other] = [(); 2].map(|()| Entity::builder(0).clock(clock.clone()).build());
        for n in 1..=10 {
            one.update(|n| n + 1);
            assert_eq!(one.snapshot().stamp(), Stamp::new(n, n));
        }
        assert_eq!(other.replace(1).stamp(), Stamp::new(1, 1));
    });
}

#[test]
fn a_clock_at_its_end_stays_there_and_commits_go_on() {
    alone(|| {
        let clock = ManualClock::new();
        clock.set(Duration::MAX);
        assert_eq!(
            clock.now(),
            u64::MAX,
            "584 years and longer are all the same"
        );
        let entity = Entity::builder(0).clock(Clock::manual(&clock)).build();
        assert_eq!(entity.snapshot().stamp(), Stamp::new(0, u64::MAX));
        assert_eq!(entity.replace(1).stamp(), Stamp::new(1, u64::MAX));
        clock.set(Duration::ZERO);
        assert_eq!(entity.replace(2).stamp(), Stamp::new(2, u64::MAX));

        let entity = Entity::builder(0)
            .clock(Clock::logical())
            .born(Stamp::new(0, u64::MAX - 1))
            .build();
        assert_eq!(entity.replace(1).stamp(), Stamp::new(1, u64::MAX));
        assert_eq!(entity.replace(2).stamp(), Stamp::new(2, u64::MAX));
    });
}

#[test]
fn an_entity_that_is_not_born_yet_gets_version_0_and_the_time_of_its_first_commit() {
    alone(|| {
        let unborn = Stamp::new(u64::MAX, u64::MAX);
        let clock = ManualClock::new();
        clock.set(Duration::from_nanos(7));
        let built = |clock| Entity::builder(0).clock(clock).born(unborn).build();
        let entity = built(Clock::manual(&clock));
        assert_eq!(entity.snapshot().stamp(), unborn);
        assert_eq!(entity.replace(1).stamp(), Stamp::new(0, 7));
        assert_eq!(
            entity.replace(2).stamp(),
            Stamp::new(1, 7),
            "and then as all"
        );
        let entity = built(Clock::logical());
        assert_eq!(
            entity.try_commit(unborn, 1).unwrap().stamp(),
            Stamp::new(0, 0)
        );
        let entity = built(Clock::logical());
        assert_eq!(entity.update(|n| n + 1).stamp(), Stamp::new(0, 0));
        assert_eq!(entity.update(|n| n + 1).stamp(), Stamp::new(1, 1));
    });
}

#[test]
fn advancing_a_clock_moves_it_forward_and_not_past_its_end() {
    alone(|| {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(2));
        clock.advance(Duration::from_nanos(3));
        assert_eq!(clock.now(), 2_000_000_003);
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), u64::MAX);
    });
}

#[test]
fn every_kind_of_commit_takes_the_time_of_the_clock() {
    alone(|| {
        let clock = ManualClock::new();
        let entity = Entity::builder(0).clock(Clock::manual(&clock)).build();
        let tick = || clock.advance(Duration::from_nanos(10));
        tick();
        assert_eq!(entity.update(|n| n + 1).stamp(), Stamp::new(1, 10));
        tick();
        assert_eq!(entity.replace(1).stamp(), Stamp::new(2, 20));
        tick();
        let stamp = entity.try_commit(Stamp::new(2, 20), 1).unwrap().stamp();
        assert_eq!(stamp, Stamp::new(3, 30));
        let base = entity.snapshot();
        tick();
        let stamp = entity.try_commit_on(&base, 1).unwrap().stamp();
        assert_eq!(stamp, Stamp::new(4, 40));
        tick();
        let merged = entity.commit_or_merge(&base, 1, |_| Some(2)).unwrap();
        assert_eq!(merged.stamp(), Stamp::new(5, 50));
        // The time is read before the value is computed.
        let update = entity.update(|n| {
            tick();
            n + 1
        });
        assert_eq!(update.stamp(), Stamp::new(6, 50));
    });
}

// The end.

#[test]
fn the_last_handle_takes_the_value_out() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        entity.replace(tally.token());
        let token = entity.into_inner().map_err(drop).unwrap();
        assert_eq!(token.number(), 1);
        snapcell::reclaim();
        assert_eq!(tally.alive(), [1], "moved out, not dropped");
        drop(token);
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn one_handle_of_several_gets_the_snapshot_instead_of_the_value() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let other = entity.clone();
        let snapshot = entity.into_inner().map(drop).unwrap_err();
        assert!(Snapshot::ptr_eq(&snapshot, &other.snapshot()));
        // The handle is gone, so the other one is the only one, but now the snapshot is in the way.
        let same = other.into_inner().map(drop).unwrap_err();
        assert!(Snapshot::ptr_eq(&snapshot, &same));
        drop(snapshot);
        assert_eq!(tally.alive(), [0]);
        drop(same);
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn the_value_is_not_taken_from_whoever_holds_the_current_snapshot() {
    alone(|| {
        let entity = Entity::new(1);
        let holder = entity.snapshot();
        let snapshot = entity.into_inner().unwrap_err();
        assert!(Snapshot::ptr_eq(&snapshot, &holder));

        let entity = Entity::new(1);
        let part = entity.snapshot().project(|n| n);
        assert!(entity.into_inner().is_err());
        assert_eq!(*part, 1);

        let entity = Entity::new(1);
        let reader = entity.reader();
        assert!(entity.into_inner().is_err(), "a reader is a handle, too");
        assert_eq!(
            reader.entity().clone().into_inner().unwrap_err().stamp(),
            reader.stamp()
        );
    });
}

#[test]
fn holders_of_older_snapshots_and_guards_are_not_in_the_way_of_the_value() {
    alone(|| {
        let entity = Entity::new(String::from("old"));
        let old = entity.snapshot();
        entity.replace(String::from("new"));
        let _guard = snapcell::pin();
        drop(entity.clone());
        drop(entity.snapshot());
        assert_eq!(entity.into_inner().unwrap(), "new");
        assert_eq!(*old, "old");
    });
}

#[test]
fn an_entity_with_a_validator_gives_its_value_out_too() {
    alone(|| {
        let tally = Tally::default();
        let captured = tally.token();
        let entity = Entity::builder(String::from("mine"))
            .validate(move |_| {
                if captured.number() == 0 {
                    Ok(())
                } else {
                    Err(())
                }
            })
            .try_build()
            .unwrap();
        assert_eq!(entity.into_inner().unwrap(), "mine");
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn of_two_threads_that_take_the_value_at_once_at_most_one_gets_it() {
    alone(|| {
        let tally = Tally::default();
        const ROUNDS: usize = 2_000;
        for round in 0..ROUNDS {
            let entity = Mutex::new(vec![Entity::new(tally.token())]);
            let twin = entity.lock().unwrap()[0].clone();
            entity.lock().unwrap().push(twin);
            let start = Barrier::new(2);
            let taken = together(2, |_| {
                let entity = entity.lock().unwrap().pop().unwrap();
                start.wait();
                match entity.into_inner() {
                    Ok(token) => (true, token.number()),
                    Err(snapshot) => (false, snapshot.number()),
                }
            });
            assert!(taken.iter().all(|(_, number)| *number == round));
            assert!(taken.iter().filter(|(value, _)| *value).count() <= 1);
        }
        tally.assert_all_dropped_once(ROUNDS);
    });
}

// What waits to be freed.

#[test]
fn what_was_replaced_counts_as_lag_until_it_is_freed() {
    alone(|| {
        let entity = Entity::new([0_u8; 1000]);
        let guard = snapcell::pin();
        for round in 1..=100 {
            entity.replace([1; 1000]);
            let lag = snapcell::reclamation_lag();
            assert_eq!(lag.nodes, round);
            let overhead = lag.bytes - round * 1000;
            assert!(
                (24 * round..=64 * round).contains(&overhead),
                "{overhead} bytes for {round} headers"
            );
        }
        snapcell::reclaim();
        assert_eq!(
            snapcell::reclamation_lag().nodes,
            100,
            "the guard is in the way"
        );
        drop(guard);
        snapcell::reclaim();
        let lag = snapcell::reclamation_lag();
        assert_eq!((lag.nodes, lag.bytes), (0, 0));
    });
}

#[test]
fn what_somebody_holds_is_no_lag_once_its_grace_is_over() {
    alone(|| {
        let entity = Entity::new(0);
        let kept: Vec<_> = (0..100)
            .map(|n| entity.replace(n).previous().snapshot())
            .collect();
        assert_eq!(snapcell::reclamation_lag().nodes, 100);
        snapcell::reclaim();
        assert_eq!(snapcell::reclamation_lag().nodes, 0);
        assert_eq!(kept.len(), 100);
    });
}

#[test]
fn a_guard_on_another_thread_holds_back_what_is_replaced_meanwhile() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let (pinned, is_pinned) = channel();
        let (unpin, may_unpin) = channel::<()>();
        let (entity, tally) = (&entity, &tally);
        // It owns `unpin`, so that a failure here does not leave the reader waiting.
        std::thread::scope(move |scope| {
            let reader = scope.spawn(move || {
                let guard = snapcell::pin();
                pinned.send(()).unwrap();
                may_unpin.recv().unwrap();
                drop(guard);
            });
            is_pinned.recv().unwrap();
            for _ in 0..1000 {
                entity.replace(tally.token());
            }
            snapcell::reclaim();
            assert_eq!(tally.alive().len(), 1001, "none of them may go");
            assert_eq!(snapcell::reclamation_lag().nodes, 1000);
            unpin.send(()).unwrap();
            reader.join().unwrap();
        });
        snapcell::reclaim();
        assert_eq!(tally.alive(), [1000]);
    });
}

#[test]
fn commits_free_what_earlier_ones_replaced() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        for commits in 1..=20_000 {
            entity.replace(tally.token());
            assert!(
                snapcell::reclamation_lag().nodes <= 2_000,
                "after {commits} commits"
            );
        }
        assert!(
            tally.alive().len() <= 2_001,
            "most have gone without a call"
        );
    });
}

#[test]
fn reclaim_frees_what_ended_threads_have_left() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        elsewhere(|| (0..1000).for_each(|_| drop(entity.replace(tally.token()))));
        assert!(
            snapcell::reclamation_lag().nodes > 0,
            "the thread left something"
        );
        snapcell::reclaim();
        assert_eq!(tally.alive(), [1000]);
    });
}

#[test]
fn reclaim_frees_what_an_ended_thread_left_however_much_it_is() {
    alone(|| {
        let entity = Entity::new(0);
        let guard = snapcell::pin();
        elsewhere(|| (0..60_000).for_each(|n| drop(entity.replace(n))));
        assert_eq!(snapcell::reclamation_lag().nodes, 60_000);
        drop(guard);
        snapcell::reclaim();
        assert_eq!(
            snapcell::reclamation_lag().nodes,
            0,
            "no guard is in the way"
        );
    });
}

#[test]
fn commits_free_what_ended_threads_have_left() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        elsewhere(|| (0..50).for_each(|_| drop(entity.replace(tally.token()))));
        let other = Entity::new(0);
        let mut commits = 0;
        while tally.alive() != [50] {
            other.replace(commits);
            commits += 1;
            assert!(commits < 10_000, "the orphans were not adopted");
        }
    });
}

#[test]
fn reclaim_leaves_to_a_living_thread_what_it_replaced() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let (done, is_done) = channel();
        let (go_on, may_go_on) = channel::<()>();
        let (entity, tally) = (&entity, &tally);
        // It owns `go_on`, so that a failure here does not leave the writer waiting.
        std::thread::scope(move |scope| {
            let writer = scope.spawn(move || {
                (0..10).for_each(|_| drop(entity.replace(tally.token())));
                done.send(()).unwrap();
                may_go_on.recv().unwrap();
                snapcell::reclaim();
                tally.alive()
            });
            is_done.recv().unwrap();
            snapcell::reclaim();
            assert_eq!(tally.alive().len(), 11);
            assert_eq!(snapcell::reclamation_lag().nodes, 10);
            go_on.send(()).unwrap();
            assert_eq!(writer.join().unwrap(), [10]);
        });
    });
}

// Several threads.

#[test]
fn nothing_is_lost_between_threads_whichever_way_they_commit() {
    alone(|| {
        const THREADS: usize = 8;
        const EACH: u64 = 2_000;
        let entity = Entity::new(0_u64);
        let losses = AtomicU64::new(0);
        // The first attempt of each thread is made on the same snapshot, so all but one of them lose.
        let start = Barrier::new(THREADS);
        let commit = |thread: usize, nth: u64| -> u64 {
            let mut attempts = 0;
            let mut compute = |n: &u64| {
                attempts += 1;
                if nth == 0 && attempts == 1 {
                    start.wait();
                }
                n + 1
            };
            match thread % 4 {
                0 => drop(entity.update(compute)),
                1 => drop(
                    entity
                        .try_update(|n| Ok::<_, Infallible>(Some(compute(n))))
                        .unwrap(),
                ),
                2 => loop {
                    let seen = entity.snapshot();
                    if entity.try_commit(seen.stamp(), compute(&seen)).is_ok() {
                        break;
                    }
                },
                _ => {
                    let base = entity.snapshot();
                    let mine = compute(&base);
                    entity
                        .commit_or_merge(&base, mine, |merge| {
                            attempts += 1;
                            Some(merge.theirs + merge.mine - merge.base)
                        })
                        .unwrap();
                }
            }
            attempts - 1
        };
        together(THREADS, |thread| {
            for nth in 0..EACH {
                losses.fetch_add(commit(thread, nth), Ordering::Relaxed);
            }
        });
        let end = entity.snapshot();
        let commits = THREADS as u64 * EACH;
        assert_eq!((*end, end.stamp().version()), (commits, commits));
        assert!(
            losses.into_inner() >= THREADS as u64 - 1,
            "the threads did not get into each other's way: this run shows nothing"
        );
    });
}

#[test]
fn stamp_and_value_of_what_a_reader_sees_belong_together() {
    alone(|| {
        const READERS: usize = 3;
        const CHANGES: usize = 50;
        let entity = Entity::new(0_u64);
        let satisfied = AtomicUsize::new(0);
        let give_up = AtomicBool::new(false);
        together(READERS + 1, |thread| {
            if thread == READERS {
                // Commits go on until each reader has seen enough of them.
                let mut commits = 0_u64;
                while satisfied.load(Ordering::Relaxed) < READERS {
                    entity.update(|n| n + 1);
                    commits += 1;
                    if commits == 100_000_000 {
                        give_up.store(true, Ordering::Relaxed);
                        panic!("the readers hardly saw a change: this run shows nothing");
                    }
                }
                return;
            }
            let mut reader = entity.reader();
            let mut last = Stamp::default();
            let mut changes = 0;
            while changes < CHANGES && !give_up.load(Ordering::Relaxed) {
                let (stamp, value) = match thread {
                    0 => {
                        let snapshot = entity.snapshot();
                        (snapshot.stamp(), *snapshot)
                    }
                    1 => (reader.get().stamp(), **reader.seen()),
                    _ => {
                        let guard = snapcell::pin();
                        let loaded = entity.load(&guard);
                        (loaded.stamp(), *loaded)
                    }
                };
                assert_eq!(stamp.version(), value);
                assert!(stamp >= last, "{stamp} after {last}");
                assert!(stamp.time() >= last.time());
                changes += usize::from(stamp.version() > last.version());
                last = stamp;
            }
            satisfied.fetch_add(1, Ordering::Relaxed);
        });
    });
}

#[test]
fn an_entity_without_commits_is_read_by_many_threads_at_once() {
    alone(|| {
        let entity = Entity::new(vec![7; 100]);
        let start = Barrier::new(4);
        let sums = together(4, |_| {
            start.wait();
            let mut reader = entity.reader();
            (0..1000)
                .map(|_| entity.read(|v| v[3]) + reader.get()[4] + entity.snapshot()[5])
                .sum::<i32>()
        });
        assert_eq!(sums, [21_000; 4]);
        assert_eq!(version(&entity), 0);
    });
}

// Random programs.

/// One step of a program. Numbers choose among the snapshots that the program has kept.
#[derive(Clone, Debug)]
enum Step {
    Update(i64),
    TryUpdate(i64),
    NoChange,
    Refuse,
    Replace(i64),
    CommitOnStamp(usize, i64),
    CommitOnSnapshot(usize, i64),
    MergeOrAdd(usize, i64),
    MergeOrFail(usize, i64),
    Keep,
    Forget(usize),
    SetClock(u64),
    OtherHandle,
    Look,
    Reclaim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = || -40..100_i64;
    let which = || 0..4_usize;
    let step = prop_oneof![
        value().prop_map(Step::Update),
        value().prop_map(Step::TryUpdate),
        Just(Step::NoChange),
        Just(Step::Refuse),
        value().prop_map(Step::Replace),
        (which(), value()).prop_map(|(n, v)| Step::CommitOnStamp(n, v)),
        (which(), value()).prop_map(|(n, v)| Step::CommitOnSnapshot(n, v)),
        (which(), value()).prop_map(|(n, v)| Step::MergeOrAdd(n, v)),
        (which(), value()).prop_map(|(n, v)| Step::MergeOrFail(n, v)),
        Just(Step::Keep),
        which().prop_map(Step::Forget),
        (0..1000_u64).prop_map(Step::SetClock),
        Just(Step::OtherHandle),
        Just(Step::Look),
        Just(Step::Reclaim),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What an entity is, in the plainest words.
struct Model {
    value: i64,
    stamp: Stamp,
    clock: u64,
    least: Option<i64>,
}

/// How a step ends.
#[derive(Debug, PartialEq)]
enum Outcome {
    Committed {
        stamp: Stamp,
        previous: i64,
        value: i64,
        attempts: u32,
    },
    Unchanged(Stamp),
    Refused,
    Invalid {
        value: i64,
        error: String,
    },
    Conflict {
        value: i64,
        current: (i64, Stamp),
    },
}

impl Model {
    fn commit(&mut self, value: i64, attempts: u32) -> Outcome {
        self.commit_or_give_back(value, value, attempts)
    }

    fn commit_or_give_back(&mut self, value: i64, back: i64, attempts: u32) -> Outcome {
        if self.least.is_some_and(|least| value < least) {
            return Outcome::Invalid {
                value: back,
                error: too_little(value),
            };
        }
        let previous = std::mem::replace(&mut self.value, value);
        let time = self.stamp.time().max(self.clock);
        self.stamp = Stamp::new(self.stamp.version() + 1, time);
        Outcome::Committed {
            stamp: self.stamp,
            previous,
            value,
            attempts,
        }
    }

    fn conflict(&self, value: i64) -> Outcome {
        Outcome::Conflict {
            value,
            current: (self.value, self.stamp),
        }
    }
}

fn too_little(value: i64) -> String {
    format!("{value} is too little")
}

/// How an entity's own calls end, in the words of the model.
trait Judged {
    fn judged(self) -> Outcome;
}

impl Judged for Committed<'_, i64> {
    fn judged(self) -> Outcome {
        assert_eq!(self.snapshot().stamp(), self.stamp());
        Outcome::Committed {
            stamp: self.stamp(),
            previous: *self.previous(),
            value: *self.current(),
            attempts: self.attempts(),
        }
    }
}

impl<E: ToString + Debug> Judged for Result<Committed<'_, i64>, CommitError<i64, E>> {
    fn judged(self) -> Outcome {
        match self.map_err(CommitError::into_parts) {
            Ok(committed) => committed.judged(),
            Err((value, current, Refusal::Conflict)) => Outcome::Conflict {
                value,
                current: (*current, current.stamp()),
            },
            Err((value, _, Refusal::Invalid(error))) => Outcome::Invalid {
                value,
                error: error.to_string(),
            },
            Err(other) => panic!("{other:?}"),
        }
    }
}

impl<E: ToString + Debug> Judged for Result<Updated<'_, i64>, UpdateError<i64, (), E>> {
    fn judged(self) -> Outcome {
        match self {
            Ok(Updated::Committed(committed)) => committed.judged(),
            Ok(Updated::Unchanged(snapshot)) => Outcome::Unchanged(snapshot.stamp()),
            Err(UpdateError::Refused(())) => Outcome::Refused,
            Err(UpdateError::Invalid { proposed, error }) => Outcome::Invalid {
                value: proposed,
                error: error.to_string(),
            },
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// The calls that only an entity without a validator has, or what takes their place.
struct Calls<E: 'static> {
    update: fn(&Entity<i64, E>, i64) -> Outcome,
    replace: fn(&Entity<i64, E>, i64) -> Outcome,
}

const PLAIN: Calls<Infallible> = Calls {
    update: |entity, add| entity.update(|n| n + add).judged(),
    replace: |entity, value| entity.replace(value).judged(),
};

const VALIDATED: Calls<String> = Calls {
    update: |entity, add| match entity.update_with(Retry::at_most(0), |n| n + add) {
        Ok(committed) => committed.judged(),
        Err(UpdateError::Invalid { proposed, error }) => Outcome::Invalid {
            value: proposed,
            error,
        },
        Err(other) => panic!("{other:?}"),
    },
    replace: |entity, value| entity.try_replace(value).judged(),
};

/// Runs the program on the entity and on the model, and compares after each step.
fn run<E: ToString + Debug>(
    program: Vec<Step>,
    entity: Entity<i64, E>,
    clock: &ManualClock,
    mut model: Model,
    calls: &Calls<E>,
) {
    let mut entity = entity;
    let mut reader: Reader<i64, E> = entity.reader();
    let mut kept: Vec<(Snapshot<i64>, i64, Stamp)> =
        vec![(entity.snapshot(), model.value, model.stamp)];
    for step in program {
        let description = format!("{step:?} at {}", model.stamp);
        let (outcome, expected) = match step {
            Step::Update(add) => (
                (calls.update)(&entity, add),
                model.commit(model.value + add, 1),
            ),
            Step::Replace(value) => ((calls.replace)(&entity, value), model.commit(value, 1)),
            Step::TryUpdate(add) => (
                entity.try_update(|n| Ok(Some(n + add))).judged(),
                model.commit(model.value + add, 1),
            ),
            Step::NoChange => (
                entity.try_update(|_| Ok(None)).judged(),
                Outcome::Unchanged(model.stamp),
            ),
            Step::Refuse => (entity.try_update(|_| Err(())).judged(), Outcome::Refused),
            Step::CommitOnStamp(which, value) => {
                let base = kept[which % kept.len()].2;
                let expected = if base == model.stamp {
                    model.commit(value, 1)
                } else {
                    model.conflict(value)
                };
                assert_eq!(
                    entity.has_conflict(base),
                    matches!(expected, Outcome::Conflict { .. }),
                    "{description}"
                );
                (entity.try_commit(base, value).judged(), expected)
            }
            Step::CommitOnSnapshot(which, value) => {
                let (base, _, stamp) = &kept[which % kept.len()];
                // A value that is invalid and late may be refused for either.
                let value = value.max(0);
                let expected = if *stamp == model.stamp {
                    model.commit(value, 1)
                } else {
                    model.conflict(value)
                };
                (entity.try_commit_on(base, value).judged(), expected)
            }
            Step::MergeOrAdd(which, value) => {
                let (base, base_value, stamp) = &kept[which % kept.len()];
                let mine = value.max(0);
                let expected = if *stamp == model.stamp {
                    model.commit(mine, 1)
                } else {
                    model.commit_or_give_back(model.value + mine - base_value, mine, 2)
                };
                let merged = entity.commit_or_merge(base, mine, |merge| {
                    Some(merge.theirs + merge.mine - merge.base)
                });
                (merged.judged(), expected)
            }
            Step::MergeOrFail(which, value) => {
                let (base, _, stamp) = &kept[which % kept.len()];
                let mine = value.max(0);
                let expected = if *stamp == model.stamp {
                    model.commit(mine, 1)
                } else {
                    model.conflict(mine)
                };
                (
                    entity.commit_or_merge(base, mine, |_| None).judged(),
                    expected,
                )
            }
            Step::Keep => {
                kept.push((entity.snapshot(), model.value, model.stamp));
                continue;
            }
            Step::Forget(which) => {
                if kept.len() > 1 {
                    kept.swap_remove(which % kept.len());
                }
                continue;
            }
            Step::SetClock(nanos) => {
                clock.set(Duration::from_nanos(nanos));
                model.clock = nanos;
                continue;
            }
            Step::OtherHandle => {
                entity = entity.clone();
                continue;
            }
            Step::Look => {
                assert_eq!(
                    reader.is_stale(),
                    reader.stamp() != model.stamp,
                    "{description}"
                );
                assert_eq!((**reader.get(), reader.stamp()), (model.value, model.stamp));
                continue;
            }
            Step::Reclaim => {
                snapcell::reclaim();
                continue;
            }
        };
        assert_eq!(outcome, expected, "{description}");
        let now = entity.snapshot();
        assert_eq!(
            (*now, now.stamp()),
            (model.value, model.stamp),
            "after {description}"
        );
        assert_eq!(entity.read(|n| *n), model.value);
    }
    for (snapshot, value, stamp) in &kept {
        assert_eq!((**snapshot, snapshot.stamp()), (*value, *stamp));
    }
    drop(reader);
    let held = kept.iter().any(|(_, _, stamp)| *stamp == model.stamp);
    match entity.into_inner() {
        Ok(value) => assert!(!held && value == model.value),
        Err(snapshot) => assert!(held && snapshot.stamp() == model.stamp),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Failures are reported, not written beside the tests.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_program_does_what_a_value_and_a_counter_do(program in steps()) {
        alone(|| {
        let clock = ManualClock::new();
        let entity = Entity::builder(5).clock(Clock::manual(&clock)).build();
        let model = Model { value: 5, stamp: Stamp::default(), clock: 0, least: None };
        run(program, entity, &clock, model, &PLAIN);
        });
    }

    #[test]
    fn any_program_does_what_a_checked_value_and_a_counter_do(program in steps()) {
        alone(|| {
        let clock = ManualClock::new();
        let entity = Entity::builder(5)
            .clock(Clock::manual(&clock))
            .validate(|n| if *n < 0 { Err(too_little(*n)) } else { Ok(()) })
            .try_build()
            .unwrap();
        let model = Model { value: 5, stamp: Stamp::default(), clock: 0, least: Some(0) };
        run(program, entity, &clock, model, &VALIDATED);
        });
    }
}

#[test]
fn a_comparison_that_fails_is_noticed() {
    alone(|| {
        // The model itself is put to the test: a program that it gets wrong must not pass.
        let clock = ManualClock::new();
        let entity = Entity::builder(5).clock(Clock::manual(&clock)).build();
        let model = Model {
            value: 6,
            stamp: Stamp::default(),
            clock: 0,
            least: None,
        };
        let message = panic_of(|| run(vec![Step::Update(1)], entity, &clock, model, &PLAIN));
        assert!(message.contains("Update(1) at 0@0"), "{message}");
    });
}

// Changes in place.

#[test]
fn modify_changes_a_clone_and_commits_it() {
    alone(|| {
        let entity = Entity::new(vec![1, 2, 3]);
        let before = entity.snapshot();
        let committed = entity.modify(|v| v[1] = 20);
        assert_eq!(committed.stamp().version(), 1);
        assert_eq!(**committed.current(), [1, 20, 3]);
        assert_eq!(**committed.previous(), [1, 2, 3]);
        drop(committed);
        assert_eq!(*before, [1, 2, 3], "a snapshot never changes");
    });
}

#[test]
fn a_modify_that_panics_leaves_things_as_they_were() {
    alone(|| {
        let entity = Entity::new(vec![1]);
        let panic = panic_of(|| {
            entity.modify(|v| {
                v.push(2);
                panic!("half way");
            });
        });
        assert_eq!(panic, "half way");
        assert_eq!(*entity.snapshot(), [1]);
        assert_eq!(entity.snapshot().stamp().version(), 0);
        assert_eq!(entity.modify(|v| v.push(3)).attempts(), 1);
    });
}

#[test]
fn try_modify_may_refuse_or_leave_things_as_they_are() {
    alone(|| {
        let entity = Entity::new(7_u32);
        let unchanged = entity.try_modify(|n| {
            *n = 8;
            Ok::<_, &str>(false)
        });
        assert!(!unchanged.unwrap().is_committed());
        let refused = entity.try_modify(|n| {
            *n = 9;
            Err("no")
        });
        assert!(matches!(refused, Err(UpdateError::Refused("no"))));
        assert_eq!(
            (*entity.snapshot(), entity.snapshot().stamp().version()),
            (7, 0)
        );
    });
}

#[test]
fn try_modify_asks_the_validator() {
    alone(|| {
        let even = Entity::builder(2_u32)
            .validate(|n| {
                if n.is_multiple_of(2) {
                    Ok(())
                } else {
                    Err("odd")
                }
            })
            .try_build()
            .unwrap();
        let by = |amount| {
            even.try_modify(|n| {
                *n += amount;
                Ok::<_, Infallible>(true)
            })
        };
        assert!(by(2).unwrap().is_committed());
        match by(1) {
            Err(UpdateError::Invalid { proposed, error }) => {
                assert_eq!((proposed, error), (5, "odd"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(*even.snapshot(), 4);
    });
}

#[test]
fn no_modify_is_lost_among_threads() {
    alone(|| {
        let entity = Entity::new([0_u64; 32]);
        together(4, |thread| {
            (0..1000).for_each(|_| drop(entity.modify(|v| v[thread] += 1)))
        });
        let end = entity.snapshot();
        assert_eq!(end[..4], [1000; 4]);
        assert_eq!(end.stamp().version(), 4000);
    });
}
