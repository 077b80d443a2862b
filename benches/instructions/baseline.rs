//! The counts that are committed, and how others compare with them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::env::{self, consts};
use std::fmt;
use std::fs;
use std::process::Command;

/// The committed file.
const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/instructions/baseline.json"
);

/// By how much a count may differ and be called the same.
const TOLERANCE: f64 = 0.03;

/// Counts, with what they depend on.
#[derive(Serialize, Deserialize)]
pub(crate) struct Baseline {
    rustc: String,
    target: String,
    date: String,
    /// Instructions of each operation.
    pub(crate) instructions: BTreeMap<String, f64>,
}

impl Baseline {
    /// What has been counted here and today.
    pub(crate) fn new(counts: impl Iterator<Item = (&'static str, f64)>) -> Result<Self, String> {
        let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let libc = if cfg!(target_env = "gnu") {
            "gnu"
        } else {
            "other"
        };
        Ok(Baseline {
            rustc: output(&rustc, "--version")?,
            target: format!("{}-{}-{libc}", consts::ARCH, consts::OS),
            date: output("date", "+%F")?,
            instructions: counts
                .map(|(name, count)| (name.into(), (count * 100.0).round() / 100.0))
                .collect(),
        })
    }

    /// The committed one.
    pub(crate) fn committed() -> Result<Self, String> {
        let text = fs::read_to_string(PATH).map_err(|error| format!("{PATH}: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{PATH}: {error}"))
    }

    /// Makes this the one to commit.
    pub(crate) fn bless(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).expect("names and numbers become JSON");
        fs::write(PATH, text + "\n").map_err(|error| format!("{PATH}: {error}"))?;
        println!("\nWritten to {PATH}.");
        Ok(())
    }

    /// Whether the two count what one compiler made.
    pub(crate) fn is_comparable(&self, other: &Self) -> bool {
        (&self.rustc, &self.target) == (&other.rustc, &other.target)
    }

    /// Where and when it was counted.
    pub(crate) fn origin(&self) -> String {
        format!("{}, {}, {}", self.rustc, self.target, self.date)
    }
}

/// How an operation's count differs from the committed one.
pub(crate) enum Change {
    /// By so much of what it was.
    More(f64),
    /// By so much of what it was.
    Fewer(f64),
    /// The baseline doesn't have the operation.
    New,
    /// Only the baseline has it.
    Gone,
}

impl Change {
    /// None, if it is the same.
    pub(crate) fn between(was: Option<f64>, is: Option<f64>) -> Option<Self> {
        let (was, is) = match (was, is) {
            (None, _) => return Some(Change::New),
            (_, None) => return Some(Change::Gone),
            (Some(was), Some(is)) => (was, is),
        };
        if is > was * (1.0 + TOLERANCE) {
            Some(Change::More(is / was - 1.0))
        } else if is < was * (1.0 - TOLERANCE) {
            Some(Change::Fewer(1.0 - is / was))
        } else {
            None
        }
    }

    /// Whether somebody has to say that it is meant to be so.
    pub(crate) fn fails(&self) -> bool {
        !matches!(self, Change::Fewer(_))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::More(by) => write!(f, "{:.1} % MORE", 100.0 * by),
            Change::Fewer(by) => write!(f, "{:.1} % fewer", 100.0 * by),
            Change::New => f.write_str("NEW"),
            Change::Gone => f.write_str("GONE"),
        }
    }
}

/// What a command prints.
fn output(command: &str, argument: &str) -> Result<String, String> {
    let output = Command::new(command)
        .arg(argument)
        .output()
        .map_err(|error| format!("{command}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}
