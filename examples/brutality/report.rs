//! The account of a run: one structure, printed as text or as JSON.
//!
//! The sections are those of the original's final report, without its two faults: no figure is
//! derived from others where it can be counted, and the verdict follows from the laws.

mod text;

use crate::args::Arguments;
use crate::checks::{self, Law, drawn, records};
use crate::run::{Counts, End, Record, Run};
use crate::workload::{Kind, Operation, Priority};
use serde::Serialize;
use std::fs;
use std::num::NonZero;
use std::thread;

/// Everything there is to say about a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    settings: Settings,
    performance: Performance,
    conflicts: Conflicts,
    priorities: Vec<Group>,
    kinds: Vec<Group>,
    targets: Vec<TargetRow>,
    /// The fewest commits of a target over the most.
    fairness: f64,
    memory: Memory,
    mechanisms: Vec<Mechanism>,
    laws: Vec<Law>,
    /// Rounds with less work, that no conflict occurred in.
    earlier_rounds: Vec<Round>,
    reference: Reference,
    /// The first error that was no conflict, if there was one.
    failure: Option<String>,
    pub(crate) verdict: String,
    pub(crate) exit_code: u8,
}

#[derive(Debug, Serialize)]
struct Settings {
    operations: u32,
    targets: u32,
    threads: u32,
    cores: usize,
    batch: u32,
    work_ns: u64,
    retries_normal: u32,
    retries_high: u32,
    retries_critical: u32,
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Performance {
    submitted: u64,
    succeeded: u64,
    committed: u64,
    unchanged: u64,
    rejected: u64,
    failed: u64,
    cancelled: u64,
    unfinished: u64,
    /// Succeeded over submitted.
    completion: f64,
    elapsed_ns: u64,
    submissions_per_second: f64,
    commits_per_second: f64,
    threads_that_took_part: usize,
    latency_ns: Times,
    queueing_ns: Times,
}

#[derive(Debug, Serialize)]
struct Conflicts {
    attempts: u64,
    conflicts: u64,
    /// Lost attempts of operations that committed in the end.
    absorbed: u64,
    /// Lost attempts of operations that were rejected.
    in_vain: u64,
    /// Operations whose conflict reached the caller: the rejected ones.
    escaped: u64,
    first_tries: u64,
    /// Lost attempts over attempts.
    wasted_work: f64,
    histogram: Vec<Bucket>,
    /// Time between attempts, all threads together; `None` where the crate's own loop waited.
    backing_off_ns: Option<u64>,
}

/// Operations that ended after so many attempts.
#[derive(Debug, Serialize)]
struct Bucket {
    from: u32,
    to: Option<u32>,
    operations: u64,
}

/// Operations that have something in common.
#[derive(Debug, Serialize)]
struct Group {
    name: &'static str,
    submitted: u64,
    committed: u64,
    rejected: u64,
    conflicts: u64,
    first_tries: u64,
    mean_attempts: f64,
    most_attempts: u32,
    latency_ns: Times,
}

#[derive(Debug, Serialize)]
struct TargetRow {
    hits: u64,
    total: u64,
    last_user_thread: u32,
    last_user_operation: u32,
    modifications: u64,
    version: u64,
    history_length: usize,
    conflicts: u64,
    rejected: u64,
}

#[derive(Debug, Serialize)]
struct Memory {
    /// Of the whole process, the records of this program included.
    peak_rss_bytes: Option<u64>,
    values_made: u64,
    values_freed_during_run: u64,
    lag_nodes: usize,
    lag_bytes: usize,
    lag_nodes_after_all: usize,
}

/// Something that a run may or may not bring about. If it doesn't, the run says nothing about it.
#[derive(Debug, Serialize)]
struct Mechanism {
    name: &'static str,
    fired: u64,
    required: bool,
}

/// An earlier round of `--require-conflicts`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    work_ns: u64,
    committed: u64,
    conflicts: u64,
}

/// What the original measured with its own settings: the same operations, targets and batches, 5 ms
/// of work, 2 cores, one process of coroutines.
#[derive(Debug, Serialize)]
struct Reference {
    submitted: u64,
    committed: u64,
    commits_per_second: f64,
    occ_conflicts: u64,
    peak_rss_bytes: u64,
}

const REFERENCE: Reference = Reference {
    submitted: 27_600,
    committed: 828,
    commits_per_second: 19.4,
    occ_conflicts: 0,
    peak_rss_bytes: 82_000_000,
};

/// What times were like, in nanoseconds.
#[derive(Debug, Serialize)]
struct Times {
    mean: u64,
    p50: u64,
    p95: u64,
    p99: u64,
    max: u64,
}

impl Report {
    /// Sums a run up, and checks it.
    pub(crate) fn new(arguments: &Arguments, run: &Run, earlier: &[Round]) -> Self {
        let counts = run
            .tallies
            .iter()
            .fold(Counts::default(), |sum, tally| sum.plus(&tally.counts));
        let laws = checks::check(arguments, run, &counts);
        let mechanisms = mechanisms(arguments, run, &counts);
        let targets = targets(arguments, run);
        let commits = || targets.iter().map(|target| target.modifications);
        let fairness = ratio(commits().min().unwrap_or(0), commits().max().unwrap_or(0));
        let (verdict, exit_code) = verdict(&laws, &mechanisms, &counts);
        Report {
            settings: Settings::new(arguments),
            performance: Performance::new(run, &counts),
            conflicts: Conflicts::new(arguments, run, &counts),
            priorities: priorities(arguments, run),
            kinds: kinds(arguments, run),
            fairness,
            targets,
            memory: Memory::new(run),
            mechanisms,
            laws,
            earlier_rounds: earlier.to_vec(),
            reference: REFERENCE,
            failure: run.tallies.iter().find_map(|tally| tally.failure.clone()),
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
            conflicts: self.conflicts.conflicts,
        }
    }
}

impl Settings {
    fn new(arguments: &Arguments) -> Self {
        Settings {
            operations: arguments.operations,
            targets: arguments.targets,
            threads: arguments.threads,
            cores: thread::available_parallelism().map_or(1, NonZero::get),
            batch: arguments.batch,
            work_ns: arguments.work.as_nanos() as u64,
            retries_normal: arguments.budget(Priority::Normal),
            retries_high: arguments.budget(Priority::High),
            retries_critical: arguments.budget(Priority::Critical),
            seed: arguments.seed,
        }
    }
}

impl Performance {
    fn new(run: &Run, counts: &Counts) -> Self {
        let succeeded = counts.committed + counts.unchanged;
        let per_second = |events: u64, seconds: f64| {
            if seconds > 0.0 {
                events as f64 / seconds
            } else {
                0.0
            }
        };
        let everything = || records(run).map(|(_, record)| record);
        Performance {
            submitted: run.submitted,
            succeeded,
            committed: counts.committed,
            unchanged: counts.unchanged,
            rejected: counts.rejected,
            failed: counts.failed,
            cancelled: counts.cancelled,
            unfinished: counts.unfinished,
            completion: ratio(succeeded, run.submitted),
            elapsed_ns: run.elapsed.as_nanos() as u64,
            submissions_per_second: per_second(run.submitted, run.submitting.as_secs_f64()),
            commits_per_second: per_second(counts.committed, run.elapsed.as_secs_f64()),
            threads_that_took_part: working_threads(run),
            latency_ns: Times::of(everything().map(|record| record.latency_ns).collect()),
            queueing_ns: Times::of(everything().map(|record| record.queued_ns).collect()),
        }
    }
}

/// Threads that came in time to run something.
fn working_threads(run: &Run) -> usize {
    let worked = run.tallies.iter().filter(|tally| !tally.records.is_empty());
    worked.count()
}

impl Conflicts {
    fn new(arguments: &Arguments, run: &Run, counts: &Counts) -> Self {
        let everything = || records(run).map(|(_, record)| record);
        let lost_where = |wanted: fn(End) -> bool| {
            let chosen = everything().filter(|record| wanted(record.end));
            chosen.map(lost).sum()
        };
        let backing_off = run.tallies.iter().map(|tally| tally.backing_off.as_nanos());
        Conflicts {
            attempts: counts.attempts,
            conflicts: counts.conflicts,
            absorbed: lost_where(|end| matches!(end, End::Committed(_))),
            in_vain: lost_where(|end| end == End::Rejected),
            escaped: counts.rejected,
            first_tries: everything().filter(|record| is_first_try(record)).count() as u64,
            wasted_work: ratio(counts.conflicts, counts.attempts),
            histogram: histogram(everything()),
            backing_off_ns: (!arguments.work.is_zero()).then(|| backing_off.sum::<u128>() as u64),
        }
    }
}

fn histogram<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<Bucket> {
    const STARTS: [u32; 7] = [1, 2, 3, 4, 5, 9, 17];
    let mut buckets: Vec<Bucket> = STARTS
        .iter()
        .enumerate()
        .map(|(i, &from)| Bucket {
            from,
            to: STARTS.get(i + 1).map(|next| next - 1),
            operations: 0,
        })
        .collect();
    for record in records {
        let i = STARTS.partition_point(|&from| from <= record.attempts);
        buckets[i.saturating_sub(1)].operations += 1;
    }
    buckets
}

impl Group {
    fn new<'a>(name: &'static str, members: impl Iterator<Item = &'a Record>) -> Self {
        let members: Vec<&Record> = members.collect();
        let count = |wanted: fn(&Record) -> bool| {
            let chosen = members.iter().filter(|record| wanted(record));
            chosen.count() as u64
        };
        let attempts = members.iter().map(|record| u64::from(record.attempts));
        Group {
            name,
            submitted: members.len() as u64,
            committed: count(|record| matches!(record.end, End::Committed(_))),
            rejected: count(|record| record.end == End::Rejected),
            conflicts: members.iter().map(|record| lost(record)).sum(),
            first_tries: count(is_first_try),
            mean_attempts: ratio(attempts.sum(), members.len() as u64),
            most_attempts: members.iter().map(|r| r.attempts).max().unwrap_or(0),
            latency_ns: Times::of(members.iter().map(|record| record.latency_ns).collect()),
        }
    }
}

fn priorities(arguments: &Arguments, run: &Run) -> Vec<Group> {
    let groups = Priority::ALL.iter().map(|&priority| {
        let members = chosen(arguments, run, move |operation| {
            operation.priority == priority
        });
        Group::new(priority.name(), members)
    });
    groups.collect()
}

fn kinds(arguments: &Arguments, run: &Run) -> Vec<Group> {
    let groups = Kind::ALL.iter().map(|&kind| {
        let members = chosen(arguments, run, move |operation| operation.kind == kind);
        Group::new(kind.name(), members)
    });
    groups.collect()
}

/// The records of the operations that are wanted.
fn chosen<'a>(
    arguments: &'a Arguments,
    run: &'a Run,
    wanted: impl Fn(&Operation) -> bool + 'a,
) -> impl Iterator<Item = &'a Record> {
    records(run)
        .map(|(_, record)| record)
        .filter(move |record| wanted(&drawn(arguments, record)))
}

fn targets(arguments: &Arguments, run: &Run) -> Vec<TargetRow> {
    let rows = run.finals.iter().map(|(stamp, state)| TargetRow {
        hits: state.hits,
        total: state.total,
        last_user_thread: state.last_user.thread,
        last_user_operation: state.last_user.operation,
        modifications: state.modifications,
        version: stamp.version(),
        history_length: state.history.entries().len(),
        conflicts: 0,
        rejected: 0,
    });
    let mut rows: Vec<TargetRow> = rows.collect();
    for (_, record) in records(run) {
        let row = &mut rows[drawn(arguments, record).target];
        row.conflicts += lost(record);
        row.rejected += u64::from(record.end == End::Rejected);
    }
    rows
}

/// The attempts of an operation that lost to another.
fn lost(record: &Record) -> u64 {
    u64::from(match record.end {
        End::Rejected => record.attempts,
        End::Committed(_) | End::Failed => record.attempts.saturating_sub(1),
    })
}

fn is_first_try(record: &Record) -> bool {
    record.attempts == 1 && matches!(record.end, End::Committed(_))
}

impl Memory {
    fn new(run: &Run) -> Self {
        Memory {
            peak_rss_bytes: peak_rss(),
            values_made: run.tokens.made,
            values_freed_during_run: run.tokens.dropped,
            lag_nodes: run.lag.nodes,
            lag_bytes: run.lag.bytes,
            lag_nodes_after_all: run.lag_after_all.nodes,
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

impl Mechanism {
    fn is_missing(&self) -> bool {
        self.required && self.fired == 0
    }
}

fn mechanisms(arguments: &Arguments, run: &Run, counts: &Counts) -> Vec<Mechanism> {
    vec![
        Mechanism {
            name: "optimistic conflict: an attempt lost, and was found out",
            fired: counts.conflicts,
            required: arguments.require_conflicts,
        },
        // Never required: that a budget suffices is the aim.
        Mechanism {
            name: "exhaustion: a budget was used up",
            fired: counts.rejected,
            required: false,
        },
        Mechanism {
            name: "reclamation during the run: a replaced value was freed",
            fired: run.tokens.dropped.saturating_sub(counts.conflicts),
            required: false,
        },
    ]
}

/// What the laws say, and the exit code.
fn verdict(laws: &[Law], mechanisms: &[Mechanism], counts: &Counts) -> (String, u8) {
    let broken: Vec<&str> = laws
        .iter()
        .filter(|law| !law.holds)
        .map(|law| law.law)
        .collect();
    if !broken.is_empty() {
        let (some, all) = (broken.len(), laws.len());
        let list = broken.join("; ");
        return (format!("{some} of {all} laws do NOT hold: {list}"), 1);
    }
    if mechanisms.iter().any(Mechanism::is_missing) {
        let text = "the laws hold, but conflicts were required and none occurred";
        return (text.into(), 2);
    }
    let all = laws.len();
    let rejected = match counts.rejected {
        0 => String::from("no operation was rejected"),
        1 => String::from("one operation was rejected, its budget used up"),
        n => format!(
            "{} operations were rejected, their budgets used up",
            text::grouped(n)
        ),
    };
    let text = match counts.conflicts {
        0 => format!(
            "all {all} laws hold, but no attempt ever lost to another: this run says nothing about \
             conflicts"
        ),
        n => format!(
            "all {all} laws hold, over {} conflicts; {rejected}",
            text::grouped(n)
        ),
    };
    (text, 0)
}

impl Times {
    fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        // The smallest time that so many percent don't exceed.
        let percentile = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        let sum: u64 = times.iter().sum();
        Times {
            mean: sum.checked_div(times.len() as u64).unwrap_or(0),
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
            max: percentile(100),
        }
    }
}

/// 0 where there is nothing to compare with.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
