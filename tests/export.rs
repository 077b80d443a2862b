//! Trees and lines as text, as graphs, and as data.
#![cfg(feature = "store")]

use snapcell::{Children, Edge, EntityId, Forest, LineageId, ManualClock, Tree};
use std::time::Duration;

/// A node with a name that would break a graph, were it not quoted.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
struct Node {
    name: &'static str,
    children: Vec<EntityId>,
}

impl Children for Node {
    fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
        for (index, id) in self.children.iter().enumerate() {
            each(Edge::list("children", index), *id);
        }
    }
}

const LEAF: EntityId = EntityId::from_bits(1);
const ROOT: EntityId = EntityId::from_bits(2);

/// A root with a leaf, at a time that is known.
fn forest() -> Forest<Node> {
    let clock = ManualClock::new();
    clock.set(Duration::from_nanos(5));
    let forest = Forest::builder()
        .clock(snapcell::Clock::manual(&clock))
        .forest();
    let node = |id, name, children| {
        let made = forest.insert_with(id, Node { name, children });
        made.expect("it is not taken")
    };
    let leaf = node(LEAF, "say \"\\leaf\"\n", vec![]);
    forest.promote(&node(ROOT, "root", vec![leaf])).unwrap();
    forest
}

fn tree() -> Tree<Node> {
    forest().tree(&ROOT).unwrap()
}

#[test]
fn a_tree_is_an_outline() {
    let expected = "00000000-0000-0000-0000-000000000002 (0@5)\n  \
                    children[0]: 00000000-0000-0000-0000-000000000001 (0@5)";
    assert_eq!(tree().to_string(), expected);
}

#[test]
fn a_tree_is_a_graph() {
    let expected = r#"digraph tree {
  node [shape=box]
  "00000000-0000-0000-0000-000000000002" [label="root\nversion 0"]
  "00000000-0000-0000-0000-000000000001" [label="say \"\\leaf\"\n\nversion 0"]
  "00000000-0000-0000-0000-000000000002" -> "00000000-0000-0000-0000-000000000001" [label="children[0]" style=solid]
}
"#;
    assert_eq!(tree().dot(|node| node.name.to_owned()), expected);
    let edited = tree()
        .with(
            LEAF,
            Node {
                name: "x",
                children: vec![],
            },
        )
        .unwrap();
    assert!(edited.dot(|_| String::new()).contains(r"\nedited"));
}

#[test]
fn a_line_is_text_and_a_graph() {
    let forest = forest();
    let fork = forest.fork(&LEAF).unwrap();
    forest.mark_modified(&fork).unwrap();
    let _ = forest
        .merge(&LEAF, &fork, |merge| Some(merge.theirs.clone()))
        .unwrap();
    let line = forest.lineage_report(LineageId::of(LEAF));
    let text = line.to_string();
    assert!(
        text.contains(&format!(
            "{LEAF} version 1, version 1 merged version 1 of {fork}"
        )),
        "{text}"
    );
    assert!(
        text.contains(&format!(
            "{fork} version 1, forked from version 0 of {LEAF}"
        )),
        "{text}"
    );
    let dot = line.dot();
    let edge = format!("\"{LEAF}\" -> \"{fork}\" [label=\"fork of version 0\" style=solid]");
    assert!(dot.contains(&edge), "{dot}");
    let edge = format!("\"{fork}\" -> \"{LEAF}\" [label=\"version 1 merged as 1\" style=dashed]");
    assert!(dot.contains(&edge), "{dot}");
}

#[cfg(feature = "serde")]
#[test]
fn all_of_it_is_data() {
    use serde_json::{json, to_value};

    let forest = forest();
    let [root, leaf] = [ROOT, LEAF].map(|id| id.to_string());
    assert_eq!(to_value(ROOT).unwrap(), json!(root));
    assert_eq!(
        serde_json::from_value::<EntityId>(json!(root)).unwrap(),
        ROOT
    );
    assert!(serde_json::from_value::<EntityId>(json!("root")).is_err());
    assert_eq!(
        serde_json::from_value::<LineageId>(json!(root)).unwrap(),
        LineageId::of(ROOT)
    );
    let name = "say \"\\leaf\"\n";
    let version = json!({"id": leaf, "stamp": "0@5", "value": {"name": name, "children": []}});
    assert_eq!(to_value(forest.get(&LEAF).unwrap()).unwrap(), version);
    let tree = forest.tree(&ROOT).unwrap();
    let nodes = json!([
        {"id": root, "parent": null, "edge": null, "stamp": "0@5",
         "value": {"name": "root", "children": [leaf]}},
        {"id": leaf, "parent": root, "edge": "children[0]", "stamp": "0@5",
         "value": {"name": name, "children": []}},
    ]);
    assert_eq!(
        to_value(&tree).unwrap(),
        json!({"root": root, "depth": 2, "nodes": nodes})
    );
    let edited = tree
        .with(
            LEAF,
            Node {
                name: "x",
                children: vec![],
            },
        )
        .unwrap();
    let diff = to_value(edited.diff(&tree)).unwrap();
    let expected = json!({"added": [], "removed": [], "moved": [], "changed": [leaf], "modified": [leaf, root]});
    assert_eq!(diff, expected);
    let fork = forest.fork(&LEAF).unwrap();
    let line = to_value(forest.lineage_report(LineageId::of(LEAF))).unwrap();
    let entries = json!([
        {"id": leaf, "origin": null, "merges": [], "current": "0@5"},
        {"id": fork.to_string(), "origin": {"id": leaf, "stamp": "0@5"}, "merges": [], "current": "0@5"},
    ]);
    assert_eq!(line, json!({"line": leaf, "entries": entries}));
}
