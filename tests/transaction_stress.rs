//! Real threads and transactions: laws that no run may break, and histories that must be strictly serializable.
//!
//! `transaction_stress/money.rs` has transfers under the eyes of auditors, `probes.rs` runs in which one kind of mistake
//! would show at once. `record.rs` records what random calls have seen, and `history.rs` has two judges of that, which
//! are put to a test too: they must notice each way to tamper with a history (`tamper.rs`), and objects that have a flaw.
//!
//! Each is there twice: small in every `cargo test`, and at full size in `cargo stress`. A run in which nobody was ever
//! in another one's way is no evidence: it is repeated, and fails if that doesn't help. `SNAPCELL_SEED` sets the seed
//! from which the threads draw what they do; how that falls together is up to the machine.

#[path = "transaction_stress/history.rs"]
mod history;
#[path = "transaction_stress/money.rs"]
mod money;
#[path = "support/payload.rs"]
mod payload;
#[path = "support/planned.rs"]
mod planned;
#[path = "transaction_stress/probes.rs"]
mod probes;
#[path = "support/race.rs"]
mod race;
#[path = "transaction_stress/record.rs"]
mod record;
#[allow(dead_code, reason = "this test needs little of what others share")]
mod support;
#[path = "transaction_stress/tamper.rs"]
mod tamper;
#[path = "support/tracked.rs"]
mod tracked;

use fastrand::Rng;
use history::{History, Record, State};
use money::{Config, Report};
use payload::Payload;
use race::Seed;
use record::{Flaw, Setup, record};
use std::collections::BTreeMap;
use tracked::Tracked;

/// Runs a probe, and again if nobody was in anybody's way.
fn until_exercised(name: &str, run: impl Fn(u64) -> usize) {
    const MOST: u64 = 20;
    let seed = Seed::get();
    for part in 0..MOST {
        let pressure = run(seed.of(part));
        if pressure > 0 {
            println!("{name}: {pressure} times in each other's way");
            return;
        }
        println!("{name}: nobody was in the way, so this run doesn't count");
    }
    panic!("NOT EXERCISED: {name}, in {MOST} runs");
}

// Money.

type Run = fn(Config, u64) -> Report;

/// Every payload, with its name and its run.
const PAYLOADS: [(&str, Run); 3] = [
    ("u64", money::run::<u64>),
    ("[u64; 16]", money::run::<[u64; 16]>),
    ("Tracked", money::run::<Tracked>),
];

fn money_moves(transfers: usize, tellers: &[usize]) {
    for (name, run) in PAYLOADS {
        for &tellers in tellers {
            for accounts in [2, 9, 40] {
                for yields in [8, 256] {
                    let config = Config {
                        tellers,
                        auditors: 2,
                        accounts,
                        transfers: transfers / tellers,
                        yields,
                    };
                    let name = format!("{name:>9}, {config:?}");
                    until_exercised(&name, |seed| {
                        let report = run(config, seed);
                        println!("{name}: {report:?}");
                        // Among many accounts there may be none.
                        let conflicts = report.conflicts.max(usize::from(accounts > 2));
                        let is_audited = report.audits > 0 && report.given_up > 0;
                        if is_audited { conflicts } else { 0 }
                    });
                }
            }
        }
    }
}

#[test]
fn money_is_neither_made_nor_lost() {
    money_moves(3_000, &[3]);
}

#[test]
#[ignore = "takes a minute in release: run by `cargo stress`"]
fn money_is_neither_made_nor_lost_in_large() {
    money_moves(400_000, &[2, 4, 8]);
}

// Probes.

fn rotate<P: Payload + Clone>(name: &str, rounds: usize, threads: &[usize]) {
    for &threads in threads {
        for entities in [2, 3, 8, 24] {
            until_exercised(
                &format!("{name}, {threads} threads, {entities} entities"),
                |seed| probes::rotation::<P>(threads, entities, rounds / threads, seed),
            );
        }
    }
}

#[test]
fn rotated_values_are_all_there_at_every_moment() {
    rotate::<u64>("u64", 4_000, &[3]);
    rotate::<[u64; 16]>("[u64; 16]", 2_000, &[3]);
}

#[test]
#[ignore = "takes half a minute in release: run by `cargo stress`"]
fn rotated_values_are_all_there_at_every_moment_in_large() {
    rotate::<u64>("u64", 400_000, &[2, 4, 8]);
    rotate::<[u64; 16]>("[u64; 16]", 200_000, &[2, 4, 8]);
}

#[test]
fn two_switches_are_never_both_on() {
    until_exercised("write skew", |seed| probes::write_skew(3, 3_000, seed));
}

#[test]
#[ignore = "takes some seconds in release: run by `cargo stress`"]
fn two_switches_are_never_both_on_in_large() {
    for threads in [2, 4, 8] {
        until_exercised("write skew", |seed| {
            probes::write_skew(threads, 300_000, seed)
        });
    }
}

#[test]
fn no_closure_sees_what_never_existed_together() {
    until_exercised("opacity", |seed| probes::opacity(3, 3_000, seed));
}

#[test]
#[ignore = "takes some seconds in release: run by `cargo stress`"]
fn no_closure_sees_what_never_existed_together_in_large() {
    for threads in [2, 4, 8] {
        until_exercised("opacity", |seed| probes::opacity(threads, 200_000, seed));
    }
}

#[test]
fn whoever_has_seen_one_half_sees_the_other() {
    for entities in [2, 5, 17] {
        until_exercised("causality", |seed| {
            probes::causality(4, entities, 800, seed)
        });
    }
}

#[test]
#[ignore = "takes some seconds in release: run by `cargo stress`"]
fn whoever_has_seen_one_half_sees_the_other_in_large() {
    for entities in [2, 5, 17, 100] {
        until_exercised("causality", |seed| {
            probes::causality(6, entities, 400_000 / entities, seed)
        });
    }
}

#[test]
fn plain_commits_and_transactions_on_the_same_entities_count_alike() {
    for entities in [1, 2, 7] {
        until_exercised("mixed", |seed| probes::mixed(3, entities, 1_500, seed));
    }
}

#[test]
#[ignore = "takes some seconds in release: run by `cargo stress`"]
fn plain_commits_and_transactions_on_the_same_entities_count_alike_in_large() {
    for (threads, entities) in [(2, 1), (4, 2), (8, 7), (16, 3)] {
        until_exercised("mixed", |seed| {
            probes::mixed(threads, entities, 400_000 / threads, seed)
        });
    }
}

#[test]
fn entities_end_while_others_help() {
    until_exercised("market", |seed| {
        probes::entities_come_and_go(4, 2_000, seed)
    });
}

#[test]
#[ignore = "takes some seconds in release: run by `cargo stress`"]
fn entities_end_while_others_help_in_large() {
    for threads in [4, 8] {
        until_exercised("market", |seed| {
            probes::entities_come_and_go(threads, 200_000, seed)
        });
    }
}

#[test]
fn threads_end_while_others_go_on() {
    until_exercised("generations", |seed| probes::threads_come_and_go(30, seed));
}

#[test]
#[ignore = "takes some seconds in release: run by `cargo stress`"]
fn threads_end_while_others_go_on_in_large() {
    until_exercised("generations", |seed| {
        probes::threads_come_and_go(5_000, seed)
    });
}

#[test]
fn nobody_waits_for_ever_and_no_two_have_the_same_fork() {
    until_exercised("philosophers", |seed| probes::philosophers(5, 300, seed));
}

#[test]
#[ignore = "takes some seconds in release: run by `cargo stress`"]
fn nobody_waits_for_ever_and_no_two_have_the_same_fork_in_large() {
    for seats in [2, 5, 13] {
        until_exercised("philosophers", |seed| {
            probes::philosophers(seats, 40_000, seed)
        });
    }
}

// Histories.

const SMALL: Setup = Setup {
    threads: 2,
    entities: 2,
    rounds: 300,
    steps: 2..=5,
    yields: 4,
    flaw: Flaw::None,
};

const LARGE: Setup = Setup {
    threads: 4,
    entities: 4,
    rounds: 1,
    steps: 1_500..=1_500,
    yields: 32,
    flaw: Flaw::None,
};

/// What must have happened, each at least once, for a test to count.
const REQUIRED: &[&str] = &[
    "transaction",
    "transaction that only reads",
    "transaction that gives up",
    "fold",
    "try_transaction",
    "try_transaction, blindly",
    "snapshot_of",
    "update",
    "replace",
    "or_else",
    "transaction, overtaken",
    "calls that overlap",
    "reads of what was made by a call that began later",
];

#[derive(Default)]
struct Coverage(BTreeMap<String, usize>);

impl Coverage {
    fn count(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }

    fn add(&mut self, history: &History) {
        self.count("histories");
        let mut by_call: Vec<&Record> = history.records.iter().collect();
        by_call.sort_by_key(|record| record.called);
        let mut latest = 0;
        let mut makers = BTreeMap::new();
        for record in &by_call {
            self.count(record.call);
            if record.attempts > 1 {
                self.count(&format!("{}, overtaken", record.call));
            }
            if record.called <= latest {
                self.count("calls that overlap");
            }
            latest = latest.max(record.returned);
            for (&entity, made) in &record.writes {
                makers.insert((entity, made.version), record.called);
            }
        }
        for record in &by_call {
            for (&entity, seen) in &record.reads {
                if makers.get(&(entity, seen.version)) > Some(&record.called) {
                    self.count("reads of what was made by a call that began later");
                }
            }
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        let is_missing = |what: &&&str| !self.0.contains_key(**what);
        REQUIRED.iter().filter(is_missing).copied().collect()
    }
}

/// A history that is complete, by the numbers too.
fn recorded(setup: &Setup, seed: u64) -> impl Iterator<Item = History> {
    // Others count what waits to be freed in the whole process.
    let histories = tracked::alone(|| record(setup, seed));
    histories.into_iter().map(|mut history| {
        if let Err(violation) = history.look_up() {
            panic!("not serializable: {violation}\n{history}");
        }
        history
    })
}

fn check_by_graph(history: &History) {
    if let Err(violation) = history.judge_by_graph() {
        panic!("not strictly serializable: {violation}");
    }
    let last = history.records.last().expect("somebody looks last");
    for (&entity, seen) in &last.reads {
        let writes = history
            .records
            .iter()
            .filter_map(|record| record.writes.get(&entity));
        let commits = writes.count() as u64 - 1;
        assert_eq!(
            seen.version, commits,
            "the version is the number of commits"
        );
    }
}

/// Checks so many parts, and more until everything that must happen has happened.
fn check_all(setups: &[Setup], parts: u64, by_search: bool) {
    const MOST: u64 = 60;
    let seed = Seed::get();
    let mut coverage = Coverage::default();
    for part in 0..parts.max(MOST) {
        if part >= parts && coverage.missing().is_empty() {
            break;
        }
        for setup in setups {
            for history in recorded(setup, seed.of(part)) {
                check_by_graph(&history);
                if by_search {
                    let order = history.judge_by_search();
                    assert!(
                        order,
                        "the search finds no order, though there is one:\n{history}"
                    );
                }
                coverage.add(&history);
            }
        }
    }
    for (what, times) in &coverage.0 {
        println!("{times:>9} {what}");
    }
    let missing = coverage.missing().join(", ");
    assert!(
        missing.is_empty(),
        "NOT EXERCISED, so this run shows nothing: {missing}"
    );
}

/// Two or three threads, two or three entities.
fn small(rounds: usize) -> Vec<Setup> {
    let sizes = [(2, 2), (3, 2), (3, 3), (4, 2)];
    let setup = |(threads, entities)| Setup {
        threads,
        entities,
        rounds,
        ..SMALL
    };
    sizes.map(setup).to_vec()
}

/// Few entities and many conflicts, or many entities; with many changes of threads in the midst of calls, or few.
fn large(steps: usize) -> Vec<Setup> {
    let sizes = [(2, 2, 16), (4, 4, 4), (4, 9, 64), (8, 3, 32), (8, 20, 16)];
    let setup = |(threads, entities, yields)| Setup {
        threads,
        entities,
        yields,
        steps: steps..=steps,
        ..LARGE
    };
    sizes.map(setup).to_vec()
}

#[test]
fn small_histories_are_strictly_serializable() {
    check_all(&small(200), 2, true);
}

#[test]
fn large_histories_are_strictly_serializable() {
    check_all(&large(800), 1, false);
}

#[test]
#[ignore = "takes a minute in release: run by `cargo stress`"]
fn a_great_many_histories_are_strictly_serializable() {
    check_all(&small(500), 20, true);
    check_all(&large(20_000), 4, false);
}

#[test]
fn each_way_to_tamper_with_a_history_is_noticed() {
    let seed = Seed::get();
    let mut rng = Rng::with_seed(seed.of(0));
    let mut noticed = BTreeMap::new();
    for setup in small(60) {
        for history in recorded(&setup, seed.of(1)) {
            check_by_graph(&history);
            for (name, way) in tamper::WAYS {
                let mut tampered = history.clone();
                if way(&mut tampered, &mut rng).is_none() {
                    continue;
                }
                let by_graph = tampered.judge_by_graph();
                assert!(
                    by_graph.is_err(),
                    "the graph doesn't show that {name}:\n{tampered}"
                );
                let by_search = tampered.judge_by_search();
                assert!(
                    !by_search,
                    "the search doesn't notice that {name}:\n{tampered}"
                );
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

/// In a large history one wrong read is enough.
#[test]
fn a_flaw_in_one_call_of_a_large_history_is_noticed() {
    let seed = Seed::get();
    let mut rng = Rng::with_seed(seed.of(0));
    let mut noticed = 0;
    for setup in large(150) {
        for history in recorded(&setup, seed.of(3)) {
            for (name, way) in tamper::WAYS {
                let mut tampered = history.clone();
                if way(&mut tampered, &mut rng).is_none() {
                    continue;
                }
                assert!(
                    tampered.judge_by_graph().is_err(),
                    "the graph doesn't show that {name}"
                );
                noticed += 1;
            }
        }
    }
    assert!(noticed >= 20, "NOT EXERCISED: {noticed} were changed");
}

/// What they agree on must be both: that a history is fine, and that it isn't.
#[test]
fn the_judges_agree_on_histories_that_were_disturbed() {
    let seed = Seed::get();
    let mut rng = Rng::with_seed(seed.of(0));
    let mut counts = [0; 2];
    for setup in small(150) {
        for history in recorded(&setup, seed.of(2)) {
            let mut disturbed = history;
            for _ in 0..4 {
                tamper::disturb(&mut disturbed, &mut rng);
                let by_graph = disturbed.judge_by_graph();
                let by_search = disturbed.judge_by_search();
                assert_eq!(by_graph.is_ok(), by_search, "{by_graph:?}, of\n{disturbed}");
                counts[usize::from(by_search)] += 1;
                if !by_search {
                    break;
                }
            }
        }
    }
    let [refused, accepted] = counts;
    println!("{accepted} accepted by both, {refused} refused by both");
    assert!(
        accepted > 200 && refused > 200,
        "NOT EXERCISED: one of the verdicts"
    );
}

/// Records histories of an object with this flaw until one is not strictly serializable.
fn is_noticed(flaw: Flaw) {
    const MOST: usize = 20_000;
    let seed = Seed::get();
    let mut tried = 0;
    while tried < MOST {
        let setup = Setup {
            threads: 2 + tried / 50 % 3,
            entities: 2 + tried / 50 % 2,
            rounds: 50,
            flaw,
            ..SMALL
        };
        for mut history in tracked::alone(|| record(&setup, seed.of(tried as u64))) {
            tried += 1;
            let looked_up = history.look_up();
            let by_graph = looked_up.and_then(|()| history.judge_by_graph());
            assert_eq!(by_graph.is_ok(), history.judge_by_search(), "of\n{history}");
            if let Err(violation) = by_graph {
                println!("{flaw:?} is noticed in history {tried}: {violation}");
                return;
            }
        }
    }
    panic!("{flaw:?} has gone unnoticed in {MOST} histories");
}

#[test]
fn commits_one_by_one_are_noticed() {
    is_noticed(Flaw::OneByOne);
}

#[test]
fn reads_outside_of_a_transaction_are_noticed() {
    is_noticed(Flaw::ReadBefore);
}

#[test]
fn looks_one_by_one_are_noticed() {
    is_noticed(Flaw::LookOneByOne);
}

/// Histories by hand: times, reads, writes, and the verdict of whoever thinks it through.
#[test]
fn both_judges_know_what_strictly_serializable_means() {
    /// Called, returned, what is read and what is made, as (entity, version).
    type Call<'c> = (u64, u64, &'c [(usize, u64)], &'c [(usize, u64)]);
    let cases: &[(&str, bool, &[Call<'_>])] = &[
        ("nothing but a birth", true, &[]),
        (
            "both halves of a commit are seen",
            true,
            &[
                (2, 3, &[], &[(0, 1), (1, 1)]),
                (4, 5, &[(0, 1), (1, 1)], &[]),
            ],
        ),
        (
            "one half is seen",
            false,
            &[
                (2, 9, &[], &[(0, 1), (1, 1)]),
                (3, 8, &[(0, 1), (1, 0)], &[]),
            ],
        ),
        (
            "neither is seen, during the commit",
            true,
            &[
                (2, 9, &[], &[(0, 1), (1, 1)]),
                (3, 8, &[(0, 0), (1, 0)], &[]),
            ],
        ),
        (
            "neither is seen, after it has returned",
            false,
            &[
                (2, 3, &[], &[(0, 1), (1, 1)]),
                (4, 5, &[(0, 0), (1, 0)], &[]),
            ],
        ),
        (
            "what one has seen, the next one sees too",
            false,
            &[
                (2, 9, &[], &[(0, 1), (1, 1)]),
                (3, 4, &[(0, 1)], &[]),
                (5, 6, &[(1, 0)], &[]),
            ],
        ),
        (
            "write skew",
            false,
            &[
                (2, 9, &[(0, 0), (1, 0)], &[(0, 1)]),
                (3, 8, &[(0, 0), (1, 0)], &[(1, 1)]),
            ],
        ),
        (
            "the second sees the first",
            true,
            &[
                (2, 9, &[(0, 0), (1, 0)], &[(0, 1)]),
                (3, 8, &[(0, 1), (1, 0)], &[(1, 1)]),
            ],
        ),
        (
            "two looks see independent commits in opposite orders",
            false,
            &[
                (2, 9, &[], &[(0, 1)]),
                (2, 9, &[], &[(1, 1)]),
                (2, 9, &[(0, 1), (1, 0)], &[]),
                (2, 9, &[(0, 0), (1, 1)], &[]),
            ],
        ),
        (
            "they see them in the same order",
            true,
            &[
                (2, 9, &[], &[(0, 1)]),
                (2, 9, &[], &[(1, 1)]),
                (2, 9, &[(0, 1), (1, 0)], &[]),
                (2, 9, &[(0, 1), (1, 1)], &[]),
            ],
        ),
        (
            "an update is lost",
            false,
            &[(2, 9, &[(0, 0)], &[(0, 1)]), (3, 8, &[(0, 0)], &[(0, 2)])],
        ),
        (
            "three that read each other's past in a ring",
            false,
            &[
                (2, 9, &[(1, 0)], &[(0, 1)]),
                (2, 9, &[(2, 0)], &[(1, 1)]),
                (2, 9, &[(0, 0)], &[(2, 1)]),
            ],
        ),
        (
            "the ring is open",
            true,
            &[
                (2, 9, &[(1, 0)], &[(0, 1)]),
                (2, 9, &[(2, 0)], &[(1, 1)]),
                (2, 9, &[(0, 1)], &[(2, 1)]),
            ],
        ),
        (
            "it would be fine, were it not for time",
            false,
            &[(2, 3, &[(1, 0)], &[(0, 1)]), (4, 5, &[(0, 0)], &[(1, 1)])],
        ),
        (
            "equal times overlap",
            true,
            &[(2, 4, &[(1, 0)], &[(0, 1)]), (4, 5, &[(0, 0)], &[])],
        ),
        (
            "time goes by way of a third one that has nothing to do with it",
            false,
            &[
                (2, 3, &[], &[(0, 1)]),
                (4, 5, &[(1, 0)], &[]),
                (6, 7, &[(0, 0)], &[]),
            ],
        ),
    ];
    let state = |(entity, version): (usize, u64)| {
        let number = version * 10 + entity as u64;
        (entity, State { version, number })
    };
    for &(name, expected, calls) in cases {
        let record = |thread, (called, returned, reads, writes): Call<'_>| Record {
            thread,
            call: "call",
            called,
            returned,
            reads: reads.iter().copied().map(state).collect(),
            writes: writes.iter().copied().map(state).collect(),
            attempts: 1,
        };
        let birth = record(0, (1, 1, &[], &[(0, 0), (1, 0), (2, 0)]));
        // Each call on a thread of its own: only times order them.
        let calls = calls
            .iter()
            .zip(1..)
            .map(|(&call, thread)| record(thread, call));
        let records = std::iter::once(birth).chain(calls).collect();
        let history = History { records };
        let by_graph = history.judge_by_graph();
        assert_eq!(
            by_graph.is_ok(),
            expected,
            "the graph, of {name}: {by_graph:?}"
        );
        assert_eq!(history.judge_by_search(), expected, "the search, of {name}");
    }
}
