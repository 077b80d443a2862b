//! The account of a run: one structure, printed as text or as JSON.
//!
//! The sections are those of the original's final reports, and what these lack. No figure is derived from others where it
//! can be counted, and the verdict follows from the laws.

pub(crate) mod compare;
mod groups;
pub(crate) mod json;
mod mechanisms;
pub(crate) mod plot;
pub(crate) mod text;

use crate::args::{Arguments, Policy};
use crate::books::{Books, End, Entry, Why};
use crate::clock::nanoseconds;
use crate::laws::{self, Law};
use crate::mix::Check;
use crate::run::Run;
use clap::ValueEnum;
use compare::Comparison;
use groups::{
    Group, TargetRow, Times, classes, fairness, kinds, submitter_fairness, targets, ways,
};
use mechanisms::{Mechanism, mechanisms, verdict};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::thread;
use std::time::Duration;

/// Everything there is to say about a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    settings: Settings,
    performance: Performance,
    attempts: Attempts,
    classes: Vec<Group>,
    kinds: Vec<Group>,
    ways: Vec<Group>,
    targets: Vec<TargetRow>,
    /// The fewest commits of a target over the most; and of a submitter.
    target_fairness: f64,
    submitter_fairness: f64,
    memory: Memory,
    mechanisms: Vec<Mechanism>,
    scenarios: Vec<Check>,
    laws: Vec<Law>,
    /// Rounds with less work, that no conflict occurred in.
    earlier_rounds: Vec<Round>,
    comparison: Option<Comparison>,
    /// What was wrong, in the first few cases.
    complaints: Vec<String>,
    pub(crate) verdict: String,
    pub(crate) exit_code: u8,
}

#[derive(Debug, Serialize)]
struct Settings {
    mix: String,
    policy: String,
    backoff: String,
    operations: Option<u32>,
    duration_ns: Option<u64>,
    rate: Option<u32>,
    targets: u32,
    batch: u32,
    threads: u32,
    workers: u32,
    cores: usize,
    work_ns: u64,
    beside_percent: u32,
    cancel_percent: u32,
    capacity: u32,
    retries_structural: u32,
    retries_normal: u32,
    retries_low: u32,
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Performance {
    handed_out: u64,
    not_taken: u64,
    submitted: u64,
    succeeded: u64,
    committed: u64,
    unchanged: u64,
    rejected: u64,
    rejected_why: BTreeMap<&'static str, u64>,
    failed: u64,
    cancelled: u64,
    unfinished: u64,
    /// Succeeded over submitted.
    completion: f64,
    elapsed_ns: u64,
    submissions_per_second: f64,
    commits_per_second: f64,
    latency_ns: Times,
    queueing_ns: Times,
}

#[derive(Debug, Serialize)]
struct Attempts {
    attempts: u64,
    /// Those that lost to another commit.
    lost: u64,
    /// Of operations that succeeded in the end, and of others.
    absorbed: u64,
    in_vain: u64,
    /// Operations whose conflict reached the caller: their budget was used up.
    escaped: u64,
    /// What closures met by themselves, and tried again.
    met_by_closures: u64,
    first_tries: u64,
    /// Lost attempts over attempts.
    wasted_attempts: f64,
    /// The time that closures ran, all threads together; and that part of it that came to nothing.
    worked_ns: u64,
    wasted_ns: u64,
    merges: u64,
    /// Commits that published several operations together.
    folds: u64,
    /// Operations by the number of their retries.
    retries: BTreeMap<u32, u64>,
}

#[derive(Debug, Serialize)]
struct Memory {
    /// Of the whole process, the books of this program included.
    peak_rss_bytes: Option<u64>,
    values_made: u64,
    values_freed_during_run: u64,
    lag_nodes: usize,
    lag_bytes: usize,
    lag_nodes_after_all: usize,
    values_left_after_all: u64,
    operations_left_in_lanes: usize,
    operations_in_flight: u64,
    closures_left_after_all: u64,
    engine_is_clean: bool,
}

/// An earlier round of `--require-conflicts`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    work_ns: u64,
    committed: u64,
    conflicts: u64,
}

impl Report {
    /// Sums a run up, and checks it.
    pub(crate) fn new(arguments: &Arguments, run: &Run, earlier: &[Round]) -> Self {
        let books = &run.books;
        let laws = laws::check(arguments, run);
        let performance = Performance::new(run);
        let attempts = Attempts::new(run);
        let mechanisms = mechanisms(arguments, run, &attempts);
        let targets = targets(run);
        let memory = Memory::new(run);
        let commits = targets.iter().map(|target| target.committed);
        let target_fairness = fairness(commits);
        let (verdict, exit_code) = verdict(&laws, &mechanisms, &performance, &attempts);
        let comparison = arguments.compare.then(|| {
            let succeeded = run.checks.iter().filter(|check| check.holds).count();
            Comparison::new(
                arguments,
                &performance,
                &attempts,
                &memory,
                (succeeded, run.checks.len()),
            )
        });
        let complaints = books.complaints.iter().chain(&run.outcome.complaints);
        Report {
            settings: Settings::new(arguments),
            classes: classes(books),
            kinds: kinds(run),
            ways: ways(books),
            target_fairness,
            submitter_fairness: submitter_fairness(books),
            complaints: complaints.cloned().collect(),
            scenarios: run.checks.clone(),
            earlier_rounds: earlier.to_vec(),
            performance,
            attempts,
            targets,
            memory,
            mechanisms,
            laws,
            comparison,
            verdict,
            exit_code,
        }
    }

    pub(crate) fn all_laws_hold(&self) -> bool {
        self.laws.iter().all(|law| law.holds)
    }

    /// Whether conflicts are required, and none occurred.
    pub(crate) fn misses_conflicts(&self) -> bool {
        self.mechanisms.iter().any(Mechanism::is_missing)
    }

    /// What a later round's report says of this one.
    pub(crate) fn round(&self) -> Round {
        Round {
            work_ns: self.settings.work_ns,
            committed: self.performance.committed,
            conflicts: self.attempts.conflicts(),
        }
    }
}

/// As it is written on the command line.
fn name_of(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Settings {
    fn new(arguments: &Arguments) -> Self {
        Settings {
            mix: name_of(&arguments.mix),
            policy: name_of(&arguments.policy),
            backoff: name_of(&arguments.backoff),
            operations: arguments.is_counted().then(|| arguments.operations()),
            duration_ns: arguments.duration.map(nanoseconds),
            rate: arguments.rate,
            targets: arguments.targets(),
            batch: arguments.batch(),
            threads: arguments.threads,
            workers: arguments.workers(),
            cores: thread::available_parallelism().map_or(1, NonZero::get),
            work_ns: nanoseconds(arguments.work),
            beside_percent: arguments.beside(),
            cancel_percent: arguments.cancel,
            capacity: arguments.capacity,
            retries_structural: arguments.structural_retries(),
            retries_normal: arguments.retries(),
            retries_low: arguments.low_retries(),
            seed: arguments.seed,
        }
    }
}

impl Performance {
    fn new(run: &Run) -> Self {
        let books = &run.books;
        let sums = books.sums(|_| true);
        let succeeded = sums.committed + sums.unchanged;
        let per_second = |events: u64, time: Duration| match time.is_zero() {
            true => 0.0,
            false => events as f64 / time.as_secs_f64(),
        };
        let why = Why::ALL
            .into_iter()
            .map(|(why, name)| (name, books.count(|entry| entry.end == End::Rejected(why))));
        Performance {
            handed_out: run.handed_out,
            not_taken: books.count(|entry| entry.end == End::NotTaken),
            submitted: sums.submitted,
            succeeded,
            committed: sums.committed,
            unchanged: sums.unchanged,
            rejected: sums.rejected,
            rejected_why: why.filter(|(_, many)| *many > 0).collect(),
            failed: sums.failed,
            cancelled: sums.cancelled,
            unfinished: run.unfinished,
            completion: ratio(succeeded, sums.submitted),
            elapsed_ns: nanoseconds(run.elapsed),
            submissions_per_second: per_second(sums.submitted, run.submitting),
            commits_per_second: per_second(sums.committed, run.elapsed),
            latency_ns: Times::of(books.entries.iter().filter_map(latency)),
            queueing_ns: Times::of(books.entries.iter().filter_map(Entry::queueing)),
        }
    }
}

/// Of what was taken.
fn latency(entry: &Entry) -> Option<Duration> {
    (entry.end != End::NotTaken).then(|| entry.latency())
}

impl Attempts {
    fn new(run: &Run) -> Self {
        let books = &run.books;
        let entries = || books.entries.iter();
        let lost = |wanted: fn(&Entry) -> bool| -> u64 {
            entries()
                .filter(|entry| wanted(entry))
                .map(|entry| u64::from(entry.lost()))
                .sum()
        };
        let attempts: u64 = entries().map(|entry| u64::from(entry.attempts)).sum();
        let mut retries = BTreeMap::new();
        for entry in entries().filter(|entry| entry.attempts > 0) {
            *retries.entry(entry.attempts - 1).or_default() += 1;
        }
        let all_lost = lost(|_| true);
        Attempts {
            attempts,
            lost: all_lost,
            absorbed: lost(Entry::has_succeeded),
            in_vain: lost(|entry| !entry.has_succeeded()),
            escaped: books.count(|entry| entry.end == End::Rejected(Why::Exhausted)),
            met_by_closures: run.outcome.conflicts,
            first_tries: books.count(is_first_try),
            wasted_attempts: ratio(all_lost, attempts),
            worked_ns: entries().map(|entry| entry.all_ns).sum(),
            wasted_ns: entries().map(Entry::wasted_ns).sum(),
            merges: entries().map(|entry| u64::from(entry.merges)).sum(),
            folds: folds(books),
            retries,
        }
    }

    /// Whatever lost to somebody else.
    fn conflicts(&self) -> u64 {
        self.lost + self.met_by_closures
    }
}

fn is_first_try(entry: &Entry) -> bool {
    entry.attempts == 1 && entry.has_succeeded()
}

/// Versions of targets that several operations got together.
fn folds(books: &Books) -> u64 {
    let mut versions: BTreeMap<(usize, u64), u64> = BTreeMap::new();
    for entry in books.entries.iter().filter(|entry| entry.is_committed()) {
        if let Some(stamp) = entry.stamp {
            *versions
                .entry((entry.drawn.target, stamp.version()))
                .or_default() += 1;
        }
    }
    versions.values().filter(|many| **many > 1).count() as u64
}

impl Memory {
    fn new(run: &Run) -> Self {
        let after = run.tokens_after_all;
        Memory {
            peak_rss_bytes: peak_rss(),
            values_made: run.tokens.made,
            values_freed_during_run: run.tokens.dropped,
            lag_nodes: run.lag.nodes,
            lag_bytes: run.lag.bytes,
            lag_nodes_after_all: run.lag_after_all.nodes,
            values_left_after_all: after.made.abs_diff(after.dropped),
            operations_left_in_lanes: run.waiting,
            operations_in_flight: run.unfinished,
            closures_left_after_all: run.closures_left,
            engine_is_clean: run.is_clean,
        }
    }
}

/// The most memory that this process had, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// 0 where there is nothing to compare with.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Whether an operation may be rejected for nothing but that there is a better one.
fn drops_losers(policy: Policy) -> bool {
    policy == Policy::Winner
}
