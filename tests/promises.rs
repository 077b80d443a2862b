//! The guide to the scheduler names what shows each of its promises: that must be there.
#![cfg(feature = "scheduler")]

#[path = "support/shown.rs"]
mod shown;

use shown::{all_are_there, named};

#[test]
fn every_promise_names_tests_and_models_that_exist() {
    let guide = include_str!("../src/docs/scheduler.md");
    let (_, promises) = guide
        .split_once("## Eight promises")
        .expect("they are there");
    let (promises, _) = promises.split_once("\n## ").expect("more comes after them");
    let rows = promises
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains(". |"));
    let mut count = 0;
    for row in rows {
        let cell = row
            .trim_end_matches('|')
            .rsplit(" | ")
            .next()
            .expect("a row has cells");
        all_are_there(cell);
        count += 1;
    }
    assert_eq!(count, 8);
}

#[test]
fn names_are_found_with_their_files() {
    let cell = "`a`, `b` (tests/x.rs), `lane::c`, `d` (shuttle), `word::*`";
    let some = |file: &str, name: &str| (file.to_owned(), Some(name.to_owned()));
    assert_eq!(
        named(cell),
        [
            some("tests/x.rs", "a"),
            some("tests/x.rs", "b"),
            some("loom-tests/lane.rs", "c"),
            some("loom-tests/shuttle.rs", "d"),
            ("loom-tests/word.rs".to_owned(), None),
        ]
    );
}
