//! Trees and lines as graphs for Graphviz, and as data for serde.
//!
//! A tree is written flat, a row for each node with its parent, so that no depth is too deep for anybody.
#![forbid(unsafe_code)]

use super::id::EntityId;
use super::lineage::Lineage;
use super::tree::Tree;
use std::fmt::{self, Write};

impl<T> Tree<T> {
    /// The tree as a graph for [Graphviz](https://graphviz.org): a box for each node, with what `label` makes of
    /// its value and its stamp, an arrow from each parent to its children, with the place where it has them.
    ///
    /// # Examples
    /// ```
    /// # use snapcell::{Children, Edge, EntityId, Forest};
    /// struct Dir(&'static str, Option<EntityId>);
    /// impl Children for Dir {
    ///     fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
    ///         self.1.iter().for_each(|id| each(Edge::direct("inner"), *id));
    ///     }
    /// }
    ///
    /// let dirs = Forest::new();
    /// let home = dirs.insert(Dir("home", None));
    /// let root = dirs.insert(Dir("/", Some(home)));
    /// dirs.promote(&root)?;
    /// let dot = dirs.tree(&root)?.dot(|dir| dir.0.to_string());
    /// assert!(dot.starts_with("digraph tree {") && dot.contains(r#"[label="inner" style=solid]"#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn dot(&self, mut label: impl FnMut(&T) -> String) -> String {
        let mut dot = Dot::new("tree");
        for node in self {
            let stamp = match node.stamp {
                Some(stamp) => format!("version {}", stamp.version()),
                None => "edited".to_owned(),
            };
            dot.node(node.id, &format!("{}\n{stamp}", label(node.value)));
            if let (Some(parent), Some(edge)) = (self.parent(&node.id), node.edge) {
                dot.edge(parent, node.id, &edge.to_string(), "solid");
            }
        }
        dot.end()
    }
}

impl Lineage {
    /// The line as a graph for [Graphviz](https://graphviz.org): a box for each entity, an arrow from each origin
    /// to its fork, with the version that it began with, and a dashed one for each merge.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut dot = Dot::new("lineage");
        for entry in &self.entries {
            let current = entry.current.version();
            dot.node(entry.id, &format!("{}\nversion {current}", entry.id));
        }
        for entry in &self.entries {
            if let Some(origin) = entry.origin {
                let label = format!("fork of version {}", origin.stamp.version());
                dot.edge(origin.id, entry.id, &label, "solid");
            }
            for merge in &entry.merges {
                let (from, at) = (merge.from.stamp.version(), merge.at);
                let label = format!("version {from} merged as {at}");
                dot.edge(merge.from.id, entry.id, &label, "dashed");
            }
        }
        dot.end()
    }
}

/// A line for each entity: which version it has, where it came from, and what was merged into it.
impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        for entry in &self.entries {
            write!(f, "\n  {} version {}", entry.id, entry.current.version())?;
            if let Some(origin) = entry.origin {
                let version = origin.stamp.version();
                write!(f, ", forked from version {version} of {}", origin.id)?;
            }
            for merge in &entry.merges {
                let (from, at) = (merge.from.stamp.version(), merge.at);
                write!(
                    f,
                    ", version {at} merged version {from} of {}",
                    merge.from.id
                )?;
            }
        }
        Ok(())
    }
}

/// A graph in the making.
struct Dot(String);

impl Dot {
    fn new(name: &str) -> Self {
        let mut dot = Dot(String::new());
        dot.line(format_args!("digraph {name} {{"));
        dot.line(format_args!("  node [shape=box]"));
        dot
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = writeln!(self.0, "{line}");
    }

    fn node(&mut self, id: EntityId, label: &str) {
        self.line(format_args!("  \"{id}\" [label=\"{}\"]", Quoted(label)));
    }

    fn edge(&mut self, from: EntityId, to: EntityId, label: &str, style: &str) {
        let label = Quoted(label);
        self.line(format_args!(
            "  \"{from}\" -> \"{to}\" [label=\"{label}\" style={style}]"
        ));
    }

    fn end(mut self) -> String {
        self.line(format_args!("}}"));
        self.0
    }
}

/// A text within quotes.
struct Quoted<'s>(&'s str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

#[cfg(feature = "serde")]
mod serde_impls {
    use super::super::children::Edge;
    use super::super::diff::{Diff, Moved};
    use super::super::id::EntityId;
    use super::super::lineage::{Lineage, LineageEntry, MergeRecord};
    use super::super::tree::Tree;
    use super::super::version::{Origin, Version};
    use crate::stamp::Stamp;
    use serde::ser::{SerializeSeq, SerializeStruct};
    use serde::{Serialize, Serializer};

    /// Serializes a struct as a record of some of its fields.
    macro_rules! record {
        ([$($generics:tt)*] $type:ty, $name:literal: |$it:ident| $($field:literal = $value:expr),+ $(,)?) => {
            impl<$($generics)*> Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    let $it = self;
                    let fields = [$($field),+].len();
                    let mut record = serializer.serialize_struct($name, fields)?;
                    $(record.serialize_field($field, &$value)?;)+
                    record.end()
                }
            }
        };
    }

    record!([T: Serialize] Version<T>, "Version": |version|
        "id" = version.id(), "stamp" = version.stamp(), "value" = **version);
    record!([] Origin, "Origin": |origin| "id" = origin.id, "stamp" = origin.stamp);
    record!([] MergeRecord, "MergeRecord": |merge| "from" = merge.from, "at" = merge.at);
    record!([] LineageEntry, "LineageEntry": |entry|
        "id" = entry.id, "origin" = entry.origin, "merges" = entry.merges, "current" = entry.current);
    record!([] Lineage, "Lineage": |line| "line" = line.line, "entries" = line.entries);
    record!([] Moved, "Moved": |moved| "id" = moved.id, "from" = moved.from, "to" = moved.to);
    record!([] Diff, "Diff": |diff|
        "added" = diff.added(), "removed" = diff.removed(), "moved" = diff.moved(),
        "changed" = diff.changed(), "modified" = diff.modified());
    record!([T: Serialize] Tree<T>, "Tree": |tree|
        "root" = tree.root(), "depth" = tree.depth(), "nodes" = Rows(tree));

    /// As text: `field[2]`.
    impl Serialize for Edge {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    /// The nodes of a tree.
    struct Rows<'t, T>(&'t Tree<T>);

    /// A parent before its children.
    impl<T: Serialize> Serialize for Rows<'_, T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut rows = serializer.serialize_seq(Some(self.0.len()))?;
            for node in self.0 {
                rows.serialize_element(&Row {
                    id: node.id,
                    parent: self.0.parent(&node.id),
                    edge: node.edge,
                    stamp: node.stamp,
                    value: node.value,
                })?;
            }
            rows.end()
        }
    }

    struct Row<'t, T> {
        id: EntityId,
        parent: Option<EntityId>,
        edge: Option<&'t Edge>,
        stamp: Option<Stamp>,
        value: &'t T,
    }

    record!([T: Serialize] Row<'_, T>, "Node": |node|
        "id" = node.id, "parent" = node.parent, "edge" = node.edge, "stamp" = node.stamp, "value" = node.value);
}
