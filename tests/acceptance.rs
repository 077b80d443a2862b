//! Acceptance: behaviour that the reference documents, promises or breaks, by the numbers of its cases,
//! as far as one entity carries it. The reference's *fork* of a node is a commit here, its ids are
//! (entity, version), and its lineage is the order of commits.

#[path = "support/together.rs"]
mod together;

use snapcell::{
    Clock, Committed, Entity, ManualClock, Retry, Snapshot, Stamp, UpdateError, Updated,
};
use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use together::together;

/// One successful commit, as its committer saw it.
#[derive(Clone, Copy, Debug)]
struct Record {
    followed: Stamp,
    stamp: Stamp,
    attempts: u32,
}

impl Record {
    fn of<T>(committed: &Committed<'_, T>) -> Self {
        Record {
            followed: committed.previous().stamp(),
            stamp: committed.stamp(),
            attempts: committed.attempts(),
        }
    }
}

/// What a concurrent run is worth as evidence.
#[derive(Debug, PartialEq)]
enum Evidence {
    /// So many conflicts were met, and the laws held all the same.
    Validated { conflicts: u32 },
    /// Nobody got into anybody's way.
    NoConflict,
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

/// Checks that these are all commits of an entity, in one line from its birth to its end.
fn judge(records: &[Record], born: Stamp, end: Stamp) -> Evidence {
    let mut line = records.to_vec();
    line.sort_by_key(|record| record.stamp);
    let mut last = born;
    for record in &line {
        assert_eq!(record.followed, last, "the lineage is the order of commits");
        assert_eq!(record.stamp.version(), last.version() + 1);
        assert!(record.stamp.time() >= last.time());
        last = record.stamp;
    }
    assert_eq!(last, end, "nothing came after the last one");
    match line.iter().map(|record| record.attempts - 1).sum() {
        0 => Evidence::NoConflict,
        conflicts => Evidence::Validated { conflicts },
    }
}

#[test]
fn case_2_n_changes_make_version_n_and_no_two_states_look_alike() {
    let clock = ManualClock::new();
    let entity = Entity::builder(0).clock(Clock::manual(&clock)).build();
    let mut states = vec![entity.snapshot()];
    for n in 1..=100_u64 {
        // The clock stands still, goes on, and goes back.
        clock.set(Duration::from_nanos([7, 7, 9, 3][n as usize % 4] * n));
        let before = entity.snapshot();
        let committed = entity.update(|v| v + 1);
        assert_eq!(committed.stamp().version(), n);
        assert!(committed.stamp().time() >= before.stamp().time());
        drop(committed);
        assert!(
            entity.has_conflict(before.stamp()),
            "state against snapshot"
        );
        states.push(entity.snapshot());
    }
    let stamps: HashSet<Stamp> = states.iter().map(Snapshot::stamp).collect();
    assert_eq!(stamps.len(), 101, "each (version, time) differs");

    // In both directions: an entity restored at either state conflicts with the other one.
    for pair in states.windows(2) {
        for (here, there) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let restored = Entity::builder(**here).born(here.stamp()).build();
            assert!(restored.has_conflict(there.stamp()));
            assert!(!restored.has_conflict(here.stamp()));
        }
    }
}

#[test]
fn case_2_two_untouched_copies_do_not_conflict() {
    let entity = Entity::new(0);
    let (one, other) = (entity.snapshot(), entity.snapshot());
    assert_eq!(one.stamp(), other.stamp());
    assert!(!entity.has_conflict(one.stamp()) && !entity.has_conflict(other.stamp()));
    assert!(entity.try_commit_on(&one, 1).is_ok(), "until one is used");
    assert!(entity.has_conflict(other.stamp()));
}

#[test]
fn case_4_every_version_keeps_its_own_value() {
    let entity = Entity::builder(vec![0]).clock(Clock::logical()).build();
    let mut stored = vec![entity.snapshot()];
    let mut records = Vec::new();
    for n in 1..=5 {
        let committed = entity.update(|v| [&v[..], &[n]].concat());
        records.push(Record::of(&committed));
        stored.push(committed.snapshot());
    }
    for (version, snapshot) in stored.iter().enumerate() {
        assert_eq!(**snapshot, (0..=version as i32).collect::<Vec<_>>());
        assert_eq!(snapshot.stamp().version() as usize, version);
    }
    judge(&records, stored[0].stamp(), stored[5].stamp());
}

#[test]
fn case_5_times_two_and_divided_by_two_with_retry_give_both_and_the_first_value() {
    const DOUBLE: fn(&i32) -> i32 = |value| value * 2;
    const HALVE: fn(&i32) -> i32 = |value| value / 2;
    for (first, second, lineage) in [
        (DOUBLE, HALVE, [100, 200, 100]),
        (HALVE, DOUBLE, [100, 50, 100]),
    ] {
        let entity = Entity::new(100);
        let born = entity.snapshot().stamp();
        let both_have_read = Barrier::new(2);
        let first_has_committed = Barrier::new(2);
        let outcomes = together(2, |worker| {
            let change = [first, second][worker];
            let mut attempts = 0;
            let committed = entity.update(|value| {
                attempts += 1;
                if attempts == 1 {
                    assert_eq!(*value, 100, "both read v0");
                    both_have_read.wait();
                    if worker == 1 {
                        first_has_committed.wait();
                    }
                }
                change(value)
            });
            if worker == 0 {
                first_has_committed.wait();
            }
            (Record::of(&committed), *committed.current())
        });
        let end = entity.snapshot();
        assert_eq!([100, outcomes[0].1, outcomes[1].1], lineage);
        assert_eq!((*end, end.stamp().version()), (100, 2), "versions 0, 1, 2");
        let records = [outcomes[0].0, outcomes[1].0];
        assert_eq!(
            judge(&records, born, end.stamp()),
            Evidence::Validated { conflicts: 1 }
        );
    }
}

#[test]
fn case_5_without_retry_the_second_commit_is_refused() {
    let entity = Entity::builder(100).clock(Clock::logical()).build();
    let read = Barrier::new(2);
    let outcomes = together(2, |worker| {
        let seen = entity.snapshot();
        read.wait();
        let proposed = if worker == 0 { *seen * 2 } else { *seen / 2 };
        entity
            .try_commit_on(&seen, proposed)
            .map(|committed| *committed.current())
            .map_err(|conflict| {
                assert!(conflict.is_conflict());
                assert_eq!(conflict.expected(), Stamp::new(0, 0));
                assert_eq!(conflict.current().stamp(), Stamp::new(1, 1));
                assert_eq!(*conflict.proposed(), proposed);
                **conflict.current()
            })
    });
    let end = entity.snapshot();
    assert_eq!(end.stamp().version(), 1, "a lineage of two");
    match outcomes[..] {
        [Ok(200), Err(200)] => assert_eq!(*end, 200),
        [Err(50), Ok(50)] => assert_eq!(*end, 50),
        _ => panic!("{outcomes:?}"),
    }
}

#[test]
fn case_6_versioning_without_change_is_unchanged_and_with_a_change_is_a_new_version() {
    let entity = Entity::builder(5).clock(Clock::logical()).build();
    let before = entity.snapshot();
    let versioned =
        |new: i32| entity.try_update(move |old| Ok::<_, Infallible>((*old != new).then_some(new)));
    match versioned(5).unwrap() {
        Updated::Unchanged(same) => assert!(Snapshot::ptr_eq(&same, &before)),
        committed => panic!("{committed:?}"),
    }
    assert!(Snapshot::ptr_eq(&entity.snapshot(), &before), "the same id");
    match versioned(6).unwrap() {
        Updated::Committed(committed) => assert_eq!(committed.stamp(), Stamp::new(1, 1)),
        unchanged => panic!("{unchanged:?}"),
    }
    assert!(!versioned(6).unwrap().is_committed());
    assert_eq!(entity.snapshot().stamp(), Stamp::new(1, 1));
}

/// Increments that each read, wait until all have read, and write.
fn read_wait_write(entity: &Entity<u64>, amounts: &[u64]) -> Evidence {
    let born = entity.snapshot().stamp();
    let all_have_read = Barrier::new(amounts.len());
    let records = together(amounts.len(), |worker| {
        let mut attempts = 0;
        let committed = entity.update(|value| {
            attempts += 1;
            if attempts == 1 {
                all_have_read.wait();
            }
            value + amounts[worker]
        });
        Record::of(&committed)
    });
    judge(&records, born, entity.snapshot().stamp())
}

#[test]
fn case_29_a_hundred_concurrent_increments_give_a_hundred() {
    let entity = Entity::new(0);
    let evidence = read_wait_write(&entity, &[1; 100]);
    let end = entity.snapshot();
    assert_eq!((*end, end.stamp().version()), (100, 100));
    let Evidence::Validated { conflicts } = evidence else {
        panic!("{evidence}");
    };
    assert!(
        conflicts >= 99,
        "all have read the same value, and one was first"
    );
}

#[test]
fn case_29_different_amounts_add_up() {
    let entity = Entity::new(0);
    let evidence = read_wait_write(&entity, &[100, 200, 300]);
    assert_eq!(*entity.snapshot(), 600);
    assert!(matches!(evidence, Evidence::Validated { conflicts } if conflicts >= 2));
}

#[test]
fn case_29_neighbouring_numbers_of_threads_add_up_as_well() {
    for threads in [2, 3, 7, 33] {
        let entity = Entity::new(0);
        let amounts: Vec<u64> = (1..=threads).collect();
        let evidence = read_wait_write(&entity, &amounts);
        let end = entity.snapshot();
        assert_eq!(*end, threads * (threads + 1) / 2);
        assert_eq!(end.stamp().version(), threads);
        assert_ne!(evidence, Evidence::NoConflict, "{evidence}");
    }
}

#[test]
fn case_29_a_change_from_outside_in_the_window_is_not_lost() {
    let entity = Entity::new(0);
    let born = entity.snapshot().stamp();
    let mut outside = None;
    let committed = entity.update(|value| {
        if outside.is_none() {
            let other = || Record::of(&entity.update(|value| value + 10));
            outside = thread::scope(|scope| scope.spawn(other).join().ok());
        }
        value + 1
    });
    assert_eq!(*committed.current(), 11);
    let records = [Record::of(&committed), outside.unwrap()];
    assert_eq!(
        judge(&records, born, committed.stamp()),
        Evidence::Validated { conflicts: 1 }
    );
}

/// A bank account; no more can be withdrawn than there is.
#[derive(Clone, Debug, PartialEq)]
struct Account {
    balance: u32,
    transactions: u32,
}

#[derive(Debug, PartialEq)]
struct Overdraft {
    balance: u32,
    missing: u32,
}

fn transfer(account: &Account, amount: i32) -> Result<Option<Account>, Overdraft> {
    match account.balance.checked_add_signed(amount) {
        Some(balance) => Ok(Some(Account {
            balance,
            transactions: account.transactions + 1,
        })),
        None => Err(Overdraft {
            balance: account.balance,
            missing: amount.unsigned_abs() - account.balance,
        }),
    }
}

#[test]
fn case_31_five_transfers_at_once_all_succeed() {
    let account = Entity::new(Account {
        balance: 1000,
        transactions: 0,
    });
    let born = account.snapshot().stamp();
    let amounts = [100, 50, -75, 200, -25];
    let all_have_read = Barrier::new(amounts.len());
    let records = together(amounts.len(), |worker| {
        let mut attempts = 0;
        let updated = account.try_update(|account| {
            attempts += 1;
            if attempts == 1 {
                all_have_read.wait();
            }
            transfer(account, amounts[worker])
        });
        match updated.unwrap() {
            Updated::Committed(committed) => Record::of(&committed),
            unchanged => panic!("{unchanged:?}"),
        }
    });
    assert_eq!(records.len(), 5, "5 of 5");
    let end = account.snapshot();
    assert_eq!((end.balance, end.transactions), (1250, 5));
    assert_eq!(end.stamp().version(), 5);
    let evidence = judge(&records, born, end.stamp());
    assert!(matches!(evidence, Evidence::Validated { conflicts } if conflicts >= 4));
}

#[test]
fn case_31_an_overdraft_is_refused_without_change() {
    let account = Entity::new(Account {
        balance: 1000,
        transactions: 0,
    });
    let before = account.snapshot();
    let refused = account.try_update(|account| transfer(account, -1001));
    match refused.unwrap_err() {
        UpdateError::Refused(overdraft) => assert_eq!(
            overdraft,
            Overdraft {
                balance: 1000,
                missing: 1
            }
        ),
        other => panic!("{other:?}"),
    }
    assert!(Snapshot::ptr_eq(&account.snapshot(), &before));
    assert!(
        account
            .try_update(|account| transfer(account, -1000))
            .is_ok()
    );
    assert_eq!(account.snapshot().balance, 0);
}

#[test]
fn case_31_withdrawals_at_once_never_overdraw() {
    // 10 withdrawals of 300 from 1000: three can be made, whoever makes them.
    let account = Entity::new(Account {
        balance: 1000,
        transactions: 0,
    });
    let all_have_read = Barrier::new(10);
    let made = together(10, |_| {
        let mut attempts = 0;
        let updated = account.try_update(|account| {
            attempts += 1;
            if attempts == 1 {
                all_have_read.wait();
            }
            transfer(account, -300)
        });
        updated.is_ok()
    });
    assert_eq!(made.iter().filter(|made| **made).count(), 3);
    let end = account.snapshot();
    assert_eq!((end.balance, end.transactions), (100, 3));
    assert_eq!(end.stamp().version(), 3);
}

#[test]
fn case_31_a_validator_refuses_an_overdraft_as_well() {
    let account = Entity::builder(1000_i64)
        .validate(|balance| if *balance < 0 { Err(-balance) } else { Ok(()) })
        .try_build()
        .unwrap();
    let before = account.snapshot();
    let refused = account.update_with(Retry::unbounded(), |balance| balance - 1001);
    match refused.unwrap_err() {
        UpdateError::Invalid { proposed, error } => assert_eq!((proposed, error), (-1, 1)),
        other => panic!("{other:?}"),
    }
    assert!(Snapshot::ptr_eq(&account.snapshot(), &before));
}

/// Increments by several threads at once. Each value tells who made it.
fn increments(threads: usize, each: u64) -> Evidence {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Count {
        value: u64,
        thread: usize,
        nth: u64,
    }
    let entity = Entity::new(Count {
        value: 0,
        thread: usize::MAX,
        nth: 0,
    });
    let born = entity.snapshot().stamp();
    // The first attempt of each is made on the same snapshot, so that all but one of them lose.
    let all_have_read = Barrier::new(threads);
    let by_thread = together(threads, |thread| {
        (0..each)
            .map(|nth| {
                let mut attempts = 0;
                let committed = entity.update(|count| {
                    attempts += 1;
                    if (nth, attempts) == (0, 1) {
                        all_have_read.wait();
                    }
                    Count {
                        value: count.value + 1,
                        thread,
                        nth,
                    }
                });
                assert_eq!(
                    committed.attempts(),
                    attempts,
                    "attempts are reported exactly"
                );
                (Record::of(&committed), committed.snapshot())
            })
            .collect::<Vec<_>>()
    });

    let total = threads as u64 * each;
    let end = entity.snapshot();
    assert_eq!((end.value, end.stamp().version()), (total, total));

    // Within a thread, later increments are later versions.
    for mine in &by_thread {
        assert!(mine.is_sorted_by(|(a, _), (b, _)| a.stamp < b.stamp));
    }
    // Versions 1 to `total`, each exactly once, and each value where its lineage says.
    let mut lineage: Vec<_> = by_thread.concat();
    lineage.sort_by_key(|(record, _)| record.stamp);
    let mut made = vec![0; threads];
    for ((record, snapshot), version) in lineage.iter().zip(1..) {
        assert_eq!(record.stamp.version(), version);
        assert_eq!(snapshot.stamp(), record.stamp);
        let Count { value, thread, nth } = **snapshot;
        assert_eq!((value, nth), (version, made[thread]));
        made[thread] += 1;
    }
    assert_eq!(made, vec![each; threads]);
    let records: Vec<_> = lineage.iter().map(|(record, _)| *record).collect();
    judge(&records, born, end.stamp())
}

#[test]
fn case_33_eight_threads_of_5000_increments_give_40000_in_the_order_of_commits() {
    let evidence = increments(8, 5_000);
    let Evidence::Validated { conflicts } = evidence else {
        panic!("{evidence}");
    };
    assert!(conflicts >= 7, "{evidence}");
}

#[test]
fn case_33_neighbouring_numbers_of_threads_and_increments_hold_as_well() {
    for (threads, each) in [(2, 3), (3, 1_000), (5, 7), (16, 200)] {
        let evidence = increments(threads, each);
        assert_ne!(
            evidence,
            Evidence::NoConflict,
            "{threads} threads: {evidence}"
        );
    }
}

#[test]
fn case_35_a_run_without_a_conflict_does_not_claim_that_optimistic_commits_were_validated() {
    let evidence = increments(1, 1_000);
    assert_eq!(evidence, Evidence::NoConflict);
    assert_eq!(
        evidence.to_string(),
        "no conflict happened: this run says nothing about optimistic commits"
    );
    let evidence = read_wait_write(&Entity::new(0), &[1, 1]);
    assert_eq!(evidence, Evidence::Validated { conflicts: 1 });
    assert_eq!(
        evidence.to_string(),
        "optimistic commits validated: 1 conflicts resolved"
    );
}

#[test]
fn case_35_a_run_whose_lineage_has_a_gap_or_a_branch_is_no_evidence_at_all() {
    let [v0, v1, v2, v3] = [0, 1, 2, 3].map(|version| Stamp::new(version, version));
    let record = |followed, stamp| Record {
        followed,
        stamp,
        attempts: 1,
    };
    let fails = |records: &[Record], end| {
        let records = records.to_vec();
        std::panic::catch_unwind(move || judge(&records, v0, end)).is_err()
    };
    let (first, second, third) = (record(v0, v1), record(v1, v2), record(v2, v3));
    assert!(
        !fails(&[third, first, second], v3),
        "the order of records is no matter"
    );
    assert!(fails(&[first, third], v3), "a commit is missing");
    assert!(fails(&[first, second], v3), "the last one is missing");
    assert!(
        fails(&[first, second, record(v1, v2)], v2),
        "two followed the same one"
    );
    assert!(fails(&[first, record(v0, v2)], v2), "one was lost");
}
