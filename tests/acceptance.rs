//! Acceptance: behaviour that the reference documents, promises or breaks, by the numbers of its cases. [`CASES`] says
//! which tests show each of them; those about one entity alone are here, and the large one about all of it (32). The
//! reference's *fork* of a node is a commit here, its ids are (entity, version), and its lineage is the order of
//! commits.

#[path = "support/shown.rs"]
mod shown;
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

/// A case: its number, what it is about, the tests that show it, and what of it can't come about, and why.
type Case = (u32, &'static str, &'static str, &'static str);

/// All cases.
const CASES: [Case; 35] = [
    (
        1,
        "a new entity, and its promotion",
        "`a_new_entity_is_an_orphan_at_version_0_and_promotion_leaves_it_there` (tests/tree.rs)",
        "",
    ),
    (
        2,
        "marks, versions and times",
        "`case_2_n_changes_make_version_n_and_no_two_states_look_alike`, \
         `case_2_two_untouched_copies_do_not_conflict` (tests/acceptance.rs), \
         `each_mark_is_a_version_and_conflicts_with_those_before` (tests/lineage.rs)",
        "",
    ),
    (
        3,
        "the next version of a root, and of a child",
        "`each_commit_is_the_next_version_of_the_same_entity_in_the_same_line` (tests/lineage.rs), \
         `a_changed_leaf_modifies_itself_and_all_above_it_and_nothing_else` (tests/tree.rs)",
        "a live id of the root without its id: there are no live ids, and no call takes a root that could be half given",
    ),
    (
        4,
        "five versions keep their values",
        "`case_4_every_version_keeps_its_own_value` (tests/acceptance.rs), \
         `five_commits_make_six_versions_and_each_keeps_its_value` (tests/lineage.rs)",
        "",
    ),
    (
        5,
        "times two and divided by two",
        "`case_5_times_two_and_divided_by_two_with_retry_give_both_and_the_first_value`, \
         `case_5_without_retry_the_second_commit_is_refused` (tests/acceptance.rs), \
         `of_two_workers_that_read_version_0_both_commit_if_the_second_tries_again` (tests/lineage.rs)",
        "",
    ),
    (
        6,
        "versioning with and without a change, and of an orphan",
        "`case_6_versioning_without_change_is_unchanged_and_with_a_change_is_a_new_version` (tests/acceptance.rs), \
         `versioning_without_change_is_unchanged`, `versioning_what_is_no_root_is_an_error` (tests/tree.rs)",
        "",
    ),
    (
        7,
        "a parent with three children",
        "`a_parent_with_three_children_has_four_nodes_three_edges_and_depth_two`, \
         `keys_indexes_and_kinds_of_edges_are_kept` (tests/tree.rs)",
        "",
    ),
    (
        8,
        "cycles and diamonds",
        "`what_is_named_twice_is_an_error_that_names_it_and_both_ways` (tests/tree.rs)",
        "",
    ),
    (
        9,
        "a changed leaf",
        "`a_changed_leaf_modifies_itself_and_all_above_it_and_nothing_else` (tests/tree.rs)",
        "",
    ),
    (
        10,
        "a new child",
        "`a_child_appended_to_an_empty_root_modifies_both` (tests/tree.rs)",
        "",
    ),
    (
        11,
        "a removed child",
        "`a_removed_child_modifies_its_parent_and_all_above_and_stays_in_the_old_tree` (tests/tree.rs)",
        "",
    ),
    (
        12,
        "borrowing",
        "`a_list_a_map_and_a_scalar_are_borrowed_with_their_sources`, \
         `what_does_not_fit_is_not_borrowed_and_changes_nothing` (tests/lineage.rs)",
        "",
    ),
    (
        13,
        "detach and attach",
        "`a_detached_child_is_a_root_with_a_new_version_and_attached_it_joins_the_line_of_the_new_root` (tests/tree.rs)",
        "",
    ),
    (
        14,
        "defaults and bounds of operations",
        "`case_14_an_operation_begins_pending_with_what_its_class_says`, \
         `case_14_priorities_outside_their_bounds_are_refused_and_those_inside_are_taken`, \
         `case_14_a_refusal_names_the_bounds`, \
         `case_14_no_operation_runs_without_a_start_or_ends_without_an_end` (tests/operation.rs)",
        "the assignment of 99: there is no priority of that number, and `Priority::new` refuses it",
    ),
    (
        15,
        "transitions, and one id for life",
        "`case_15_each_transition_is_legal_from_exactly_its_states`, \
         `case_15_an_operation_keeps_its_id_through_its_whole_life` (tests/operation.rs), \
         `an_operation_tells_of_its_beginning_and_its_end` (tests/events.rs)",
        "",
    ),
    (
        16,
        "five retries, and then none",
        "`case_16_five_retries_are_allowed_with_the_delays_of_the_reference_and_then_none`, \
         `case_16_who_loses_once_more_than_its_budget_is_rejected_and_says_so`, \
         `case_16_and_17_who_wins_after_a_retry_has_nothing_left_of_what_it_lost` (tests/operation.rs)",
        "",
    ),
    (
        17,
        "fail, retry, succeed",
        "`case_17_an_operation_that_fails_may_be_tried_again_and_succeed`, \
         `case_16_and_17_who_wins_after_a_retry_has_nothing_left_of_what_it_lost` (tests/operation.rs)",
        "",
    ),
    (
        18,
        "chains of parents",
        "`case_18_a_chain_is_as_important_as_its_head_whoever_has_started`, \
         `case_18_a_child_of_a_parent_that_runs_is_as_important_as_that` (tests/operation.rs), \
         `a_parent_that_is_missing_is_named_with_its_child`, `a_cycle_is_told_by_those_on_it_alone` \
         (src/scheduler/hierarchy.rs)",
        "a missing parent or a cycle of operations: a parent is there when its child is made. Of ids from outside a \
         `Hierarchy` tells them",
    ),
    (
        19,
        "of four the critical one wins",
        "`case_19_of_four_on_one_target_the_critical_one_wins_and_three_are_rejected` (tests/staging.rs), \
         `of_those_that_wait_the_most_important_one_wins_and_the_others_are_rejected` (tests/queries.rs)",
        "",
    ),
    (
        20,
        "of four equals the earliest wins",
        "`case_20_of_four_equals_the_earliest_wins_in_whichever_order_they_come` (tests/staging.rs), \
         `of_equals_the_earliest_wins_wherever_they_come_from` (tests/queries.rs)",
        "",
    ),
    (
        21,
        "what runs goes on",
        "`case_21_what_runs_is_never_preempted_and_what_comes_meanwhile_is_a_round_of_its_own` (tests/staging.rs), \
         `what_runs_stays_and_one_of_those_behind_it_wins` (tests/queries.rs)",
        "",
    ),
    (
        22,
        "grace",
        "`case_22_who_is_under_grace_is_left_alone_until_exactly_its_period`, \
         `case_22_no_reservation_is_left_by_those_that_reserve_from_the_first_attempt` (tests/operation.rs), \
         `it_steps_back_for_a_reservation_and_for_a_bounded_time` (tests/task.rs)",
        "",
    ),
    (
        23,
        "a low child of a critical parent",
        "`case_23_a_low_child_of_a_critical_parent_wins_against_a_high_one`, \
         `case_23_a_child_whose_parent_gets_critical_while_it_is_staged_wins` (tests/staging.rs), \
         `a_part_of_something_important_wins_over_who_is_more_important_by_itself` (tests/queries.rs)",
        "",
    ),
    (
        24,
        "exactly two rejected events",
        "`case_24_a_round_of_normal_critical_and_low_has_exactly_two_losers` (tests/staging.rs), \
         `a_conflict_among_four_rejects_those_that_lost_to_the_critical_one` (tests/events.rs)",
        "",
    ),
    (
        25,
        "clean-up",
        "`a_clean_up_removes_what_ended_two_days_ago_from_everywhere_and_keeps_what_has_not_ended`, \
         `a_retention_of_nothing_is_an_error_and_removes_nothing` (tests/queries.rs)",
        "",
    ),
    (
        26,
        "high against low, and a hundred equals",
        "`case_26_high_wins_against_low_and_the_rejection_names_both_priorities`, \
         `case_26_of_a_hundred_equals_one_is_run_and_ninety_nine_are_rejected_and_counted` (tests/staging.rs), \
         `each_loser_of_a_round_is_told_once` (tests/events.rs)",
        "",
    ),
    (
        27,
        "what comes while a winner runs",
        "`case_27_what_comes_while_a_winner_runs_finishes_too` (tests/staging.rs)",
        "",
    ),
    (
        28,
        "clear and shut down",
        "`case_28_what_was_staged_is_cancelled_when_the_stage_is_cleared_or_dropped`, \
         `case_28_whoever_waits_for_what_is_staged_returns_when_the_engine_is_shut_down`, \
         `case_28_an_engine_is_shut_down_while_something_is_staged_and_cancels_it` (tests/staging.rs)",
        "",
    ),
    (
        29,
        "a hundred that read, wait and write",
        "`case_29_a_hundred_concurrent_increments_give_a_hundred`, `case_29_different_amounts_add_up`, \
         `case_29_a_change_from_outside_in_the_window_is_not_lost` (tests/acceptance.rs), \
         `case_29_a_hundred_that_read_wait_and_write_at_once_are_all_there`, \
         `case_29_three_different_additions_at_once_add_up`, \
         `case_29_who_comes_from_outside_in_the_window_is_not_overwritten` (tests/staging.rs), \
         `under_both_a_commit_from_outside_costs_one_more_attempt` (tests/protect.rs)",
        "",
    ),
    (
        30,
        "a function that fails",
        "`case_30_what_a_function_fails_with_reaches_its_caller_and_nothing_stays_staged` (tests/staging.rs), \
         `each_way_to_end_is_told` (tests/events.rs)",
        "a *rejected* event of what has failed: it is told as failed, and rejected is what the scheduler has ended",
    ),
    (
        31,
        "the bank",
        "`case_31_five_transfers_at_once_all_succeed`, `case_31_an_overdraft_is_refused_without_change` \
         (tests/acceptance.rs), `case_31_a_bank_takes_five_transactions_at_once_and_refuses_an_overdraft` \
         (tests/operation.rs)",
        "",
    ),
    (
        32,
        "brutality",
        "`case_32_thirty_thousand_of_four_kinds_in_batches_on_three_targets_keep_their_books` (tests/acceptance.rs)",
        "",
    ),
    (
        33,
        "eight threads of 5000 increments",
        "`case_33_eight_threads_of_5000_increments_give_40000_in_the_order_of_commits` (tests/acceptance.rs), \
         `case_33_forty_thousand_increments_on_one_entity_are_all_there_in_the_order_of_their_commits` \
         (tests/operation.rs)",
        "",
    ),
    (
        34,
        "three hundred at once",
        "`case_34_three_hundred_operations_at_once_on_three_targets_all_commit` (tests/operation.rs)",
        "the limit of five seconds: no test has one, since a loaded machine would fail it; benches and `brutality` \
         tell times",
    ),
    (
        35,
        "a run without a conflict is no evidence",
        "`case_35_a_run_without_a_conflict_does_not_claim_that_optimistic_commits_were_validated`, \
         `case_35_a_run_whose_lineage_has_a_gap_or_a_branch_is_no_evidence_at_all` (tests/acceptance.rs), \
         `case_35_a_run_without_conflicts_does_not_claim_to_have_validated_anything` (tests/operation.rs)",
        "",
    ),
];

#[test]
fn every_case_is_shown_by_tests_that_exist() {
    for ((case, about, tests, _), number) in CASES.into_iter().zip(1..) {
        assert_eq!(case, number, "{about}");
        shown::all_are_there(tests);
    }
}

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

/// Thirty thousand operations, by the workload of the stress test that the reference is known for.
#[cfg(feature = "scheduler")]
mod brutality {
    use super::Evidence;
    use snapcell::{
        Counts, Engine, Entity, Operation, OperationError, Policy, Priority, Reason, ShutDown,
        Ticket,
    };
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use std::thread;

    const OPERATIONS: u64 = 30_000;
    const BATCH: usize = 100;
    const TARGETS: usize = 3;

    #[derive(Clone, Copy, Debug, Default)]
    struct Target {
        hits: u64,
        total: u64,
        modifications: u64,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Kind {
        Increment,
        Update,
        Accumulate,
        Version,
    }

    impl Kind {
        const ALL: [Kind; 4] = [
            Kind::Increment,
            Kind::Update,
            Kind::Accumulate,
            Kind::Version,
        ];

        fn name(self) -> &'static str {
            [
                "brutal_increment",
                "brutal_update",
                "brutal_accumulate",
                "brutal_version",
            ][self as usize]
        }

        fn counts_a_hit(self) -> bool {
            self != Kind::Update
        }

        fn apply(self, target: &Target, amount: u64) -> Target {
            let total = match self {
                Kind::Increment | Kind::Accumulate => target.total + amount,
                Kind::Update => amount,
                Kind::Version => target.total,
            };
            Target {
                hits: target.hits + u64::from(self.counts_a_hit()),
                total,
                modifications: target.modifications + 1,
            }
        }
    }

    /// The next of a line of numbers that is the same each time.
    fn draw(state: &mut u64, below: u64) -> u64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }

    /// What a ticket has said.
    #[derive(Default)]
    struct Ends {
        committed: [u64; 4],
        rejected: u64,
        by_target: [u64; TARGETS],
    }

    type Waiting = (Kind, usize, Ticket<snapcell::Snapshot<Target>, Infallible>);

    impl Ends {
        fn note(&mut self, (kind, target, ticket): Waiting) {
            match ticket.wait() {
                Ok(_) => {
                    self.committed[kind as usize] += 1;
                    self.by_target[target] += 1;
                }
                Err(OperationError::Rejected(why)) => {
                    assert!(matches!(why.reason, Reason::Lost { .. }), "{why}");
                    self.rejected += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// Runs all of it, and checks every law. What was counted.
    fn run(policy: Policy) -> Counts {
        let engine = Engine::builder().workers(2).policy(policy).build();
        let targets: Vec<_> = (0..TARGETS)
            .map(|_| Entity::new(Target::default()))
            .collect();
        // One that is made beside its lane, while the very first is computed: so there is a conflict in each run.
        let beside = Arc::new(AtomicU64::new(0));
        let overtakes = AtomicBool::new(true);
        let (within, counted) = (engine.clone(), beside.clone());
        let first = targets[0].clone();
        let overtake = move || {
            if overtakes.swap(false, SeqCst) {
                let increment =
                    Operation::update(&first, |target| Kind::Increment.apply(target, 1))
                        .named(Kind::Increment.name());
                thread::scope(|scope| {
                    scope.spawn(|| within.run(&increment).unwrap());
                });
                counted.fetch_add(1, SeqCst);
            }
        };
        let mut overtake = Some(overtake);

        let mut seed = 1;
        let mut tickets: Vec<Waiting> = Vec::new();
        let in_batches = OPERATIONS - 1;
        while (tickets.len() as u64) < in_batches {
            let mut stage = engine.stage();
            for _ in 0..BATCH.min(in_batches as usize - tickets.len()) {
                let is_first = overtake.is_some();
                let kind = Kind::ALL[draw(&mut seed, 4) as usize];
                let at = draw(&mut seed, TARGETS as u64) as usize;
                let amount = draw(&mut seed, 100) + 1;
                let priority = match draw(&mut seed, 10) {
                    0 => Priority::CRITICAL,
                    1..=3 => Priority::HIGH,
                    _ => Priority::NORMAL,
                };
                // The first one wins its round, whatever the policy.
                let (at, priority) = match is_first {
                    true => (0, Priority::CRITICAL),
                    false => (at, priority),
                };
                let overtake = overtake.take();
                let operation = Operation::update(&targets[at], move |target| {
                    overtake.iter().for_each(|overtake| overtake());
                    kind.apply(target, amount)
                });
                let operation = operation.named(kind.name()).priority(priority);
                let ticket = stage.add(operation).unwrap();
                tickets.push((kind, at, ticket));
            }
            stage.resolve();
        }
        let mut ends = Ends::default();
        for waiting in tickets {
            ends.note(waiting);
        }
        engine.shut_down(ShutDown::Finish, None).unwrap();
        let beside = beside.load(SeqCst);
        assert_eq!(beside, 1);
        ends.committed[Kind::Increment as usize] += beside;
        ends.by_target[0] += beside;

        let metrics = engine.metrics();
        let counts = metrics.counts;
        let ended: Vec<_> = targets.iter().map(Entity::snapshot).collect();
        let committed: u64 = ends.committed.iter().sum();
        assert_eq!(
            (counts.submitted, counts.unfinished()),
            (OPERATIONS, 0),
            "{counts}"
        );
        assert_eq!(
            (counts.committed, counts.rejected),
            (committed, ends.rejected)
        );
        assert_eq!(
            counts.submitted,
            counts.committed + counts.rejected,
            "{counts}"
        );
        assert_eq!(
            ended.iter().map(|target| target.hits).sum::<u64>(),
            Kind::ALL
                .iter()
                .filter(|kind| kind.counts_a_hit())
                .map(|kind| ends.committed[*kind as usize])
                .sum::<u64>()
        );
        for (target, committed) in ended.iter().zip(ends.by_target) {
            assert_eq!(target.modifications, committed);
            if counts.folds == 0 {
                assert_eq!(target.stamp().version(), committed);
            }
        }
        let versions: u64 = ended.iter().map(|target| target.stamp().version()).sum();
        assert!(versions <= committed && (versions < committed) == (counts.folds > 0));
        // And the engine's own books say the same.
        assert!(metrics.adds_up(), "{metrics}");
        for kind in Kind::ALL {
            let kinds = metrics.kinds.iter().filter(|row| row.name == kind.name());
            let told: u64 = kinds.map(|row| row.counts.committed).sum();
            assert_eq!(told, ends.committed[kind as usize], "{kind:?}");
        }
        assert!(engine.is_clean());
        let evidence = match counts.conflicts {
            0 => Evidence::NoConflict,
            conflicts => Evidence::Validated {
                conflicts: conflicts as u32,
            },
        };
        assert_ne!(evidence, Evidence::NoConflict, "{policy:?}: {evidence}");
        counts
    }

    #[test]
    fn case_32_thirty_thousand_of_four_kinds_in_batches_on_three_targets_keep_their_books() {
        let in_order = run(Policy::InOrder);
        assert_eq!(in_order.committed, OPERATIONS, "none is thrown away");
        let fold = run(Policy::Fold);
        assert_eq!(fold.committed, OPERATIONS);
        assert!(fold.folds > 0, "nothing was folded");
        // The reference's own policy: of each batch and target one is run.
        let winner = run(Policy::WinnerTakesAll);
        assert!(winner.rejected > winner.committed, "{winner}");
    }
}
