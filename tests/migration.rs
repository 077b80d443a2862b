//! The guide to migration has a row for everything that the replaced system has, names nothing that isn't here, and
//! says of each defect which test shows that it can't come back.
#![cfg(all(feature = "store", feature = "scheduler"))]

#[path = "support/shown.rs"]
mod shown;

use shown::{all_are_there, source};
use snapcell::{Engine, Entity, Operation, Policy};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};

const GUIDE: &str = include_str!("../src/docs/migration.md");

/// What the replaced system has: the sections of the study of it, and what its tables list.
const FEATURES: [(&str, &[&str]); 7] = [
    (
        "Identity, versions, lineage",
        &[
            "`ecs_id`",
            "`live_id`",
            "`lineage_id`",
            "`created_at`, `forked_at`",
            "`old_ecs_id`, `old_ids`, `previous_ecs_id`",
            "`root_ecs_id`, `root_live_id`",
            "`from_storage`, `untyped_data`",
            "`attribute_source`",
            "provenance of calls",
            "`version`",
            "`last_modified`",
            "`mark_modified()`",
            "`has_occ_conflict(other)`",
            "tie-break by `last_modified`",
            "`update_ecs_ids(new_root, root_live)` = fork",
            "equality / hash",
            "fields the diff ignores",
        ],
    ),
    (
        "Trees, diff, versioning, registry",
        &[
            "edge kinds",
            "tree",
            "build",
            "diff",
            "early exit",
            "`version_entity(entity, force=False)`",
            "registry indexes",
            "queries",
            "register",
            "promote to root",
            "detach",
            "attach",
            "borrow",
            "address API",
            "consistency helpers",
        ],
    ),
    (
        "Operations",
        &[
            "statuses",
            "priorities",
            "fields",
            "construction rules",
            "Structural",
            "Normal",
            "Low",
            "start",
            "complete",
            "retry",
            "backoff",
            "forced status",
            "effective priority",
            "chain",
            "build chain",
            "queries",
            "cleanup",
            "in-registry conflict resolution",
        ],
    ),
    (
        "Grace, staging, decorators",
        &[
            "GracePeriodTracker",
            "staging area",
            "decorator",
            "configs",
            "op type",
            "coordinator",
            "opt-out",
            "status",
            "control",
            "zombie clean-up",
            "wished-for extras",
            "adaptive load controller",
        ],
    ),
    (
        "Backoff and retry parameters",
        &[
            "original solution 1, `get_backoff_delay`, tutorial",
            "original integration guide",
            "original \"configuration points\"",
            "brutality test, manual decorator test",
            "OCC stress test",
            "decorator OCCConfig",
        ],
    ),
    (
        "Events",
        &[
            "phases",
            "handler priority",
            "event fields",
            "operation events",
            "rejection reasons",
            "default handlers",
            "generic events",
            "entity events",
            "bus",
            "automatic nesting",
        ],
    ),
    (
        "Stress tests",
        &[
            "brutality",
            "dynamic",
            "OCC",
            "hierarchy",
            "decorators",
            "tutorial",
        ],
    ),
];

/// How many defects the study lists.
const DEFECTS: usize = 24;

/// The rows of the first table below a heading, without its head.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = GUIDE
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn every_feature_of_the_replaced_system_has_a_row() {
    for (heading, features) in FEATURES {
        let rows = rows(heading);
        let there: Vec<_> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(there, features, "{heading}");
        for row in &rows {
            let here = row[1];
            let has_counterpart = here.contains("](crate::") || here.contains('`');
            let is_left_out = here.starts_with("on purpose not") || here == "nothing to ignore";
            assert!(has_counterpart || is_left_out, "{row:?}");
            if is_left_out {
                assert!(
                    row.get(2).is_some_and(|why| !why.is_empty()),
                    "why? {row:?}"
                );
            }
        }
    }
}

#[test]
fn every_defect_has_what_prevents_it_and_names_tests_that_exist() {
    let rows = rows("Its defects, and what keeps them away");
    assert_eq!(rows.len(), DEFECTS);
    for (row, number) in rows.iter().zip(1..) {
        let [at, defect, prevented, shown] = row[..] else {
            panic!("{row:?}")
        };
        assert_eq!(at, format!("{number}."));
        assert!(!defect.is_empty() && !prevented.is_empty(), "{row:?}");
        all_are_there(shown);
    }
}

/// All sources of the crate, one after the other.
fn all_sources() -> String {
    let mut sources = String::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder);
        for entry in fs::read_dir(there).expect("sources are here") {
            let entry = entry.expect("it can be read");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                sources.push_str(&source(&path.to_string_lossy()).expect("it can be read"));
            }
        }
    }
    sources
}

/// Whether something of this name is public, or a variant of something that is.
fn is_defined(name: &str, sources: &str) -> bool {
    let kinds = [
        "fn", "const fn", "async fn", "struct", "enum", "trait", "const", "type",
    ];
    let mut public = kinds.iter().map(|kind| format!("pub {kind} {name}"));
    let follows = |text: &String| {
        sources.match_indices(text.as_str()).any(|(at, _)| {
            let next = sources[at + text.len()..].chars().next();
            next.is_some_and(|next| !next.is_alphanumeric() && next != '_')
        })
    };
    public.any(|text| follows(&text))
        || [
            format!("\n    {name},"),
            format!("\n    {name}("),
            format!("\n    {name} {{"),
        ]
        .iter()
        .any(|text| sources.contains(text))
}

#[test]
fn every_item_that_is_linked_exists() {
    let sources = all_sources();
    let mut names = BTreeSet::new();
    let mut rest = GUIDE;
    while let Some((_, after)) = rest.split_once("](crate::") {
        let (path, more) = after.split_once(')').expect("a link ends");
        names.extend(path.trim_end_matches("()").split("::"));
        rest = more;
    }
    assert!(names.len() > 100, "{names:?}");
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !is_defined(name, &sources))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_does_not_exist_is_noticed() {
    let sources = all_sources();
    for name in ["Coordinator", "emit_with_children", "Entit", "updat"] {
        assert!(!is_defined(name, &sources), "{name}");
    }
    for name in [
        "Engine",
        "update",
        "STRUCTURAL",
        "WinnerTakesAll",
        "Overloaded",
    ] {
        assert!(is_defined(name, &sources), "{name}");
    }
}

/// Defects 13 and 15: one coordinator awaited each winner, so all targets waited for the slowest operation.
#[test]
fn an_operation_that_does_not_end_holds_its_own_target_and_no_other() {
    for policy in [
        Policy::InOrder,
        Policy::Fold,
        Policy::Merge,
        Policy::WinnerTakesAll,
    ] {
        let engine = Engine::builder().workers(2).policy(policy).build();
        let (long, short) = (Entity::new(0), Entity::new(0));
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel();
        let (begun, may_end) = (Mutex::new(begun), Mutex::new(may_end));
        let slow = engine.submit(Operation::update(&long, move |n| {
            begun.lock().unwrap().send(()).unwrap();
            may_end.lock().unwrap().recv().unwrap();
            n + 1
        }));
        let slow = slow.unwrap();
        has_begun.recv().unwrap();
        // A thousand others come and go meanwhile; were one of them to wait for it, this would never end.
        for n in 1..=1_000 {
            let next = engine.submit(Operation::update(&short, |n| n + 1));
            assert_eq!(*next.unwrap().wait().unwrap(), n);
        }
        assert!(!slow.is_done());
        end.send(()).unwrap();
        assert_eq!(*slow.wait().unwrap(), 1);
    }
}
