//! How many instructions each operation takes, beside what it took when that was last looked at.
//!
//! ```text
//! cargo instructions
//! cargo instructions -- --bless
//! ```
//! The first fails if an operation takes over 3 % more than `baseline.json` says, or if the two don't
//! have the same operations; the second writes that file. The baseline of one compiler says nothing of
//! another's code, so with another one nothing is compared.
//!
//! Times differ from run to run by more than most changes cost; what callgrind counts does not, so it
//! shows a change of one in a hundred. It sees one thread, and no caches, stalls or races: for these
//! there is `benches/commit.rs`. An operation that is added here may change what the compiler inlines
//! in others, and with that their counts.

mod baseline;
mod counts;
mod operations;

use baseline::{Baseline, Change};
use operations::OPERATIONS;
use std::env;
use std::process::ExitCode;

/// How the baseline is written.
const BLESS: &str = "`cargo instructions -- --bless`";

fn main() -> ExitCode {
    if counts::ran() {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (mut bench, mut bless) = (false, false);
    for arg in env::args().skip(1) {
        match arg.as_str() {
            "--bench" => bench = true, // from `cargo bench`
            "--bless" => bless = true,
            _ => return Err(format!("{arg} means nothing here. There is only {BLESS}.")),
        }
    }
    if !bench {
        // `cargo test` wants to know whether it works.
        OPERATIONS.iter().for_each(|(_, make)| drop(make()));
        return Ok(());
    }
    let committed = if bless {
        None
    } else {
        let none = |error| format!("{error}\n{BLESS} makes a new one.");
        Some(Baseline::committed().map_err(none)?)
    };
    println!("Counting, which takes a few seconds.\n");
    let names = OPERATIONS.iter().map(|(name, _)| *name);
    let now = Baseline::new(names.zip(counts::counts()?))?;
    let Some(committed) = committed else {
        print(&now, None);
        return now.bless();
    };
    if !now.is_comparable(&committed) {
        print(&now, None);
        println!("\nNOT COMPARED. These are of    {},", now.origin());
        println!("and those in the baseline of {}.", committed.origin());
        return Ok(());
    }
    let changes = print(&now, Some(&committed));
    println!("\nThe baseline is of {}.", committed.origin());
    if changes
        .iter()
        .any(|change| matches!(change, Change::Fewer(_)))
    {
        println!("Some take fewer now. {BLESS} holds on to that.");
    }
    if changes.iter().any(|change| change.fails()) {
        return Err(format!("FAILED. If it is meant to be so: {BLESS}."));
    }
    Ok(())
}

/// Prints the table, and returns what its rows say.
fn print(now: &Baseline, committed: Option<&Baseline>) -> Vec<Change> {
    let count = |of: Option<&Baseline>, name: &str| of?.instructions.get(name).copied();
    let figure = |count: Option<f64>| count.map_or("-".into(), |count| format!("{count:.2}"));
    let gone = committed
        .iter()
        .flat_map(|committed| committed.instructions.keys())
        .map(String::as_str)
        .filter(|name| !now.instructions.contains_key(*name));
    println!("{:32} {:>12} {:>9}", "", "instructions", "baseline");
    let mut changes = Vec::new();
    for name in OPERATIONS.iter().map(|(name, _)| *name).chain(gone) {
        let (was, is) = (count(committed, name), count(Some(now), name));
        print!("{name:32} {:>12} {:>9}", figure(is), figure(was));
        let change = committed.and_then(|_| Change::between(was, is));
        change.iter().for_each(|change| print!("  {change}"));
        println!();
        changes.extend(change);
    }
    changes
}
