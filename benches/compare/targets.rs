//! What the crate wants to reach, and whether it does.

use crate::results::{Answer, Spread};
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
}

use Goal::{AtLeast, AtMost, Better, Time};

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
];

/// A target, and what was measured.
#[derive(Serialize)]
pub(crate) struct Outcome {
    what: &'static str,
    case: String,
    wanted: String,
    /// A ratio for a target that names a rival, otherwise the figure; `None` if it wasn't measured.
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
        }
    }
}

impl Goal {
    fn wanted(&self) -> String {
        match self {
            Better(times, rival) => format!("≥ {}× as good as {rival}", figure(*times)),
            Time(times, rival) => format!("≤ {}× the time of {rival}", figure(*times)),
            AtLeast(bound) => format!("≥ {}", figure(*bound)),
            AtMost(bound) => format!("≤ {}", figure(*bound)),
        }
    }

    fn is_reached(&self, measured: f64) -> bool {
        match self {
            Better(bound, _) | AtLeast(bound) => measured >= *bound,
            Time(bound, _) | AtMost(bound) => measured <= *bound,
        }
    }
}
