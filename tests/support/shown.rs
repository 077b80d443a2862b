//! Tests and models that documents name: whether they are there.

use std::fs;
use std::path::Path;

/// A source, if it is here: a published package has no models.
pub(crate) fn source(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// What a cell of a table names, and the file that it should be in. `None`: any function of that file.
pub(crate) fn named(cell: &str) -> Vec<(String, Option<String>)> {
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

/// Asserts that a cell names something, and that all of it is there.
pub(crate) fn all_are_there(cell: &str) {
    let named = named(cell);
    assert!(!named.is_empty(), "nothing shows {cell}");
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
}
