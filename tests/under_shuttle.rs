//! A million random schedules of each scenario of `loom-tests/shuttle.rs`, of which `cargo shuttle` tries ten thousand.
//!
//! ```text
//! cargo stress schedules                              # a million of each: hours
//! SNAPCELL_SCHEDULES=10000 cargo stress schedules     # so many
//! ```
//! They need a build of their own, in which shuttle decides which thread goes on. So this starts `cargo shuttle`. Of the
//! programs of `cargo stress` it is the last by name, and so the last to run.
#![cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]

use std::env;
use std::process::{Command, Stdio};

/// How many schedules each scenario has, if it is set.
const SCHEDULES: &str = "SNAPCELL_SCHEDULES";

/// What would take the place of the flags of the build, which would be an ordinary one then.
const FLAGS: [&str; 3] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
];

#[test]
#[ignore = "takes hours: run by `cargo stress`"]
fn a_million_schedules_of_each_scenario() {
    let schedules = env::var(SCHEDULES).unwrap_or_else(|_| "1000000".into());
    println!("{SCHEDULES}={schedules} cargo shuttle");
    let mut shuttle = Command::new(env!("CARGO"));
    for flags in FLAGS {
        shuttle.env_remove(flags);
    }
    let output = shuttle
        .args(["--locked", "shuttle"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env(SCHEDULES, schedules)
        .stderr(Stdio::inherit())
        .output();
    let output = output.expect("cargo, which has built this, is there");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "cargo shuttle: {}", output.status);
    // Of a build without shuttle nothing is left to fail.
    assert!(
        said.contains("test result: ok. 1 passed"),
        "it has run nothing"
    );
}
