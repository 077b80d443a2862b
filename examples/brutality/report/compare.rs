//! Beside the original: what its tests were measured with, what this run has, and what isn't the same about them.
//!
//! The figures are those of one run of each test of the replaced system, as it was shipped, on a machine with two cores.

use super::{Attempts, Memory, Performance, drops_losers, text};
use crate::args::{Arguments, Mix};
use serde::Serialize;

/// A line for each figure, and the differences.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) original: &'static str,
    pub(crate) rows: Vec<Row>,
    pub(crate) differences: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) original: String,
    pub(crate) here: String,
}

/// What was measured of one test. What it doesn't tell is `None`.
struct Original {
    name: &'static str,
    wall: &'static str,
    submitted: Option<u64>,
    committed: Option<u64>,
    rate: Option<f64>,
    rejected: Option<u64>,
    conflicts: Option<u64>,
    peak: u64,
    differences: &'static [&'static str],
}

const COROUTINES: &str =
    "The original runs coroutines in one process and one thread of Python; here it is threads.";

fn original(mix: Mix) -> Original {
    match mix {
        Mix::Brutality => Original {
            name: "total_brutality_test, run 1",
            wall: "42.6 s",
            submitted: Some(27_600),
            committed: Some(828),
            rate: Some(19.4),
            rejected: Some(26_772),
            conflicts: Some(0),
            peak: 82_000_000,
            differences: &[
                COROUTINES,
                "It works 5 ms in each operation, and submits a batch each 20 ms at best; it has got to 27 600 of its \
                 30 000 when its time is over.",
                "It resolves each batch by dropping all but one operation of a target, before they run.",
            ],
        },
        Mix::Trees => Original {
            name: "dynamic_stress_test, run 1",
            wall: "19.1 s",
            submitted: Some(1_469),
            committed: Some(251),
            rate: Some(14.3),
            rejected: Some(1_218),
            conflicts: None,
            peak: 73_000_000,
            differences: &[
                COROUTINES,
                "It submits 100 operations a second; of what it reports as committed, most changes are in copies that \
                 nobody sees again.",
                "It drops all but one operation of a batch, before they run. Its batches are of 3 to 8.",
            ],
        },
        Mix::Occ => Original {
            name: "occ_stress_test",
            wall: "19.6 s",
            submitted: Some(1_238),
            committed: Some(1_238),
            rate: Some(70.7),
            rejected: Some(0),
            conflicts: Some(0),
            peak: 91_000_000,
            differences: &[
                COROUTINES,
                "It submits 100 operations a second, so few that none of them ever conflicts.",
                "It passes if 95 % succeed, and fewer than half of the attempts are conflicts.",
            ],
        },
        Mix::Hierarchy => Original {
            name: "hierarchy_integration_test",
            wall: "1.0 s",
            submitted: None,
            committed: None,
            rate: None,
            rejected: None,
            conflicts: None,
            peak: 61_000_000,
            differences: &[
                COROUTINES,
                "It is six functional tests of 30 assertions, which all pass. The chains of operations here have no \
                 counterpart there.",
            ],
        },
        Mix::Decorators => Original {
            name: "the decorator test",
            wall: "18.5 s",
            submitted: None,
            committed: Some(133 + 127),
            rate: None,
            rejected: Some(343 + 195),
            conflicts: Some(0),
            peak: 70_000_000,
            differences: &[
                COROUTINES,
                "It doesn't count what it submits by decorator. Its optimistic mode finds no conflict and loses updates: \
                 +100, +200, +300 make +300 there.",
            ],
        },
        Mix::Bank => Original {
            name: "occ_example_tutorial",
            wall: "1.9 s",
            submitted: Some(5),
            committed: Some(0),
            rate: Some(0.0),
            rejected: None,
            conflicts: Some(30),
            peak: 43_000_000,
            differences: &[
                COROUTINES,
                "It ends with 1000 in place of 1250: all of its 30 conflicts are false. It is the five orders of the \
                 scenario; those at size have no counterpart there.",
            ],
        },
    }
}

/// What the original has to reach, and whether this run does.
fn pass_mark(
    mix: Mix,
    performance: &Performance,
    attempts: &Attempts,
) -> Option<(&'static str, bool)> {
    let completion = performance.completion;
    match mix {
        Mix::Brutality => Some(("40 % succeed", completion >= 0.4)),
        Mix::Trees => Some(("10 % are completed", completion >= 0.1)),
        Mix::Occ => Some((
            "95 %, half the attempts",
            completion >= 0.95 && attempts.wasted_attempts < 0.5,
        )),
        _ => None,
    }
}

impl Comparison {
    pub(super) fn new(
        arguments: &Arguments,
        performance: &Performance,
        attempts: &Attempts,
        memory: &Memory,
        (held, checks): (usize, usize),
    ) -> Self {
        let there = original(arguments.mix);
        let told = |number: Option<u64>| number.map_or("not told".into(), text::grouped);
        let share = |part: Option<u64>, whole: Option<u64>| match (part, whole) {
            (Some(part), Some(whole)) => text::share(part, whole),
            (part, _) => told(part),
        };
        let mut rows = vec![
            (
                "duration",
                there.wall.into(),
                text::time(performance.elapsed_ns),
            ),
            (
                "submitted",
                told(there.submitted),
                text::grouped(performance.submitted),
            ),
            (
                "committed",
                share(there.committed, there.submitted),
                text::share(performance.committed, performance.submitted),
            ),
            (
                "commits",
                there.rate.map_or("not told".into(), text::rate),
                text::rate(performance.commits_per_second),
            ),
            (
                "rejected",
                told(there.rejected),
                text::grouped(performance.rejected),
            ),
            (
                "conflicts",
                told(there.conflicts),
                text::grouped(attempts.conflicts()),
            ),
            (
                "peak memory",
                text::megabytes(there.peak),
                memory
                    .peak_rss_bytes
                    .map_or("unknown".into(), text::megabytes),
            ),
            ("laws checked", "0".into(), "see above".into()),
        ];
        if checks > 0 {
            let assertions = match arguments.mix {
                Mix::Hierarchy => "30 of 30",
                Mix::Bank => "0 of 5 orders",
                _ => "not told",
            };
            rows.push((
                "checks in scenarios",
                assertions.into(),
                format!("{held} of {checks}"),
            ));
        }
        if let Some((mark, is_reached)) = pass_mark(arguments.mix, performance, attempts) {
            let reached = if is_reached { "reached" } else { "missed" };
            rows.push(("its pass mark", mark.into(), reached.into()));
        }
        let rows = rows.into_iter().map(|(what, original, here)| Row {
            what,
            original,
            here,
        });
        let mut differences: Vec<String> =
            there.differences.iter().map(ToString::to_string).collect();
        differences.push(format!(
            "Here each attempt works {}, {} threads submit and {} serve, and {} of a hundred operations go beside the \
             lanes.",
            match arguments.work.is_zero() {
                true => "no time at all".into(),
                false => format!("{:?}", arguments.work),
            },
            arguments.threads,
            arguments.workers(),
            arguments.beside(),
        ));
        differences.push(match drops_losers(arguments.policy) {
            true => "Losers of a batch are dropped here as well: the policy says so.".into(),
            false => "Here each operation runs.".into(),
        });
        Comparison {
            original: there.name,
            rows: rows.collect(),
            differences,
        }
    }
}
