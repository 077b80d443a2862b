//! What an entity was: its history has no holes, shows one moment, and keeps what it was told to keep.

#[path = "support/bomb.rs"]
#[allow(dead_code, reason = "this test needs little of what others share")]
mod bomb;
#[path = "support/planned.rs"]
#[allow(dead_code, reason = "this test needs little of what others share")]
mod planned;
#[allow(dead_code, reason = "this test needs little of what others share")]
mod support;

use bomb::{Bomb, caught_in};
use planned::silence_what_is_planned;
use proptest::prelude::*;
use snapcell::{
    Changes, Clock, Entity, History, ManualClock, Missing, Retain, Retry, Snapshot, Stamp,
    snapshot_as_of, snapshot_of, transaction, try_transaction,
};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use support::{Tally, alone, elsewhere, together};

/// An entity with times that can be told in advance.
fn logical<T: Send + Sync + 'static>(value: T, retain: Retain) -> Entity<T> {
    Entity::builder(value)
        .clock(Clock::logical())
        .retain(retain)
        .build()
}

fn values<T: Copy>(history: History<T>) -> Vec<T> {
    history.map(|snapshot| *snapshot).collect()
}

fn versions<T>(history: History<T>) -> Vec<u64> {
    history.map(|snapshot| snapshot.stamp().version()).collect()
}

#[test]
fn an_entity_keeps_the_current_snapshot_only_unless_it_is_told_otherwise() {
    alone(|| {
        let plain = Entity::new(0_u64);
        let latest = logical(0, Retain::Latest);
        let one = logical(0, Retain::last(1));
        let default = Entity::builder(0_u64).build();
        for entity in [&plain, &latest, &one, &default] {
            assert_eq!(entity.retain(), Retain::Latest);
            assert_eq!(values(entity.history()), [0]);
            entity.replace(1);
            transaction(|tx| tx.update(entity, |n| n + 1));
            assert_eq!(values(entity.history()), [2]);
            assert_eq!(entity.history().len(), 1);
            assert_eq!(entity.at(2).map(|s| *s), Some(2));
            assert!([0, 1, 3, u64::MAX].iter().all(|&v| entity.at(v).is_none()));
            assert!(Snapshot::ptr_eq(
                &entity.as_of(u64::MAX).unwrap(),
                &entity.snapshot()
            ));
        }
        assert_eq!(Retain::default(), Retain::Latest);
    });
}

#[test]
fn an_entity_that_keeps_all_shows_all() {
    alone(|| {
        let entity = logical(0_u64, Retain::All);
        assert_eq!(entity.retain(), Retain::All);
        for n in 1..=1_000 {
            let before = entity.snapshot();
            entity.replace(n);
            let known = entity.at(n - 1).unwrap();
            assert!(Snapshot::ptr_eq(&before, &known), "the very snapshot");
            assert_eq!(entity.history().len() as u64, n + 1);
        }
        assert_eq!(values(entity.history()), (0..=1_000).collect::<Vec<_>>());
        assert_eq!(versions(entity.history()), (0..=1_000).collect::<Vec<_>>());
        let backwards: Vec<_> = entity.history().rev().map(|s| *s).collect();
        assert_eq!(backwards, (0..=1_000).rev().collect::<Vec<_>>());
        assert!((0..=1_000).all(|v| *entity.at(v).unwrap() == v));
        assert!(entity.at(1_001).is_none() && entity.at(u64::MAX).is_none());
    });
}

#[test]
fn an_entity_that_keeps_so_many_shows_exactly_so_many() {
    alone(|| {
        for number in (1..=40).chain([100, 1_000]) {
            let entity = logical(0_u64, Retain::last(number));
            let number = number as u64;
            for n in 0..300_u64 {
                let first = (n + 1).saturating_sub(number);
                assert_eq!(values(entity.history()), (first..=n).collect::<Vec<_>>());
                for version in n.saturating_sub(number + 20)..n + 2 {
                    let found = entity.at(version).map(|s| *s);
                    let is_there = (first..=n).contains(&version);
                    assert_eq!(found, is_there.then_some(version), "{version} of {number}");
                    let then = entity.as_of(version).map(|s| *s);
                    let expected = match version {
                        _ if version > n => Ok(n),
                        _ if is_there => Ok(version),
                        _ => Err(Missing::Forgotten),
                    };
                    assert_eq!(then, expected);
                }
                entity.replace(n + 1);
            }
        }
    });
}

#[test]
#[should_panic(expected = "the current snapshot is always kept")]
fn nobody_keeps_none() {
    let _ = Retain::last(0);
}

#[test]
fn a_history_is_gone_through_from_both_ends_and_knows_how_much_is_left() {
    alone(|| {
        let entity = logical(0_u64, Retain::All);
        (1..=9).for_each(|n| drop(entity.replace(n)));
        let history = entity.history();
        assert_eq!(history.len(), 10);
        assert_eq!(history.clone().count(), 10);
        assert_eq!(history.clone().last().map(|s| *s), Some(9));
        for n in 0..12 {
            let expected = (n < 10).then_some(n as u64);
            assert_eq!(history.clone().nth(n).map(|s| *s), expected);
            let expected = expected.map(|n| 9 - n);
            assert_eq!(history.clone().nth_back(n).map(|s| *s), expected);
            let mut rest = history.clone();
            rest.nth(n);
            assert_eq!(rest.len(), 9_usize.saturating_sub(n));
            let mut rest = history.clone();
            rest.nth_back(n);
            assert_eq!(rest.len(), 9_usize.saturating_sub(n));
            assert_eq!(rest.last().map(|s| *s), 8_u64.checked_sub(n as u64));
        }
        let mut ends = history.clone();
        let mut seen = Vec::new();
        while let Some(first) = ends.next() {
            seen.push(*first);
            seen.extend(ends.next_back().map(|s| *s));
        }
        assert_eq!(seen, [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]);
        assert!(ends.next().is_none() && ends.next_back().is_none());
        assert_eq!(format!("{history:?}"), "History { len: 10, .. }");
    });
}

#[test]
fn a_history_stays_what_it_was() {
    alone(|| {
        for retain in [Retain::All, Retain::last(3)] {
            let entity = logical(0_u64, retain);
            (1..=5).for_each(|n| drop(entity.replace(n)));
            let history = entity.history();
            (6..=200).for_each(|n| drop(entity.replace(n)));
            drop(entity);
            let first = if retain == Retain::All { 0 } else { 3 };
            assert_eq!(values(history), (first..=5).collect::<Vec<_>>());
        }
    });
}

#[test]
fn an_entity_that_is_born_late_has_no_earlier_versions() {
    alone(|| {
        for retain in [Retain::All, Retain::last(4), Retain::last(100)] {
            let entity = Entity::builder(7_u64)
                .clock(Clock::logical())
                .born(Stamp::new(7, 70))
                .retain(retain)
                .build();
            assert_eq!(versions(entity.history()), [7]);
            assert_eq!(entity.at(7).map(|s| *s), Some(7));
            for n in 8..=30_u64 {
                entity.replace(n);
                let first = if retain == Retain::last(4) { n - 3 } else { 7 };
                let first = first.max(7);
                assert_eq!(values(entity.history()), (first..=n).collect::<Vec<_>>());
                assert!((0..first).all(|version| entity.at(version).is_none()));
            }
            assert_eq!(entity.as_of(0).unwrap_err(), Missing::Forgotten);
        }
    });
}

#[test]
fn what_an_unborn_entity_begins_with_is_no_part_of_its_history() {
    alone(|| {
        let unborn = Stamp::new(u64::MAX, u64::MAX);
        let entity = Entity::builder(99_u64)
            .clock(Clock::logical())
            .born(unborn)
            .retain(Retain::All)
            .build();
        assert_eq!(entity.history().len(), 0);
        assert!(entity.history().next().is_none() && entity.history().next_back().is_none());
        assert!(entity.at(0).is_none() && entity.at(u64::MAX).is_none());
        assert_eq!(entity.as_of(u64::MAX).unwrap_err(), Missing::Unborn);
        let other = logical(0, Retain::All);
        let both = snapshot_as_of((&entity, &other), u64::MAX);
        assert_eq!(both.unwrap_err(), Missing::Unborn);
        // By a transaction, which is one of the ways.
        transaction(|tx| {
            tx.write(&entity, 0);
            tx.update(&other, |n| n + 1)
        });
        assert_eq!(versions(entity.history()), [0]);
        (1..=20).for_each(|n| drop(entity.replace(n)));
        assert_eq!(values(entity.history()), (0..=20).collect::<Vec<_>>());
        assert!(entity.at(u64::MAX).is_none());
        let born = entity.at(0).unwrap().stamp().time();
        assert_eq!(entity.as_of(born).map(|s| *s), Ok(0));
        assert_eq!(entity.as_of(born - 1).unwrap_err(), Missing::Unborn);
    });
}

#[test]
fn an_entity_at_its_last_version_has_a_history() {
    alone(|| {
        let entity = Entity::builder(0_u64)
            .clock(Clock::logical())
            .born(Stamp::new(u64::MAX - 3, 0))
            .retain(Retain::All)
            .build();
        (1..=3).for_each(|n| drop(entity.replace(n)));
        assert!(entity.try_replace(4).is_err());
        assert!(try_transaction(Changes::new().replace(&entity, 4)).is_err());
        assert_eq!(values(entity.history()), [0, 1, 2, 3]);
        assert_eq!(entity.at(u64::MAX).map(|s| *s), Some(3));
        assert_eq!(entity.at(u64::MAX - 1).map(|s| *s), Some(2));
    });
}

/// One after the other; what each leaves is one more than what was there.
#[test]
fn every_kind_of_commit_records_what_it_replaces() {
    alone(|| {
        let other = logical(0_u64, Retain::Latest);
        type Way<'a> = &'a dyn Fn(&Entity<u64>, &Entity<u64>);
        let ways: [Way<'_>; 15] = [
            &|e, _| drop(e.replace(*e.snapshot() + 1)),
            &|e, _| drop(e.try_replace(*e.snapshot() + 1)),
            &|e, _| drop(e.try_commit(e.snapshot().stamp(), *e.snapshot() + 1)),
            &|e, _| drop(e.try_commit_on(&e.snapshot(), *e.snapshot() + 1)),
            &|e, _| drop(e.commit_or_merge(&e.snapshot(), *e.snapshot() + 1, |_| None)),
            &|e, _| {
                let base = e.snapshot();
                e.replace(*base + 1);
                drop(e.commit_or_merge(&base, 0, |merge| Some(merge.theirs + 1)));
            },
            &|e, _| drop(e.update(|n| n + 1)),
            &|e, _| drop(e.update_with(Retry::at_most(0), |n| n + 1)),
            &|e, _| drop(e.try_update(|n| Ok::<_, ()>(Some(n + 1)))),
            &|e, _| drop(e.modify(|n| *n += 1)),
            &|e, _| {
                let done = e.try_modify(|n| {
                    *n += 1;
                    Ok::<_, ()>(true)
                });
                drop(done);
            },
            &|e, _| transaction(|tx| tx.update(e, |n| n + 1)),
            &|e, other| {
                transaction(|tx| {
                    tx.fold(e, |n| n + 1);
                    tx.update(other, |n| n + 1)
                });
            },
            &|e, other| {
                transaction(|tx| {
                    let now = tx.get(e)?;
                    tx.write(e, now + 1);
                    tx.write(other, now);
                    Ok(())
                });
            },
            &|e, other| {
                let changes = Changes::new()
                    .replace(e, *e.snapshot() + 1)
                    .replace(other, 0);
                assert!(try_transaction(changes).is_ok());
            },
        ];
        // Each of them first, so that none relies on what another one has recorded.
        for first in 0..ways.len() {
            let entity = logical(0, Retain::All);
            for round in 0..3 {
                ways[(first + round) % ways.len()](&entity, &other);
            }
            let last = *entity.snapshot();
            assert!((3..=4).contains(&last));
            assert_eq!(
                values(entity.history()),
                (0..=last).collect::<Vec<_>>(),
                "from way {first} on"
            );
        }
    });
}

#[test]
fn what_is_refused_or_aborted_leaves_nothing_in_the_history() {
    alone(|| {
        let entity = Entity::builder(1_i64)
            .clock(Clock::logical())
            .retain(Retain::All)
            .validate(|n| if *n > 0 { Ok(()) } else { Err("none") })
            .try_build()
            .unwrap();
        let base = entity.snapshot();
        assert!(entity.try_replace(-1).is_err());
        assert!(entity.try_replace(2).is_ok());
        assert!(entity.try_commit_on(&base, 3).is_err());
        assert!(entity.try_update(|_| Err::<Option<i64>, _>("no")).is_err());
        assert!(
            !entity
                .try_update(|_| Ok::<_, ()>(None))
                .unwrap()
                .is_committed()
        );
        assert_eq!(values(entity.history()), [1, 2]);
        // Looked at only, and with a node that stands for the current one at its head.
        let other = logical(0_i64, Retain::All);
        transaction(|tx| {
            let n = tx.get(&entity)?;
            tx.write(&other, n);
            Ok(())
        });
        assert_eq!(values(entity.history()), [1, 2]);
        assert!(entity.try_replace(5).is_ok());
        assert_eq!(values(entity.history()), [1, 2, 5]);
        assert_eq!(values(other.history()), [0, 2]);
    });
}

#[test]
fn a_range_of_stamps_is_cut_at_both_ends() {
    alone(|| {
        let entity = logical(0_u64, Retain::All);
        (1..=9).for_each(|n| drop(entity.replace(n)));
        let stamp = |n| Stamp::new(n, n);
        let all = || (0..=9_u64).map(stamp).collect::<Vec<_>>();
        let odd = [Stamp::new(4, 0), Stamp::new(4, 9), Stamp::new(20, 0)];
        let bounds: Vec<_> = all().into_iter().chain(odd).collect();
        for &a in &bounds {
            for &b in &bounds {
                for start in [Included(a), Excluded(a), Unbounded] {
                    for end in [Included(b), Excluded(b), Unbounded] {
                        let is_in = |stamp: &Stamp| {
                            (match start {
                                Included(a) => *stamp >= a,
                                Excluded(a) => *stamp > a,
                                Unbounded => true,
                            }) && (match end {
                                Included(b) => *stamp <= b,
                                Excluded(b) => *stamp < b,
                                Unbounded => true,
                            })
                        };
                        let found: Vec<_> =
                            entity.between((start, end)).map(|s| s.stamp()).collect();
                        let expected: Vec<_> = all().into_iter().filter(is_in).collect();
                        assert_eq!(found, expected, "{start:?} {end:?}");
                    }
                }
            }
        }
        assert_eq!(values(entity.between(stamp(2)..stamp(4))), [2, 3]);
        assert_eq!(values(entity.between(..)).len(), 10);
    });
}

#[test]
fn what_was_current_at_a_time_is_the_latest_that_is_not_later() {
    alone(|| {
        let clock = ManualClock::new();
        let at = |ns| clock.set(Duration::from_nanos(ns));
        at(5);
        let entity = Entity::builder('a')
            .clock(Clock::manual(&clock))
            .retain(Retain::All)
            .build();
        at(10);
        entity.replace('b');
        entity.replace('c');
        at(20);
        entity.replace('d');
        let found = [0, 4, 5, 9, 10, 19, 20, u64::MAX].map(|t| entity.as_of(t).map(|s| *s));
        let none = Missing::Unborn;
        let some = ['a', 'a', 'c', 'c', 'd', 'd'].map(Ok);
        assert_eq!(found[..2], [Err(none); 2]);
        assert_eq!(found[2..], some);
        assert_eq!(none.to_string(), "the entity was not born then");
    });
}

#[test]
fn several_entities_at_a_time_are_given_as_tuples_or_slices() {
    alone(|| {
        let clock = ManualClock::new();
        let built = |retain| {
            Entity::builder(0_u64)
                .clock(Clock::manual(&clock))
                .retain(retain)
                .build()
        };
        let entities = [
            built(Retain::All),
            built(Retain::All),
            built(Retain::last(2)),
        ];
        let [a, b, c] = &entities;
        for n in 1..=4 {
            clock.set(Duration::from_nanos(n * 10));
            transaction(|tx| {
                tx.write(a, n);
                tx.write(c, n);
                Ok(())
            });
            b.replace(100 + n);
        }
        let (x, y) = snapshot_as_of((a, b), 25).unwrap();
        assert_eq!((*x, *y), (2, 102));
        let (x, y) = snapshot_as_of((a, b), 9).unwrap();
        assert_eq!((*x, *y), (0, 0));
        let all = snapshot_as_of(&entities[..], 30).unwrap();
        assert_eq!(all.iter().map(|s| **s).collect::<Vec<_>>(), [3, 103, 3]);
        let refs = [a, c];
        assert_eq!(
            snapshot_as_of(&refs[..], 29).unwrap_err(),
            Missing::Forgotten
        );
        let same = snapshot_as_of((a, a), 20).unwrap();
        assert!(Snapshot::ptr_eq(&same.0, &same.1));
    });
}

#[test]
fn values_end_once_with_the_entity_or_when_they_are_let_go() {
    alone(|| {
        let tally = Tally::default();
        let entity = logical(tally.token(), Retain::All);
        (1..500).for_each(|_| drop(entity.replace(tally.token())));
        snapcell::reclaim();
        assert_eq!(tally.alive().len(), 500, "all are kept");
        let kept = entity.at(3);
        drop(entity);
        snapcell::reclaim();
        assert_eq!(tally.alive(), [3]);
        drop(kept);
        tally.assert_all_dropped_once(500);

        for number in [1, 2, 3, 10, 100] {
            let tally = Tally::default();
            let entity = logical(tally.token(), Retain::last(number));
            for _ in 1..2_000 {
                entity.replace(tally.token());
            }
            snapcell::reclaim();
            let alive = tally.alive().len();
            let bound = number * 2 + 16;
            assert!((number..=bound).contains(&alive), "{alive} of {number}");
            drop(entity);
            snapcell::reclaim();
            tally.assert_all_dropped_once(2_000);
        }
    });
}

#[test]
fn a_million_versions_end_without_a_word() {
    alone(|| {
        // On a small stack, with values that need a destructor and values that hold their predecessors.
        struct Link {
            _before: Option<Snapshot<Link>>,
        }
        let number = if cfg!(snapcell_sanitize) {
            20_000
        } else {
            1_000_000
        };
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        let body = move || {
            let entity = logical(Box::new(0_u64), Retain::All);
            (1..number).for_each(|n| drop(entity.replace(Box::new(n))));
            assert_eq!(entity.history().len() as u64, number);
            drop(entity);
            let entity = logical(Link { _before: None }, Retain::All);
            for _ in 1..number {
                let before = entity.snapshot();
                entity.replace(Link {
                    _before: Some(before),
                });
            }
            drop(entity);
        };
        thread.spawn(body).unwrap().join().unwrap();
    });
}

#[test]
fn a_destructor_that_panics_keeps_nothing_alive() {
    silence_what_is_planned();
    alone(|| {
        let tally = Tally::default();
        let panics = caught_in(|| {
            let entity = logical(Bomb::dud(&tally), Retain::All);
            for n in 1..100 {
                let bomb = if n % 3 == 0 {
                    Bomb::armed(&tally)
                } else {
                    Bomb::dud(&tally)
                };
                entity.replace(bomb);
            }
            drop(entity);
            snapcell::reclaim();
        });
        assert_eq!(panics, 33);
        tally.assert_all_dropped_once(100);
    });
}

#[test]
fn the_value_may_be_taken_out_of_an_entity_with_a_history() {
    alone(|| {
        let entity = logical(0_u64, Retain::All);
        (1..=20).for_each(|n| drop(entity.replace(n)));
        assert_eq!(entity.into_inner().unwrap(), 20);
    });
}

// Real threads.

/// What everybody checks of each history that he sees.
fn check(history: History<u64>, most: Option<usize>) -> u64 {
    let promised = history.len();
    let snapshots: Vec<_> = history.collect();
    assert_eq!(snapshots.len(), promised);
    for pair in snapshots.windows(2) {
        let [before, after] = [pair[0].stamp(), pair[1].stamp()];
        assert_eq!(after.version(), before.version() + 1, "without a gap");
        assert!(after.time() >= before.time(), "in the order of time");
        assert_eq!(*pair[1], *pair[0] + 1, "each follows from the one before");
    }
    let last = snapshots.last().expect("there is always one").stamp();
    let all = last.version() as usize + 1;
    assert_eq!(snapshots.len(), most.map_or(all, |most| most.min(all)));
    last.version()
}

fn race(retain: Retain, most: Option<usize>, each: u64) {
    let entities = [0_u64; 2].map(|n| logical(n, retain));
    let [entity, other] = &entities;
    let done = AtomicBool::new(false);
    let looks = AtomicU64::new(0);
    let writing = AtomicU64::new(4);
    let all_are_there = Barrier::new(6);
    together(6, |number| {
        all_are_there.wait();
        if number < 4 {
            for n in 0..each {
                match (number + n as usize) % 4 {
                    0 => drop(entity.update(|n| n + 1)),
                    1 => transaction(|tx| {
                        tx.update(entity, |n| n + 1)?;
                        tx.update(other, |n| n + 1)
                    }),
                    2 => transaction(|tx| {
                        tx.fold(entity, |n| n + 1);
                        tx.get(other).map(drop)
                    }),
                    _ => loop {
                        let base = entity.snapshot();
                        if entity.try_commit_on(&base, *base + 1).is_ok() {
                            break;
                        }
                    },
                }
            }
            if writing.fetch_sub(1, SeqCst) == 1 {
                done.store(true, SeqCst);
            }
            return;
        }
        let mut newest = 0;
        loop {
            let was_done = done.load(SeqCst);
            let seen = check(entity.history(), most);
            assert!(seen >= newest, "a reader never sees an older history");
            newest = seen;
            let current = entity.snapshot();
            let version = current.stamp().version();
            if let Some(found) = entity.at(version) {
                assert!(Snapshot::ptr_eq(&found, &current));
            } else {
                let now = entity.snapshot().stamp().version();
                assert!(most.is_some_and(|most| now >= version + most as u64));
            }
            for back in [1, 2, 7] {
                if most.is_none() && version >= back {
                    let found = entity.at(version - back).expect("all are kept");
                    assert_eq!(*found, version - back);
                }
            }
            looks.fetch_add(1, SeqCst);
            if was_done {
                break;
            }
        }
    });
    let last = check(entity.history(), most);
    assert_eq!(last, 4 * each, "each commit is there, once");
    assert_eq!(*entity.snapshot(), 4 * each);
    check(other.history(), most);
    assert!(looks.load(SeqCst) > 0, "nobody looked");
}

#[test]
fn histories_have_no_gaps_while_four_threads_commit() {
    let each = if cfg!(snapcell_sanitize) { 100 } else { 1_500 };
    alone(|| race(Retain::All, None, each));
    alone(|| race(Retain::last(2), Some(2), each));
    alone(|| race(Retain::last(5), Some(5), 4 * each));
    alone(|| race(Retain::last(100), Some(100), each));
}

#[test]
fn whatever_time_is_asked_for_no_money_is_under_way() {
    alone(|| {
        const EACH: u64 = 3_000;
        let account = || Entity::builder(1_000_i64).retain(Retain::All).build();
        let accounts = [account(), account(), account()];
        let (writing, cuts) = (AtomicU64::new(2), AtomicU64::new(0));
        let all_are_there = Barrier::new(4);
        together(4, |number| {
            all_are_there.wait();
            if number < 2 {
                for n in 0..EACH as usize {
                    let from = &accounts[(n + number) % 3];
                    let to = &accounts[(n + 2 * number + 1) % 3];
                    transaction(|tx| {
                        tx.update(from, |b| b - 7)?;
                        tx.update(to, |b| b + 7)
                    });
                }
                writing.fetch_sub(1, SeqCst);
                return;
            }
            let mut random = fastrand::Rng::with_seed(number as u64);
            loop {
                let was_done = writing.load(SeqCst) == 0;
                let [first, last] = [0, u64::MAX].map(|at| {
                    let all = accounts.each_ref().map(|a| match at {
                        0 => a.at(0).expect("all are kept").stamp().time(),
                        _ => a.snapshot().stamp().time(),
                    });
                    all.into_iter().max().expect("there are three")
                });
                let time = random.u64(first..=last.max(first));
                let [a, b, c] = &accounts;
                let (x, y, z) = snapshot_as_of((a, b, c), time).expect("all were born");
                assert_eq!(*x + *y + *z, 3_000, "at {time}");
                assert!([&x, &y, &z].iter().all(|s| s.stamp().time() <= time));
                cuts.fetch_add(1, SeqCst);
                if was_done {
                    break;
                }
            }
        });
        assert!(cuts.load(SeqCst) > 10, "nobody looked");
        let all = snapshot_of(&accounts[..]);
        assert_eq!(all.iter().map(|s| **s).sum::<i64>(), 3_000);
    });
}

#[test]
fn a_thread_that_ends_in_the_midst_leaves_no_hole() {
    alone(|| {
        let entity = logical(0_u64, Retain::All);
        for n in 0..50 {
            // Computes, and never commits: others have to record for themselves.
            elsewhere(|| {
                let left = entity.try_update(|_| Err::<Option<u64>, _>("gone"));
                assert!(left.is_err());
                transaction(|tx| tx.get(&entity)).min(n)
            });
            elsewhere(|| entity.update(|n| n + 1).stamp());
        }
        check(entity.history(), None);
    });
}

// Random programs.

#[derive(Clone, Debug)]
enum Step {
    Replace(u64),
    Write(u64),
    Together(u64),
    Advance(u64),
    Refuse,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u64>().prop_map(Step::Replace),
        2 => any::<u64>().prop_map(Step::Write),
        2 => any::<u64>().prop_map(Step::Together),
        3 => (0..5_u64).prop_map(Step::Advance),
        1 => Just(Step::Refuse),
    ]
}

fn any_retain() -> impl Strategy<Value = Retain> {
    prop_oneof![
        Just(Retain::Latest),
        Just(Retain::All),
        (1..30_usize).prop_map(Retain::last),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_history_is_the_end_of_a_list(
        retain in any_retain(),
        born in prop_oneof![Just(None), Just(Some((u64::MAX, u64::MAX))), (0..50_u64, 0..9_u64).prop_map(Some)],
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        alone(|| run(retain, born, steps));
    }
}

/// Makes a program, and compares after each step.
fn run(retain: Retain, born: Option<(u64, u64)>, steps: Vec<Step>) {
    let clock = ManualClock::new();
    let mut builder = Entity::builder(0)
        .clock(Clock::manual(&clock))
        .retain(retain);
    if let Some((version, time)) = born {
        builder = builder.born(Stamp::new(version, time));
    }
    let entity = builder.build();
    let other = logical(0, Retain::All);
    let mut oracle: Vec<(Stamp, u64)> = Vec::new();
    if born != Some((u64::MAX, u64::MAX)) {
        oracle.push((entity.snapshot().stamp(), 0));
    }
    let number = match retain {
        Retain::Latest => 1,
        Retain::Last(number) => number.get(),
        Retain::All => usize::MAX,
    };
    for step in steps {
        let stamp = match step {
            Step::Replace(n) => Some((entity.replace(n).stamp(), n)),
            Step::Write(n) => {
                transaction(|tx| {
                    tx.write(&entity, n);
                    Ok(())
                });
                Some((entity.snapshot().stamp(), n))
            }
            Step::Together(n) => {
                transaction(|tx| {
                    tx.write(&entity, n);
                    tx.update(&other, |n| n + 1)
                });
                Some((entity.snapshot().stamp(), n))
            }
            Step::Advance(by) => {
                clock.advance(Duration::from_nanos(by));
                None
            }
            Step::Refuse => {
                assert!(entity.try_update(|_| Err::<Option<u64>, _>(())).is_err());
                None
            }
        };
        oracle.extend(stamp);
        let from = oracle.len().saturating_sub(number);
        let kept = &oracle[from..];
        let shown: Vec<_> = entity.history().map(|s| (s.stamp(), *s)).collect();
        assert_eq!(&shown[..], kept);
        for time in 0..clock.now() + 2 {
            let expected = kept.iter().rev().find(|(stamp, _)| stamp.time() <= time);
            let found = entity.as_of(time).ok().map(|s| (s.stamp(), *s));
            assert_eq!(found, expected.copied());
        }
    }
    for (stamp, value) in &oracle {
        let from = oracle.len().saturating_sub(number);
        let is_kept = oracle[from..].contains(&(*stamp, *value));
        assert_eq!(
            entity.at(stamp.version()).map(|s| *s),
            is_kept.then_some(*value)
        );
    }
}
