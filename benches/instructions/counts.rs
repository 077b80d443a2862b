//! Counts instructions, by gungraun and callgrind.
//!
//! gungraun's own baselines are profiles in the target directory, of one machine, so it only counts:
//! this program runs itself once more with gungraun's `main`, which has each operation run under
//! valgrind in a process of its own, and prints a line of JSON for each.

use crate::operations::{self, OPERATIONS, REPEATS, Round};
use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use serde_json::Value;
use std::env;
use std::hint::black_box;
use std::io::ErrorKind;
use std::process::Command;

/// Set where gungraun's `main` is wanted.
const GUNGRAUN: &str = "SNAPCELL_GUNGRAUN";

/// The round before the first operation is the empty one.
fn round(index: usize) -> Round {
    match index.checked_sub(1) {
        None => operations::empty(),
        Some(index) => OPERATIONS[index].1(),
    }
}

#[library_benchmark(setup = round)]
#[benches::round(iter = 0..=OPERATIONS.len())]
fn count(mut round: Round) -> Round {
    black_box(round());
    round // and not dropped here
}

library_benchmark_group!(name = rounds, benchmarks = count);
main!(
    config = LibraryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]));
    library_benchmark_groups = rounds
);

/// Whether this process was started to be counted, or by [`counts`]. Then it has done its work now.
pub(crate) fn ran() -> bool {
    let wanted = env::args()
        .nth(1)
        .is_some_and(|arg| arg == "--gungraun-run")
        || env::var_os(GUNGRAUN).is_some();
    if wanted {
        main();
    }
    wanted
}

/// The instructions of each operation, without those of the loop around it.
pub(crate) fn counts() -> Result<Vec<f64>, String> {
    for tool in ["valgrind", "gungraun-runner"] {
        if let Err(error) = Command::new(tool).arg("--version").output() {
            return Err(match error.kind() {
                ErrorKind::NotFound => format!("{tool} is missing.\n{INSTALL}"),
                _ => format!("{tool} doesn't start: {error}"),
            });
        }
    }
    let run = Command::new(env::current_exe().map_err(|error| error.to_string())?)
        .arg("--bench") // or it would only list them
        .env(GUNGRAUN, "1")
        .env("GUNGRAUN_OUTPUT_FORMAT", "json")
        .env("GUNGRAUN_PARALLEL", "1") // or the lines would come in any order
        .output()
        .map_err(|error| format!("this program doesn't start again: {error}"))?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        return Err(format!("gungraun failed.\n{said}"));
    }
    let rounds = String::from_utf8_lossy(&run.stdout)
        .lines()
        .map(per_operation)
        .collect::<Option<Vec<f64>>>()
        .filter(|rounds| rounds.len() == 1 + OPERATIONS.len())
        .ok_or("gungraun's output is not what was expected")?;
    Ok(rounds[1..].iter().map(|count| count - rounds[0]).collect())
}

/// What a line of gungraun's output says.
fn per_operation(line: &str) -> Option<f64> {
    let line: Value = serde_json::from_str(line).ok()?;
    let instructions = line.pointer("/profiles/0/data/total/metrics/Ir/values/new")?;
    Some(instructions.as_f64()? / f64::from(REPEATS))
}

const INSTALL: &str = "\
Counting needs valgrind, from your system's packages, and the runner of gungraun's version:
    cargo install gungraun-runner --locked --version \"=$(cargo pkgid gungraun | sed 's/.*@//')\"";
