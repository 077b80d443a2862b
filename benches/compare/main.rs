//! snapcell beside what one would use instead, in the same run.
//!
//! Contenders are checked before they are timed: counts are what the updates make them, versions count
//! commits, readers see whole values that never go back. Then they take turns: in each repeat all
//! contenders of a case are measured, one shortly after the other, and ratios are formed within a repeat.
//! `cargo compare` is short for `cargo bench --features store,scheduler --bench compare`.
//!
//! ```text
//! cargo compare
//! cargo compare -- --quick
//! cargo compare -- reads contention --save
//! ```
//!
//! | file | what it is about |
//! |---|---|
//! | `reads`, `commit`, `contention`, `entities`, `garbage`, `memory`, `waiting`, `transactions`, `store`, `trees`, `engine`, `fairness` | a question each |
//! | `cells` | one value that threads share: the crate and its rivals |
//! | `stores` | many values by key: the crate and its rivals |
//! | `banks` | several values at one instant: the crate and its rivals |
//! | `targets` | what is to be reached |
//! | `runner` | turns, threads, slices of time |
//! | `process` | processes of their own, for what is said of memory |
//! | `latency` | tails |
//! | `results`, `table`, `plot`, `save` | samples, and what is shown of them |
//! | `args`, `payload` | what can be asked for; what is kept in a cell |
//! | `machine`, `load` | where it ran, and who else ran there |
#![forbid(unsafe_code)]

mod args;
mod banks;
mod cells;
mod commit;
mod contention;
mod engine;
mod entities;
mod fairness;
mod garbage;
mod latency;
mod load;
mod machine;
mod memory;
mod payload;
mod plot;
mod process;
mod reads;
mod results;
mod runner;
mod save;
mod store;
mod stores;
mod table;
mod targets;
mod transactions;
mod trees;
mod waiting;

use args::Arguments;
use clap::Parser;
use load::Load;
use machine::Machine;
use results::Answer;
use runner::Plan;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.child.is_empty() {
        return process::child(&arguments.child);
    }
    let plan = arguments.plan();
    let is_test = arguments.is_test();
    let load = Load::now();
    let mut answers = Vec::new();
    for question in arguments.questions() {
        let answer = question.answer(&plan);
        if !is_test {
            say(&table::answer(&answer));
        }
        answers.push(answer);
    }
    let mut code = ExitCode::SUCCESS;
    let cases = || answers.iter().flat_map(|answer| &answer.cases);
    if is_test {
        let contenders: usize = cases().map(|case| case.rows.len()).sum();
        say(&format!(
            "{contenders} contenders are right; `cargo bench` measures them"
        ));
    } else if let Err(error) = conclude(&arguments, &plan, &load, &answers) {
        eprintln!("compare: the results could not be saved: {error}");
        code = ExitCode::FAILURE;
    }
    for failure in cases().flat_map(|case| &case.failures) {
        eprintln!("compare: CHECK FAILED: {failure}");
        code = ExitCode::FAILURE;
    }
    code
}

/// Prints. Whoever reads no further has seen enough of it.
fn say(text: &str) {
    _ = writeln!(io::stdout(), "{text}");
}

/// Shows what became of the targets, and saves all if that was asked for.
fn conclude(
    arguments: &Arguments,
    plan: &Plan,
    load: &Load,
    answers: &[Answer],
) -> Result<(), Box<dyn Error>> {
    let outcomes = targets::outcomes(answers);
    let machine = Machine::this(load);
    say(&format!(
        "{}\n{}",
        targets::table(&outcomes),
        machine.markdown()
    ));
    if arguments.save {
        let path = save::save(plan, &machine, arguments.part(), answers, &outcomes)?;
        say(&format!("saved as {}", path.display()));
    }
    Ok(())
}
