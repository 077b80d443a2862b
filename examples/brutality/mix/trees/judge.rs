//! What must be true of logs and forest in the end.

use super::job::{ATTRIBUTE, Effect, LEAVES, Plot, SECTIONS};
use super::{Log, SOURCES, Trees};
use crate::args::Policy;
use crate::books::{Books, Entry, Way};
use crate::laws::{self, Law};
use crate::mix::Target;
use snapcell::{Entity, EntityId, Source};
use std::collections::HashMap;

impl Trees {
    /// Each operation that took its turn is one entry of its log.
    pub(super) fn of_logs(&self, books: &Books) -> Vec<Law> {
        let logs: Vec<_> = self.logs.iter().map(Entity::snapshot).collect();
        let numbers = |target: usize| {
            let of_it = |entry: &&Entry| {
                entry.is_committed()
                    && entry.drawn.way == Way::InTurn
                    && entry.drawn.target == target
            };
            let entries = books.entries.iter().filter(of_it);
            let mut numbers: Vec<_> = entries.map(|entry| entry.modification).collect();
            numbers.sort_unstable();
            numbers
        };
        let all = logs.len() as u64;
        let indexed: Vec<_> = logs.iter().enumerate().collect();
        let mut laws = vec![
            Law::new(
                "sum of effects = commits, by the logs",
                books.count(|entry| entry.is_committed() && entry.drawn.way == Way::InTurn),
                logs.iter().map(|log| log.entries).sum(),
            ),
            Law::new(
                "logs whose entries are numbered 1, 2, 3 …",
                all,
                laws::count(&indexed, |(target, log)| {
                    numbers(*target).into_iter().eq(1..=log.entries)
                }),
            ),
        ];
        if self.arguments.policy != Policy::Fold {
            laws.push(Law::new(
                "logs whose version is the number of their entries",
                all,
                laws::count(&logs, |log| log.stamp().version() == log.entries),
            ));
        }
        laws
    }

    /// What is in the forest is what was done to it.
    pub(super) fn of_forest(&self, all: &Effect) -> Vec<Law> {
        let forest = &self.forest;
        let mut counts: HashMap<EntityId, (u64, u64)> = HashMap::new();
        for id in &all.versions {
            counts.entry(*id).or_default().0 += 1;
        }
        for id in &all.edits {
            counts.entry(*id).or_default().1 += 1;
        }
        let docs: Vec<_> = forest.iter().collect();
        let counted = |id: EntityId| counts.get(&id).copied().unwrap_or_default();
        let many = docs.len() as u64;
        let has_line = |id: EntityId, last: u64| {
            let Ok(history) = forest.history(&id) else {
                return false;
            };
            history
                .map(|version| version.stamp().version())
                .eq(0..=last)
        };
        let is_sourced = |leaf: &EntityId| match forest.sources(leaf) {
            Ok(sources) => match sources.get(ATTRIBUTE) {
                Some(Source::Scalar(origin)) => self.sources.contains(&origin.id),
                Some(_) => false,
                None => true,
            },
            Err(_) => false,
        };
        let leaves: Vec<_> = self.plots.iter().flat_map(|plot| plot.leaves).collect();
        vec![
            Law::new(
                "sum of versions = new versions that operations gave",
                all.versions.len() as u64,
                docs.iter().map(|doc| doc.stamp().version()).sum(),
            ),
            Law::new(
                "entities whose version is the number of those that operations gave them",
                many,
                laws::count(&docs, |doc| doc.stamp().version() == counted(doc.id()).0),
            ),
            Law::new(
                "entities that were changed as often as operations did",
                many,
                laws::count(&docs, |doc| doc.edits == counted(doc.id()).1),
            ),
            Law::new(
                "entities whose history is versions 0, 1, 2 … to the last",
                many,
                laws::count(&docs, |doc| has_line(doc.id(), doc.stamp().version())),
            ),
            Law::new(
                "roots: the trees, the sources, what was promoted or detached",
                (self.plots.len() + SOURCES + all.roots.len()) as u64,
                forest.roots().len() as u64,
            ),
            Law::new(
                "entities: those of the trees, the sources, and what was born",
                (self.plots.len() * (1 + SECTIONS + SECTIONS * LEAVES) + SOURCES + all.roots.len())
                    as u64,
                many,
            ),
            Law::new(
                "leaves that borrowed from a source, or not at all",
                leaves.len() as u64,
                laws::count(&leaves, is_sourced),
            ),
            Law::new(
                "the forest says that everything fits together",
                1,
                u64::from(forest.validate().is_ok()),
            ),
        ]
    }

    pub(super) fn rows(&self) -> Vec<Target> {
        let row = |(plot, log): (&Plot, &Entity<Log>)| {
            let nodes = self.forest.tree(&plot.root).map_or(0, |tree| tree.len());
            let root = self
                .forest
                .get(&plot.root)
                .map_or(0, |root| root.stamp().version());
            Target {
                version: log.snapshot().stamp().version(),
                state: format!("{nodes} nodes, the root at version {root}"),
            }
        };
        self.plots.iter().zip(&self.logs).map(row).collect()
    }
}
