//! What can be asked for.

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use std::num::NonZero;
use std::thread;

/// Moves money between accounts, many at a time, and checks that none is lost or made.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "bank",
    version,
    after_help = "Exit codes: 0 all laws hold; 1 one does not; 2 bad arguments."
)]
pub(crate) struct Arguments {
    /// How many accounts, the bank's own included
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = between(1, 1_000_000))]
    pub(crate) accounts: usize,

    /// How many threads move money between them
    #[arg(long, value_name = "N", default_value_t = cores(), value_parser = between(1, 1_000))]
    pub(crate) tellers: usize,

    /// What all of them do together: transfers, interest, savings
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = between(1, 1_000_000_000))]
    pub(crate) operations: usize,

    /// How many threads count all the money meanwhile
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = between(0, 100))]
    pub(crate) auditors: usize,

    /// How many threads wait for money to spend, each with an account of its own
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = between(0, 100))]
    pub(crate) customers: usize,

    /// Which operations are drawn: always the same ones for a seed and a number of tellers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

impl Arguments {
    /// Those that were given; ends the program if they make no sense.
    pub(crate) fn from_command_line() -> Self {
        let arguments = Arguments::parse();
        let least = arguments.customers + 3;
        if arguments.accounts < least {
            let (accounts, customers) = (arguments.accounts, arguments.customers);
            let message = format!(
                "--accounts {accounts} is too few, with {customers} customers it takes {least}: the bank's own, one \
                 for each customer, and two more"
            );
            Arguments::command()
                .error(ErrorKind::ValueValidation, message)
                .exit();
        }
        arguments
    }
}

fn between(least: u64, most: u64) -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<u64>::new()
        .range(least..=most)
        .map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
