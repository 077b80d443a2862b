//! The account of a run, and the laws that it has to obey.

use crate::args::Arguments;
use crate::bank::DEPOSIT;
use crate::run::Count::*;
use crate::run::Run;
use std::fmt;

/// What there is to say, what happened now and then or never, and what must be so.
pub(crate) struct Report {
    figures: Vec<(&'static str, String)>,
    events: Vec<(&'static str, u64)>,
    /// Two numbers each, expected and found, which were counted in different places.
    laws: Vec<(&'static str, u64, u64)>,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments, run: &Run) -> Self {
        Report {
            figures: figures(arguments, run),
            events: events(run),
            laws: laws(arguments, run),
        }
    }

    pub(crate) fn all_laws_hold(&self) -> bool {
        self.laws
            .iter()
            .all(|(_, expected, found)| expected == found)
    }
}

fn figures(arguments: &Arguments, run: &Run) -> Vec<(&'static str, String)> {
    let tally = &run.tally;
    let rate = |count: u64| grouped((count as f64 / run.elapsed.as_secs_f64()) as u64);
    let per = |count: u64, of: u64| format!("{:.3}", count as f64 / of.max(1) as f64);
    // A refused one ends with a run of its own.
    let runs = per(tally[Runs] - tally[Refused], tally[Transferred]);
    let tries = per(tally[Tries], tally[Transferred]);
    let attempts = per(tally[SavingAttempts], tally[Saved]);
    let looks = per(tally[Looks], tally[Audited]);
    let Arguments { tellers, seed, .. } = arguments;
    let accounts = grouped(arguments.accounts as u64);
    let operations = arguments.operations as u64;
    vec![
        (
            "bank",
            format!("{accounts} accounts, {tellers} tellers, seed {seed}"),
        ),
        (
            "operations",
            format!(
                "{} in {:.1?}, {}/s",
                grouped(operations),
                run.elapsed,
                rate(operations)
            ),
        ),
        (
            "transfers",
            format!(
                "{}, {}/s",
                grouped(tally[Transferred]),
                rate(tally[Transferred])
            ),
        ),
        (
            "  each took",
            format!("{runs} runs of its closure, {tries} attempts to commit"),
        ),
        (
            "plain updates",
            format!("{}, of {attempts} attempts each", grouped(tally[Saved])),
        ),
        (
            "interest",
            format!(
                "{} times, {} times none",
                grouped(tally[Paid]),
                grouped(tally[NotPaid])
            ),
        ),
        ("purchases", grouped(tally[Bought])),
        (
            "audits",
            format!("{}, of {looks} looks each", grouped(tally[Audited])),
        ),
    ]
}

fn events(run: &Run) -> Vec<(&'static str, u64)> {
    let tally = &run.tally;
    let again = tally[Runs] - tally[Refused] - tally[Transferred];
    let repeated = tally[Tries].saturating_sub(tally[Transferred]);
    vec![
        ("a transfer was refused", tally[Refused]),
        ("what a transfer had read was changed by others", again),
        ("an attempt to commit failed", repeated),
        ("a plain update lost", tally[SavingAttempts] - tally[Saved]),
        ("a customer waited for money", tally[Waited]),
        ("an audit looked again", tally[Looks] - tally[Audited]),
        ("an audit took a transaction", tally[ByTransaction]),
    ]
}

fn laws(arguments: &Arguments, run: &Run) -> Vec<(&'static str, u64, u64)> {
    let tally = &run.tally;
    let ended = [Transferred, Refused, Paid, NotPaid, Saved].map(|end| tally[end]);
    let transfers = tally[Transferred] + tally[Bought];
    let money = DEPOSIT * arguments.accounts as u64;
    let left = run.accounts.iter().map(|account| account.total()).sum();
    let versions = run
        .accounts
        .iter()
        .map(|account| account.stamp().version())
        .sum();
    let panics = snapcell::destructor_panics() as u64;
    let mut laws = vec![
        (
            "operations that came to an end",
            arguments.operations as u64,
            ended.iter().sum(),
        ),
        ("money in the end", money, left),
        (
            "versions of all accounts = values that commits wrote",
            tally[Written],
            versions,
        ),
        (
            "counter of transfers = transfers",
            transfers,
            *run.transfers,
        ),
        (
            "version of that counter = transfers",
            transfers,
            run.transfers.stamp().version(),
        ),
        (
            "replaced values that wait to be freed, after all",
            0,
            run.lag.nodes as u64,
        ),
        ("destructors that panicked", 0, panics),
    ];
    if arguments.auditors > 0 {
        laws.push((
            "audits that found all the money",
            tally[Audited],
            tally[Balanced],
        ));
        laws.push((
            "audits that saw nothing older than the one before",
            tally[Audited],
            tally[InOrder],
        ));
    }
    laws
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in &self.figures {
            writeln!(f, "{name:<15}{text}")?;
        }
        writeln!(f)?;
        for &(event, count) in &self.events {
            let times = match count {
                0 => "NOT EXERCISED".to_owned(),
                1 => "once".to_owned(),
                _ => format!("{} times", grouped(count)),
            };
            writeln!(f, "      {event:<53}{times}")?;
        }
        writeln!(f)?;
        let mut wrong = 0;
        for &(law, expected, found) in &self.laws {
            if expected == found {
                writeln!(f, "ok    {law:<53}{}", grouped(found))?;
            } else {
                wrong += 1;
                let (expected, found) = (grouped(expected), grouped(found));
                writeln!(f, "WRONG {law:<53}{found}, should be {expected}")?;
            }
        }
        match wrong {
            0 => writeln!(f, "\nall {} laws hold", self.laws.len()),
            _ => writeln!(f, "\n{wrong} of {} laws DO NOT HOLD", self.laws.len()),
        }
    }
}

/// A number, in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
