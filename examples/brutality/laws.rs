//! What must be true of every run, whatever the threads did and whichever mix they did it with.
//!
//! Each law compares two numbers that were counted in different places: by the closures, by the tickets, by the engine,
//! or by the targets. What is particular to a mix is in the file of that.

use crate::args::{Arguments, Policy};
use crate::books::{Books, End, Entry, Sums, Why};
use crate::run::Run;
use serde::Serialize;
use snapcell::{Class, Counts, Policies, Stamp};

/// One law, and whether it held.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Law {
    pub(crate) law: &'static str,
    pub(crate) expected: u64,
    pub(crate) found: u64,
    pub(crate) holds: bool,
}

impl Law {
    pub(crate) fn new(law: &'static str, expected: u64, found: u64) -> Self {
        Law {
            law,
            expected,
            found,
            holds: expected == found,
        }
    }

    /// None of those that the law is about.
    pub(crate) fn none(law: &'static str, found: u64) -> Self {
        Law::new(law, 0, found)
    }

    /// So many, or fewer.
    fn at_most(law: &'static str, most: u64, found: u64) -> Self {
        Law {
            law,
            expected: most,
            found,
            holds: found <= most && (most == 0 || found > 0),
        }
    }
}

/// Checks them all.
pub(crate) fn check(arguments: &Arguments, run: &Run) -> Vec<Law> {
    let books = &run.books;
    let ours = books.sums(|entry| entry.drawn.way.is_counted());
    let mut laws = identity(run, &books.sums(|_| true));
    laws.extend(beside_the_engine(arguments, run, &ours));
    laws.extend(of_metrics(run));
    laws.extend(attempts(arguments, books));
    laws.extend(run.outcome.laws.iter().cloned());
    laws.extend(left_behind(run));
    laws.push(Law::none(
        "checks of scenarios that failed",
        run.checks.iter().filter(|check| !check.holds).count() as u64,
    ));
    laws
}

/// Each operation is accounted for, once.
fn identity(run: &Run, all: &Sums) -> Vec<Law> {
    let books = &run.books;
    let ended = all.committed + all.unchanged + all.rejected + all.failed + all.cancelled;
    let mut ids: Vec<u32> = books.entries.iter().map(|entry| entry.drawn.id).collect();
    ids.sort_unstable();
    ids.dedup();
    vec![
        Law::new(
            "each operation that was handed out has one entry",
            run.handed_out,
            ids.len() as u64,
        ),
        Law::new(
            "handed out = submitted + not taken",
            run.handed_out,
            all.submitted + books.count(|entry| entry.end == End::NotTaken),
        ),
        Law::new(
            "submitted = succeeded + rejected + failed + cancelled + unfinished",
            all.submitted,
            ended + run.unfinished,
        ),
        Law::none("unfinished after the drain", run.unfinished),
        Law::none(
            "failed for a reason that isn't the workload's own",
            books.count(|entry| entry.end == End::Broken),
        ),
        Law::none(
            "rejected for a reason that this program doesn't know",
            books.count(|entry| entry.end == End::Rejected(Why::Other)),
        ),
        Law::none(
            "operations that ended before they began, or began before they were born",
            books.count(|entry| {
                let started = entry.started.unwrap_or(entry.born);
                started < entry.born || entry.ended < started
            }),
        ),
        Law::none(
            "operations of another priority than that of their chain",
            books.count(|entry| entry.end != End::NotTaken && entry.effective != entry.expected),
        ),
    ]
}

/// What the engine has counted is what the tickets have said, in all and for each class.
fn beside_the_engine(arguments: &Arguments, run: &Run, ours: &Sums) -> Vec<Law> {
    let counts = &run.counts;
    let mut laws = vec![
        Law::new("the engine's submitted", ours.submitted, counts.submitted),
        Law::new("the engine's committed", ours.committed, counts.committed),
        Law::new("the engine's unchanged", ours.unchanged, counts.unchanged),
        Law::new("the engine's rejected", ours.rejected, counts.rejected),
        Law::new("the engine's failed", ours.failed, counts.failed),
        Law::new("the engine's cancelled", ours.cancelled, counts.cancelled),
        Law::none("the engine's unfinished", counts.unfinished()),
    ];
    let ended_while_it_stayed_away = |entry: &Entry| {
        let is_other = match entry.end {
            End::Rejected(why) => why != Why::Exhausted,
            end => end == End::Cancelled,
        };
        is_other && entry.started.is_some()
    };
    match arguments.policy {
        // All that are folded lose together, and that is one conflict.
        Policy::Fold => laws.push(Law::at_most(
            "the engine's conflicts, at most the attempts that were lost",
            ours.lost_attempts,
            counts.conflicts,
        )),
        // Of those nobody knows whether the last run was an attempt, or came before the first.
        Policy::Merge if run.books.count(ended_while_it_stayed_away) > 0 => {}
        _ => laws.push(Law::new(
            "the engine's conflicts = attempts that were lost",
            ours.lost_attempts,
            counts.conflicts,
        )),
    }
    laws
}

/// The same for the engine's metrics, which tell classes apart.
fn of_metrics(run: &Run) -> Vec<Law> {
    let policies = Policies::default();
    let told = run.metrics.classes();
    let classes: Vec<_> = policies.iter().collect();
    let ours = |class: Class| {
        run.books
            .sums(|entry| entry.drawn.way.is_counted() && entry.drawn.class == class)
    };
    let is_told = |class: Class, name: &str| {
        let ours = ours(class);
        let of_class = told.iter().find(|kind| kind.class == name);
        let counts = of_class.map_or(Counts::default(), |kind| kind.counts);
        let theirs = [
            counts.submitted,
            counts.committed,
            counts.unchanged,
            counts.rejected,
            counts.failed,
            counts.cancelled,
        ];
        theirs
            == [
                ours.submitted,
                ours.committed,
                ours.unchanged,
                ours.rejected,
                ours.failed,
                ours.cancelled,
            ]
    };
    let first_tries = |entry: &Entry| {
        entry.drawn.way.is_counted() && entry.has_succeeded() && entry.attempts == 1
    };
    vec![
        Law::new(
            "the engine's metrics add up",
            1,
            run.metrics.adds_up().into(),
        ),
        Law::new(
            "classes of which the engine's metrics tell what the tickets do",
            classes.len() as u64,
            count(&classes, |(class, policy)| is_told(*class, policy.name())),
        ),
        Law::new(
            "first tries, by the engine's metrics",
            run.books.count(first_tries),
            told.iter().map(|kind| kind.first_tries).sum(),
        ),
    ]
}

/// Nobody has had more attempts than allowed, and each attempt is a run of a closure.
fn attempts(arguments: &Arguments, books: &Books) -> Vec<Law> {
    let budget = |entry: &Entry| match entry.drawn.class.index() {
        0 => arguments.structural_retries(),
        1 => arguments.retries(),
        _ => arguments.low_retries(),
    };
    let over_budget = books.count(|entry| {
        entry.drawn.way.is_counted() && entry.attempts.saturating_sub(1) > budget(entry)
    });
    let mut laws = vec![Law::none("operations beyond their budget", over_budget)];
    // Before a merge the closure has run beside others, which is no attempt.
    if arguments.policy != Policy::Merge {
        let known = |entry: &&Entry| {
            matches!(
                entry.end,
                End::Committed | End::Unchanged | End::Refused | End::Rejected(Why::Exhausted)
            )
        };
        let known = || books.entries.iter().filter(known);
        laws.push(Law::new(
            "runs of closures = attempts, as tickets and rejections tell them",
            known().map(|entry| u64::from(entry.attempts)).sum(),
            known().map(|entry| u64::from(entry.runs)).sum(),
        ));
    }
    let idle = |entry: &Entry| entry.is_committed() && entry.runs == 0;
    laws.push(Law::none(
        "commits of operations whose closure never ran",
        books.count(idle),
    ));
    laws
}

/// Nothing is left of what the run has used.
fn left_behind(run: &Run) -> Vec<Law> {
    let tokens = run.tokens_after_all;
    let mut laws = vec![
        Law::new(
            "the engine says that nothing is left in it",
            1,
            run.is_clean.into(),
        ),
        Law::none("operations that wait for a target", run.waiting as u64),
        Law::none(
            "nodes that wait to be freed, after all",
            run.lag_after_all.nodes as u64,
        ),
        Law::none(
            "bytes that wait to be freed, after all",
            run.lag_after_all.bytes as u64,
        ),
        Law::new("values dropped = values made", tokens.made, tokens.dropped),
        Law::none(
            "sum of marks, made less dropped (not 0: one twice, another never)",
            tokens.marks_left,
        ),
        Law::none(
            "operations whose closure somebody still has, after all",
            run.closures_left,
        ),
        Law::none("destructors that panicked", run.destructor_panics),
    ];
    if let Some(values) = run.outcome.values {
        laws.push(Law::new(
            "values made = targets + runs of closures",
            values,
            tokens.made,
        ));
    }
    laws
}

/// The laws of lines of commits: of each target, its commits in their order, its version, and what counts its changes.
pub(crate) fn of_lines(policy: Policy, lines: &[(Vec<&Entry>, u64, u64)]) -> Vec<Law> {
    let all = lines.len() as u64;
    let versions = |line: &[&Entry]| -> Vec<u64> {
        let stamps = line.iter().filter_map(|entry| entry.stamp);
        stamps.map(|stamp| stamp.version()).collect()
    };
    let commits = lines.iter().map(|(line, ..)| line.len() as u64);
    let published: u64 = lines
        .iter()
        .map(|(line, ..)| {
            let mut versions = versions(line);
            versions.dedup();
            versions.len() as u64
        })
        .sum();
    let mut laws = vec![
        Law::new(
            "sum of effects = commits",
            commits.sum(),
            lines.iter().map(|(.., changes)| changes).sum(),
        ),
        Law::new(
            "sum of versions = commits that were published",
            published,
            lines.iter().map(|(_, version, _)| version).sum(),
        ),
        Law::new(
            "targets whose commits got the versions 1, 2, 3 … without a gap",
            all,
            count(lines, |(line, version, _)| {
                let mut versions = versions(line);
                versions.dedup();
                versions.iter().copied().eq(1..=*version)
            }),
        ),
        Law::new(
            "targets whose changes are numbered 1, 2, 3 … in the order of their versions",
            all,
            count(lines, |(line, ..)| {
                let numbers = line.iter().map(|entry| entry.modification);
                numbers.eq(1..=line.len() as u64)
            }),
        ),
        Law::new(
            "targets whose time never went backwards",
            all,
            count(lines, |(line, ..)| {
                line.is_sorted_by_key(|entry| entry.stamp.map(|stamp: Stamp| stamp.time()))
            }),
        ),
    ];
    if policy != Policy::Fold {
        laws.push(Law::new(
            "targets whose version is the number of their changes",
            all,
            count(lines, |(_, version, changes)| version == changes),
        ));
    }
    laws
}

pub(crate) fn count<T>(items: &[T], holds: impl Fn(&T) -> bool) -> u64 {
    items.iter().filter(|item| holds(item)).count() as u64
}
