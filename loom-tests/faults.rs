//! The replay: each planted fault and each weaker ordering must be noticed by the models that claim
//! it.
//!
//! A fault is planted by the environment and lasts for a process, and some end in an abort, so each
//! pair of fault and model runs in a process of its own: this program again, with one model. It
//! counts as noticed if that process fails.

use crate::support::Model;
use snapcell::internals::{Fault, Weakening};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// All models but those of optional features.
const MODELS: &[&Model] = &[
    &crate::commit::a_committed_keeps_what_it_shows::MODEL,
    &crate::commit::a_loser_keeps_the_winner::MODEL,
    &crate::ring::a_release_stops_at_the_mark::MODEL,
    &crate::end::into_inner_against_a_holder::MODEL,
    &crate::commit::three_writers::MODEL,
    &crate::commit::two_writers::MODEL,
    &crate::commit::two_writers_on_a_snapshot::MODEL,
    &crate::count::holder_against_grace::MODEL,
    &crate::count::late_snapshot::MODEL,
    &crate::count::two_holders::MODEL,
    &crate::end::commit_against_the_last_handle::MODEL,
    &crate::end::into_inner::MODEL,
    &crate::end::last_handle::MODEL,
    &crate::end::late_snapshot::MODEL,
    &crate::exit::adopted_by_a_writer::MODEL,
    &crate::exit::two_threads_end::MODEL,
    &crate::exit::what_ends_is_counted::MODEL,
    &crate::gate::load_against_exchange::MODEL,
    &crate::pool::memory_crosses_threads::MODEL,
    &crate::pool::recycling_waits_for_guards::MODEL,
    &crate::read::one_guard::MODEL,
    &crate::read::two_commits_and_a_reader::MODEL,
    &crate::read::two_pins::MODEL,
    &crate::read::two_writers_and_a_reader::MODEL,
    &crate::reader::replacement_with_reuse::MODEL,
    &crate::ring::a_beacon_covers_its_past::MODEL,
    &crate::ring::another_thread_marks::MODEL,
    &crate::update::three_updates::MODEL,
    &crate::update::two_merges::MODEL,
    &crate::update::two_updates::MODEL,
    &crate::end::into_inner_against_a_watcher::MODEL,
    &crate::end::last_watcher::MODEL,
    &crate::wait::a_callback_sees_the_last::MODEL,
    &crate::wait::a_callback_stops::MODEL,
    &crate::wait::a_mark_left_behind::MODEL,
    &crate::wait::a_task::MODEL,
    &crate::wait::close::MODEL,
    &crate::wait::first_waiter::MODEL,
    &crate::wait::loses_to_a_marked_winner::MODEL,
    &crate::wait::one_gives_up::MODEL,
    &crate::wait::one_waiter::MODEL,
    &crate::wait::polled_and_then_blocked::MODEL,
    &crate::wait::publishes_a_marked_head::MODEL,
    &crate::wait::two_commits::MODEL,
    &crate::wait::two_lists::MODEL,
    &crate::wait::two_waiters::MODEL,
    &crate::wait::two_writers_on_a_marked_head::MODEL,
    &crate::wait::what_came_before_the_close::MODEL,
    &crate::closure::two_add_one::MODEL,
    &crate::closure::opacity::MODEL,
    &crate::closure::two_looks::MODEL,
    &crate::closure::giving_up::MODEL,
    &crate::closure::a_fold_beside_a_read::MODEL,
    &crate::closure::two_folds::MODEL,
    &crate::closure::one_time_for_both::MODEL,
    &crate::moment::a_transaction::MODEL,
    &crate::moment::a_transaction_and_a_commit::MODEL,
    &crate::moment::two_moments::MODEL,
    &crate::moment::memory_that_is_used_again::MODEL,
    &crate::moment::taken_by_a_transaction::MODEL,
    &crate::transaction::two_transactions::MODEL,
    &crate::transaction::two_loads::MODEL,
    &crate::transaction::two_loads_under_one_guard::MODEL,
    &crate::transaction::two_loads_backwards::MODEL,
    &crate::transaction::two_loads_of_one::MODEL,
    &crate::transaction::a_commit_helps::MODEL,
    &crate::transaction::two_commits_help::MODEL,
    &crate::transaction::overlapping_transactions::MODEL,
    &crate::transaction::commits_against_the_order::MODEL,
    &crate::transaction::commits_over_what_was_only_read::MODEL,
    &crate::transaction::commits_on_two_threads::MODEL,
    &crate::transaction::write_skew::MODEL,
    &crate::transaction::what_is_read_is_current_at_the_commit::MODEL,
    &crate::transaction::what_is_current_is_not_what_is_at_the_head::MODEL,
    &crate::transaction::what_others_have_finished::MODEL,
    &crate::transaction_life::last_handle::MODEL,
    &crate::transaction_life::memory_of_what_was_never_installed::MODEL,
    &crate::transaction_life::last_handle_of_what_is_only_read::MODEL,
    &crate::transaction_life::last_watcher::MODEL,
    &crate::transaction_life::into_inner::MODEL,
    &crate::transaction_life::a_mark_and_the_last_handle::MODEL,
    &crate::transaction_life::memory_that_is_used_again::MODEL,
    &crate::transaction_life::cached_reader::MODEL,
    &crate::transaction_life::cached_reader_of_what_was_aborted::MODEL,
    &crate::transaction_life::cached_reader_of_what_is_only_read::MODEL,
    &crate::transaction_wait::one_waiter::MODEL,
    &crate::transaction_wait::first_waiter::MODEL,
    &crate::transaction_wait::woken_by_a_helper::MODEL,
    &crate::transaction_wait::aborted_with_a_mark::MODEL,
    &crate::transaction_wait::retry_against_a_commit::MODEL,
    &crate::transaction_wait::retry_against_a_transaction::MODEL,
    &crate::transaction_wait::a_task::MODEL,
    &crate::history::a_commit::MODEL,
    &crate::history::two_commits::MODEL,
    &crate::history::two_commits_and_a_reader::MODEL,
    &crate::history::found_without_the_head::MODEL,
    &crate::history::a_transaction::MODEL,
    &crate::history::a_transaction_and_a_commit::MODEL,
    &crate::history::let_go::MODEL,
    &crate::history::a_history_of_two::MODEL,
];

/// Those of the store.
#[cfg(feature = "store")]
const OF_STORE: &[&Model] = &[
    &crate::arena::a_birth_against_a_look::MODEL,
    &crate::arena::two_births::MODEL,
    &crate::arena::used_again::MODEL,
    &crate::arena::given_back_and_taken::MODEL,
    &crate::arena::taken_and_not_filled::MODEL,
    &crate::arena::taken_while_it_comes_back::MODEL,
    &crate::arena::two_ends::MODEL,
    &crate::arena::a_handle_against_the_end::MODEL,
    &crate::arena::the_arena_goes_first::MODEL,
    &crate::store::an_update_against_a_removal::MODEL,
    &crate::store::an_id_comes_again::MODEL,
    &crate::store::a_birth_against_one_that_is_given_up::MODEL,
    &crate::store::two_get_a_key::MODEL,
    &crate::store::a_key_changes_under_a_look::MODEL,
    &crate::store::a_look_where_one_goes_and_another_comes::MODEL,
    &crate::store::a_key_goes_and_comes_under_one_who_waits_for_it::MODEL,
    &crate::store::the_last_with_a_key_goes_as_another_comes::MODEL,
    &crate::store::two_versions_of_a_tree::MODEL,
    &crate::store::a_version_against_a_removal::MODEL,
    &crate::store::one_moment_in_parts::MODEL,
];
#[cfg(not(feature = "store"))]
const OF_STORE: &[&Model] = &[];

/// Those of the scheduler.
#[cfg(feature = "scheduler")]
const OF_SCHEDULER: &[&Model] = &[
    &crate::scheduler_reservation::an_old_clear::MODEL,
    &crate::scheduler_reservation::two_claims::MODEL,
    &crate::scheduler_reservation::a_holder_dies::MODEL,
    &crate::scheduler_reservation::an_equal_waits::MODEL,
    &crate::scheduler_reservation::two_heirs::MODEL,
    &crate::lane::two_submit::MODEL,
    &crate::lane::a_parked_lane_is_resumed::MODEL,
    &crate::lane::what_is_new_in_a_parked_lane_is_known::MODEL,
    &crate::lane::a_promotion_of_what_is_taken::MODEL,
    &crate::lane::an_advertised_lane_is_found::MODEL,
    &crate::operation::claim_against_cancel::MODEL,
    &crate::operation::cancel_reject_complete::MODEL,
    &crate::operation::complete_against_wait::MODEL,
    &crate::operation::complete_against_a_thread::MODEL,
    &crate::operation::an_event_is_awaited::MODEL,
    &crate::operation::opened_again::MODEL,
    &crate::operation::an_answer_is_taken::MODEL,
    &crate::operation::who_sees_the_end_finds_it_counted::MODEL,
    &crate::operation::short_after_what_was_submitted::MODEL,
    &crate::operation::submit_against_shut_down::MODEL,
    &crate::operation::what_was_run_is_kept::MODEL,
    &crate::operation::the_last_one_out::MODEL,
    &crate::operation::the_last_two_out::MODEL,
    &crate::operation::counts_are_read::MODEL,
    &crate::operation::a_promotion_against_a_change_of_a_part::MODEL,
    &crate::operation::a_promotion_reaches_a_queued_child::MODEL,
];
#[cfg(not(feature = "scheduler"))]
const OF_SCHEDULER: &[&Model] = &[];

/// All models that this build has.
fn models() -> impl Iterator<Item = &'static Model> {
    let of_features = OF_STORE.iter().chain(OF_SCHEDULER);
    MODELS.iter().chain(of_features).copied()
}

/// Weaker orderings that no model notices, each explained in the table. None so far.
const EXPLAINED: usize = 0;

/// What is planted, and who claims to notice.
fn claims() -> Vec<(String, Vec<&'static str>)> {
    let is_there = |fault: &&Fault| {
        (cfg!(feature = "store") || !Fault::OF_STORE.contains(fault))
            && (cfg!(feature = "scheduler") || !Fault::OF_SCHEDULER.contains(fault))
    };
    let faults = Fault::ALL.iter().filter(is_there).map(|&fault| {
        let by = models().filter(|model| model.kills.contains(&fault));
        (
            format!("{fault:?}"),
            by.map(|model| model.test_name()).collect(),
        )
    });
    // The table is the same in each build, and names models of features too.
    let is_built = |weakening: &Weakening| {
        let of_scheduler =
            |model: &&str| model.starts_with("lane::") || model.starts_with("operation::");
        let of_store = |model: &&str| model.starts_with("arena::");
        let models = weakening.models();
        (cfg!(feature = "scheduler") || !models.iter().any(of_scheduler))
            && (cfg!(feature = "store") || !models.iter().any(of_store))
    };
    let weakenings = Weakening::all()
        .filter(is_built)
        .map(|weakening| (weakening.to_string(), weakening.models().to_vec()));
    faults.chain(weakenings).collect()
}

#[test]
fn each_model_is_in_the_list_once() {
    let names: BTreeSet<_> = models().map(|model| model.name).collect();
    assert_eq!(names.len(), models().count());
    let sources = [
        include_str!("commit.rs"),
        include_str!("count.rs"),
        include_str!("end.rs"),
        include_str!("exit.rs"),
        include_str!("gate.rs"),
        include_str!("history.rs"),
        include_str!("pool.rs"),
        include_str!("read.rs"),
        include_str!("reader.rs"),
        include_str!("ring.rs"),
        include_str!("closure.rs"),
        include_str!("moment.rs"),
        include_str!("transaction.rs"),
        include_str!("transaction_life.rs"),
        include_str!("transaction_wait.rs"),
        include_str!("update.rs"),
        include_str!("wait.rs"),
        #[cfg(feature = "store")]
        include_str!("arena.rs"),
        #[cfg(feature = "store")]
        include_str!("store.rs"),
        #[cfg(feature = "scheduler")]
        include_str!("scheduler_reservation.rs"),
        #[cfg(feature = "scheduler")]
        include_str!("lane.rs"),
        #[cfg(feature = "scheduler")]
        include_str!("operation.rs"),
    ];
    let defined: usize = sources
        .iter()
        .map(|source| source.matches("\nmodel! {").count())
        .sum();
    assert_eq!(
        defined,
        models().count(),
        "each model that is defined is in the list"
    );
}

#[test]
fn each_fault_is_claimed_and_each_claim_names_a_model() {
    let mut unclaimed = 0;
    for (fault, by) in claims() {
        unclaimed += usize::from(by.is_empty());
        for name in by {
            assert!(
                models().any(|model| model.test_name() == name),
                "{fault} claims {name}, which is no model"
            );
        }
    }
    assert_eq!(
        unclaimed, EXPLAINED,
        "every fault has a model that notices it"
    );
}

#[test]
#[ignore = "needs the model build: cargo loom-faults"]
fn each_fault_is_noticed() {
    if !cfg!(snapcell_model) {
        panic!("faults are planted in the model build only: cargo loom-faults");
    }
    let pairs: Vec<(String, &str)> = claims()
        .into_iter()
        .flat_map(|(fault, models)| models.into_iter().map(move |model| (fault.clone(), model)))
        .collect();
    let next = AtomicUsize::new(0);
    let survivors = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((fault, model)) = pairs.get(next.fetch_add(1, SeqCst)) {
                    let how = replay(fault, model);
                    println!("{fault:<28} {how:<10} {model}");
                    if how == "SURVIVED" {
                        survivors
                            .lock()
                            .expect("nobody panics here")
                            .push(format!("{fault} in {model}"));
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().expect("nobody panics here");
    assert!(survivors.is_empty(), "not noticed: {survivors:#?}");
    println!(
        "{} claims, all of them noticed; {EXPLAINED} weakenings explained",
        pairs.len()
    );
}

/// Runs one model with one fault in a process of its own.
fn replay(fault: &str, model: &str) -> &'static str {
    let status = Command::new(std::env::current_exe().expect("a test knows its program"))
        .args([model, "--exact", "--test-threads=1"])
        .env("SNAPCELL_FAULT", fault)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the program starts once more");
    match status.code() {
        Some(0) => "SURVIVED",
        Some(_) => "noticed",
        None => "aborted",
    }
}
