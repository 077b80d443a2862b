//! A stress test that checks its own books.
//!
//! The workload is that of the "total brutality" test of the Python framework *Abstractions*, whose
//! concurrency this crate replaces: 30 000 operations of four kinds and three priorities on three
//! hot targets, in batches of 100. There, one process runs coroutines, 3 % of the operations commit
//! and the report says that all is well. Here, real threads run them, each operation is retried
//! within a budget until it commits, and the report ends with laws that must hold: what was
//! submitted is what ended, the targets are what their commits add up to, each version was given
//! out once, each snapshot was dropped once. What never happened is called so, not validated.
//!
//! ```text
//! cargo run --release --example brutality
//! cargo run --release --example brutality -- --threads 16 --work 5ms --operations 3000
//! cargo run --release --example brutality -- --require-conflicts --json
//! ```
//!
//! | file | what it is about |
//! |---|---|
//! | `args` | what can be asked for |
//! | `workload` | what an operation is, and what it does to a target |
//! | `run` | threads, batches, attempts, and what is counted meanwhile |
//! | `checks` | the laws |
//! | `report` | the account, printed as JSON or, by `report/text`, for people |
//!
//! Exit codes: 0 all laws hold; 1 one does not, or the report can't be written; 2 bad arguments, or
//! a conflict was required and none occurred.
#![forbid(unsafe_code)]

mod args;
mod checks;
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
    let report = report_of(&arguments);
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

/// Runs the workload; if conflicts are required, again and with more work between an operation's
/// read and its commit, until there was one.
fn report_of(arguments: &Arguments) -> Report {
    let mut arguments = arguments.clone();
    let mut earlier: Vec<Round> = Vec::new();
    loop {
        let run = run::run(&arguments);
        let report = Report::new(&arguments, &run, &earlier);
        let enough = !report.misses_conflicts() || !report.all_laws_hold();
        // A thread alone has nobody to lose to, however long it works.
        let hopeless = arguments.threads == 1 || earlier.len() == ADDITIONS;
        if enough || hopeless {
            return report;
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
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()
}
