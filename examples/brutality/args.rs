//! What can be asked for.

use crate::workload::Priority;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use std::num::NonZero;
use std::thread;
use std::time::Duration;

/// Lets threads commit operations of several kinds and priorities to a few hot targets, and checks
/// that nothing was lost, done twice or left behind.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "brutality",
    version,
    after_help = "Exit codes: 0 all laws hold; 1 one does not, or the report can't be written; \
                  2 bad arguments, or --require-conflicts and no conflict."
)]
pub(crate) struct Arguments {
    /// How many operations; each takes about 100 bytes of memory, to be replayed later
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = between(1, 100_000_000))]
    pub(crate) operations: u32,

    /// How many targets they hit, at random
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = between(1, 10_000))]
    pub(crate) targets: u32,

    /// How many threads, called in over the first quarter of the operations
    #[arg(long, value_name = "N", default_value_t = cores(), value_parser = between(1, 1_000))]
    pub(crate) threads: u32,

    /// How many operations a thread takes at a time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = between(1, 100_000_000))]
    pub(crate) batch: u32,

    /// The time from an attempt's read to its commit, as in 200us, 5ms (the original's) or 1s
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration)]
    pub(crate) work: Duration,

    /// Retries before an operation is rejected [default: 15; 20 for high and critical priority]
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,

    /// Which operations are drawn: always the same ones for a seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Prints the report as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Adds work until an attempt loses to another, and fails if none ever does
    #[arg(long)]
    pub(crate) require_conflicts: bool,
}

impl Arguments {
    /// How often an operation of this priority may be tried again.
    pub(crate) fn budget(&self, priority: Priority) -> u32 {
        self.retries.unwrap_or(priority.retries())
    }
}

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

/// The longest work that makes sense to wait for.
const LONGEST: Duration = Duration::from_secs(60);
