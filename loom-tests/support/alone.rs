//! Runs each test of this program in a process of its own, as many at once as there are processors.
//!
//! A model has the static words of its process for itself, so two of them can't share one. `cargo loom` and
//! `cargo shuttle` run this; it passes if each test has passed, and none was left out.

use std::env;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

/// Only tests whose names contain this are run, if it is set.
const ONLY: &str = "SNAPCELL_ONLY";

#[test]
#[ignore = "runs all others: cargo loom, cargo shuttle"]
fn each_test_passes_by_itself() {
    let ignored = names(&["--list", "--ignored"]);
    let only = env::var(ONLY).unwrap_or_default();
    let is_wanted = |name: &String| name.contains(&only) && !ignored.contains(name);
    let mut tests = names(&["--list"]);
    tests.retain(is_wanted);
    assert!(!tests.is_empty(), "no test is called {only:?}");
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, SeqCst)) {
                    let output = start(&[test, "--exact", "--nocapture", "--test-threads=1"]);
                    if !show(test, &output) {
                        failed.lock().expect("nobody panics here").push(test);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics here");
    assert!(
        failed.is_empty(),
        "{} of {} failed: {failed:#?}",
        failed.len(),
        tests.len()
    );
    println!(
        "{} tests, each in a process of its own: all passed",
        tests.len()
    );
}

/// This program, once more.
fn start(arguments: &[&str]) -> Output {
    let program = env::current_exe().expect("a test knows its program");
    let output = Command::new(program).args(arguments).output();
    output.expect("the program starts once more")
}

fn names(arguments: &[&str]) -> Vec<String> {
    let listed = start(arguments).stdout;
    let listed = String::from_utf8_lossy(&listed);
    let names = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    names.map(str::to_owned).collect()
}

/// Shows what a test has said: a line, or all of it if it has failed. Whether it has passed.
fn show(test: &str, output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stdout);
    let has_passed = output.status.success() && said.contains("test result: ok. 1 passed");
    if has_passed {
        let begins = format!("test {test} ... ");
        let line = said.lines().find(|line| line.starts_with(&begins));
        println!("{}", line.unwrap_or(test));
    } else {
        println!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
        println!("test {test} FAILED: {}", output.status);
    }
    has_passed
}
