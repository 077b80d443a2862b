//! More operations than can be done, on few entities, some of them urgent: who gets through, who waits for how long,
//! and who is told that it is too much.
//!
//! ```text
//! cargo run --release --example priorities --features scheduler
//! cargo run --release --example priorities --features scheduler -- --load 0.5
//! cargo run --release --example priorities --features scheduler -- --operations 50000 --load 10 --body 100us
//! ```
//! That the books balance is asserted before it is said. If a critical operation was turned away, it says FAILED: a queue of
//! few places may be full of them. Under overload somebody has to be turned away; if nobody was, that was no overload: it says
//! NOT EXERCISED. Both are exit code 1. (A wrong argument is exit code 2.)
#![forbid(unsafe_code)]

use clap::{Parser, value_parser};
use snapcell::{
    Class, ClassPolicy, Engine, Entity, Operation, OperationError, Policies, Priority, Reason,
    ShutDown, Snapshot, Ticket,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Submits more than can be done, by class, and shows what becomes of it.
#[derive(Parser)]
#[command(name = "priorities", version)]
struct Arguments {
    /// How many operations are submitted
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(100..=10_000_000))]
    operations: u32,

    /// How many entities they want
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..=10_000))]
    targets: u32,

    /// How many threads serve them
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u32).range(1..=1_024))]
    workers: u32,

    /// How many times as much is submitted as can be done; the critical ones never are more than a quarter of that
    #[arg(long, value_name = "FACTOR", default_value_t = 10.0, value_parser = load)]
    load: f64,

    /// How long a closure works: 100us, 5ms
    #[arg(long, value_name = "TIME", default_value = "50us", value_parser = body)]
    body: Duration,

    /// How many operations may wait for one entity
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(1..=1_000_000))]
    capacity: u32,

    /// How long those that aren't critical may wait: 20ms, 1s
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = time)]
    patience: Duration,

    /// Which classes and targets: always the same ones for a seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn load(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(load) if (0.01..=1_000.0).contains(&load) => Ok(load),
        _ => Err("it is a number from 0.01 to 1000".to_owned()),
    }
}

fn body(text: &str) -> Result<Duration, String> {
    let body = time(text)?;
    match body.is_zero() {
        true => Err("without any work there is no overload".to_owned()),
        false => Ok(body),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "it is a number and a unit")?;
    let time = match &text[digits.len()..] {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return Err("the unit is us, ms or s".to_owned()),
    };
    match time <= Duration::from_secs(60) {
        true => Ok(time),
        false => Err("it is a minute at most".to_owned()),
    }
}

/// Some operations of a class are of other priorities than its own.
const MIX: [(Class, Priority); 5] = [
    (Class::STRUCTURAL, Priority::CRITICAL),
    (Class::NORMAL, Priority::HIGH),
    (Class::NORMAL, Priority::NORMAL),
    (Class::LOW, Priority::LOW),
    (Class::LOW, Priority::BACKGROUND),
];

/// What became of the operations of one class and priority.
#[derive(Default)]
struct Row {
    submitted: u64,
    succeeded: u64,
    refused: u64,
    rejected: BTreeMap<&'static str, u64>,
    waits: Vec<Duration>,
}

impl Row {
    fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    fn turned_away(&self) -> u64 {
        self.refused + self.rejected()
    }

    fn rejected_as(&self, why: &str) -> u64 {
        self.rejected.get(why).copied().unwrap_or(0)
    }

    /// The wait that so many hundredths of those that ran have not exceeded.
    fn wait(&self, hundredths: usize) -> String {
        let last = self.waits.len().checked_sub(1);
        last.map_or("-".to_owned(), |last| {
            format!("{:.1?}", self.waits[last * hundredths / 100])
        })
    }
}

type Submitted = (usize, Ticket<Snapshot<u64>, Infallible>);

struct Run {
    rows: Vec<Row>,
    commits: u64,
    took: Duration,
}

/// Keeps the processor busy for so long, as a computation would.
#[allow(clippy::disallowed_methods, reason = "a body that takes a given time")]
fn work(long: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < long {
        std::hint::spin_loop();
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the rate of submissions, and what a human reads"
)]
fn run(arguments: &Arguments) -> Run {
    let mut policies = Policies::default();
    for (class, policy) in [
        (Class::NORMAL, ClassPolicy::normal()),
        (Class::LOW, ClassPolicy::low()),
    ] {
        let policy = policy.with_patience(arguments.patience);
        drop(
            policies
                .set(class, policy)
                .expect("the class is one of the table"),
        );
    }
    let engine = Engine::builder()
        .workers(arguments.workers as usize)
        .capacity(arguments.capacity as usize)
        .policies(policies)
        .build();
    let targets: Vec<_> = (0..arguments.targets).map(|_| Entity::new(0_u64)).collect();

    // What can be done: no more at once than there are processors, workers, or targets. This thread has one, too.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let at_once = (processors - 1).max(1);
    let at_once = at_once.min(arguments.workers as usize).min(targets.len());
    let rate = at_once as f64 / arguments.body.as_secs_f64();
    let gap = Duration::from_secs_f64(1.0 / (rate * arguments.load));
    // The critical ones alone are at most a quarter of what can be done, so that they get through on busy machines.
    let critical = (0.25 / arguments.load).min(0.2);

    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let mut rows: Vec<Row> = MIX.iter().map(|_| Row::default()).collect();
    let mut tickets: Vec<Submitted> = Vec::new();
    let begun = Instant::now();
    for number in 0..arguments.operations {
        let due = gap * number;
        while begun.elapsed() < due {
            std::thread::yield_now();
        }
        let kind = match random.f64() < critical {
            true => 0,
            false => random.usize(1..MIX.len()),
        };
        let (class, priority) = MIX[kind];
        let target = &targets[random.usize(..targets.len())];
        let long = arguments.body;
        let change = move |n: &u64| {
            work(long);
            n + 1
        };
        let operation = Operation::update(target, change)
            .class(class)
            .priority(priority);
        rows[kind].submitted += 1;
        match engine.submit(operation) {
            Ok(ticket) => tickets.push((kind, ticket)),
            Err(refused) => {
                assert!(refused.is_overloaded(), "{refused}");
                rows[kind].refused += 1;
            }
        }
    }
    engine.shut_down(ShutDown::Finish, None).expect("all end");
    let took = begun.elapsed();
    for (kind, ticket) in tickets {
        enter(&mut rows[kind], ticket);
    }

    let counts = engine.counts();
    let sum = |count: fn(&Row) -> u64| rows.iter().map(count).sum::<u64>();
    let commits = targets.iter().map(|target| *target.snapshot()).sum();
    assert_eq!(sum(|row| row.submitted), u64::from(arguments.operations));
    assert_eq!(
        counts.submitted,
        sum(|row| row.submitted - row.refused),
        "the engine's books are ours"
    );
    assert_eq!(counts.rejected, sum(Row::rejected));
    assert_eq!(counts.committed, sum(|row| row.succeeded));
    assert_eq!(counts.unfinished(), 0, "all have ended");
    assert_eq!(
        commits, counts.committed,
        "each success is one commit, and nothing else is"
    );
    assert!(engine.is_clean());
    for row in &mut rows {
        assert_eq!(row.submitted, row.succeeded + row.refused + row.rejected());
        row.waits.sort_unstable();
    }
    Run {
        rows,
        commits,
        took,
    }
}

/// Enters how an operation that is done has ended, and if it ran, how long it had waited for its turn.
fn enter(row: &mut Row, ticket: Ticket<Snapshot<u64>, Infallible>) {
    let times = ticket.times();
    let why = match ticket.wait() {
        Ok(_) => {
            let started = times.started.expect("what has succeeded has begun");
            row.waits.push(started.saturating_sub(times.born));
            row.succeeded += 1;
            return;
        }
        Err(OperationError::Rejected(rejection)) => match rejection.reason {
            Reason::Evicted => "evicted",
            Reason::Expired { .. } => "expired",
            other => panic!("nobody is faster than a lane: {other:?}"),
        },
        Err(other) => panic!("{other}"),
    };
    *row.rejected.entry(why).or_default() += 1;
}

/// One table for all.
fn print(arguments: &Arguments, run: &Run, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{} operations of {:?} on {} entities, {} workers, {} times what can be done",
        arguments.operations, arguments.body, arguments.targets, arguments.workers, arguments.load
    )?;
    writeln!(out, "done: {} in {:.1?}\n", run.commits, run.took)?;
    writeln!(
        out,
        "{:<12}{:>9}{:>10}{:>10}{:>9}{:>9}{:>10}   {:>9}{:>10}{:>10}",
        "class",
        "priority",
        "submitted",
        "succeeded",
        "refused",
        "evicted",
        "expired",
        "wait p50",
        "p99",
        "max"
    )?;
    for ((class, priority), row) in MIX.iter().zip(&run.rows) {
        let name = ["structural", "normal", "low"][class.index()];
        writeln!(
            out,
            "{name:<12}{priority:>9}{:>10}{:>10}{:>9}{:>9}{:>10}   {:>9}{:>10}{:>10}",
            row.submitted,
            row.succeeded,
            row.refused,
            row.rejected_as("evicted"),
            row.rejected_as("expired"),
            row.wait(50),
            row.wait(99),
            row.wait(100)
        )?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = run(&arguments);
    let mut out = io::stdout().lock();
    let _ = print(&arguments, &run, &mut out);
    let turned_away: u64 = run.rows.iter().map(Row::turned_away).sum();
    let _ = writeln!(
        out,
        "\nok   every operation has one end, and every commit is one that succeeded"
    );
    let critical = &run.rows[0];
    if critical.turned_away() > 0 {
        let _ = writeln!(
            out,
            "FAILED: of {} critical ones {} were turned away",
            critical.submitted,
            critical.turned_away()
        );
        return ExitCode::FAILURE;
    }
    let _ = writeln!(
        out,
        "ok   of {} critical ones none was turned away",
        critical.submitted
    );
    if arguments.load > 1.0 && turned_away == 0 {
        let _ = writeln!(
            out,
            "NOT EXERCISED: nothing was turned away, so there was no overload"
        );
        return ExitCode::FAILURE;
    }
    let _ = writeln!(out, "ok   {turned_away} others were, and each was told why");
    ExitCode::SUCCESS
}
