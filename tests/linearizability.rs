//! Every call takes effect at one moment between its call and its return.
//!
//! Real threads make random calls to one entity (`linearizability/record.rs` has the threads,
//! `linearizability/worker.rs` the calls). What they returned is judged as a whole
//! (`linearizability/history.rs`) by what one thread alone would see (`linearizability/spec.rs`). There
//! are two judges: a search for an order that fits, which knows nothing of versions, and an order that
//! follows from the versions. They are put to a test too: they must notice each way to tamper with a
//! history (`linearizability/tamper.rs`), and an object that has a flaw.
//!
//! Histories without conflicts or without overlaps would show nothing. So what must happen is counted
//! (`linearizability/coverage.rs`), and a test in which some of it didn't fails.
//!
//! `SNAPCELL_SEED` sets the seed from which the threads draw their calls. How the calls of several
//! threads fall together is up to the machine, so a failure also prints its history.

#[path = "linearizability/coverage.rs"]
mod coverage;
#[path = "linearizability/history.rs"]
mod history;
#[path = "support/race.rs"]
mod race;
#[path = "linearizability/record.rs"]
mod record;
#[path = "linearizability/spec.rs"]
mod spec;
#[path = "linearizability/tamper.rs"]
mod tamper;
#[path = "linearizability/worker.rs"]
mod worker;

use coverage::Coverage;
use fastrand::Rng;
use history::{History, Record};
use race::Seed;
use record::{Flaw, Payload, Setup, record};
use snapcell::Stamp;
use spec::{Base, Claim, State};
use std::collections::BTreeMap;

const SMALL: Setup = Setup {
    threads: 2,
    rounds: 500,
    steps: 3..=8,
    yields: 4,
    waits: false,
    flaw: Flaw::None,
};

const LARGE: Setup = Setup {
    threads: 8,
    rounds: 1,
    steps: 1_000..=1_000,
    yields: 16,
    waits: false,
    flaw: Flaw::None,
};

/// Both judges must accept it, and its books must balance.
fn check(history: &History) {
    if let Err(violation) = history.judge_by_version() {
        let story = history.until(&violation);
        panic!("not linearizable: {violation}What was called before it ended:\n{story}");
    }
    assert!(
        history.judge_by_search(),
        "the search finds no order, though the versions give one:\n{history}"
    );
    let writes = history.records.iter().filter_map(|r| r.claim.publishes());
    let newest = writes.clone().max_by_key(|state| state.version());
    let commits = writes.count() as u64 - 1;
    let last = history.records.last().and_then(|r| r.claim.reads());
    assert_eq!(last, newest, "what is left is what was written last");
    assert_eq!(
        last.map(State::version),
        Some(commits),
        "each commit counts one"
    );
}

/// Checks so many parts, and more until everything that must happen has happened.
fn check_all<P: Payload>(setups: &[Setup], parts: u64) {
    const MOST: u64 = 50;
    let seed = Seed::get();
    let mut coverage = Coverage::default();
    for part in 0..parts.max(MOST) {
        if part >= parts && coverage.missing().is_empty() {
            break;
        }
        for setup in setups {
            for history in record::<P>(setup, seed.of(part)) {
                check(&history);
                coverage.add(&history);
            }
        }
    }
    println!("{coverage}");
    let missing = coverage.missing().join(", ");
    assert!(
        missing.is_empty(),
        "NOT EXERCISED, so this run shows nothing: {missing}"
    );
}

/// From two to four threads, with waiting and without.
fn small(rounds: usize) -> Vec<Setup> {
    let setup = |(threads, waits)| Setup {
        threads,
        rounds,
        waits,
        ..SMALL
    };
    let threads = (2..=4).flat_map(|threads| [(threads, false), (threads, true)]);
    threads.map(setup).collect()
}

/// With few changes of threads in the middle of calls and with many, with waiting and without.
fn large(steps: usize) -> Vec<Setup> {
    let setup = |(yields, waits)| Setup {
        steps: steps..=steps,
        yields,
        waits,
        ..LARGE
    };
    [(4, false), (64, false), (16, true)].map(setup).to_vec()
}

#[test]
fn small_histories_are_linearizable() {
    check_all::<u64>(&small(500), 4);
}

#[test]
fn small_histories_of_large_values_are_linearizable() {
    check_all::<[u64; 16]>(&small(500), 4);
}

#[test]
fn large_histories_are_linearizable() {
    check_all::<u64>(&large(400), 1);
}

#[test]
fn large_histories_of_large_values_are_linearizable() {
    check_all::<[u64; 16]>(&large(400), 1);
}

#[test]
#[ignore = "takes a minute in release: run by `cargo stress`"]
fn a_great_many_histories_are_linearizable() {
    check_all::<u64>(&small(500), 15);
    check_all::<[u64; 16]>(&small(500), 15);
    check_all::<u64>(&large(1_000), 5);
    check_all::<[u64; 16]>(&large(1_000), 5);
}

#[test]
fn each_way_to_tamper_with_a_history_is_noticed() {
    let seed = Seed::get();
    let mut rng = Rng::with_seed(seed.of(0));
    let mut noticed = BTreeMap::new();
    for setup in small(100) {
        for history in record::<u64>(&setup, seed.of(1)) {
            check(&history);
            let states = history.states().expect("it is linearizable");
            for (name, way) in tamper::WAYS {
                let mut tampered = history.clone();
                if way(&mut tampered, &states, &mut rng).is_none() {
                    continue;
                }
                for (judge, accepts) in verdicts(&tampered) {
                    assert!(!accepts, "{judge} doesn't notice that {name}:\n{tampered}");
                }
                *noticed.entry(name).or_insert(0) += 1;
            }
        }
    }
    for (name, _) in tamper::WAYS {
        let times = noticed.get(name).copied().unwrap_or(0);
        println!("{times:>6} times {name}");
        assert!(times >= 10, "NOT EXERCISED: {name}");
    }
}

fn verdicts(history: &History) -> [(&'static str, bool); 2] {
    [
        ("the search", history.judge_by_search()),
        ("the order by version", history.judge_by_version().is_ok()),
    ]
}

/// What they agree on must be both: that a history is fine, and that it isn't.
#[test]
fn the_judges_agree_on_histories_that_were_disturbed() {
    let seed = Seed::get();
    let mut rng = Rng::with_seed(seed.of(0));
    let mut verdict_counts = [0; 2];
    for setup in small(250) {
        for history in record::<u64>(&setup, seed.of(2)) {
            let states = history.states().expect("it is linearizable");
            let mut disturbed = history;
            for _ in 0..4 {
                tamper::disturb(&mut disturbed, &states, &mut rng);
                let [(_, by_search), (_, by_version)] = verdicts(&disturbed);
                assert_eq!(by_search, by_version, "of\n{disturbed}");
                verdict_counts[usize::from(by_search)] += 1;
                if !by_search {
                    break;
                }
            }
        }
    }
    let [refused, accepted] = verdict_counts;
    println!("{accepted} accepted by both, {refused} refused by both");
    assert!(
        accepted > 500 && refused > 500,
        "NOT EXERCISED: one of the verdicts"
    );
}

/// Records histories of an object with this flaw until one is not linearizable.
fn is_noticed<P: Payload>(flaw: Flaw) {
    const MOST: usize = 10_000;
    let seed = Seed::get();
    let mut tried = 0;
    while tried < MOST {
        let setup = Setup {
            threads: 2 + tried / 50 % 3,
            rounds: 50,
            flaw,
            ..SMALL
        };
        for history in record::<P>(&setup, seed.of(tried as u64)) {
            tried += 1;
            let [(_, by_search), (_, by_version)] = verdicts(&history);
            assert_eq!(by_search, by_version, "of\n{history}");
            if let Err(violation) = history.judge_by_version() {
                println!("{flaw:?} is noticed in history {tried}: {violation}");
                return;
            }
        }
    }
    panic!("{flaw:?} has gone unnoticed in {MOST} histories");
}

#[test]
fn a_reader_that_does_not_compare_is_noticed() {
    is_noticed::<u64>(Flaw::StaleReader);
    is_noticed::<[u64; 16]>(Flaw::StaleReader);
}

#[test]
fn a_commit_that_compares_first_and_replaces_then_is_noticed() {
    is_noticed::<u64>(Flaw::CompareThenReplace);
    is_noticed::<[u64; 16]>(Flaw::CompareThenReplace);
}

#[test]
fn a_refused_commit_that_shows_an_old_winner_is_noticed() {
    is_noticed::<u64>(Flaw::OldWinner);
    is_noticed::<[u64; 16]>(Flaw::OldWinner);
}

#[test]
fn an_update_in_two_steps_is_noticed() {
    is_noticed::<u64>(Flaw::UpdateInTwoSteps);
    is_noticed::<[u64; 16]>(Flaw::UpdateInTwoSteps);
}

/// Histories by hand: times, claims, and the verdict of whoever thinks it through.
#[test]
fn both_judges_know_what_linearizable_means() {
    let s = |version: u64| State {
        stamp: Stamp::new(version, 0),
        number: version,
    };
    // The write of a version, on what is there.
    let write = |version: u64| Claim::Replaced {
        base: None,
        written: version,
        previous: s(version - 1),
        published: s(version),
    };
    let changed = |version: u64| Claim::Changed(s(version).stamp);
    let still = |version: u64| Claim::Still(s(version).stamp);
    let overtaken = |base: u64, current: u64| Claim::Overtaken {
        base: Base::Stamp(s(base).stamp),
        current: s(current),
    };
    let is = |version: u64| Claim::Is(s(version));
    type Call = (u64, u64, Claim);
    let cases: &[(&str, bool, &[Call])] = &[
        ("nothing but a birth", true, &[]),
        (
            "one after the other",
            true,
            &[(2, 3, is(0)), (4, 5, write(1)), (6, 7, is(1))],
        ),
        (
            "a read during a write sees the old state",
            true,
            &[(2, 9, write(1)), (3, 4, is(0))],
        ),
        ("or the new one", true, &[(2, 9, write(1)), (3, 4, is(1))]),
        (
            "what one has seen, the next one sees too",
            false,
            &[(2, 9, write(1)), (3, 4, is(1)), (5, 6, is(0))],
        ),
        (
            "unless they overlap",
            true,
            &[(2, 9, write(1)), (3, 5, is(1)), (4, 6, is(0))],
        ),
        (
            "a write that has returned is seen",
            false,
            &[(2, 4, write(1)), (5, 6, is(0))],
        ),
        (
            "equal times overlap",
            true,
            &[(2, 4, write(1)), (4, 6, is(0))],
        ),
        (
            "nobody sees a write before it begins",
            false,
            &[(2, 3, is(1)), (4, 5, write(1))],
        ),
        (
            "equal times overlap here too",
            true,
            &[(2, 4, is(1)), (4, 5, write(1))],
        ),
        ("nobody sees anything before birth", false, &[(0, 0, is(0))]),
        (
            "two writes, called in the other order",
            true,
            &[(2, 9, write(2)), (3, 8, write(1))],
        ),
        (
            "and returned in it",
            false,
            &[(2, 3, write(2)), (4, 5, write(1))],
        ),
        (
            "a version that is made twice",
            false,
            &[(2, 9, write(1)), (3, 8, write(1))],
        ),
        (
            "a version that is left out",
            false,
            &[(2, 9, write(1)), (3, 8, write(3))],
        ),
        (
            "a version that is far too high",
            false,
            &[(2, 9, write(u64::MAX))],
        ),
        (
            "three writes, and reads that must come in between, back to front",
            true,
            &[
                (2, 30, write(3)),
                (2, 30, write(2)),
                (2, 30, write(1)),
                (3, 4, is(1)),
                (5, 6, is(2)),
                (7, 8, is(3)),
            ],
        ),
        (
            "a change that may be seen early is not, because of a later one",
            true,
            &[(2, 30, write(1)), (3, 4, changed(1)), (5, 6, still(1))],
        ),
        (
            "what changed before it had come about stays so",
            true,
            &[(2, 30, write(1)), (3, 4, changed(1)), (5, 6, changed(0))],
        ),
        (
            "no change, where there was one",
            false,
            &[(2, 3, write(1)), (4, 5, still(0))],
        ),
        (
            "a change, where there was none",
            false,
            &[(2, 3, changed(0)), (4, 5, write(1))],
        ),
        (
            "refused by the winner",
            true,
            &[(2, 9, write(1)), (3, 4, overtaken(0, 1))],
        ),
        (
            "refused by a winner who was overtaken himself",
            false,
            &[(2, 3, write(1)), (4, 5, write(2)), (6, 7, overtaken(0, 1))],
        ),
        (
            "refused by what was expected",
            false,
            &[(2, 9, write(1)), (3, 4, overtaken(1, 1))],
        ),
    ];
    for &(name, expected, calls) in cases {
        let record = |thread, call, (called, returned, claim)| Record {
            thread,
            call,
            called,
            returned,
            claim,
            attempts: 1,
        };
        let birth = record(0, "new", (1, 1, Claim::Born(s(0))));
        // Each call on a thread of its own: only times order them.
        let calls = calls
            .iter()
            .zip(1..)
            .map(|(&call, thread)| record(thread, "call", call));
        let records = std::iter::once(birth).chain(calls).collect();
        let history = History { records };
        for (judge, accepts) in verdicts(&history) {
            assert_eq!(accepts, expected, "{judge}, of {name}:\n{history}");
        }
    }
}
