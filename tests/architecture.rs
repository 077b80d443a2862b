//! The architecture as rules that fail with a reason.
//!
//! The sources are read as text: comments and strings are taken out, what remains is split into words,
//! and the words must keep the rules below. The second half of the file feeds the checker small bad
//! sources and asserts that it objects: rules that nothing can break are no rules.

use std::fmt::{self, Display};
use std::fs;
use std::path::Path;

// The rules, as data.

/// The floors, from the ground up. A file imports from lower floors and from its own module. Modules
/// that share a floor don't know each other. `lib.rs` is the roof and may name them all.
const FLOORS: &[&[&str]] = &[
    &["sync"],
    &["clock"],
    &["stamp"],
    &["raw"],
    &["cell"],
    &["store", "scheduler"],
];

/// Where unsafe code may be.
const UNSAFE: &[&str] = &["src/sync/", "src/raw/"];

/// What has one door: a path, where it may be named, and what to use elsewhere.
const DOORS: &[(&str, &str, &str)] = &[
    ("std::sync::atomic", "src/sync/", USE_SYNC),
    ("std::thread", "src/sync/", USE_SYNC),
    ("std::thread_local", "src/sync/", USE_SYNC),
    ("std::hint::spin_loop", "src/sync/", USE_SYNC),
    ("loom", "src/sync/", USE_SYNC),
    ("shuttle", "src/sync/", USE_SYNC),
    (
        "crossbeam_epoch",
        "src/raw/grace.rs",
        "which epoch scheme there is, is `raw/grace`'s secret; use `Reclaim`",
    ),
    (
        "arc_swap",
        "src/sync/table.rs",
        "models can't see into it; a head is an `AtomicPtr` of `crate::sync`, what is read by all and replaced \
         now and then a `sync::table::Table`",
    ),
    (
        "quanta",
        "src/clock.rs",
        "where time comes from is `clock`'s secret; take a `Reading`",
    ),
    (
        "papaya",
        "src/sync/map.rs",
        "models can't see into it; use `sync::map::Map`",
    ),
    (
        "foldhash",
        "src/sync/map.rs",
        "how ids are hashed is the map's secret",
    ),
    (
        "uuid",
        "src/store/id.rs",
        "what an id is made of is `store/id`'s secret; use `EntityId`",
    ),
    (
        "slab",
        "src/sync/event.rs",
        "who waits registers in an `Event`",
    ),
];
const USE_SYNC: &str = "a model can't see it; use what `crate::sync` offers, and name a site";

/// The orderings, which only the table may name.
const ORDERINGS: &[&str] = &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
const ORDERINGS_TABLE: &str = "src/sync/orderings.rs";

/// What nobody leaves behind, and where. Split, so that this file keeps the rule. (A stand-in of a test
/// may have parts that nothing calls.)
const LEFTOVERS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), ""),
    (concat!("FIX", "ME"), ""),
    (concat!("to", "do!"), ""),
    (concat!("db", "g!"), ""),
    (concat!("unimple", "mented!"), "src/"),
];

/// What lies at the top of the repository.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "DESIGN.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "clippy.toml",
    "deny.toml",
    "examples",
    "loom-tests",
    "src",
    "target",
    "tests",
    // What cargo adds to a published package.
    ".cargo-ok",
    ".cargo_vcs_info.json",
    "Cargo.toml.orig",
];

/// The folders with sources in them.
const FOLDERS: &[&str] = &["src", "tests", "loom-tests", "benches", "examples"];

// The test.

#[test]
fn the_comparison_shows_the_results_that_are_kept() {
    let kept = [
        include_str!(
            "../benches/results/2026-11-27-amd-epyc-reads-commit-contention-entities-garbage-memory-waiting.md"
        ),
        include_str!("../benches/results/2026-11-27-amd-epyc-transactions.md"),
        include_str!("../benches/results/2026-11-27-amd-epyc-store-tree.md"),
        include_str!("../benches/results/2026-11-27-amd-epyc-scheduler-fairness.md"),
    ];
    // Without what keeps `<` from being taken for HTML, and in columns of whatever width.
    let plain = |text: &str| text.replace(['\\', ' '], "");
    let shown = plain(include_str!("../src/docs/comparison.md"));
    let is_target = |line: &&str| line.starts_with("| ") && line.contains(": ");
    let mut count = 0;
    for kept in kept {
        let (_, targets) = kept.split_once("## targets").expect("they are there");
        let (targets, _) = targets.split_once("\n## ").unwrap_or((targets, ""));
        for line in targets.lines().filter(is_target) {
            assert!(
                shown.contains(&plain(line)),
                "src/docs/comparison.md lacks\n{line}"
            );
            count += 1;
        }
    }
    assert!(count > 10, "{count} targets");
}

#[test]
fn the_sources_keep_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in FOLDERS {
        read_all(root, folder, &mut sources);
    }
    assert!(
        sources.len() >= 20,
        "the checker is blind: it found {} files",
        sources.len()
    );
    let mut complaints: Vec<_> = sources.iter().flat_map(check).collect();
    let entries = fs::read_dir(root).expect("the root can be listed");
    let names = entries.map(|entry| entry.expect("an entry has a name").file_name());
    complaints.extend(names.filter_map(|name| check_top(&name.to_string_lossy())));
    let report: String = complaints.iter().map(|c| format!("  {c}\n")).collect();
    assert!(
        complaints.is_empty(),
        "\nThe architecture is broken in {} places:\n{report}",
        complaints.len()
    );
}

fn read_all(root: &Path, folder: &str, sources: &mut Vec<Source>) {
    // A published package has not every folder.
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return;
    };
    for entry in entries {
        let name = entry.expect("an entry has a name").file_name();
        let path = format!("{folder}/{}", name.to_string_lossy());
        if path.ends_with(".rs") {
            let text = fs::read_to_string(root.join(&path)).expect("a source is text");
            sources.push(Source { path, text });
        } else if root.join(&path).is_dir() {
            read_all(root, &path, sources);
        }
    }
}

/// A file, real or made up.
struct Source {
    path: String,
    text: String,
}

/// What is wrong, where, and what to do about it.
#[derive(Debug)]
struct Complaint {
    rule: &'static str,
    path: String,
    line: usize,
    sentence: String,
}

impl Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{} [{}] {}",
            self.path, self.line, self.rule, self.sentence
        )
    }
}

impl Source {
    fn complaint(&self, rule: &'static str, line: usize, sentence: String) -> Complaint {
        Complaint {
            rule,
            path: self.path.clone(),
            line,
            sentence,
        }
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// The module at the top of `src` that this file belongs to; `None` for the roof.
    fn module(&self) -> Option<&str> {
        let path = self.path.strip_prefix("src/")?;
        let module = path.split('/').next()?.trim_end_matches(".rs");
        (module != "lib").then_some(module)
    }
}

fn check(source: &Source) -> Vec<Complaint> {
    let words = words(&source.text);
    let mut complaints = Vec::new();
    check_header(source, &mut complaints);
    check_leftovers(source, &mut complaints);
    check_reasons(source, &words, &mut complaints);
    if source.path.starts_with("src/") {
        let shipped = without_tests(&words);
        let paths = paths(&shipped);
        check_floors(source, &paths, &mut complaints);
        check_doors(source, &paths, &mut complaints);
        check_orderings(source, &words, &mut complaints);
        check_unsafe(source, &words, &mut complaints);
    }
    complaints
}

fn rank(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Imports go down.
fn check_floors(source: &Source, paths: &[Named<'_>], complaints: &mut Vec<Complaint>) {
    let Some(own) = source.module() else { return };
    let Some(floor) = rank(own) else {
        complaints.push(source.complaint(
            "floors",
            1,
            format!("`{own}` is on no floor. Decide what it may know, and enter it in FLOORS."),
        ));
        return;
    };
    for Named { path, line, .. } in paths {
        let up = path.iter().take_while(|step| **step == "super").count();
        let (target, from_root) = match path.as_slice() {
            ["crate", target, ..] => (*target, true),
            // Whether a chain of `super` gets to the root depends on inline modules; the name tells.
            path if up > 0 && path.len() > up => (path[up], false),
            _ => continue,
        };
        if target == own {
            continue;
        }
        let sentence = match rank(target) {
            Some(rank) if rank < floor => continue,
            Some(rank) if rank == floor => format!(
                "`{own}` names `{target}` beside it. The two share a floor and don't know each other; \
                 if they need something in common, it is a third module below both."
            ),
            Some(_) => format!(
                "`{own}` names `{target}` above it. Imports go down only; what a lower floor must call, \
                 it declares, and the higher one installs itself there."
            ),
            None if from_root => format!(
                "`{own}` names `crate::{target}`, which the roof re-exports. Name it by its module, so \
                 that the floor shows."
            ),
            None => continue,
        };
        complaints.push(source.complaint("floors", *line, sentence));
    }
}

/// Some things have one door.
fn check_doors(source: &Source, paths: &[Named<'_>], complaints: &mut Vec<Complaint>) {
    for &(name, place, instead) in DOORS {
        if source.is_in(&[place]) {
            continue;
        }
        let door: Vec<&str> = name.split("::").collect();
        for named in paths {
            let path: Vec<&str> = named
                .path
                .iter()
                .map(|step| if *step == "core" { "std" } else { step })
                .collect();
            // A whole module that is imported lets everything in it through.
            let path = match path.as_slice() {
                [module @ .., "self" | "*"] => module,
                path => path,
            };
            let through = path.starts_with(&door);
            let around = named.imported && !path.is_empty() && door.starts_with(path);
            if through || around {
                let path = path.join("::");
                let sentence = if through {
                    format!("`{path}` may be named in {place} only: {instead}.")
                } else {
                    format!("`{path}` is imported whole, `{name}` with it: import single items.")
                };
                complaints.push(source.complaint("doors", named.line, sentence));
            }
        }
    }
}

/// Orderings are named by the table alone.
fn check_orderings(source: &Source, words: &[Word<'_>], complaints: &mut Vec<Complaint>) {
    if source.path == ORDERINGS_TABLE {
        return;
    }
    for word in words.iter().filter(|word| ORDERINGS.contains(&word.text)) {
        let sentence = format!(
            "`{}` is named outside the table. Give the access a site in {ORDERINGS_TABLE}: what it pairs \
             with, why, and the model that fails with a weaker one.",
            word.text
        );
        complaints.push(source.complaint("orderings", word.line, sentence));
    }
}

/// Unsafe code has an address, and everybody else forbids it.
fn check_unsafe(source: &Source, words: &[Word<'_>], complaints: &mut Vec<Complaint>) {
    if source.is_in(UNSAFE) {
        return;
    }
    for word in words.iter().filter(|word| word.text == "unsafe") {
        let sentence = format!(
            "unsafe code lives in {}: what needs it belongs there, behind a type that can't be misused.",
            UNSAFE.join(" and ")
        );
        complaints.push(source.complaint("unsafe", word.line, sentence));
    }
    let forbids = words.windows(6).any(|words| {
        let texts: Vec<_> = words.iter().map(|word| word.text).collect();
        texts == ["!", "[", "forbid", "(", "unsafe_code", ")"]
    });
    // In the roof it would be forbidden to all.
    if source.module().is_some() && !forbids {
        let sentence =
            "this module has no unsafe code and should say so: `#![forbid(unsafe_code)]`.";
        complaints.push(source.complaint("unsafe", 1, sentence.to_owned()));
    }
}

/// A file says what it is for.
fn check_header(source: &Source, complaints: &mut Vec<Complaint>) {
    let header = source
        .text
        .lines()
        .map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<&str> = header
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = paragraph.join(" ");
    let is_sentence = paragraph.split(' ').count() >= 3 && paragraph.ends_with(['.', '?', ':']);
    if !is_sentence {
        let sentence =
            "a file begins with `//!` and a sentence that says what it promises or decides.";
        complaints.push(source.complaint("header", 1, sentence.to_owned()));
    }
}

/// Work is finished or not there.
fn check_leftovers(source: &Source, complaints: &mut Vec<Complaint>) {
    for (line, number) in source.text.lines().zip(1..) {
        for (leftover, place) in LEFTOVERS {
            let found = source.is_in(&[place])
                && line.match_indices(leftover).any(|(at, _)| {
                    let inside = |c: char| c.is_alphanumeric() || c == '_';
                    !line[..at].ends_with(inside)
                        && !line[at + leftover.len()..].starts_with(inside)
                });
            if found {
                let sentence =
                    format!("`{leftover}` is left behind: finish it, or leave no trace of it.");
                complaints.push(source.complaint("leftovers", number, sentence));
            }
        }
    }
}

/// Who silences a lint says why.
fn check_reasons(source: &Source, words: &[Word<'_>], complaints: &mut Vec<Complaint>) {
    let is = |at: usize, text: &str| words.get(at).is_some_and(|word| word.text == text);
    for start in 0..words.len() {
        let open = start + 1 + usize::from(is(start + 1, "!"));
        if !is(start, "#") || !is(open, "[") {
            continue;
        }
        let attribute = &words[open..closing(words, open)];
        for (at, word) in attribute.iter().enumerate() {
            let silences = ["allow", "expect"].contains(&word.text)
                && attribute.get(at + 1).is_some_and(|word| word.text == "(");
            if !silences {
                continue;
            }
            let arguments = &attribute[at + 1..closing(attribute, at + 1)];
            if !arguments.iter().any(|word| word.text == "reason") {
                let sentence = format!(
                    "`{}` without a reason: add `reason = \"…\"`, for whoever wonders later.",
                    word.text
                );
                complaints.push(source.complaint("reasons", word.line, sentence));
            }
        }
    }
}

/// The top of the repository is small.
fn check_top(name: &str) -> Option<Complaint> {
    (!TOP.contains(&name)).then(|| Complaint {
        rule: "top",
        path: name.to_owned(),
        line: 1,
        sentence:
            "the top of the repository has room for what a newcomer must see: put this where it \
                   belongs, or enter it in TOP."
                .to_owned(),
    })
}

// Reading.

/// A word of code: a name, a number, `::`, or one sign. Strings are `""`, and comments are nothing.
#[derive(Clone, Copy, Debug)]
struct Word<'a> {
    text: &'a str,
    line: usize,
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < text.len() {
        let rest = &text[at..];
        let (word, len) = next_word(rest);
        if let Some(text) = word {
            words.push(Word { text, line });
        }
        line += rest[..len].matches('\n').count();
        at += len;
    }
    words
}

/// The word at the start of `rest`, if there is one, and how much of the text it takes.
fn next_word(rest: &str) -> (Option<&str>, usize) {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let first = rest.chars().next().unwrap_or(' ');
    if rest.starts_with("//") {
        return (None, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (None, end_of_block_comment(rest));
    }
    if let Some(len) = end_of_string(rest) {
        return (Some("\"\""), len);
    }
    if first == '\'' {
        // A character, or a lifetime.
        let escaped = rest[1..].starts_with('\\');
        let quoted = rest[1..].chars().next().map_or(0, char::len_utf8);
        if escaped || rest[1 + quoted..].starts_with('\'') {
            let from = if escaped { 3 } else { 1 + quoted };
            let len = rest[from..]
                .find('\'')
                .map_or(rest.len(), |end| from + end + 1);
            return (Some("''"), len);
        }
        return (None, 1);
    }
    if is_name(first) {
        let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        return (Some(&rest[..len]), len);
    }
    if rest.starts_with("::") {
        return (Some("::"), 2);
    }
    let len = first.len_utf8();
    ((!first.is_whitespace()).then(|| &rest[..len]), len)
}

fn end_of_block_comment(rest: &str) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < rest.len() {
        if rest[at..].starts_with("/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest[at..].starts_with("*/") {
            (at, depth) = (at + 2, depth - 1);
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Where the string ends that `rest` starts with, if it does: plain, raw, of bytes or for C.
fn end_of_string(rest: &str) -> Option<usize> {
    let kind = rest
        .find(|c| !"bcr".contains(c))
        .filter(|kind| *kind <= 2)?;
    let (prefix, tail) = rest.split_at(kind);
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    let raw = prefix.ends_with('r');
    if !tail[hashes..].starts_with('"') || (hashes > 0 && !raw) {
        return None;
    }
    let body = kind + hashes + 1;
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        let len = rest[body..]
            .find(&end)
            .map_or(rest.len() - body, |at| at + end.len());
        return Some(body + len);
    }
    let mut escaped = false;
    for (at, c) in rest[body..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(body + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// The place after the bracket that closes the one at `open`.
fn closing(words: &[Word<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (at, word) in words.iter().enumerate().skip(open) {
        match word.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    words.len()
}

/// Takes unit tests out: they are shipped to nobody.
fn without_tests<'a>(words: &[Word<'a>]) -> Vec<Word<'a>> {
    let is_test = |at: usize| {
        let texts = words[at..].iter().take(8).map(|word| word.text);
        texts.eq(["#", "[", "cfg", "(", "test", ")", "]", "mod"])
    };
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        // The attribute has seven words; `mod`, a name and the body follow.
        if is_test(at) {
            at = closing(words, at + 9);
        } else {
            kept.push(words[at]);
            at += 1;
        }
    }
    kept
}

/// A path that is named, by its steps. `use` trees are taken apart.
#[derive(Debug)]
struct Named<'a> {
    path: Vec<&'a str>,
    line: usize,
    imported: bool,
}

fn paths<'a>(words: &[Word<'a>]) -> Vec<Named<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let word = words[at].text;
        let starts = word.starts_with(|c: char| c.is_alphabetic() || c == '_');
        // After these, `::` begins a path and does not continue one.
        let is_keyword = ["use", "as", "for", "in", "impl", "dyn", "mut", "return"].contains(&word);
        if starts && !is_keyword {
            let imported = at > 0 && {
                let before = words[at - 1].text;
                let earlier = at.checked_sub(2).map_or("", |at| words[at].text);
                before == "use" || (before == "::" && earlier == "use")
            };
            at = walk(words, at, &[], imported, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Walks along one path, or one tree of them, and says where it ends.
fn walk<'a>(
    words: &[Word<'a>],
    start: usize,
    stem: &[&'a str],
    imported: bool,
    found: &mut Vec<Named<'a>>,
) -> usize {
    let text = |at: usize| words.get(at).map_or("", |word| word.text);
    let mut path = stem.to_vec();
    let mut at = start;
    loop {
        if text(at) == "{" && imported {
            let end = closing(words, at);
            at += 1;
            while at + 1 < end {
                at = walk(words, at, &path, imported, found);
                // A comma, or another name for it.
                while at + 1 < end && text(at) != "," {
                    at += 1;
                }
                at += usize::from(text(at) == ",");
            }
            return end;
        }
        path.push(text(at));
        at += 1;
        let goes_on = |c: char| c.is_alphabetic() || c == '_' || c == '{' || c == '*';
        if text(at) != "::" || !text(at + 1).starts_with(goes_on) {
            break;
        }
        at += 1;
    }
    found.push(Named {
        path,
        line: words[start].line,
        imported,
    });
    at
}

// The checker has teeth.

/// What the checker says about a made-up file: the rules that it finds broken.
fn rules_broken(path: &str, text: &str) -> Vec<&'static str> {
    let source = Source {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    check(&source)
        .iter()
        .map(|complaint| complaint.rule)
        .collect()
}

/// A file of the floor `cell` that is in order but for `code`.
fn in_cell(code: &str) -> Vec<&'static str> {
    let text = format!("//! A file to try the rules on.\n#![forbid(unsafe_code)]\n{code}\n");
    rules_broken("src/cell/tried.rs", &text)
}

#[test]
fn imports_that_go_up_or_across_are_objected_to() {
    for own in FLOORS.concat() {
        for target in FLOORS.concat() {
            let may = own == target || rank(target) < rank(own);
            for code in [
                format!("use crate::{target}::X;"),
                format!("use crate::{{{target}::{{X as Y, Z}}}};"),
                format!("fn f() {{ crate::{target}::x() }}"),
                format!("use super::super::{target}::X;"),
            ] {
                let text = format!("//! A file to try.\n#![forbid(unsafe_code)]\n{code}\n");
                let broken = rules_broken(&format!("src/{own}/tried.rs"), &text);
                assert_eq!(broken.is_empty(), may, "{own}: {code} {broken:?}");
                assert!(broken.iter().all(|rule| *rule == "floors"), "{broken:?}");
            }
        }
    }
    let two = in_cell("use crate::{raw::X, store::Y};\nuse crate::scheduler;");
    assert_eq!(two, ["floors", "floors"]);
    assert_eq!(in_cell("use crate::Snapshot;"), ["floors"], "by the roof");
    let nowhere = rules_broken(
        "src/attic.rs",
        "//! A file on no floor.\n#![forbid(unsafe_code)]\n",
    );
    assert_eq!(nowhere, ["floors"]);
}

#[test]
fn primitives_outside_their_door_are_objected_to() {
    for code in [
        "use std::sync::atomic::AtomicU64;",
        "use ::std::sync::atomic;",
        "use core::sync::atomic::AtomicBool;",
        "use std::{fmt, sync::{Arc, atomic::{AtomicBool, fence}}};",
        "use std::sync::{self, Arc};",
        "use std::sync;",
        "use std::*;",
        "fn f() { std::thread::yield_now() }",
        "std::thread_local! { static X: u8 = 0; }",
        "use std::hint::{black_box, spin_loop};",
        "use loom::cell::UnsafeCell;",
        "fn f() { shuttle::thread::yield_now() }",
        "use crossbeam_epoch as epoch;",
        "static X: arc_swap::ArcSwap<u8> = x();",
        "fn f() { quanta::Instant::now(); }",
    ] {
        assert!(in_cell(code).contains(&"doors"), "{code}");
    }
    assert_eq!(
        rules_broken(
            "src/raw/pool.rs",
            "//! A file to try.\nuse crossbeam_epoch::pin;"
        ),
        ["doors"],
        "the rest of `raw` has to ask `grace`, too"
    );
    let at_the_door = "//! A file to try.\nuse crossbeam_epoch::{Guard, pin};";
    assert!(rules_broken("src/raw/grace.rs", at_the_door).is_empty());
}

#[test]
fn orderings_outside_the_table_are_objected_to() {
    for ordering in ORDERINGS {
        let code = format!("fn f(w: &W) -> u8 {{ w.load({ordering}) }}");
        assert_eq!(in_cell(&code), ["orderings"], "{code}");
    }
    assert_eq!(in_cell("use O::{AcqRel as Both};"), ["orderings"]);
    assert!(in_cell("fn f() -> Ordering { Ordering::Less }").is_empty());
}

#[test]
fn unsafe_code_outside_the_core_is_objected_to() {
    assert_eq!(in_cell("fn f() { unsafe { g() } }"), ["unsafe"]);
    assert_eq!(in_cell("unsafe impl Send for X {}"), ["unsafe"]);
    let silent = "//! A file that does not forbid it.\nfn f() {}";
    assert_eq!(rules_broken("src/cell/tried.rs", silent), ["unsafe"]);
    assert_eq!(rules_broken("src/stamp.rs", silent), ["unsafe"]);
    assert!(rules_broken("src/raw/tried.rs", silent).is_empty());
}

#[test]
fn a_file_without_a_header_is_objected_to() {
    for text in [
        "",
        "fn f() {}",
        "// A sentence that is no doc comment.\n",
        "//!\n//! A sentence that comes too late.\n",
        "//! Tests.\n",
        "//! no end to this\n",
    ] {
        assert_eq!(rules_broken("tests/tried.rs", text), ["header"], "{text:?}");
    }
    let long = "//! A sentence of two lines is as good as\n//! one of one line.\n";
    assert!(rules_broken("tests/tried.rs", long).is_empty());
}

#[test]
fn a_lint_that_is_silenced_without_a_reason_is_objected_to() {
    for code in [
        "#[allow(dead_code)]\nfn f() {}",
        "#![allow(dead_code)]",
        "#[expect(dead_code)]\nfn f() {}",
        "#[cfg_attr(x, allow(dead_code))]\nfn f() {}",
    ] {
        assert_eq!(in_cell(code), ["reasons"], "{code}");
    }
    for code in [
        "#[allow(dead_code, reason = \"why\")]\nfn f() {}",
        "#[cfg_attr(x, expect(dead_code, reason = \"why\"))]\nfn f() {}",
        "fn f() { x.expect(\"an allow(…) in a string\") }",
    ] {
        assert!(in_cell(code).is_empty(), "{code}");
    }
}

#[test]
fn leftovers_are_objected_to() {
    for (leftover, _) in LEFTOVERS {
        assert_eq!(in_cell(&format!("// {leftover} later")), ["leftovers"]);
        assert_eq!(
            in_cell(&format!("fn f() {{ {leftover}() }}")),
            ["leftovers"]
        );
    }
}

#[test]
fn what_is_not_expected_at_the_top_is_objected_to() {
    let complaint = check_top("notes.txt").expect("nobody knows it");
    assert!(complaint.to_string().contains("notes.txt"), "{complaint}");
    assert!(check_top("src").is_none());
}

#[test]
fn comments_strings_and_tests_are_not_mistaken_for_code() {
    let clean = r####"
//! `unsafe`, `Relaxed` and crate::store in a comment.
/* unsafe { /* crate::store::nested() */ SeqCst } */
const A: &str = "unsafe { crate::store::x() } \" Acquire";
const B: &str = r#"std::thread::spawn " Release"#;
const C: &[u8] = br"loom::model";
const D: (char, char, char) = ('"', '\'', 'u');
fn f<'unsafe_looking>(x: &'unsafe_looking str) -> &'unsafe_looking str { x }
#[cfg(test)]
mod tests {
    use crate::store::X;
    fn f() { std::thread::yield_now() }
}
fn g() { crate::raw::x::<u8>(); self::h(); }
"####;
    assert_eq!(in_cell(clean), [""; 0]);
    let after = format!("{clean}\nfn h() {{ crate::store::x() }}");
    assert_eq!(in_cell(&after), ["floors"], "and yet nothing is missed");
}

#[test]
fn a_complaint_says_where_and_what_to_do() {
    let source = Source {
        path: "src/raw/node.rs".to_owned(),
        text: "//! A file to try.\n\nuse crate::cell::Entity;\n".to_owned(),
    };
    let complaints = check(&source);
    let [complaint] = complaints.as_slice() else {
        panic!("one thing is wrong: {complaints:?}")
    };
    assert_eq!(
        complaint.to_string(),
        "src/raw/node.rs:3 [floors] `raw` names `cell` above it. Imports go down only; what a lower floor \
         must call, it declares, and the higher one installs itself there."
    );
}
