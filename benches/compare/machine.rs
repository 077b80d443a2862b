//! Where and of what the figures are.

use crate::load::{self, Load};
use serde::Serialize;
use std::env;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// What somebody has to know who wants to see the same figures.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) system: String,
    /// The share of the processors that others had during the run.
    pub(crate) others: Option<f64>,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    pub(crate) command: String,
}

const UNKNOWN: &str = "unknown";

impl Machine {
    /// This one, after a run that began with `load`.
    pub(crate) fn this(load: &Load) -> Self {
        let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
        let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let commit = said("git", &["rev-parse", "HEAD"]).map(|commit| {
            match said("git", &["status", "--porcelain"]).as_deref() {
                Some("") => commit,
                _ => format!("{commit}, dirty"),
            }
        });
        Machine {
            date: date(),
            cpu: cpu().unwrap_or_else(|| format!("{UNKNOWN} {}", env::consts::ARCH)),
            cores: thread::available_parallelism().map_or(0, usize::from),
            system: system(),
            others: load.others(),
            rustc: said(&rustc, &["-V"]).unwrap_or_else(|| UNKNOWN.to_owned()),
            commit: commit.unwrap_or_else(|| UNKNOWN.to_owned()),
            command: format!("cargo compare -- {}", arguments.join(" ")),
        }
    }

    /// As lines of Markdown.
    pub(crate) fn markdown(&self) -> String {
        let Machine {
            date,
            cpu,
            cores,
            system,
            others,
            rustc,
            commit,
            command,
        } = self;
        format!(
            "* {date}: {cpu}, {cores} cores, {system}; {}\n* {rustc}; commit {commit}\n* `{}`\n",
            load::sentence(*others),
            command.trim_end().trim_end_matches(" --")
        )
    }

    /// The processor's name, as part of a file's name.
    pub(crate) fn slug(&self) -> String {
        let words = self.cpu.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        words.join("-").to_ascii_lowercase()
    }
}

/// What a program says, if it can be run and succeeds.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

fn cpu() -> Option<String> {
    let told = match env::consts::OS {
        "macos" => said("sysctl", &["-n", "machdep.cpu.brand_string"])?,
        _ => {
            let all = fs::read_to_string("/proc/cpuinfo").ok()?;
            let line = all.lines().find(|line| line.starts_with("model name"))?;
            line.split_once(':')?.1.trim().to_owned()
        }
    };
    Some(told)
}

fn system() -> String {
    let (os, arch) = (env::consts::OS, env::consts::ARCH);
    match fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(kernel) => format!("{os} {} ({arch})", kernel.trim()),
        Err(_) => format!("{os} ({arch})"),
    }
}

/// Today, by UTC.
fn date() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let days = since.map_or(0, |since| since.as_secs() / 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The date that is so many days after 1 January 1970.
///
/// After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", for days after the epoch only.
fn civil(days: u64) -> (u64, u64, u64) {
    // Eras of 400 years begin with a March, so that a leap day ends a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}
