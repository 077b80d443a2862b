//! A stress test that checks its own books.
//!
//! The workloads are those of the stress tests of the Python framework *Abstractions*, whose concurrency this crate
//! replaces. The first is its "total brutality" test: 30 000 operations of four kinds and three priorities on three hot
//! targets, in batches of 100. There, one process runs coroutines, 3 % of the operations commit and the report says that
//! all is well. Here, an engine runs them, and the report ends with laws that must hold: what was submitted is what ended,
//! the engine has counted what its tickets say, the targets are what their commits add up to, each version was given out
//! once, each value was dropped once. What never happened is called so, not validated.
//!
//! ```text
//! cargo run --release --example brutality
//! cargo run --release --example brutality -- --policy fold --operations 1000000
//! cargo run --release --example brutality -- --policy merge --work 5ms --workers 64 --operations 3000 --compare
//! cargo run --release --example brutality -- --mix trees --duration 5s --plot trees.svg
//! cargo run --release --example brutality -- --require-conflicts --json
//! ```
//!
//! | mix | what it is | original |
//! |---|---|---|
//! | `brutality` | four kinds of operation on hot targets | 30 000, 3 targets, batches of 100 |
//! | `trees` | six kinds of operation on trees in a store | 15 s at 100/s, 5 trees, batches of 3 to 8 |
//! | `occ` | the same four, half of them optimistic, in four priorities | 15 s at 100/s, 2 targets |
//! | `hierarchy` | six scenarios with one right outcome each; then chains of operations | six tests |
//! | `decorators` | protected functions, and plain ones | 15 s at 100/s, 3 targets, batches of 6 |
//! | `bank` | the account of the tutorial; then many orders | 5 orders on an account |
//!
//! | file | what it is about |
//! |---|---|
//! | `args` | what can be asked for |
//! | `workload` | the four kinds of operation on a hot target, drawn by a seed |
//! | `mix`, `mix/…` | a file for each mix: what its operations do, and what must be true in the end |
//! | `door` | how operations get into the engine, and answers out of it |
//! | `run` | submitters, batches, the pace |
//! | `books` | one entry for each operation: what its closure and its ticket say |
//! | `clock` | time, as the engine tells it |
//! | `laws` | what must be true of every run |
//! | `report` | the account of a run; as text, as JSON, as a plot, beside the original |
//!
//! Exit codes: 0 all laws hold; 1 one does not, or the report or the plot can't be written; 2 bad arguments, or a
//! conflict was required and none occurred. That operations were rejected, which a policy may want and a budget may
//! bring about, is told, and is no error.
#![forbid(unsafe_code)]

mod args;
mod books;
mod clock;
mod door;
mod laws;
mod mix;
mod report;
mod run;
mod workload;

use args::Arguments;
use clap::Parser;
use report::{Report, Round};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

/// How often `--require-conflicts` adds work before it gives up: from 1 µs to 2 ms.
const ADDITIONS: usize = 12;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (report, run) = report_of(&arguments);
    if let Some(path) = &arguments.plot
        && let Err(error) = report::plot::draw(path, &arguments, &run)
    {
        eprintln!("brutality: {} could not be drawn: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if let Err(error) = print(&report, arguments.json)
        // Whoever reads no further has seen enough of it.
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("brutality: the report could not be written: {error}");
        return ExitCode::FAILURE;
    }
    if report.exit_code != 0 {
        eprintln!("brutality: {}", report.verdict);
    }
    ExitCode::from(report.exit_code)
}

/// Runs the workload; if conflicts are required, again and with more work between an operation's read and its commit,
/// until there was one.
fn report_of(arguments: &Arguments) -> (Report, run::Run) {
    let mut arguments = arguments.clone();
    let mut earlier: Vec<Round> = Vec::new();
    loop {
        let run = run::run(&arguments);
        let report = Report::new(&arguments, &run, &earlier);
        let enough = !report.misses_conflicts() || !report.all_laws_hold();
        // Where nobody is beside the lanes, nobody is in the way, however long operations work.
        let hopeless = arguments.beside() == 0 || earlier.len() == ADDITIONS;
        if enough || hopeless {
            return (report, run);
        }
        earlier.push(report.round());
        arguments.work = more(arguments.work);
    }
}

/// Twice as much work, or as little as there can be.
fn more(work: Duration) -> Duration {
    work.saturating_mul(2).max(Duration::from_micros(1))
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        report::json::write(&mut out, report)?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()
}
