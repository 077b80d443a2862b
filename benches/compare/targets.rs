//! What the crate wants to reach, and whether it does.

use crate::results::{Answer, Row, Spread};
use crate::table::{Table, figure, with_spread};
use serde::Serialize;

/// Something to reach.
struct Target {
    what: &'static str,
    question: &'static str,
    case: Where,
    contender: &'static str,
    metric: &'static str,
    goal: Goal,
}

/// Which case of the question.
enum Where {
    /// The one of this name.
    Named(&'static str),
    /// The only one there is.
    Only,
}

use Where::{Named, Only};

/// When it is reached.
enum Goal {
    /// It is at least so many times better than this contender.
    Better(f64, &'static str),
    /// It takes at most so many times the time of this contender.
    Time(f64, &'static str),
    /// The figure is at least this.
    AtLeast(f64),
    /// The figure is at most this.
    AtMost(f64),
    /// It takes at most so much more than this contender.
    More(f64, &'static str),
    /// It takes at most so many times the time of this contender, or so much more.
    TimeOrMore(f64, f64, &'static str),
}

use Goal::{AtLeast, AtMost, Better, More, Time, TimeOrMore};

const fn target(
    what: &'static str,
    (question, case): (&'static str, Where),
    (contender, metric): (&'static str, &'static str),
    goal: Goal,
) -> Target {
    Target {
        what,
        question,
        case,
        contender,
        metric,
        goal,
    }
}

const ALONE: (&str, Where) = ("reads", Named("u64, 1 reader"));
const BESIDE: (&str, Where) = ("reads", Named("u64, 1 reader + writer"));
const THREADS_2: (&str, Where) = ("contention", Named("u64, 2 threads"));
const THREADS_8: (&str, Where) = ("contention", Named("u64, 8 threads"));
const HELD: (&str, Where) = ("garbage", Only);
const READER: (&str, &str) = ("snapcell Reader", "read");
const UPDATE: (&str, &str) = ("snapcell update", "update");
const LOGICAL: (&str, &str) = ("snapcell update, logical clock", "update");
const COMMITS: (&str, &str) = ("snapcell update", "commits");
const TRANSFERS: (&str, &str) = ("snapcell transaction", "transfers");
const TRANSACTION: (&str, &str) = ("snapcell transaction", "transaction");
const LOAD: &str = "arc_swap load";
const RCU: &str = "arc_swap rcu";
const STM: &str = "stm";
const FAST_STM: &str = "fast-stm";

/// A case of transactions.
const fn transactions(case: &'static str) -> (&'static str, Where) {
    ("transactions", Named(case))
}
const TRANSFERS_1: (&str, Where) = transactions("transfers, 64 accounts, 1 thread");
const TRANSFERS_2: (&str, Where) = transactions("transfers, 64 accounts, 2 threads");
const TRANSFERS_4: (&str, Where) = transactions("transfers, 64 accounts, 4 threads");

/// A case of the store, by threads of which each has a core.
const fn store(case: &'static str) -> (&'static str, Where) {
    ("store", Named(case))
}
const BY_ID: (&str, &str) = ("snapcell Store", "operations");
const DASHMAP: &str = "DashMap";
const PAPAYA: &str = "papaya update";

/// A case of the scheduler.
const fn scheduler(case: &'static str) -> (&'static str, Where) {
    ("scheduler", Named(case))
}
const IN_ORDER: (&str, &str) = ("snapcell in order", "operations");
const FOLD: (&str, &str) = ("snapcell fold", "operations");
/// The same, of operations that are said to be short.
const SHORT: (&str, &str) = ("snapcell in order, short ones", "operations");
const SHORT_FOLD: (&str, &str) = ("snapcell fold, short ones", "operations");
const ACTOR: &str = "actor";
const WAITS: (&str, Where) = scheduler("5 ms of waiting in each operation, 3 targets");
const IN_TURN: &str = "snapcell in order, 3 threads";

/// A case of fairness.
const fn fairness(case: &'static str) -> (&'static str, Where) {
    ("fairness", Named(case))
}

/// All of them.
const TARGETS: &[Target] = &[
    target("cached read, unchanged", ALONE, READER, Better(7.0, LOAD)),
    target(
        "cached read, unchanged",
        ALONE,
        READER,
        Time(1.3, "arc_swap Cache"),
    ),
    target(
        "read, with its own pin",
        ALONE,
        ("snapcell read", "read"),
        Better(1.6, LOAD),
    ),
    target(
        "snapshot",
        ALONE,
        ("snapcell snapshot", "read"),
        Better(1.15, "arc_swap load_full"),
    ),
    target(
        "cached read beside a writer",
        BESIDE,
        READER,
        Better(10.0, LOAD),
    ),
    target(
        "that writer",
        BESIDE,
        ("snapcell Reader", "writer"),
        Better(2.0, LOAD),
    ),
    target("update", ("commit", Named("u64")), UPDATE, Better(2.5, RCU)),
    target(
        "update, logical clock",
        ("commit", Named("u64")),
        LOGICAL,
        Better(3.3, RCU),
    ),
    target(
        "update, 128 B",
        ("commit", Named("128 B")),
        UPDATE,
        Better(2.2, RCU),
    ),
    target(
        "update, 1 KiB",
        ("commit", Named("1 KiB")),
        UPDATE,
        Better(2.0, RCU),
    ),
    target(
        "hot entity, 2 threads",
        THREADS_2,
        COMMITS,
        Better(6.0, RCU),
    ),
    target(
        "hot entity, 8 threads",
        THREADS_8,
        COMMITS,
        Better(3.0, RCU),
    ),
    target(
        "slowest of 8 threads",
        THREADS_8,
        ("snapcell update", "fairness"),
        AtLeast(0.2),
    ),
    target(
        "memory of an Entity<u64>",
        ("memory", Only),
        ("snapcell Entity", "memory"),
        AtMost(112.0),
    ),
    target(
        "growth, snapshot held",
        HELD,
        ("snapcell, a snapshot is held", "growth"),
        AtMost(1.0),
    ),
    target(
        "growth, idle Reader",
        HELD,
        ("snapcell, an idle Reader is held", "growth"),
        AtMost(1.0),
    ),
    target(
        "growth, busy Readers",
        HELD,
        ("snapcell, busy Readers", "growth"),
        AtMost(16.0),
    ),
    target(
        "growth, busy with read",
        HELD,
        ("snapcell, busy with read", "growth"),
        AtMost(16.0),
    ),
    target(
        "wake-up of a thread",
        ("waiting", Named("u64, two threads")),
        ("snapcell changed", "one way"),
        Time(1.0, "tokio watch changed"),
    ),
    target(
        "wake-up of a thread",
        ("waiting", Named("u64, two threads")),
        ("snapcell changed", "one way"),
        Time(1.2, "std Mutex + Condvar"),
    ),
    target(
        "wake-up of a task",
        ("waiting", Named("u64, two tasks")),
        ("snapcell changed", "one way"),
        Time(1.0, "tokio watch changed"),
    ),
    target("transfers", TRANSFERS_1, TRANSFERS, Better(2.0, STM)),
    target("transfers", TRANSFERS_1, TRANSFERS, Better(2.0, FAST_STM)),
    target("transfers", TRANSFERS_2, TRANSFERS, Better(1.5, STM)),
    target("transfers", TRANSFERS_2, TRANSFERS, Better(1.5, FAST_STM)),
    target("transfers", TRANSFERS_4, TRANSFERS, Better(1.0, STM)),
    target("transfers", TRANSFERS_4, TRANSFERS, Better(1.0, FAST_STM)),
    target(
        "transaction",
        transactions("2 values read and written"),
        TRANSACTION,
        Better(1.7, FAST_STM),
    ),
    target(
        "transaction",
        transactions("4 values read and written"),
        TRANSACTION,
        Better(1.3, FAST_STM),
    ),
    target(
        "transaction",
        transactions("8 values read and written"),
        TRANSACTION,
        Better(1.2, FAST_STM),
    ),
    target(
        "snapshot of two",
        transactions("snapshot of 2"),
        ("snapcell snapshot_of", "snapshot"),
        Better(4.0, FAST_STM),
    ),
    target(
        "read after a transaction",
        transactions("a read after a write"),
        ("read, after a transaction", "read"),
        Time(1.3, "read, after a commit"),
    ),
    target(
        "by id, 90 % reads",
        store("100 000 entities, 90 % reads, 2 threads"),
        BY_ID,
        Better(1.5, DASHMAP),
    ),
    target(
        "by id, updates",
        store("64 entities, updates, 2 threads"),
        BY_ID,
        Better(0.9, DASHMAP),
    ),
    target(
        "by id, updates",
        store("64 entities, updates, 2 threads"),
        BY_ID,
        Better(10.0, PAPAYA),
    ),
    target(
        "by id, updates",
        store("100 000 entities, updates, 2 threads"),
        BY_ID,
        Better(0.9, DASHMAP),
    ),
    target(
        "by id, updates",
        store("100 000 entities, updates, 2 threads"),
        BY_ID,
        Better(10.0, PAPAYA),
    ),
    // 300 times faster than 0.76 ms.
    target(
        "a version of one node, µs",
        ("tree", Named("1 node")),
        ("snapcell, edit and version, 1 change", "time"),
        AtMost(760.0 / 300.0),
    ),
    // 100 times faster than 2.5 ms.
    target(
        "a version of one change, µs",
        ("tree", Named("101 nodes")),
        ("snapcell, edit and version, 1 change", "time"),
        AtMost(25.0),
    ),
    target(
        "the 1 000th version",
        ("tree", Named("101 nodes, versions of one change")),
        ("snapcell, the 1 000th", "time"),
        Time(1.2, "snapcell, the 20th"),
    ),
    target(
        "what run adds to an update, ns",
        scheduler("alone"),
        ("snapcell run, one operation", "operation"),
        More(40.0, "snapcell update"),
    ),
    target(
        "what run adds to an update, ns",
        scheduler("alone"),
        ("snapcell run, built each time", "operation"),
        More(40.0, "snapcell update"),
    ),
    target(
        "what metrics add to that, ns",
        scheduler("alone"),
        ("snapcell run, one operation", "operation"),
        More(10.0, "snapcell run, without metrics"),
    ),
    target(
        "what metrics add to what is submitted, ns",
        scheduler("alone"),
        ("snapcell stream, served here", "operation"),
        More(10.0, "snapcell stream, served here, without metrics"),
    ),
    target(
        "what a listener adds, ns",
        scheduler("alone"),
        ("snapcell run, each end into a ring", "operation"),
        More(60.0, "snapcell run, one operation"),
    ),
    target(
        "what a listener adds, ns",
        scheduler("alone"),
        ("snapcell run, each end to a handler", "operation"),
        More(60.0, "snapcell run, one operation"),
    ),
    target(
        "what a listener adds to what is submitted, ns",
        scheduler("alone"),
        (
            "snapcell stream, served here, each end into a ring",
            "operation",
        ),
        More(60.0, "snapcell stream, served here"),
    ),
    target(
        "in order",
        scheduler("in order, 1 target, 1 submitter"),
        IN_ORDER,
        Better(0.9, ACTOR),
    ),
    target(
        "in order",
        scheduler("in order, 1 target, 2 submitters"),
        IN_ORDER,
        Better(0.9, ACTOR),
    ),
    target(
        "in order",
        scheduler("in order, 3 targets, 1 submitter"),
        IN_ORDER,
        Better(0.9, ACTOR),
    ),
    target(
        "in order",
        scheduler("in order, 3 targets, 2 submitters"),
        IN_ORDER,
        Better(0.9, ACTOR),
    ),
    target(
        "fold",
        scheduler("fold, 1 target, 1 submitter"),
        FOLD,
        Better(1.5, ACTOR),
    ),
    target(
        "fold",
        scheduler("fold, 1 target, 2 submitters"),
        FOLD,
        Better(1.5, ACTOR),
    ),
    target(
        "fold",
        scheduler("fold, 3 targets, 1 submitter"),
        FOLD,
        Better(1.5, ACTOR),
    ),
    target(
        "fold",
        scheduler("fold, 3 targets, 2 submitters"),
        FOLD,
        Better(1.5, ACTOR),
    ),
    target(
        "batches of 64",
        scheduler("batches, 3 targets, 1 submitter"),
        IN_ORDER,
        Better(1.3, ACTOR),
    ),
    target(
        "batches of 64",
        scheduler("batches, 3 targets, 2 submitters"),
        IN_ORDER,
        Better(1.3, ACTOR),
    ),
    target(
        "in order, short ones",
        scheduler("in order, 1 target, 1 submitter"),
        SHORT,
        Better(0.9, ACTOR),
    ),
    target(
        "in order, short ones",
        scheduler("in order, 1 target, 2 submitters"),
        SHORT,
        Better(0.9, ACTOR),
    ),
    target(
        "in order, short ones",
        scheduler("in order, 3 targets, 1 submitter"),
        SHORT,
        Better(0.9, ACTOR),
    ),
    target(
        "in order, short ones",
        scheduler("in order, 3 targets, 2 submitters"),
        SHORT,
        Better(0.9, ACTOR),
    ),
    target(
        "fold, short ones",
        scheduler("fold, 1 target, 1 submitter"),
        SHORT_FOLD,
        Better(1.5, ACTOR),
    ),
    target(
        "fold, short ones",
        scheduler("fold, 1 target, 2 submitters"),
        SHORT_FOLD,
        Better(1.5, ACTOR),
    ),
    target(
        "fold, short ones",
        scheduler("fold, 3 targets, 1 submitter"),
        SHORT_FOLD,
        Better(1.5, ACTOR),
    ),
    target(
        "fold, short ones",
        scheduler("fold, 3 targets, 2 submitters"),
        SHORT_FOLD,
        Better(1.5, ACTOR),
    ),
    target(
        "batches of 64, short ones",
        scheduler("batches, 3 targets, 1 submitter"),
        SHORT,
        Better(1.3, ACTOR),
    ),
    target(
        "batches of 64, short ones",
        scheduler("batches, 3 targets, 2 submitters"),
        SHORT,
        Better(1.3, ACTOR),
    ),
    target(
        "batches of 64, short ones, folded",
        scheduler("batches, 3 targets, 1 submitter"),
        SHORT_FOLD,
        Better(1.3, ACTOR),
    ),
    target(
        "batches of 64, short ones, folded",
        scheduler("batches, 3 targets, 2 submitters"),
        SHORT_FOLD,
        Better(1.3, ACTOR),
    ),
    // Of the reference's workload; on two cores of an AMD EPYC.
    target(
        "brutality, M/s",
        scheduler("brutality, 3 000 000 operations"),
        ("snapcell submit, 1 thread", "commits"),
        AtLeast(2.0),
    ),
    target(
        "brutality, served by who waits, M/s",
        scheduler("brutality, 3 000 000 operations"),
        ("snapcell submit, 2 threads, served by them", "commits"),
        AtLeast(2.0),
    ),
    target(
        "brutality, M/s",
        scheduler("brutality, 3 000 000 operations"),
        ("snapcell stage of 100, 1 thread", "commits"),
        AtLeast(2.0),
    ),
    target(
        "brutality, short ones, M/s",
        scheduler("brutality, 3 000 000 operations"),
        ("snapcell submit, short ones, 2 threads", "commits"),
        AtLeast(2.0),
    ),
    target(
        "brutality with everything on, M/s",
        scheduler("brutality, 3 000 000 operations"),
        ("snapcell submit, 1 thread, a handler", "commits"),
        AtLeast(1.5),
    ),
    // 600 operations a second is 100 %.
    target(
        "operations that wait, in turn, %",
        WAITS,
        (IN_TURN, "of the bound"),
        AtLeast(97.0),
    ),
    target(
        "their wasted attempts, %",
        WAITS,
        (IN_TURN, "wasted"),
        AtMost(1.0),
    ),
    target(
        "operations that wait beside others, %",
        WAITS,
        ("snapcell prepared, in order, 64 threads", "of the bound"),
        AtLeast(1_500.0),
    ),
    target(
        "operations that wait beside others, %",
        WAITS,
        ("snapcell prepared, fold, 64 threads", "of the bound"),
        AtLeast(1_500.0),
    ),
    target(
        "operations that wait beside others, %",
        WAITS,
        ("snapcell merging, merge, 64 threads", "of the bound"),
        AtLeast(1_500.0),
    ),
    // An operation takes 35 µs.
    target(
        "wait at ten times what can be done",
        fairness("priority 10, 1 target"),
        ("load 10", "p99"),
        TimeOrMore(2.0, 70.0, "load 0.5"),
    ),
    target(
        "wait at ten times what can be done",
        fairness("priority 10, 3 targets"),
        ("load 10", "p99"),
        TimeOrMore(2.0, 70.0, "load 0.5"),
    ),
    target(
        "refused at priority 10, %",
        fairness("priority 10, 1 target"),
        ("load 10", "rejected"),
        AtMost(0.0),
    ),
    target(
        "refused at priority 10, %",
        fairness("priority 10, 1 target"),
        ("load 20", "rejected"),
        AtMost(0.0),
    ),
    target(
        "refused at priority 10, %",
        fairness("priority 10, 3 targets"),
        ("load 10", "rejected"),
        AtMost(0.0),
    ),
    target(
        "refused at priority 10, %",
        fairness("priority 10, 3 targets"),
        ("load 20", "rejected"),
        AtMost(0.0),
    ),
    // Their patience is 100 ms; the rest is for what runs when it ends, and for the machine.
    target(
        "the longest until its end, ms",
        fairness("priority 8, 1 target"),
        ("load 10", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 8, 1 target"),
        ("load 20", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 5, 1 target"),
        ("load 10", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 5, 1 target"),
        ("load 20", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 2, 1 target"),
        ("load 10", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 2, 1 target"),
        ("load 20", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 8, 3 targets"),
        ("load 10", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 8, 3 targets"),
        ("load 20", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 5, 3 targets"),
        ("load 10", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 5, 3 targets"),
        ("load 20", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 2, 3 targets"),
        ("load 10", "longest"),
        AtMost(105.0),
    ),
    target(
        "the longest until its end, ms",
        fairness("priority 2, 3 targets"),
        ("load 20", "longest"),
        AtMost(105.0),
    ),
    target(
        "long operations, reserving",
        fairness("long beside short"),
        ("with reservations", "long"),
        Better(10.0, "without reservations"),
    ),
];

/// A target, and what was measured.
#[derive(Serialize)]
pub(crate) struct Outcome {
    what: &'static str,
    case: String,
    wanted: String,
    /// A ratio or a difference for a target that names a rival, otherwise the figure; `None` if it wasn't measured.
    measured: Option<Spread>,
    is_reached: Option<bool>,
}

/// The targets of the questions that were answered. Medians decide.
pub(crate) fn outcomes(answers: &[Answer]) -> Vec<Outcome> {
    let asked = |target: &&Target| answers.iter().any(|a| a.question == target.question);
    let outcome = |target: &Target| {
        let measured = answers.iter().find_map(|answer| target.measure(answer));
        Outcome {
            what: target.what,
            case: target.case_name(),
            wanted: target.goal.wanted(),
            measured,
            is_reached: measured.map(|measured| target.goal.is_reached(measured.median)),
        }
    };
    TARGETS.iter().filter(asked).map(outcome).collect()
}

/// The table of the targets.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let head = ["target", "case", "wanted", "measured", ""];
    let mut table = Table::new(head.map(str::to_owned).into(), 3);
    for outcome in outcomes {
        let verdict = match outcome.is_reached {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "not measured",
        };
        table.row(vec![
            outcome.what.to_owned(),
            outcome.case.clone(),
            outcome.wanted.clone(),
            outcome.measured.map_or(String::new(), with_spread),
            verdict.to_owned(),
        ]);
    }
    format!("## targets\n\n{}", table.markdown())
}

impl Target {
    fn case_name(&self) -> String {
        match self.case {
            Named(name) => format!("{}: {name}", self.question),
            Only => self.question.to_owned(),
        }
    }

    fn measure(&self, answer: &Answer) -> Option<Spread> {
        if answer.question != self.question {
            return None;
        }
        let case = match self.case {
            Named(name) => answer.cases.iter().find(|case| case.name == name)?,
            Only => answer.cases.first()?,
        };
        let metric = case.metric(self.metric)?;
        let row = case.row(self.contender)?;
        match self.goal {
            Better(_, rival) => case.times_better(metric, row, case.row(rival)?),
            // Of what takes time less is better, so this is its time by that of the rival.
            Time(_, rival) => case.times_better(metric, case.row(rival)?, row),
            AtLeast(_) | AtMost(_) => row.spread(metric),
            More(_, rival) => by_repeat(row, case.row(rival)?, metric, |own, other| own - other),
            TimeOrMore(times, more, rival) => {
                let allowed = |other: f64| (other * times).max(other + more);
                let used = |own, other| own / allowed(other);
                by_repeat(row, case.row(rival)?, metric, used)
            }
        }
    }
}

/// What comes of the two figures of each repeat.
fn by_repeat(
    row: &Row,
    rival: &Row,
    metric: usize,
    of: impl Fn(f64, f64) -> f64,
) -> Option<Spread> {
    let pairs = row.samples.iter().zip(&rival.samples);
    Spread::of(pairs.map(|(own, other)| of(own[metric], other[metric])))
}

impl Goal {
    fn wanted(&self) -> String {
        match self {
            Better(times, rival) => format!("≥ {}× as good as {rival}", figure(*times)),
            Time(times, rival) => format!("≤ {}× the time of {rival}", figure(*times)),
            AtLeast(bound) => format!("≥ {}", figure(*bound)),
            AtMost(bound) => format!("≤ {}", figure(*bound)),
            More(more, rival) => format!("≤ {} more than {rival}", figure(*more)),
            TimeOrMore(times, more, rival) => format!(
                "≤ 1 of: {}× that of {rival}, or {} more",
                figure(*times),
                figure(*more)
            ),
        }
    }

    fn is_reached(&self, measured: f64) -> bool {
        match self {
            Better(bound, _) | AtLeast(bound) => measured >= *bound,
            Time(bound, _) | AtMost(bound) | More(bound, _) => measured <= *bound,
            TimeOrMore(..) => measured <= 1.0,
        }
    }
}
