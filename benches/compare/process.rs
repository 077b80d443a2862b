//! Processes of their own, for what must not share its memory with others.
//!
//! The bench starts itself again with a hidden argument; the child prints its figures in a line.

use crate::runner::Sample;
use crate::{garbage, memory, store};
use std::env;
use std::fs;
use std::process::{Command, ExitCode};

/// Whether this system tells how much memory a process has.
pub(crate) fn can_measure() -> bool {
    resident().is_some()
}

/// What of this process is in memory, in bytes.
pub(crate) fn resident() -> Option<u64> {
    // Not from `statm`, which counts in pages of a size that it doesn't say.
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Has a child measure a contender of a question, with so much of what that question needs, and returns
/// its figures.
pub(crate) fn measure(question: &str, contender: &str, amount: u64) -> Result<Sample, String> {
    let output = env::current_exe()
        .and_then(|exe| {
            Command::new(exe)
                .args(["--child", question, contender, &amount.to_string()])
                .output()
        })
        .map_err(|error| format!("no process of its own: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, said.trim()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let figures: Result<Sample, _> = said.split_whitespace().map(str::parse).collect();
    figures.map_err(|error| format!("the process said {said:?}: {error}"))
}

/// What a child does.
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let figures = match arguments {
        [question, contender, amount] => match (question.as_str(), amount.parse()) {
            (garbage::QUESTION, Ok(amount)) => garbage::child(contender, amount),
            (memory::QUESTION, Ok(amount)) => memory::child(contender, amount),
            (store::QUESTION, Ok(amount)) => store::child(contender, amount),
            _ => Err(format!(
                "{question} with {amount} is nothing for a process of its own"
            )),
        },
        _ => Err("a question, a contender and an amount are wanted".to_owned()),
    };
    match figures {
        Ok(figures) => {
            let figures: Vec<String> = figures.iter().map(f64::to_string).collect();
            println!("{}", figures.join(" "));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
