//! A soak: engines under everything that can be done to them, for as long as one likes, with a checkpoint after each
//! stretch at which all threads meet and every law is checked.
//!
//! ```text
//! SNAPCELL_SOAK=10m cargo stress soak            # for so long; 20 s if nothing is said
//! SNAPCELL_SOAK_COMMITS=1000000000 cargo stress soak   # until there were so many commits
//! SNAPCELL_SEED=7 cargo stress soak              # by other dice
//! ```
//! A small one is part of every `cargo test`. Time decides how many stretches there are, and never whether they succeed.
//!
//! | file | hides |
//! |---|---|
//! | `plan` | how long it is to run |
//! | `street` | the engines and the entities that stay, and the laws |
//! | `books` | what was done, as those saw it who did it |
//! | `submitter` | what a thread does |
//! | `make`, `nest` | random operations, and operations inside of them |
//! | `held` | tickets of any type |
//! | `outside`, `guest` | commits past the engines, what waits for them, and what doesn't stay |
//! | `plain` | commits by the thousand million |
//! | `value`, `memory` | what lives, and how much memory there is |
//! | `seen` | which mechanisms have fired |
#![cfg(feature = "scheduler")]

mod soak {
    pub(crate) mod books;
    pub(crate) mod dice;
    pub(crate) mod guest;
    pub(crate) mod held;
    pub(crate) mod make;
    pub(crate) mod memory;
    pub(crate) mod nest;
    pub(crate) mod outside;
    pub(crate) mod plain;
    pub(crate) mod plan;
    pub(crate) mod run;
    pub(crate) mod seen;
    pub(crate) mod street;
    pub(crate) mod submitter;
    pub(crate) mod value;
}
#[path = "support/planned.rs"]
mod planned;
#[allow(dead_code, reason = "this test needs little of what races need")]
#[path = "support/race.rs"]
mod race;
#[allow(dead_code, reason = "this test needs little of what others share")]
mod support;

use soak::plan::{Length, asked_for};
use soak::run::run;

#[test]
fn a_small_soak_keeps_every_law() {
    support::alone(|| run(Length::Stretches(10)));
}

#[test]
#[ignore = "takes as long as one likes: run by `cargo stress`"]
fn a_soak_keeps_every_law() {
    let length = asked_for();
    support::alone(|| run(length));
}
