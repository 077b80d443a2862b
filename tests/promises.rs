//! The guide to the scheduler names what shows each of its promises: that must be there.
#![cfg(feature = "scheduler")]

use std::fs;
use std::path::Path;

/// A source, if it is here: a published package has no models.
fn source(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// What a cell names, and the file that it should be in. `None`: any function of that file.
fn named(cell: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    // A place in brackets is that of all names before it that have none.
    let mut open = Vec::new();
    let mut rest = cell;
    while let Some(at) = rest.find(['`', '(']) {
        let (is_name, end) = match rest[at..].starts_with('`') {
            true => (true, '`'),
            false => (false, ')'),
        };
        let inner = &rest[at + 1..];
        let length = inner.find(end).expect("it is closed");
        let text = &inner[..length];
        rest = &inner[length + 1..];
        match (is_name, text.split_once("::")) {
            (true, Some((file, name))) => {
                let name = (name != "*").then(|| name.to_owned());
                found.push((format!("loom-tests/{file}.rs"), name));
            }
            (true, None) => open.push(text.to_owned()),
            (false, _) => {
                let file = if text == "shuttle" {
                    "loom-tests/shuttle.rs"
                } else {
                    text
                };
                found.extend(open.drain(..).map(|name| (file.to_owned(), Some(name))));
            }
        }
    }
    assert!(open.is_empty(), "{open:?} in which file?");
    found
}

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
        let named = named(cell);
        assert!(!named.is_empty(), "nothing shows {row}");
        for (file, name) in named {
            let Some(text) = source(&file) else {
                assert!(file.starts_with("loom-tests/"), "there is no {file}");
                continue;
            };
            // A test is a function, and a model an entry of a macro.
            let is_there = name.as_ref().is_none_or(|name| {
                text.contains(&format!("fn {name}(")) || text.contains(&format!(" {name} {{"))
            });
            assert!(is_there, "{file} has no {name:?}");
        }
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
