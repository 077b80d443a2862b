//! What can be asked for, and what is taken where nothing is.

use crate::workload;
use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};
use snapcell::RetryPolicy;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Submits operations of several kinds and priorities to an engine, all to a few hot targets, and checks that nothing
/// was lost, done twice or left behind.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "brutality",
    version,
    after_help = "Exit codes: 0 all laws hold; 1 one does not, or the report or the plot can't be written; \
                  2 bad arguments, or --require-conflicts and no conflict."
)]
pub(crate) struct Arguments {
    /// Which workload
    #[arg(long, value_enum, default_value_t = Mix::Brutality)]
    pub(crate) mix: Mix,

    /// What becomes of operations that want the same target
    #[arg(long, value_enum, default_value_t = Policy::InOrder)]
    pub(crate) policy: Policy,

    /// How losers are tried again: by the crate's default, or by the formula of the mix's original
    #[arg(long, value_enum, default_value_t = Backoff::Tuned)]
    pub(crate) backoff: Backoff,

    /// How many operations [default: as the mix's original has; with --duration, as many as there is time for,
    /// or ten million]
    #[arg(long, value_name = "N", value_parser = between(1, MOST))]
    operations: Option<u32>,

    /// How many targets they hit [default: as the mix's original has]
    #[arg(long, value_name = "N", value_parser = between(1, 10_000))]
    targets: Option<u32>,

    /// How many operations are staged together; those of a batch of 1 are submitted as they are
    /// [default: as the mix's original has]
    #[arg(long, value_name = "N", value_parser = between(1, 10_000))]
    batch: Option<u32>,

    /// How many threads submit
    #[arg(long, value_name = "N", default_value_t = cores(), value_parser = between(1, 1_000))]
    pub(crate) threads: u32,

    /// How many threads the engine has [default: one for each processor; where operations sleep, one for each target]
    #[arg(long, value_name = "N", value_parser = between(1, 1_000))]
    workers: Option<u32>,

    /// How long each attempt works, as in 200us, 5ms (the original's) or 1s; long work sleeps
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration)]
    pub(crate) work: Duration,

    /// How many of a hundred operations go beside the lanes, and so get in the way of the others
    /// [default: 50 for occ, otherwise 10]
    #[arg(long, value_name = "PERCENT", value_parser = between(0, 100))]
    beside: Option<u32>,

    /// How many of a hundred of the others are cancelled right after they were submitted
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = between(0, 100))]
    pub(crate) cancel: u32,

    /// Retries before an operation is rejected [default: as the mix's original has]
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,

    /// How many operations may wait for one target
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = between(1, 10_000_000))]
    pub(crate) capacity: u32,

    /// How many operations are submitted in a second, at most [default: as many as can be]
    #[arg(long, value_name = "N", value_parser = between(1, 1_000_000_000))]
    pub(crate) rate: Option<u32>,

    /// For how long operations are submitted, as in 500ms or 15s
    #[arg(long, value_name = "TIME", value_parser = parse_some_time)]
    pub(crate) duration: Option<Duration>,

    /// Which operations are drawn: always the same ones for a seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Prints the report as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Draws throughput, conflicts and latency of each class over time
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,

    /// Adds work until an attempt loses to another, and fails if none ever does
    #[arg(long)]
    pub(crate) require_conflicts: bool,

    /// Puts the figures beside those that the replaced system was measured with
    #[arg(long)]
    pub(crate) compare: bool,
}

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// Four kinds of operation on three hot targets
    Brutality,
    /// Six kinds of operation on trees in a store
    Trees,
    /// Optimistic operations on two targets
    Occ,
    /// Six scenarios of priorities, parents and grace, and then chains of operations
    Hierarchy,
    /// Functions that are protected in each of the four ways, among plain operations
    Decorators,
    /// The account of the tutorial, and then many deposits and withdrawals
    Bank,
}

/// The policies of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Of each batch and target the most important one is run, the others are rejected; whoever submits waits for a
    /// batch before the next one
    Winner,
    /// All are run, one after the other
    InOrder,
    /// All are run, and many are published by one commit
    Fold,
    /// All are computed beside each other, and merged
    Merge,
}

impl Policy {
    /// As the engine knows it.
    pub(crate) fn of_engine(self) -> snapcell::Policy {
        match self {
            Policy::Winner => snapcell::Policy::WinnerTakesAll,
            Policy::InOrder => snapcell::Policy::InOrder,
            Policy::Fold => snapcell::Policy::Fold,
            Policy::Merge => snapcell::Policy::Merge,
        }
    }
}

/// How losers are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backoff {
    /// The formula of the original
    Reference,
    /// The default of the crate
    Tuned,
}

/// What the originals have: see the table in `main`.
struct Original {
    operations: u32,
    targets: u32,
    batch: u32,
    beside: u32,
}

impl Mix {
    fn original(self) -> Original {
        let (operations, targets, batch, beside) = match self {
            Mix::Brutality => (30_000, 3, 100, 10),
            Mix::Trees => (1_500, 5, 6, 10),
            Mix::Occ => (1_500, 2, 10, 50),
            Mix::Hierarchy => (3_000, 3, 99, 10),
            Mix::Decorators => (1_500, 3, 6, 10),
            Mix::Bank => (10_000, 1, 5, 10),
        };
        Original {
            operations,
            targets,
            batch,
            beside,
        }
    }

    /// The formula of the original.
    fn backoff(self) -> RetryPolicy {
        match self {
            Mix::Brutality => RetryPolicy::brutality(),
            Mix::Occ => RetryPolicy::occ_stress(),
            Mix::Decorators => RetryPolicy::decorator(),
            Mix::Trees | Mix::Hierarchy | Mix::Bank => RetryPolicy::reference(),
        }
    }

    /// Retries of normal operations in the original.
    fn retries(self) -> u32 {
        match self {
            Mix::Brutality => workload::Priority::Normal.retries(),
            Mix::Decorators => 10,
            Mix::Trees => 3,
            Mix::Occ | Mix::Hierarchy | Mix::Bank => 5,
        }
    }
}

impl Arguments {
    /// How many operations at most.
    pub(crate) fn operations(&self) -> u32 {
        self.operations.unwrap_or(match self.duration {
            Some(_) => MOST as u32,
            None => self.mix.original().operations,
        })
    }

    /// Whether there is a number of them, and not only an end.
    pub(crate) fn is_counted(&self) -> bool {
        self.operations.is_some() || self.duration.is_none()
    }

    pub(crate) fn targets(&self) -> u32 {
        self.targets.unwrap_or(self.mix.original().targets)
    }

    pub(crate) fn batch(&self) -> u32 {
        self.batch.unwrap_or(self.mix.original().batch)
    }

    pub(crate) fn beside(&self) -> u32 {
        self.beside.unwrap_or(self.mix.original().beside)
    }

    /// As many as can be at work at once.
    pub(crate) fn workers(&self) -> u32 {
        let sleepers = match sleeps(self.work) {
            true => self.targets().min(64),
            false => 0,
        };
        self.workers.unwrap_or(cores().max(sleepers))
    }

    /// How a loser is tried again.
    pub(crate) fn retry(&self) -> RetryPolicy {
        match self.backoff {
            Backoff::Tuned => RetryPolicy::default(),
            Backoff::Reference => self.mix.backoff(),
        }
    }

    /// The same for a scenario, whose outcome should not depend on what the load may use up.
    pub(crate) fn for_scenarios(&self) -> Self {
        Arguments {
            retries: None,
            capacity: 65_536,
            ..self.clone()
        }
    }

    /// Retries of normal operations, and of others.
    pub(crate) fn retries(&self) -> u32 {
        self.retries.unwrap_or(self.mix.retries())
    }

    pub(crate) fn structural_retries(&self) -> u32 {
        let own = workload::Priority::High.retries();
        self.retries.unwrap_or(own)
    }

    pub(crate) fn low_retries(&self) -> u32 {
        self.retries.unwrap_or(self.mix.retries())
    }
}

/// Whether work of this length sleeps, rather than spin: less can't be slept.
pub(crate) fn sleeps(work: Duration) -> bool {
    work >= Duration::from_micros(200)
}

/// The most operations. Each takes some 230 bytes of memory: what became of it is remembered.
const MOST: u64 = 10_000_000;

fn between(least: u64, most: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(least..=most)
}

fn cores() -> u32 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX).min(1_000)
}

/// Reads `0`, or digits and a unit.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let nanoseconds: u64 = match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "" if !digits.is_empty() && digits.bytes().all(|digit| digit == b'0') => 1,
        "" => return Err("a time needs a unit: ns, us, ms or s".into()),
        _ => return Err("expected digits and a unit, as in 200us, 5ms or 1s".into()),
    };
    if digits.is_empty() {
        return Err("a time starts with digits, as in 200us, 5ms or 1s".into());
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(nanoseconds))
        .map(Duration::from_nanos)
        .filter(|&time| time <= LONGEST)
        .ok_or_else(|| format!("at most {} s", LONGEST.as_secs()))
}

fn parse_some_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("in no time nothing is submitted".into()),
        time => Ok(time),
    }
}

/// The longest work or run that makes sense to wait for.
const LONGEST: Duration = Duration::from_secs(600);
