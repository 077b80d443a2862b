//! The laws: what must be true of every run, whatever the threads did.
//!
//! Each compares two numbers that were counted in different places. The strongest is the replay:
//! all commits, put in the order of the versions that they were given and applied one by one to a
//! fresh target, must give the very state that the threads left, history included.

use crate::args::Arguments;
use crate::run::{Counts, End, Record, Run, Tally};
use crate::workload::{Entry, History, Operation, State, User};
use serde::Serialize;
use snapcell::Stamp;

/// One law, and whether it held.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Law {
    pub(crate) law: &'static str,
    pub(crate) expected: u64,
    pub(crate) found: u64,
    pub(crate) holds: bool,
}

impl Law {
    fn new(law: &'static str, expected: u64, found: u64) -> Self {
        Law {
            law,
            expected,
            found,
            holds: expected == found,
        }
    }
}

/// Checks them all.
pub(crate) fn check(arguments: &Arguments, run: &Run, counts: &Counts) -> Vec<Law> {
    let mut laws = identity(arguments, run, counts);
    laws.extend(effects(arguments, run, counts));
    laws.extend(lineage(arguments, run));
    laws.extend(memory(arguments, run, counts));
    laws
}

/// Each operation is accounted for, once.
fn identity(arguments: &Arguments, run: &Run, counts: &Counts) -> Vec<Law> {
    let succeeded = counts.committed + counts.unchanged;
    let others = counts.rejected + counts.failed + counts.cancelled + counts.unfinished;
    let ended = |wanted: fn(End) -> bool| {
        let ends = records(run).filter(|(_, record)| wanted(record.end));
        ends.count() as u64
    };
    let over_budget = records(run).filter(|(_, record)| {
        let allowed = arguments.budget(drawn(arguments, record).priority);
        record.attempts.saturating_sub(1) > allowed
    });
    let recorded_attempts = records(run).map(|(_, record)| u64::from(record.attempts));
    vec![
        Law::new(
            "every operation was submitted",
            u64::from(arguments.operations),
            run.submitted,
        ),
        Law::new(
            "submitted = succeeded + rejected + failed + cancelled + unfinished",
            run.submitted,
            succeeded + others,
        ),
        Law::new(
            "succeeded = committed + unchanged, by the records",
            ended(|end| matches!(end, End::Committed(_))),
            succeeded,
        ),
        Law::new(
            "rejected, by the records",
            ended(|end| end == End::Rejected),
            counts.rejected,
        ),
        Law::new("unfinished after the drain", 0, counts.unfinished),
        Law::new("failed for any reason but a conflict", 0, counts.failed),
        Law::new(
            "attempts, by the records",
            recorded_attempts.sum(),
            counts.attempts,
        ),
        Law::new(
            "attempts = conflicts + commits",
            counts.attempts,
            counts.conflicts + counts.committed + counts.failed,
        ),
        Law::new(
            "operations beyond their budget",
            0,
            over_budget.count() as u64,
        ),
    ]
}

/// What the targets show is what the committed operations did.
fn effects(arguments: &Arguments, run: &Run, counts: &Counts) -> Vec<Law> {
    let hitting = records(run).filter(|(_, record)| {
        matches!(record.end, End::Committed(_)) && drawn(arguments, record).kind.hits()
    });
    let states = || run.finals.iter().map(|(_, state)| state);
    vec![
        Law::new(
            "sum of hits = committed increments + accumulates + versions",
            hitting.count() as u64,
            states().map(|state| state.hits).sum(),
        ),
        Law::new(
            "sum of modifications = commits",
            counts.committed,
            states().map(|state| state.modifications).sum(),
        ),
        Law::new(
            "targets whose version is their number of modifications",
            run.finals.len() as u64,
            count(&run.finals, |(stamp, state)| {
                stamp.version() == state.modifications
            }),
        ),
    ]
}

/// The commits of each target form one line, and the targets are where it leads to.
fn lineage(arguments: &Arguments, run: &Run) -> Vec<Law> {
    let lines = lines(arguments, run);
    let all = run.finals.len() as u64;
    let ends: Vec<_> = lines.iter().zip(&run.finals).collect();
    vec![
        Law::new(
            "targets whose commits got the versions 1, 2, 3 … once each",
            all,
            count(&lines, |line| {
                (1..)
                    .zip(line)
                    .all(|(n, commit)| commit.stamp.version() == n)
            }),
        ),
        Law::new(
            "targets whose time never went backwards",
            all,
            count(&lines, |line| {
                line.is_sorted_by_key(|commit| commit.stamp.time())
            }),
        ),
        Law::new(
            "targets whose history is in the order of commits and of the right length",
            all,
            count(&run.finals, |(stamp, state)| is_history(*stamp, state)),
        ),
        Law::new(
            "targets that are what the replay of their commits gives",
            all,
            count(&ends, |(line, (_, state))| {
                replay(arguments, line) == *state
            }),
        ),
    ]
}

/// Everything that was replaced was dropped, once.
fn memory(arguments: &Arguments, run: &Run, counts: &Counts) -> Vec<Law> {
    let tokens = run.tokens_after_all;
    vec![
        Law::new(
            "values made = targets + attempts",
            u64::from(arguments.targets) + counts.attempts,
            tokens.made,
        ),
        Law::new("values dropped = values made", tokens.made, tokens.dropped),
        Law::new(
            "sum of marks, made less dropped (not 0: one twice, another never)",
            0,
            tokens.marks_left,
        ),
        Law::new(
            "nodes that wait to be freed, after all",
            0,
            run.lag_after_all.nodes as u64,
        ),
        Law::new(
            "bytes that wait to be freed, after all",
            0,
            run.lag_after_all.bytes as u64,
        ),
        Law::new("destructors that panicked", 0, run.destructor_panics),
    ]
}

/// One committed operation.
struct Commit {
    stamp: Stamp,
    user: User,
}

/// The commits of each target, in the order of their versions.
fn lines(arguments: &Arguments, run: &Run) -> Vec<Vec<Commit>> {
    let mut lines: Vec<Vec<Commit>> = run.finals.iter().map(|_| Vec::new()).collect();
    for (tally, record) in records(run) {
        if let End::Committed(stamp) = record.end {
            let user = User {
                thread: tally.thread,
                operation: record.operation,
            };
            lines[drawn(arguments, record).target].push(Commit { stamp, user });
        }
    }
    for line in &mut lines {
        line.sort_unstable_by_key(|commit| commit.stamp);
    }
    lines
}

/// What a target becomes by these commits, one after another and on one thread.
fn replay(arguments: &Arguments, line: &[Commit]) -> State {
    line.iter().fold(State::default(), |state, commit| {
        let id = commit.user.operation;
        let operation = Operation::draw(arguments.seed, id, arguments.targets);
        state.after(&operation, commit.user)
    })
}

/// Whether the history ends with the last commit, goes back from there without a gap, and is as
/// long as it should be.
fn is_history(stamp: Stamp, state: &State) -> bool {
    let entries = state.history.entries();
    let length = History::length_after(stamp.version());
    let dropped = stamp.version() - length;
    let is_next = |(entry, before): (&Entry, u64)| entry.modification == before + 1;
    entries.len() as u64 == length && entries.iter().zip(dropped..).all(is_next)
}

/// All records, each with the tally of its thread.
pub(crate) fn records(run: &Run) -> impl Iterator<Item = (&Tally, &Record)> {
    run.tallies
        .iter()
        .flat_map(|tally| tally.records.iter().map(move |record| (tally, record)))
}

/// The operation of a record.
pub(crate) fn drawn(arguments: &Arguments, record: &Record) -> Operation {
    Operation::draw(arguments.seed, record.operation, arguments.targets)
}

fn count<T>(items: &[T], holds: impl Fn(&T) -> bool) -> u64 {
    items.iter().filter(|item| holds(item)).count() as u64
}
