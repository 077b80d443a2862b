//! A bank without locks: transfers between many accounts while somebody counts all the money.
//!
//! Tellers make transfers, each from one account to several at one instant, and some are refused. Customers
//! wait for money and spend it. Other changes concern one account only. An auditor adds up all accounts as they were at one moment, over and over:
//! the sum is always the same, though no account stands still. At the end the books must be right, or the
//! exit code is not 0, and what never happened is called NOT EXERCISED.
//!
//! ```text
//! cargo run --release --example bank
//! cargo run --release --example bank -- --accounts 10 --tellers 8
//! ```
//!
//! | file | what it is about |
//! |---|---|
//! | `bank` | what is shared, and what can be done with it: read this |
//! | `run` | who does it: tellers, customers, auditors, and what they count |
//! | `args`, `report` | what can be asked for; the account of it, and the laws |
#![forbid(unsafe_code)]

mod args;
mod bank;
mod report;
mod run;

use args::Arguments;
use report::Report;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::from_command_line();
    let report = Report::new(&arguments, &run::run(&arguments));
    if let Err(error) = write!(io::stdout(), "{report}")
        // Whoever reads no further has seen enough of it.
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("bank: the report could not be written: {error}");
        return ExitCode::FAILURE;
    }
    if report.all_laws_hold() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
